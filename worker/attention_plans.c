/* attention_plans.c - see attention_plans.h. */
#include "worker/attention_plans.h"

#include <stdlib.h>
#include <string.h>

/* The plan with this window; n_windows: there is none yet. */
static uint32_t find_plan(const struct attention_plans *plans, uint32_t window)
{
    uint32_t i = 0;
    while (i < plans->n_windows && plans->plans[i].shape.window != window)
        i++;
    return i;
}

enum status attention_plans_open(struct attention_plans *plans,
                                 const struct attention_plan_shape *shape, const uint32_t *windows,
                                 uint32_t n_layers, struct error *error)
{
    struct attention_plans p = {.n_layers = n_layers};
    struct attention_plan_shape of_layer = *shape;
    p.plans = calloc((size_t)n_layers + 1, sizeof(*p.plans));
    p.of_layer = calloc(n_layers, sizeof(*p.of_layer));
    enum status status = STATUS_OK;
    if (p.plans == NULL || p.of_layer == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "attention: no memory for %u layers", n_layers);
    for (uint32_t layer = 0; status == STATUS_OK && layer < n_layers; layer++) {
        of_layer.window = windows != NULL ? windows[layer] : 0;
        const uint32_t i = p.of_layer[layer] = find_plan(&p, of_layer.window);
        if (i == p.n_windows)
            status = attention_plan_open(&p.plans[i], &of_layer, error);
        p.n_windows += i == p.n_windows && status == STATUS_OK;
    }
    of_layer.needed_only = true;
    if (status == STATUS_OK)
        status = attention_plan_open(&p.plans[p.n_windows], &of_layer, error);
    if (status != STATUS_OK) {
        attention_plans_close(&p);
        return status;
    }
    *plans = p;
    return STATUS_OK;
}

void attention_plans_close(struct attention_plans *plans)
{
    for (uint32_t i = 0; plans->plans != NULL && i <= plans->n_windows; i++)
        attention_plan_close(&plans->plans[i]);
    free(plans->plans);
    free(plans->of_layer);
    memset(plans, 0, sizeof(*plans));
}

void attention_plans_reset(struct attention_plans *plans, bool needed_only)
{
    plans->n = plans->n_windows + needed_only;
    for (uint32_t i = 0; i <= plans->n_windows; i++)
        attention_plan_reset(&plans->plans[i]);
}

enum status attention_plans_add(struct attention_plans *plans, struct attention_part *part,
                                uint32_t index, struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < plans->n; i++)
        status = attention_plan_add(&plans->plans[i], part, index, error);
    return status;
}

enum status attention_plans_appends(struct attention_plans *plans,
                                    const struct attention_part *parts, uint32_t n_parts,
                                    struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < plans->n; i++)
        status = attention_plan_appends(&plans->plans[i], parts, n_parts, error);
    return status;
}

struct attention_plan *attention_plans_of(const struct attention_plans *plans, uint32_t layer)
{
    const bool needed_only = plans->n > plans->n_windows && layer + 1 == plans->n_layers;
    return &plans->plans[needed_only ? plans->n_windows : plans->of_layer[layer]];
}

static void keep_larger(size_t *a, size_t b)
{
    *a = *a > b ? *a : b;
}

struct attention_plans_size attention_plans_size(const struct attention_plans *plans)
{
    struct attention_plans_size size = {0};
    for (uint32_t i = 0; i < plans->n; i++) {
        const struct attention_plan *plan = &plans->plans[i];
        keep_larger(&size.own_floats, plan->own_floats);
        keep_larger(&size.n_pages, plan->n_pages);
        keep_larger(&size.n_chunk_tiles, plan->n_chunk_tiles);
        keep_larger(&size.n_pieces, plan->n_pieces);
        keep_larger(&size.n_runs, plan->n_runs);
    }
    return size;
}
