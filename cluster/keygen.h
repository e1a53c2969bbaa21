/* cluster/keygen.h - `longspan keygen FILE`. */
#ifndef LONGSPAN_CLUSTER_KEYGEN_H
#define LONGSPAN_CLUSTER_KEYGEN_H

/* argv[0] is "keygen". Returns the program's exit code. */
int keygen_main(int argc, char **argv);

#endif
