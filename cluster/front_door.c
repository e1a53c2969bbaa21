/* front_door.c - finds the command and hands the words over. */
#include "cluster/front_door.h"

#include "cluster/agent.h"
#include "cluster/bench.h"
#include "cluster/chat.h"
#include "cluster/completion.h"
#include "cluster/keygen.h"
#include "cluster/model_command.h"
#include "cluster/plan.h"
#include "cluster/run.h"
#include "cluster/serve.h"
#include "cluster/status.h"
#include "kernels/kernels.h"
#include "proto/protocol.h"
#include "proto/shared_options.h"
#include "sys/status.h"

#include <stdlib.h>
#include <string.h>

const struct command_entry front_door_commands[] = {
    {"run", "continue texts with a model, on this machine or on a cluster", run_main, NULL},
    {"chat", "talk with a model in a terminal, on this machine or on a cluster", chat_main, NULL},
    {"serve", "answer OpenAI's API over HTTP with a model, on this machine or on a cluster",
     serve_main, NULL},
    {"status", "who belongs to a running cluster, what each holds, what runs", status_main, NULL},
    {"plan", "what a cluster would hold, and how fast it would be, before anything starts",
     plan_main, NULL},
    {"bench", "measure decode and prefill beside the limits of this hardware", bench_main,
     bench_commands},
    {"model", "inspect, tokenize, detokenize, chat-template, quantize, split, make-...",
     model_command_main, model_commands},
    {"keygen", "make a cluster key", keygen_main, NULL},
    {"completion", "print what makes a shell complete command lines: bash, zsh, fish",
     completion_main, NULL},
    {"agent", "what run and serve start on other machines; not to be typed", agent_main, NULL},
    {NULL, NULL, NULL, NULL},
};

void front_door_print_help(FILE *out, enum options_form form)
{
    enum { CAPACITY = sizeof(front_door_commands) / sizeof(front_door_commands[0]) + 6 };
    struct option entries[CAPACITY];
    struct option_table table = {.entries = entries, .capacity = CAPACITY};
    enum options_form help;
    bool version;
    const struct option_usage usage = {
        "longspan", "COMMAND [OPTION...]",
        "Large language models with long contexts, on clusters whose machines differ. This is "
        "Longspan " LONGSPAN_VERSION ".",
        .examples =
            "  longspan run -m model.gguf -p \"Once upon a time\" -n 64\n"
            "  longspan chat -m model.gguf\n"
            "  longspan plan -m model.gguf --probe        will it fit, and how fast will it be?\n"
            "  longspan help COMMAND                      all options of one, with examples\n",
        .environment = shared_options_environment};
    const struct option heading[] = {{.kind = OPTION_SECTION, .help = "Commands"}, {.kind = 0}};
    const struct option others[] = {
        {.kind = OPTION_WORD,
         .name = "help",
         .help = "print this help, or that of the command whose name follows"},
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "version",
         .kind = OPTION_FLAG,
         .value = &version,
         .help = "print the version, and what this build computes with here"},
        options_help(&help),
        {.kind = 0}};
    option_table_add(&table, heading);
    command_table_options(&table, front_door_commands);
    option_table_add(&table, others);
    options_print_help(out, form, &usage, entries);
}

/* The version, and what this build can compute with here. */
static void print_version(void)
{
    const struct kernels *chosen = NULL;
    struct error error = {0};
    printf("longspan %s, protocol %d\n", LONGSPAN_VERSION, PROTOCOL_VERSION);
    fputs("CPU kernels:", stdout);
    for (const struct kernels *const *table = kernels_all; *table != NULL; table++)
        printf(" %s%s", (*table)->name, (*table)->usable() ? "" : " (not on this processor)");
    if (kernels_choose(&chosen, NULL, &error) == STATUS_OK)
        printf("; in use: %s\n", chosen->name);
    else
        printf("; %s\n", error.text);
    const uint32_t n_gpus = kernels_cuda.count(&error);
    if (n_gpus > 0)
        printf("GPUs: %u\n", n_gpus);
    else
        printf("GPUs: none: %s\n", error.text);
}

static int run_command(const char *name, int argc, char **argv)
{
    const struct command_entry *command = command_table_find(front_door_commands, name);
    return command != NULL
               ? command->main(argc, argv)
               : command_table_refuse(front_door_commands, name, "longspan", "longspan help");
}

int front_door_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        front_door_print_help(stderr, OPTIONS_TEXT);
        return status_exit_code(STATUS_INVALID);
    }
    if (strcmp(name, "help") == 0 && argc > 2 && strcmp(argv[2], "help") != 0) {
        char help[] = "--help"; /* of a subcommand too: help model inspect */
        memmove(argv, argv + 2, (size_t)(argc - 2) * sizeof(*argv));
        argv[argc - 2] = help;
        argv[argc - 1] = NULL;
        return run_command(argv[0], argc - 1, argv);
    }
    const enum options_form form = command_table_asks_help(name);
    if (form != OPTIONS_NO_HELP) {
        front_door_print_help(stdout, form);
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "--version") == 0) {
        print_version();
        return EXIT_SUCCESS;
    }
    return run_command(name, argc - 1, argv + 1);
}
