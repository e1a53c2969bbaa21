/* cluster/status.h - `longspan status`: who is there, who holds what, what runs. */
#ifndef LONGSPAN_CLUSTER_STATUS_H
#define LONGSPAN_CLUSTER_STATUS_H

/* argv[0] is "status". Returns the exit code. */
int status_main(int argc, char **argv);

#endif
