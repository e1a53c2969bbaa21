/* cluster/report.h - the summary on standard error: times, and who held what. */
#ifndef LONGSPAN_CLUSTER_REPORT_H
#define LONGSPAN_CLUSTER_REPORT_H

#include "cluster/result.h"

#include <stdio.h>

/* Two lines of times; a table of KV holders where they are attention nodes. */
void report_print(FILE *out, const struct result *result);

#endif
