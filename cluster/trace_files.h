/* cluster/trace_files.h - the traces of a cluster's processes, made into one.
 *
 * Every process writes its own file (sys/trace.h): with `--trace FILE` the coordinator
 * FILE.coordinator, a rank FILE.worker.RANK, a node FILE.NAME. When they have ended, the files that
 * are here are joined to FILE and removed; those of other machines, unless on a shared file system,
 * are named. All have the coordinator's clock, so that joining is copying. */
#ifndef LONGSPAN_CLUSTER_TRACE_FILES_H
#define LONGSPAN_CLUSTER_TRACE_FILES_H

#include "cluster/layout.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdint.h>
#include <stdio.h>

/* Zeroed: no trace. */
struct trace_files {
    char *path;   /* of the whole */
    char **parts; /* n_parts paths */
    uint32_t n_parts;
};

/* The files that the processes of a layout will write; none without layout->trace. The caller ends
 * *files with trace_files_free. STATUS_NO_MEMORY. */
enum status trace_files_expect(struct trace_files *files, const struct layout *layout,
                               struct error *error);
void trace_files_free(struct trace_files *files);

/* Joins them, after the processes have ended; `table` (NULL: none) gets what took the time
 * (trace_table.h). STATUS_NOT_FOUND: none is here. STATUS_INVALID: a part is not what sys/trace
 * writes. STATUS_IO, STATUS_NO_MEMORY. */
enum status trace_files_join(const struct trace_files *files, FILE *table, const struct log *log,
                             struct error *error);

#endif
