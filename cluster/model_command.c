/* model_command.c - which subcommand, and what all of them do first and last. */
#include "cluster/model_command.h"

#include "cluster/model_subcommand.h"
#include "cluster/standard_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool model_subcommand_begin(struct model_subcommand *command, const struct option_usage *usage,
                            const struct option *table, int argc, char **argv, int *exit_code)
{
    log_open(&command->log, usage->command, 0);
    struct option_list words = {0};
    enum status status = option_list_create(&words, argc, &command->error);
    if (status == STATUS_OK)
        status = options_parse(table, argc, argv, &words, &command->error);
    const uint32_t n_words = command->n_words > 0 ? command->n_words : 1;
    if (status == STATUS_OK && !command->help && words.n != n_words)
        status = error_set(&command->error, STATUS_INVALID, "%s %s %s",
                           n_words > 1    ? command->question
                           : words.n == 0 ? "which file?"
                                          : "one file at a time:",
                           usage->command, usage->words);
    for (uint32_t i = 0; status == STATUS_OK && i < words.n && i < n_words; i++)
        command->words[i] = words.items[i].text;
    command->file = command->words[0];
    option_list_destroy(&words);
    *exit_code = status_exit_code(status);
    if (status != STATUS_OK)
        log_error(&command->log, "%s", command->error.text);
    else if (command->help)
        options_print_help(stdout, command->help, usage, table);
    return status == STATUS_OK && !command->help;
}

int model_subcommand_end(struct model_subcommand *command, enum status status)
{
    if (status == STATUS_OK)
        status = standard_output_flush(&command->error);
    if (status != STATUS_OK)
        standard_output_log_failure(&command->log, &command->error);
    return status_exit_code(status);
}

/* ---- which one ------------------------------------------------------------------------------- */

const struct command_entry model_commands[] = {
    {"inspect", "show what is in a model", model_show_inspect, NULL},
    {"tokenize", "print the token ids of a text", model_show_tokenize, NULL},
    {"detokenize", "print the text of token ids", model_show_detokenize, NULL},
    {"chat-template", "show a model's chat template, or what it makes of messages",
     model_show_chat_template, NULL},
    {"quantize", "write a model in another weight type", model_write_quantize, NULL},
    {"split", "write a model to several smaller files", model_write_split, NULL},
    {"make-retrieval", "write a model that answers by look-up", model_write_make_retrieval, NULL},
    {"make-random", "write a model with random weights", model_write_make_random, NULL},
    {"make-haystack", "write a long text with a question for make-retrieval's model",
     model_write_make_haystack, NULL},
    {NULL, NULL, NULL, NULL},
};

static void print_help(FILE *out, enum options_form form)
{
    enum { N_COMMANDS = sizeof(model_commands) / sizeof(model_commands[0]) };
    struct option entries[N_COMMANDS + 3];
    struct option_table table = {.entries = entries, .capacity = N_COMMANDS + 3};
    const struct option_usage usage = {
        .command = "longspan model",
        .words = "COMMAND [OPTION...] FILE",
        .about =
            "Looks into models, and writes them. longspan model COMMAND --help says more of each "
            "command."};
    enum options_form help;
    const struct option heading[] = {{.kind = OPTION_SECTION, .help = "Commands"}, {.kind = 0}};
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Options"}, options_help(&help), {.kind = 0}};
    option_table_add(&table, heading);
    command_table_options(&table, model_commands);
    option_table_add(&table, options);
    options_print_help(out, form, &usage, entries);
}

int model_command_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    const struct command_entry *command = command_table_find(model_commands, name);
    if (command != NULL)
        return command->main(argc - 1, argv + 1);
    const enum options_form form = command_table_asks_help(name);
    if (form != OPTIONS_NO_HELP) {
        print_help(argc > 1 ? stdout : stderr, form);
        return argc > 1 ? EXIT_SUCCESS : status_exit_code(STATUS_INVALID);
    }
    return command_table_refuse(model_commands, name, "longspan model", "longspan model --help");
}
