/* cluster/status_report.h - a cluster's status for people, from the JSON of proto/status_json.h.
 *
 * The JSON may come from anywhere: a field that is missing, or of another type, shows as "?" or
 * 0. */
#ifndef LONGSPAN_CLUSTER_STATUS_REPORT_H
#define LONGSPAN_CLUSTER_STATUS_REPORT_H

#include <jansson.h>
#include <stdio.h>

void status_report_print(FILE *out, const json_t *status);

#endif
