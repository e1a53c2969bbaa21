/* cluster/serve.h - `longspan serve`: a cluster that answers over HTTP until it is told to stop. */
#ifndef LONGSPAN_CLUSTER_SERVE_H
#define LONGSPAN_CLUSTER_SERVE_H

/* argv[0] is "serve". Returns the exit code. */
int serve_main(int argc, char **argv);

#endif
