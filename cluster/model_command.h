/* cluster/model_command.h - `longspan model inspect|tokenize|make-...`. */
#ifndef LONGSPAN_CLUSTER_MODEL_COMMAND_H
#define LONGSPAN_CLUSTER_MODEL_COMMAND_H

/* argv[0] is "model", argv[1] the subcommand. Returns the program's exit code. */
int model_command_main(int argc, char **argv);

#endif
