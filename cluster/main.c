/* main.c - `longspan`, the front door: finds the command and hands the words over. */
#include "cluster/agent.h"
#include "cluster/bench.h"
#include "cluster/chat.h"
#include "cluster/command_table.h"
#include "cluster/keygen.h"
#include "cluster/model_command.h"
#include "cluster/plan.h"
#include "cluster/run.h"
#include "cluster/serve.h"
#include "cluster/standard_output.h"
#include "cluster/status.h"
#include "kernels/kernels.h"
#include "proto/protocol.h"
#include "sys/bus_error.h"
#include "sys/descriptors.h"
#include "sys/log.h"
#include "sys/stack.h"
#include "sys/status.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command_entry commands[] = {
    {"run", "continue texts with a model, on this machine or on a cluster", run_main},
    {"chat", "talk with a model in a terminal, on this machine or on a cluster", chat_main},
    {"serve", "answer OpenAI's API over HTTP with a model, on this machine or on a cluster",
     serve_main},
    {"status", "who belongs to a running cluster, what each holds, what runs", status_main},
    {"plan", "what a cluster would hold, and how fast it would be, before anything starts",
     plan_main},
    {"bench", "measure decode and prefill beside the limits of this hardware", bench_main},
    {"model", "inspect, tokenize, detokenize, chat-template, quantize, split, make-...",
     model_command_main},
    {"keygen", "make a cluster key", keygen_main},
    {"agent", "what run and serve start on other machines; not to be typed", agent_main},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("Longspan " LONGSPAN_VERSION
          ": large language models with long contexts, on clusters whose machines differ.\n\n"
          "usage: longspan COMMAND [OPTION...]\n\nCommands:\n",
          out);
    command_table_print(out, commands, 10);
    fputs("  help      print this help\n"
          "  --version print the version, and what this build computes with here\n\n"
          "Begin with:\n"
          "  longspan run -m model.gguf -p \"Once upon a time\" -n 64\n"
          "  longspan chat -m model.gguf\n"
          "  longspan plan -m model.gguf --probe        will it fit, and how fast will it be?\n"
          "  longspan help COMMAND                      all options of one, with examples\n",
          out);
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

/* A file opened while 0, 1 or 2 is free would take its place, and be read or written by accident.
 */
static void fill_standard_descriptors(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDWR);
    while (descriptor >= 0 && descriptor <= 2);
    if (descriptor > 2)
        close(descriptor);
}

static int run_command(const char *name, int argc, char **argv)
{
    const struct command_entry *command = command_table_find(commands, name);
    return command != NULL ? command->main(argc, argv)
                           : command_table_refuse(commands, name, "longspan", "longspan help");
}

static int run_words(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    const bool asks_help = strcmp(name, "help") == 0;
    if (argc < 2) {
        print_help(stderr);
        return status_exit_code(STATUS_INVALID);
    }
    if (asks_help && argc > 2 && strcmp(argv[2], "help") != 0) {
        char help[] = "--help"; /* of a subcommand too: help model inspect */
        memmove(argv, argv + 2, (size_t)(argc - 2) * sizeof(*argv));
        argv[argc - 2] = help;
        argv[argc - 1] = NULL;
        return run_command(argv[0], argc - 1, argv);
    }
    if (asks_help || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "--version") == 0) {
        print_version();
        return EXIT_SUCCESS;
    }
    return run_command(name, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    bus_error_explain();
    descriptors_raise();      /* some for each process that is started */
    signal(SIGPIPE, SIG_IGN); /* writing to a closed pipe is an error of that write, */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that grows past `ulimit -f` */
    struct log log;
    struct error error;
    log_open(&log, "longspan", 0);
    const enum status status = stack_check(&error);
    if (status != STATUS_OK) {
        log_error(&log, "%s", error.text);
        return status_exit_code(status);
    }
    const int code = run_words(argc, argv);
    const enum status written = standard_output_flush(&error); /* a help text, say */
    if (standard_output_is_unread())
        return 128 + SIGPIPE;
    if (code != EXIT_SUCCESS || written == STATUS_OK)
        return code;
    log_error(&log, "%s", error.text);
    return status_exit_code(written);
}
