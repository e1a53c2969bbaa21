/* model_command.c - which subcommand, and what all of them do first and last. */
#include "cluster/model_command.h"

#include "cluster/command_table.h"
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
        options_print_help(stdout, usage, table);
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

static const struct command_entry subcommands[] = {
    {"inspect", "show what is in a model", model_show_inspect},
    {"tokenize", "print the token ids of a text", model_show_tokenize},
    {"detokenize", "print the text of token ids", model_show_detokenize},
    {"chat-template", "show a model's chat template, or what it makes of messages",
     model_show_chat_template},
    {"quantize", "write a model in another weight type", model_write_quantize},
    {"split", "write a model to several smaller files", model_write_split},
    {"make-retrieval", "write a model that answers by look-up", model_write_make_retrieval},
    {"make-random", "write a model with random weights", model_write_make_random},
    {"make-haystack", "write a long text with a question for make-retrieval's model",
     model_write_make_haystack},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("usage: longspan model COMMAND [OPTION...] FILE\n\nCommands:\n", out);
    command_table_print(out, subcommands, 16);
    fputs("\nlongspan model COMMAND --help says more.\n", out);
}

int model_command_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    const struct command_entry *command = command_table_find(subcommands, name);
    if (command != NULL)
        return command->main(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return argc > 1 ? EXIT_SUCCESS : status_exit_code(STATUS_INVALID);
    }
    return command_table_refuse(subcommands, name, "longspan model", "longspan model --help");
}
