/* attention_layer.c - one layer: questions out, tokens kept, tiles evaluated, answers folded.
 *
 * All works that are evaluated here, own tiles and local holder, are one call of attend_run, so one
 * lean schedule, while the remote holders work. The fold then takes the nodes of all sources in the
 * tree's order, so that it does not matter who evaluated what. */
#include "worker/attention_state.h"

#include "sys/clock.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum { INLINE_VALUES = 1 << 14 }; /* below, waking the lanes costs more than they save */

static bool part_works(const struct attention_part *part)
{
    return part->error.status == STATUS_OK;
}

/* Runs `function` over lanes, or here when there is little to do. */
static void run_lanes(struct attention *a, size_t n_values,
                      void (*function)(void *context, uint32_t lane, uint32_t n_lanes))
{
    if (n_values < INLINE_VALUES)
        function(a, 0, 1);
    else
        thread_pool_run(a->pool, function, a);
}

void attention_query(struct attention *attention, uint32_t layer, const float *q)
{
    assert(layer - attention->config.first_layer < attention->config.n_layers);
    attention->q = q;
    if (attention->n_parts > 0)
        attention_client_query(attention->client, layer, q);
}

static void round_rows(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct attention *a = context;
    const enum kv_type type = a->config.shape.type;
    size_t begin, end;
    /* All rows lie one after the other, so a share need only be whole blocks. */
    thread_pool_share(a->n_rows * a->kv_row, 2 * KV_MAX_BLOCK, lane, n_lanes, &begin, &end);
    unsigned char *k = a->kv + kv_row_bytes(type, begin);
    kv_round(type, k, a->k_in + begin, end - begin);
    kv_round(type, k + a->v_offset, a->v_in + begin, end - begin);
}

/* A lane takes every n-th (part, head). */
static void write_tiles(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct attention *a = context;
    const uint32_t n_heads = a->config.n_kv_heads;
    const size_t stride = kv_row_bytes(a->config.shape.type, a->kv_row);
    const size_t head_bytes = stride / n_heads;
    for (size_t i = lane; i < (size_t)a->n_parts * n_heads; i += n_lanes) {
        const struct attention_part *part = &a->parts[i / n_heads];
        const size_t head = i % n_heads, from = part->row * stride + head * head_bytes;
        if (part_works(part))
            attention_tiles_write(&a->tiles, a->pages + part->first_page + head * part->n_tiles,
                                  part->position, part->n_tokens, a->kv + from,
                                  a->kv + a->v_offset + from, stride);
    }
}

static void find_pages(struct attention *a, uint32_t layer)
{
    for (uint32_t i = 0; i < a->n_parts; i++) {
        const struct attention_part *part = &a->parts[i];
        if (!part_works(part))
            continue;
        for (uint32_t head = 0; head < a->config.n_kv_heads; head++) {
            void **pages = a->pages + part->first_page + (size_t)head * part->n_tiles;
            const size_t chunk = part->first_chunk + (size_t)head * (part->n_tiles - 1);
            pages[0] = attention_tiles_slab(&a->tiles, part->sequence->slot, layer, head);
            for (uint32_t tile = 1; tile < part->n_tiles; tile++)
                pages[tile] = attention_tiles_chunk(&a->tiles, chunk + tile - 1);
        }
    }
}

static void append_local(struct attention *a, uint32_t layer)
{
    const struct attention_plan_list *list = &a->plan.lists[a->local];
    const size_t row_bytes = kv_row_bytes(a->config.shape.type, a->kv_row);
    for (size_t i = 0; i < list->n_appends; i++) {
        const struct attention_plan_append *append = &a->plan.appends[list->first_append + i];
        struct attention_part *part = &a->parts[append->part];
        const uint32_t n = append->tokens.end - append->tokens.begin;
        const size_t row = part->row + (append->tokens.begin - part->position);
        struct error error = {0};
        if (!part_works(part))
            continue;
        if (kv_holder_append(a->holder, part->id, part->incarnation, layer, a->config.first_kv_head,
                             a->config.n_kv_heads, append->tokens.begin, n, a->kv + row * row_bytes,
                             a->kv + a->v_offset + row * row_bytes, &error) != STATUS_OK)
            attention_fail_part(part, &error);
        else
            a->local_kv_bytes += 2 * n * row_bytes;
    }
}

