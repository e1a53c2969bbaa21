/* capacity.c - see capacity.h. */
#include "plan/capacity.h"

#include "kernels/attention/kv_holder.h"
#include "sys/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    UNKNOWN_CONTEXT = 4096, /* of a model whose file does not say what it was trained for */
    REMEDY_BYTES = 64,
};

#define MOST_TOKENS (1ull << 30) /* of one sequence */
#define MOST_UNITS  (1ull << 40) /* of a holder that nobody has limited yet */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- from the model -------------------------------------------------------------------------- */

/* What a page costs, and how large the pieces are that this is counted in. */
static enum status read_windows(struct capacity *c, const struct hparams *h, struct error *error)
{
    bool some = false;
    uint32_t *windows = calloc(h->n_layers, sizeof(*windows));
    if (windows == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u layers", h->n_layers);
    for (uint32_t layer = 0; layer < h->n_layers; layer++) {
        windows[layer] = hparams_window(h, layer);
        some = some || windows[layer] > 0;
    }
    if (some)
        c->windows = windows;
    else
        free(windows);
    c->unit_bytes =
        PAGE_TOKENS * planner_kv_bytes(&c->model, c->options.kv_type) / (some ? h->n_layers : 1);
    return page_cost_create(&c->cost, c->windows, h->n_layers, c->options.chunk, error);
}

static enum status take_ranks(struct capacity *c, const struct hparams *hparams,
                              const struct model_file *file, struct error *error)
{
    c->ranks = calloc(c->options.workers + 1u, sizeof(*c->ranks));
    c->nodes = calloc(c->options.nodes + 1u, sizeof(*c->nodes));
    if (c->ranks == NULL || c->nodes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u workers and %u nodes",
                         c->options.workers, c->options.nodes);
    for (uint32_t i = 0; i < c->options.workers; i++) {
        const struct planner_stage *stage = &c->plan.stages[i / c->plan.tensor];
        shard_cost_of(&c->ranks[i].cost, hparams, file, &c->plan.shards[i % c->plan.tensor],
                      stage->first_layer, stage->n_layers);
    }
    return STATUS_OK;
}

enum status capacity_open(struct capacity *capacity, const struct capacity_options *options,
                          const struct hparams *hparams, const struct model_file *file,
                          struct error *error)
{
    *capacity = (struct capacity){.options = *options,
                                  .n_layers = hparams->n_layers,
                                  .context_train = hparams->context_train};
    planner_model_read(&capacity->model, hparams, file);
    enum status status = tile_check(options->kv_type, hparams->head_dim, error);
    if (status == STATUS_OK)
        status = read_windows(capacity, hparams, error);
    if (status == STATUS_OK)
        status = planner_plan(&capacity->plan, &capacity->model, options->workers,
                              options->pipeline, options->tensor, error);
    return status == STATUS_OK ? take_ranks(capacity, hparams, file, error) : status;
}

void capacity_close(struct capacity *capacity)
{
    page_cost_clear(&capacity->cost);
    planner_plan_free(&capacity->plan);
    free(capacity->windows);
    free(capacity->ranks);
    free(capacity->nodes);
    *capacity = (struct capacity){0};
}

/* ---- what fits ------------------------------------------------------------------------------- */

/* Layers of a stage that have this window. */
static uint32_t layers_with(const struct capacity *c, const struct planner_stage *stage,
                            uint32_t window)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < stage->n_layers; i++)
        n += c->windows[stage->first_layer + i] == window;
    return n;
}

/* Units of the whole model, of which the rank's part surely has room in so many bytes. */
static uint64_t rank_units(const struct capacity *c, uint32_t rank, uint64_t bytes)
{
    const struct planner_stage *stage = &c->plan.stages[rank / c->plan.tensor];
    const struct page_cost *cost = &c->cost;
    const uint64_t page =
        PAGE_TOKENS * planner_rank_kv_bytes(&c->plan, &c->model, rank, c->options.kv_type);
    if (c->windows == NULL)
        return bytes / page;
    const uint64_t units = smaller(bytes / (page / stage->n_layers), MOST_UNITS);
    uint64_t fits = UINT64_MAX;
    const uint32_t whole = layers_with(c, stage, 0);
    if (whole > 0)
        fits = units * cost->whole / whole;
    for (uint32_t i = 0; i < cost->n_windows; i++) {
        const uint32_t n = layers_with(c, stage, cost->windows[i].window);
        if (n > 0)
            fits = smaller(fits, units * cost->windows[i].n_layers / n);
    }
    return fits;
}

/* What the local holder can have: as much as the rank with the least room. A host that does not say
 * what memory it has does not limit it; its rank will. */
static uint64_t local_units(const struct capacity *c)
{
    uint64_t fits = MOST_UNITS;
    for (uint32_t i = 0; i < c->options.workers; i++) {
        const struct capacity_rank *rank = &c->ranks[i];
        const uint64_t weights = rank->cost.weight_bytes, memory = rank->memory_bytes;
        const uint64_t left = memory > weights ? memory - weights : 0;
        const uint64_t bytes = rank->kv_bytes > 0         ? rank->kv_bytes
                               : c->options.kv_memory > 0 ? c->options.kv_memory
                                                          : kv_holder_share(left);
        if (bytes > 0 || memory > 0)
            fits = smaller(fits, rank_units(c, i, bytes));
    }
    return fits;
}

uint32_t capacity_n_holders(const struct capacity *capacity)
{
    return capacity->options.nodes > 0 ? capacity->options.nodes : 1;
}

