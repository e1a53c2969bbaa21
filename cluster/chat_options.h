/* cluster/chat_options.h - the command line of `longspan chat`. */
#ifndef LONGSPAN_CLUSTER_CHAT_OPTIONS_H
#define LONGSPAN_CLUSTER_CHAT_OPTIONS_H

#include "cluster/run_options.h"
#include "sys/status.h"

/* Strings point into argv. */
struct chat_options {
    struct run_options run; /* of it: place, sampling, n_predict, and the files among prompts */
    const char *system, *chat_template; /* NULL: none; the model's own */
};

/* argv[0] is "chat". The caller ends *options with chat_options_free. STATUS_INVALID: with the
 * option and the remedy. */
enum status chat_options_read(struct chat_options *options, int argc, char **argv,
                              struct error *error);

void chat_options_free(struct chat_options *options);

void chat_options_print_help(enum options_form form);

#endif
