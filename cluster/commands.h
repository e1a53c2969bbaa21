/* cluster/commands.h - the command lines of a layout: what is started, or shown by --dry-run. */
#ifndef LONGSPAN_CLUSTER_COMMANDS_H
#define LONGSPAN_CLUSTER_COMMANDS_H

#include "cluster/layout.h"
#include "cluster/run_options.h"
#include "cluster/words.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { COMMANDS_LABEL_BYTES = 96 };

enum commands_role { COMMANDS_COORDINATOR, COMMANDS_WORKERS, COMMANDS_NODE };

struct command {
    enum commands_role role;
    char label[COMMANDS_LABEL_BYTES]; /* for messages: "attention node node0 (mem01)" */
    struct words line;
    bool needs_input; /* ends when its standard input ends: a process behind ssh */
};

/* The coordinator first, then the workers (one command for all: mpirun), then the nodes. */
struct commands {
    struct command *commands;
    uint32_t n;
};

/* Where the programs of the roles are: beside this one, or in ../libexec/longspan.
 * STATUS_UNREACHABLE: `name` is in neither. */
enum status commands_find_program(char path[LAYOUT_TEXT_BYTES], const char *name,
                                  struct error *error);

/* The caller ends *commands with commands_free. STATUS_UNREACHABLE: a program is missing (mpirun
 * and ssh too, where they are needed). STATUS_NO_MEMORY. */
enum status commands_make(struct commands *commands, const struct layout *layout,
                          const struct place_options *options, struct error *error);

void commands_free(struct commands *commands);

/* The line of a `longspan run` that asks the same of the cluster once it runs. STATUS_NO_MEMORY. */
enum status commands_print_client(FILE *out, const struct layout *layout,
                                  const struct run_options *options, struct error *error);

#endif