uint64_t capacity_holder_units(const struct capacity *capacity, uint32_t holder)
{
    return capacity->options.nodes > 0 ? capacity->nodes[holder].kv_bytes / capacity->unit_bytes
                                       : local_units(capacity);
}

uint64_t capacity_tokens(const struct capacity *capacity, uint64_t units)
{
    return page_cost_room(&capacity->cost, units, MOST_TOKENS / PAGE_TOKENS) * PAGE_TOKENS;
}

uint64_t capacity_all_tokens(const struct capacity *capacity)
{
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < capacity_n_holders(capacity); i++)
        tokens += capacity_tokens(capacity, capacity_holder_units(capacity, i));
    return tokens;
}

uint64_t capacity_sequence_bytes(const struct capacity *capacity, uint64_t n_tokens)
{
    const uint64_t n_pages = n_tokens / PAGE_TOKENS + (n_tokens % PAGE_TOKENS != 0);
    return page_cost_sequence(&capacity->cost, n_pages) * capacity->unit_bytes;
}

uint64_t capacity_sequences(const struct capacity *capacity, uint64_t n_tokens)
{
    const uint64_t n = capacity_n_holders(capacity);
    const uint64_t n_pages = n_tokens / PAGE_TOKENS + (n_tokens % PAGE_TOKENS != 0);
    uint64_t units = 0, each = 0;
    for (uint32_t i = 0; i < n; i++) {
        units += capacity_holder_units(capacity, i);
        each += page_cost_sequence(&capacity->cost, n_pages / n + (i < n_pages % n));
    }
    return each > 0 ? units / each : 0;
}

/* ---- whether it does ------------------------------------------------------------------------- */

static enum status check_weights_fit(const struct capacity *c, struct error *error)
{
    for (uint32_t i = 0; i < c->options.workers; i++) {
        const uint64_t weights = c->ranks[i].cost.weight_bytes, memory = c->ranks[i].memory_bytes;
        char needed[SIZE_TEXT_BYTES], available[SIZE_TEXT_BYTES];
        if (memory > 0 && weights > memory)
            return error_set(error, STATUS_EXHAUSTED,
                             "worker %u (%s) has %s of memory, its weights need %s: more "
                             "--workers, each with fewer layers, would do",
                             i, c->ranks[i].host, size_format(memory, available),
                             size_format(weights, needed));
    }
    return STATUS_OK;
}

static enum status windows_too_large(const struct capacity *c, uint64_t tokens, const char *remedy,
                                     struct error *error)
{
    char needed[SIZE_TEXT_BYTES];
    return error_set(error, STATUS_EXHAUSTED,
                     "--ctx %u needs %s of KV cache (%s; layers with a sliding window keep what is "
                     "in it, at each KV holder): --ctx %" PRIu64 " would fit, or raise %s",
                     c->options.ctx,
                     size_format(capacity_sequence_bytes(c, c->options.ctx), needed),
                     kv_type_name(c->options.kv_type), tokens, remedy);
}

/* ", or --kv-type q8_0 (16.2 GiB)", where a sequence of `ctx` tokens would have room then; else
 * nothing. */
static const char *smaller_type(const struct capacity *c, uint64_t tokens, char text[REMEDY_BYTES])
{
    const uint64_t now = planner_kv_bytes(&c->model, c->options.kv_type);
    const uint64_t then = tile_check(KV_Q8_0, c->model.head_dim, NULL) == STATUS_OK
                              ? planner_kv_bytes(&c->model, KV_Q8_0)
                              : now;
    const double ratio = (double)then / (double)now;
    char size[SIZE_TEXT_BYTES];
    text[0] = '\0';
    if (then < now && (double)c->options.ctx * ratio < (double)tokens * 0.99) /* whole pages */
        snprintf(text, REMEDY_BYTES, ", or --kv-type q8_0 (%s)",
                 size_format((uint64_t)((double)capacity_sequence_bytes(c, c->options.ctx) * ratio),
                             size));
    return text;
}

enum status capacity_settle(const struct capacity *c, uint32_t *max_tokens, struct error *error)
{
    const enum status status = check_weights_fit(c, error);
    if (status != STATUS_OK)
        return status;
    const uint32_t ctx = c->options.ctx;
    const uint32_t trained = c->context_train > 0 ? c->context_train : UNKNOWN_CONTEXT;
    const uint64_t tokens = capacity_all_tokens(c);
    char needed[SIZE_TEXT_BYTES], available[SIZE_TEXT_BYTES], text[REMEDY_BYTES];
    const char *remedy =
        c->options.nodes > 0 ? "--memory of the attention nodes" : "--kv-memory of the workers";
    if (tokens == 0)
        return error_set(error, STATUS_EXHAUSTED,
                         "the KV holders have no memory for even one page: %s for %d tokens; raise "
                         "%s",
                         size_format(capacity_sequence_bytes(c, 1), needed), PAGE_TOKENS, remedy);
    if (ctx > tokens && c->windows != NULL)
        return windows_too_large(c, tokens, remedy, error);
    if (ctx > tokens)
        return error_set(
            error, STATUS_EXHAUSTED,
            "--ctx %u needs %s of KV cache (%s, %" PRIu64
            " bytes per token), the KV holders have %s: --ctx %" PRIu64 " would fit, or raise %s%s",
            ctx, size_format(capacity_sequence_bytes(c, ctx), needed),
            kv_type_name(c->options.kv_type), capacity_sequence_bytes(c, 1) / PAGE_TOKENS,
            size_format(capacity_sequence_bytes(c, tokens), available), tokens, remedy,
            smaller_type(c, tokens, text));
    *max_tokens = ctx > 0 ? ctx : (uint32_t)smaller(trained, tokens);
    return STATUS_OK;
}
