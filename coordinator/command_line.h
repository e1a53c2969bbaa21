/* coordinator/command_line.h - the words after `coordinator`, as coordinator_options. */
#ifndef LONGSPAN_COORDINATOR_COMMAND_LINE_H
#define LONGSPAN_COORDINATOR_COMMAND_LINE_H

#include "coordinator/coordinator.h"
#include "sys/options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct command_line {
    struct coordinator_options options; /* borrow from argv, and from what follows */
    double *node_shares;                /* what --shares says */
    uint32_t verbose;
    enum options_form help; /* or */
    bool version;           /* then nothing else was checked */

    /* As they were written. */
    const char *kv_type, *shares, *prefix_cache;
    uint32_t join_s, load_s, timeout_s, step_s;
};

/* STATUS_INVALID: with the option and the remedy. STATUS_NO_MEMORY. `line` is to be freed in any
 * case. */
enum status command_line_read(struct command_line *line, int argc, char **argv,
                              struct error *error);
void command_line_free(struct command_line *line);

/* What --help says. */
void command_line_print_help(FILE *out, enum options_form form);

#endif
