/* cluster/run.h - `longspan run`: starts what is missing of a cluster, asks it, and ends it. */
#ifndef LONGSPAN_CLUSTER_RUN_H
#define LONGSPAN_CLUSTER_RUN_H

/* argv[0] is "run". Returns the program's exit code: 0; 2 bad usage or input; 3 a process could not
 * be started or reached; 4 failed while running; 128 + N when signal N ended it. */
int run_main(int argc, char **argv);

#endif
