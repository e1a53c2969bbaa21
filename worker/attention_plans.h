/* worker/attention_plans.h - the plans of a step: one for each window that layers of the rank have.
 *
 * Layers with the same window ask the same holders about the same tiles, so they share a plan.
 * Llama has one, a model of windowed and full layers two. */
#ifndef LONGSPAN_WORKER_ATTENTION_PLANS_H
#define LONGSPAN_WORKER_ATTENTION_PLANS_H

#include "worker/attention_plan.h"

struct attention_plans {
    struct attention_plan *plans;
    uint32_t n, n_layers;
    uint32_t *of_layer; /* [n_layers] index of its plan */
};

/* windows: [n_layers], 0: none; NULL: no layer has one. `shape`: of all plans, but for the window.
 * STATUS_NO_MEMORY. */
enum status attention_plans_open(struct attention_plans *plans,
                                 const struct attention_plan_shape *shape, const uint32_t *windows,
                                 uint32_t n_layers, struct error *error);
/* Zeroed memory is fine. */
void attention_plans_close(struct attention_plans *plans);

/* As attention_plan_reset, _add and _appends, of all plans. */
void attention_plans_reset(struct attention_plans *plans);
enum status attention_plans_add(struct attention_plans *plans, struct attention_part *part,
                                uint32_t index, struct error *error);
enum status attention_plans_appends(struct attention_plans *plans,
                                    const struct attention_part *parts, uint32_t n_parts,
                                    struct error *error);

/* Of a layer, counted from the rank's first. */
struct attention_plan *attention_plans_of(const struct attention_plans *plans, uint32_t layer);

/* What the plan with the most of it needs. */
struct attention_plans_size {
    size_t own_floats, n_pages, n_chunk_tiles, n_pieces, n_runs;
};
struct attention_plans_size attention_plans_size(const struct attention_plans *plans);

#endif
