/* cluster/front_door.h - the commands of `longspan`, and which one a command line means. */
#ifndef LONGSPAN_CLUSTER_FRONT_DOOR_H
#define LONGSPAN_CLUSTER_FRONT_DOOR_H

#include "cluster/command_table.h"

#include <stdio.h>

extern const struct command_entry front_door_commands[];

void front_door_print_help(FILE *out, enum options_form form);

/* A whole command line. Returns the exit code. */
int front_door_main(int argc, char **argv);

#endif
