/* cluster/report.h - the summary on standard error: times, and who held what. */
#ifndef LONGSPAN_CLUSTER_REPORT_H
#define LONGSPAN_CLUSTER_REPORT_H

#include "cluster/result.h"

#include <stdio.h>

/* Times; where KV holders are attention nodes, a table of them, and for a single prompt the token
 * ranges of each. */
void report_print(FILE *out, const struct result *result);

#endif
