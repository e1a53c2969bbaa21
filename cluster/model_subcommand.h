/* cluster/model_subcommand.h - what the subcommands of `longspan model` have in common, and their
 * names. */
#ifndef LONGSPAN_CLUSTER_MODEL_SUBCOMMAND_H
#define LONGSPAN_CLUSTER_MODEL_SUBCOMMAND_H

#include "sys/log.h"
#include "sys/options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Every subcommand works on one file, which is its only word, or has `n_words` of them. */
struct model_subcommand {
    struct log log;
    struct error error;
    uint32_t n_words;     /* 0: one */
    const char *question; /* asked when there are others than n_words */
    const char *words[3];
    const char *file; /* the first word */
    enum options_form help;
};

#define MODEL_SUBCOMMAND_HELP(command)                                                             \
    {                                                                                              \
        .name = "help", .letter = 'h', .kind = OPTION_HELP, .value = &(command)->help,             \
        .help = "print this help"                                                                  \
    }

/* Reads options and words. False: done (help was printed, or an error, *exit_code says). */
bool model_subcommand_begin(struct model_subcommand *command, const struct option_usage *usage,
                            const struct option *table, int argc, char **argv, int *exit_code);

/* Logs the failure, if `status` is one. The exit code. */
int model_subcommand_end(struct model_subcommand *command, enum status status);

/* One function for each, which returns the exit code: model_show.c, model_write.c. */
int model_show_inspect(int argc, char **argv);
int model_show_tokenize(int argc, char **argv);
int model_show_detokenize(int argc, char **argv);
int model_show_chat_template(int argc, char **argv);
int model_write_quantize(int argc, char **argv);
int model_write_split(int argc, char **argv);
int model_write_make_retrieval(int argc, char **argv);
int model_write_make_random(int argc, char **argv);
int model_write_make_haystack(int argc, char **argv);

#endif