void attention_append(struct attention *attention, uint32_t layer, const float *k, const float *v)
{
    struct attention *a = attention;
    if (a->n_parts == 0)
        return;
    a->k_in = k;
    a->v_in = v;
    struct trace_track *trace = a->config.trace;
    uint64_t at = trace_begin(trace);
    run_lanes(a, a->n_rows * a->kv_row, round_rows);
    at = trace_span(trace, "round k, v", at);
    attention_client_append(a->client, layer, a->kv, a->kv + a->v_offset);
    at = trace_span(trace, "append", at);
    find_pages(a, layer - a->config.first_layer);
    run_lanes(a, a->n_rows * a->kv_row, write_tiles);
    if (a->holder != NULL)
        append_local(a, layer);
    trace_span(trace, "keep k, v", at);
}

/* One piece's works, one for each head. False: the local holder lacks it. */
static bool piece_works(struct attention *a, const struct attention_piece *piece, uint32_t layer,
                        size_t *n_works, struct error *error)
{
    const struct attention_run *run = &a->plan.runs[piece->run];
    const struct attention_part *part = &a->parts[run->part];
    const struct attend_shape *shape = &a->config.shape;
    for (uint32_t head = 0; head < a->config.n_kv_heads; head++) {
        struct attend_work work = {.q = a->q + run->row * a->q_row +
                                        (size_t)head * shape->group * shape->head_dim,
                                   .q_token_stride = a->q_row,
                                   .n_tokens = run->n_tokens,
                                   .position = run->position,
                                   .window = a->config.window,
                                   .ranges = a->plan.ranges + piece->first_range,
                                   .n_ranges = (uint32_t)piece->n_ranges,
                                   .own_tile = piece->source == ATTENTION_OWN,
                                   .out = a->own + piece->offset + head * piece->head_floats};
        if (work.own_tile)
            work.source =
                (struct tile_source){.pages = a->pages + part->first_page + head * part->n_tiles,
                                     .first_tile = part->first_tile,
                                     .page_tiles = 1};
        else if (kv_holder_source(a->holder, part->id, part->incarnation, layer,
                                  a->config.first_kv_head + head, work.ranges, work.n_ranges,
                                  &work.source, error) != STATUS_OK)
            return false;
        a->works[(*n_works)++] = work;
    }
    return true;
}

static void evaluate_own(struct attention *a, uint32_t layer)
{
    size_t n_works = 0;
    struct error error = {0};
    for (size_t i = 0; i < a->plan.n_pieces; i++) {
        const struct attention_piece *piece = &a->plan.pieces[i];
        struct attention_part *part = &a->parts[a->plan.runs[piece->run].part];
        if (!part_works(part) || piece->source == ATTENTION_BLANK ||
            (piece->source < a->config.n_holders && a->remote[piece->source]))
            continue;
        error = (struct error){0};
        if (!piece_works(a, piece, layer, &n_works, &error))
            attention_fail_part(part, &error);
    }
    error = (struct error){0};
    if (n_works > 0 && attend_run(a->attend, a->works, n_works, &error) != STATUS_OK)
        for (uint32_t i = 0; i < a->n_parts; i++)
            attention_fail_part(&a->parts[i], &error);
}

