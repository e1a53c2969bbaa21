/* worker/attention_plans.h - the plans of a step: one for each window that layers of the rank have.
 *
 * Layers with the same window ask the same holders about the same tiles, so they share a plan.
 * Llama has one, a model of windowed and full layers two. The model's last layer has its own in
 * steps with rows that are not needed behind it (attention_plan.h, needed_only). */
#ifndef LONGSPAN_WORKER_ATTENTION_PLANS_H
#define LONGSPAN_WORKER_ATTENTION_PLANS_H

#include "worker/attention_plan.h"

struct attention_plans {
    struct attention_plan *plans;
    uint32_t n; /* of this step: those of windows, and the last layer's behind them or not */
    uint32_t n_windows; /* plans[n_windows] is the last layer's */
    uint32_t n_layers;
    uint32_t *of_layer; /* [n_layers] index of the plan of its window */
};

/* windows: [n_layers], 0: none; NULL: no layer has one. `shape`: of all plans, but for the window
 * and needed_only. STATUS_NO_MEMORY. */
enum status attention_plans_open(struct attention_plans *plans,
                                 const struct attention_plan_shape *shape, const uint32_t *windows,
                                 uint32_t n_layers, struct error *error);
/* Zeroed memory is fine. */
void attention_plans_close(struct attention_plans *plans);

/* As attention_plan_reset, _add and _appends, of all plans. needed_only: the last layer is the
 * model's, and some rows of the step are not needed behind it. */
void attention_plans_reset(struct attention_plans *plans, bool needed_only);
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
