/* cluster/load.h - `longspan bench serve`: a running server under load, as its clients see it. */
#ifndef LONGSPAN_CLUSTER_LOAD_H
#define LONGSPAN_CLUSTER_LOAD_H

/* argv[0] is "serve". Returns the exit code. */
int load_main(int argc, char **argv);

#endif
