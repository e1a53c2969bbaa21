/* cluster/trace_table.h - what a decode step's time went to, process by process.
 *
 * Counts the spans of the category "decode" on each process's main thread. A span's own time is
 * its duration without the spans inside it, so that the times of a process add up to what it has
 * recorded; what is not recorded between them is a line of its own. */
#ifndef LONGSPAN_CLUSTER_TRACE_TABLE_H
#define LONGSPAN_CLUSTER_TRACE_TABLE_H

#include "sys/status.h"

#include <stdio.h>

struct trace_table; /* opaque */

/* STATUS_NO_MEMORY. */
enum status trace_table_create(struct trace_table **table, struct error *error);
void trace_table_destroy(struct trace_table *table);

/* One line of a process's file, without its comma: the line that names the process comes first.
 * Others than names of processes and spans are ignored. STATUS_INVALID: a span that cannot be read,
 * or none may come here. STATUS_NO_MEMORY. */
enum status trace_table_add(struct trace_table *table, const char *line, struct error *error);

/* Nothing when no decode step was recorded. */
void trace_table_print(FILE *out, struct trace_table *table);

#endif
