/* cluster/bench.h - `longspan bench`: how fast, beside how fast it could be; `longspan bench serve`
 * is in load.h. */
#ifndef LONGSPAN_CLUSTER_BENCH_H
#define LONGSPAN_CLUSTER_BENCH_H

#include "cluster/command_table.h"

/* serve. */
extern const struct command_entry bench_commands[];

/* argv[0] is "bench". Returns the exit code. */
int bench_main(int argc, char **argv);

#endif
