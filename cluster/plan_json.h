/* cluster/plan_json.h - what `longspan plan` tells, as JSON: who holds what, what fits, how fast.
 *
 *     {"model": {...}, "ranks": [...], "nodes": [...], "devices": [...], "holders": [...], "tokens": N,
 *      "context": N, "sequences": N, "runs_out_first": TEXT, "links": [...], "decode": [...],
 *      "together": {...}, "prefill": [...], "break_even_tokens": N, "counted_with": [TEXT, ...],
 *      "fits": bool, "why_not": TEXT}
 *
 * Ranks, nodes and holders have the names and values that GET /cluster tells of the same cluster
 * when it runs (proto/status_json.h), but for `share` of a node; docs/operations.md tells the rest.
 * What is not known is null. */
#ifndef LONGSPAN_CLUSTER_PLAN_JSON_H
#define LONGSPAN_CLUSTER_PLAN_JSON_H

#include "cluster/layout.h"
#include "cluster/plan_facts.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "plan/capacity.h"
#include "sys/status.h"

#include <jansson.h>

struct plan_json_input {
    const struct model_file *file;
    const struct hparams *hparams;
    const struct layout *layout;
    const struct plan_facts *facts; /* applied to `capacity` */
    const struct capacity *capacity;
    uint32_t max_batch, stripe;
    bool probed; /* by plan_probe: what is not known now, it could not tell */
};

/* The caller owns *json. STATUS_NO_MEMORY. *does_not_fit: what STATUS_EXHAUSTED of a start would
 * say, with the remedy; its status is STATUS_OK where all fits, or it is not known. */
enum status plan_json(json_t **json, const struct plan_json_input *input,
                      struct error *does_not_fit, struct error *error);

#endif