/* The nodes of one (run, head), from wherever they are. */
static int fold_run(struct attention *a, const struct attention_run *run, uint32_t head)
{
    const struct attention_plan *plan = &a->plan;
    const size_t head_dim = a->config.shape.head_dim;
    const size_t floats = partial_floats(run->n_rows, head_dim);
    struct partial_fold fold;
    float *own = NULL;
    int complete = 1;
    partial_fold_reset(&fold, run->tile, run->n_rows, head_dim);
    for (size_t i = run->first_piece; i < run->first_piece + run->n_pieces; i++) {
        const struct attention_piece *piece = &plan->pieces[i];
        const bool remote = piece->source < plan->shape.n_holders && a->remote[piece->source];
        float *base = remote ? attention_client_reply(a->client, piece->source) : a->own;
        if (base == NULL)
            return 0;
        float *partial = base + piece->offset + head * piece->head_floats;
        for (size_t node = 0; node < piece->n_nodes; node++, partial += floats) {
            if (piece->source == ATTENTION_BLANK)
                partial_clear(partial, run->n_rows, head_dim);
            complete &= partial_fold_add(&fold, plan->nodes[piece->first_node + node], partial);
        }
        if (piece->source == ATTENTION_OWN)
            own = partial;
    }
    float *out = a->out + run->row * a->q_row + head * a->config.shape.group * head_dim;
    return complete && partial_fold_finish(&fold, own, out, a->q_row, a->config.shape.group);
}

static void fold_runs(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct attention *a = context;
    const uint32_t n_heads = a->config.n_kv_heads;
    for (size_t i = lane; i < a->plan.n_runs * n_heads; i += n_lanes) {
        const struct attention_run *run = &a->plan.runs[i / n_heads];
        if (part_works(&a->parts[run->part]) && !fold_run(a, run, (uint32_t)(i % n_heads)))
            __atomic_store_n(&a->unfolded[i / n_heads], 1, __ATOMIC_RELAXED);
    }
}

/* What is left of the last tile is the open tile of the next step. */
static void keep_open_tiles(struct attention *a, uint32_t layer)
{
    for (uint32_t i = 0; i < a->n_parts; i++) {
        const struct attention_part *part = &a->parts[i];
        if (!part_works(part) || part->n_tiles == 1 ||
            (part->position + part->n_tokens) % TILE_TOKENS == 0)
            continue;
        for (uint32_t head = 0; head < a->config.n_kv_heads; head++)
            memcpy(attention_tiles_slab(&a->tiles, part->sequence->slot, layer, head),
                   a->pages[part->first_page + (size_t)(head + 1) * part->n_tiles - 1],
                   a->tiles.tile_bytes);
    }
}

void attention_finish(struct attention *attention, uint32_t layer, float *out)
{
    struct attention *a = attention;
    struct error error = {0};
    struct trace_track *trace = a->config.trace;
    uint64_t at = trace_begin(trace);
    a->out = out;
    evaluate_own(a, layer);
    at = trace_span(trace, "own tiles", at);

    const uint64_t began = clock_us();
    attention_client_wait(a->client);
    const uint64_t came = clock_ns();
    a->layer_wait_us[layer - a->config.first_layer] = (uint32_t)(came / 1000 - began);
    a->wait_us += came / 1000 - began;
    at = trace_span(trace, "wait for holders", at);

    if (a->plan.n_runs > 0)
        memset(a->unfolded, 0, a->plan.n_runs);
    run_lanes(a, a->n_rows * a->q_row, fold_runs);
    for (size_t i = 0; i < a->plan.n_runs; i++) {
        struct attention_part *part = &a->parts[a->plan.runs[i].part];
        if (!part_works(part) || !a->unfolded[i])
            continue;
        error_set(&error, STATUS_EXHAUSTED,
                  "attention: sequence %" PRIu64 ": the tiles before token %u come in too many "
                  "pieces, or not each once; use larger stripes",
                  part->id, part->position);
        attention_fail_part(part, &error);
    }
    a->merge_ns += clock_ns() - came;
    attention_client_release(a->client);
    keep_open_tiles(a, layer - a->config.first_layer);
    for (uint32_t i = 0; i < a->n_parts; i++)
        if (!part_works(&a->parts[i]))
            memset(out + a->parts[i].row * a->q_row, 0,
                   a->parts[i].n_tokens * a->q_row * sizeof(*out));
    trace_span(trace, "merge", at);
}
