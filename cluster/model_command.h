/* cluster/model_command.h - `longspan model inspect|tokenize|make-...`. */
#ifndef LONGSPAN_CLUSTER_MODEL_COMMAND_H
#define LONGSPAN_CLUSTER_MODEL_COMMAND_H

#include "cluster/command_table.h"

extern const struct command_entry model_commands[];

/* argv[0] is "model", argv[1] the subcommand. Returns the program's exit code. */
int model_command_main(int argc, char **argv);

#endif
