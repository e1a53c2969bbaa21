/* cluster/plan_report.h - a plan for people, from the JSON of plan_json.h. */
#ifndef LONGSPAN_CLUSTER_PLAN_REPORT_H
#define LONGSPAN_CLUSTER_PLAN_REPORT_H

#include <jansson.h>
#include <stdio.h>

void plan_report_print(FILE *out, const json_t *plan);

#endif
