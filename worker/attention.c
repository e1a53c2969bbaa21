/* attention.c - the steps of a rank: what attention.h promises, out of plan, tiles, holders and
 * wire.
 *
 * All works of a layer that are evaluated here, own tiles and local holder, are one call of
 * attend_run, so one lean schedule, while the remote holders work. The fold then takes the nodes of
 * all sources in the tree's order, so that it does not matter who evaluated what. */
#include "worker/attention.h"

#include "sys/clock.h"
#include "sys/memory.h"
#include "worker/attention_client.h"
#include "worker/attention_plan.h"
#include "worker/attention_sequence.h"
#include "worker/attention_tiles.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    INLINE_VALUES = 1 << 14, /* below, waking the lanes costs more than they save */
    NO_HOLDER = UINT32_MAX
};

struct attention {
    struct attention_config config; /* without the pointers */
    struct thread_pool *pool;
    struct attend *attend;
    struct attention_client *client;
    struct attention_sequences sequences;
    struct attention_tiles tiles;
    struct attention_plan plan;
    struct kv_holder *holder; /* the local one, or NULL */
    uint32_t local;           /* its index, or NO_HOLDER */
    uint64_t local_kv_bytes;  /* put there so far */
    bool *remote;
    size_t q_row, kv_row; /* values of one token, all heads */

    struct attention_part *parts;
    uint32_t n_parts;
    size_t parts_capacity, n_rows;
    struct span *spans; /* scratch: of one sequence at the local holder */
    size_t spans_capacity;

    /* Of one layer. */
    const float *q;
    const float *k_in, *v_in;
    unsigned char *kv; /* k, then v, of all rows in the KV type */
    size_t kv_capacity, v_offset;
    float *own; /* partials that are evaluated here */
    size_t own_capacity;
    void **pages;
    size_t pages_capacity;
    struct attend_work *works;
    size_t works_capacity;
    uint8_t *unfolded; /* [runs]: the fold did not add up */
    size_t unfolded_capacity;
    float *out;
    uint64_t wait_us;
};

/* ---- open and close ---- */

static enum status check_config(const struct attention_config *config, struct error *error)
{
    const struct attend_shape *shape = &config->shape;
    uint32_t n_local = 0;
    for (uint32_t i = 0; i < config->n_holders; i++)
        n_local += config->holders[i].endpoint == NULL || config->holders[i].endpoint[0] == '\0';
    if (n_local > 1)
        return error_set(error, STATUS_INVALID, "attention: %u local KV holders, at most 1",
                         n_local);
    if (config->n_layers == 0 || config->n_kv_heads == 0 || shape->head_dim == 0 ||
        shape->group == 0 || config->max_rows == 0 || config->max_sequences == 0 ||
        config->max_tokens == 0 ||
        config->max_tokens > (uint32_t)TREE_MAX_TILES * TILE_TOKENS - 1 ||
        config->n_holders >= ATTENTION_BLANK || config->timeout_ms == 0)
        return error_set(error, STATUS_INVALID,
                         "attention: a zero or too large number in the setup: %u layers, %u KV "
                         "heads, head_dim %u, group %u, %u rows, %u sequences, %u tokens, timeout "
                         "%u ms",
                         config->n_layers, config->n_kv_heads, shape->head_dim, shape->group,
                         config->max_rows, config->max_sequences, config->max_tokens,
                         config->timeout_ms);
    return STATUS_OK;
}

static enum status open_local(struct attention *a, const struct attention_config *config,
                              struct error *error)
{
    a->local = NO_HOLDER;
    for (uint32_t i = 0; i < config->n_holders; i++) {
        const char *endpoint = config->holders[i].endpoint;
        a->remote[i] = endpoint != NULL && endpoint[0] != '\0';
        if (!a->remote[i])
            a->local = i;
    }
    if (a->local == NO_HOLDER)
        return STATUS_OK;
    const struct kv_holder_shape shape = {.type = config->shape.type,
                                          .head_dim = config->shape.head_dim,
                                          .first_layer = config->first_layer,
                                          .n_layers = config->n_layers,
                                          .first_kv_head = config->first_kv_head,
                                          .n_kv_heads = config->n_kv_heads};
    const uint64_t bytes =
        config->local_kv_bytes > 0 ? config->local_kv_bytes : memory_available_bytes() / 5 * 4;
    return kv_holder_create(&a->holder, &shape, bytes, error);
}

static enum status open_parts(struct attention *a, struct wire_context *wire,
                              const struct attention_config *config, struct error *error)
{
    enum status status = attend_create(&a->attend, a->pool, config->kernels, &config->shape, error);
    if (status == STATUS_OK)
        status = attention_sequences_open(&a->sequences, config->max_sequences, error);
    if (status == STATUS_OK)
        status = attention_tiles_open(&a->tiles, config->shape.type, config->shape.head_dim,
                                      config->n_layers, config->n_kv_heads, config->max_sequences,
                                      error);
    if (status == STATUS_OK)
        status = open_local(a, config, error);
    if (status == STATUS_OK)
        status =
            attention_plan_open(&a->plan,
                                &(struct attention_plan_shape){.head_dim = config->shape.head_dim,
                                                               .group = config->shape.group,
                                                               .n_heads = config->n_kv_heads,
                                                               .window = config->window,
                                                               .n_holders = config->n_holders,
                                                               .remote = a->remote},
                                error);
    if (status == STATUS_OK)
        status = attention_client_open(&a->client, wire, config,
                                       config->kernels != NULL ? config->kernels : "",
                                       thread_pool_lanes(a->pool), error);
    return status;
}

enum status attention_open(struct attention **attention, struct thread_pool *pool,
                           struct wire_context *wire, const struct attention_config *config,
                           struct error *error)
{
    enum status status = check_config(config, error);
    if (status != STATUS_OK)
        return status;
    struct attention *a = calloc(1, sizeof(*a));
    if (a == NULL || (a->remote = calloc(config->n_holders + 1, sizeof(*a->remote))) == NULL) {
        free(a);
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory to start");
    }
    a->pool = pool;
    a->config = *config;
    a->config.holders = NULL;
    a->config.kernels = a->config.constants_version = NULL;
    a->kv_row = (size_t)config->n_kv_heads * config->shape.head_dim;
    a->q_row = a->kv_row * config->shape.group;
    status = open_parts(a, wire, config, error);
    if (status != STATUS_OK) {
        attention_close(a);
        return status;
    }
    *attention = a;
    return STATUS_OK;
}

void attention_close(struct attention *attention)
{
    if (attention == NULL)
        return;
    attention_client_close(attention->client);
    attention_plan_close(&attention->plan);
    attention_tiles_close(&attention->tiles);
    attention_sequences_close(&attention->sequences);
    kv_holder_destroy(attention->holder);
    attend_destroy(attention->attend);
    free(attention->remote);
    free(attention->parts);
    free(attention->spans);
    free(attention->kv);
    free(attention->own);
    free(attention->pages);
    free(attention->works);
    free(attention->unfolded);
    free(attention);
}

void attention_drop(struct attention *attention, uint64_t sequence, uint32_t incarnation)
{
    struct attention_sequence *known =
        attention_sequences_find(&attention->sequences, sequence, incarnation);
    if (known == NULL)
        return;
    if (known->part != ATTENTION_NO_PART) /* its part's results can still be asked for */
        attention->parts[known->part].sequence = NULL;
    attention_client_forget(attention->client, known);
    if (attention->holder != NULL)
        kv_holder_close(attention->holder, sequence, incarnation);
    attention_sequences_remove(&attention->sequences, known);
}

/* ---- a step begins ---- */

/* A sequence that we have not seen: from its beginning, or from a parent's pages on. */
static enum status open_sequence(struct attention *a, const struct attention_segment *segment,
                                 struct attention_sequence **sequence, struct error *error)
{
    struct attention_sequence *parent = NULL;
    if (segment->fork) {
        parent =
            attention_sequences_find(&a->sequences, segment->parent, segment->parent_incarnation);
        if (parent == NULL || parent->error.status != STATUS_OK)
            return error_set(error, STATUS_INVALID,
                             "attention: sequence %" PRIu64 " forks from %" PRIu64 ", which %s",
                             segment->sequence, segment->parent,
                             parent == NULL ? "is not open" : "has failed");
        if (segment->position == 0 || segment->position % PAGE_TOKENS != 0 ||
            segment->position > parent->position)
            return error_set(error, STATUS_INVALID,
                             "attention: sequence %" PRIu64 " forks from %" PRIu64
                             " at token %u: it takes whole pages of %u tokens, and the parent has "
                             "%u tokens",
                             segment->sequence, segment->parent, segment->position,
                             (unsigned)PAGE_TOKENS, parent->position);
    } else if (segment->position != 0) {
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64 " is not open and begins at token %u",
                         segment->sequence, segment->position);
    }
    enum status status = attention_sequences_add(&a->sequences, segment->sequence,
                                                 segment->incarnation, sequence, error);
    if (status != STATUS_OK || parent == NULL)
        return status;
    (*sequence)->position = segment->position;
    (*sequence)->forking = true;
    (*sequence)->fork_tokens = segment->position;
    (*sequence)->parent = parent->id;
    (*sequence)->parent_incarnation = parent->incarnation;
    return STATUS_OK;
}

/* Reserves the local holder's spans, the known ones too: they are ignored there. */
static enum status reserve_local(struct attention *a, const struct attention_sequence *sequence,
                                 struct error *error)
{
    enum status status =
        attention_grow(&a->spans, &a->spans_capacity, sequence->n_spans, sizeof(*a->spans), error);
    size_t n = 0;
    for (size_t i = 0; status == STATUS_OK && i < sequence->n_spans; i++)
        if (sequence->spans[i].holder == a->local)
            a->spans[n++] = sequence->spans[i].tokens;
    if (status != STATUS_OK || n == 0)
        return status;
    status = kv_holder_reserve(a->holder, sequence->id, sequence->incarnation, a->spans, n,
                               sequence->fork_tokens, error);
    for (uint32_t layer = 0; status == STATUS_OK && sequence->forking && layer < a->config.n_layers;
         layer++)
        if (attention_sequence_holds(sequence, a->local, 0, sequence->fork_tokens / TILE_TOKENS))
            status = kv_holder_fork(a->holder, sequence->parent, sequence->parent_incarnation,
                                    sequence->id, sequence->incarnation, sequence->fork_tokens,
                                    a->config.first_layer + layer, a->config.first_kv_head,
                                    a->config.n_kv_heads, error);
    return status;
}

/* Spans, inherited ones too; then whether everybody who has to work for this segment can. */
static enum status place_segment(struct attention *a, const struct attention_segment *segment,
                                 struct attention_sequence *sequence, struct error *error)
{
    enum status status = attention_sequence_add_spans(sequence, segment->spans, segment->n_spans,
                                                      a->config.n_holders, error);
    if (status == STATUS_OK && sequence->forking)
        status = attention_sequence_inherit(
            sequence,
            attention_sequences_find(&a->sequences, sequence->parent, sequence->parent_incarnation),
            sequence->fork_tokens, a->config.n_holders, error);
    if (status == STATUS_OK && a->holder != NULL && (segment->n_spans > 0 || sequence->forking))
        status = reserve_local(a, sequence, error);
    const uint32_t end = (segment->position + segment->n_tokens - 1) / TILE_TOKENS + 1;
    for (uint32_t i = 0; status == STATUS_OK && i < a->config.n_holders; i++)
        if (a->remote[i] && attention_sequence_holds(sequence, i, 0, end))
            status = attention_client_check(a->client, i, error);
    return status;
}

static enum status begin_segment(struct attention *a, const struct attention_segment *segment,
                                 uint32_t index, struct error *error)
{
    struct attention_part *part = &a->parts[index];
    if (segment->n_tokens == 0 || a->n_rows + segment->n_tokens > a->config.max_rows ||
        segment->position > a->config.max_tokens ||
        segment->n_tokens > a->config.max_tokens - segment->position)
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64
                         ": %u tokens at %u in row %zu; a step has 1 to %u rows, a sequence %u "
                         "tokens",
                         segment->sequence, segment->n_tokens, segment->position, a->n_rows,
                         a->config.max_rows, a->config.max_tokens);
    struct attention_sequence *sequence =
        attention_sequences_find(&a->sequences, segment->sequence, segment->incarnation);
    enum status status = STATUS_OK;
    const bool fresh = sequence == NULL;
    if (fresh)
        status = open_sequence(a, segment, &sequence, error);
    if (status != STATUS_OK)
        return status;
    if (sequence->part != ATTENTION_NO_PART)
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64 " is twice in one step", segment->sequence);
    part->sequence = sequence;
    sequence->part = index;
    if (sequence->error.status != STATUS_OK)
        return error_set(error, sequence->error.status, "%s", sequence->error.text);
    if (!fresh && (segment->fork || segment->position != sequence->position))
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64 " is at token %u, and its segment %s %u",
                         segment->sequence, sequence->position,
                         segment->fork ? "forks it at" : "begins at", segment->position);
    status = place_segment(a, segment, sequence, error);
    if (status == STATUS_OK)
        status = attention_plan_add(&a->plan, part, index, error);
    return status;
}

static void fail_part(struct attention_part *part, const struct error *error)
{
    if (part->error.status == STATUS_OK)
        part->error = *error;
    if (part->sequence != NULL && part->sequence->error.status == STATUS_OK)
        part->sequence->error = *error;
}

/* Memory of the step, in sizes that the plan says. */
static enum status reserve_memory(struct attention *a, struct error *error)
{
    const struct attention_plan *plan = &a->plan;
    const size_t kv_bytes = a->n_rows * a->kv_row * kv_type_bytes(a->config.shape.type);
    a->v_offset = (kv_bytes + 63) / 64 * 64;
    enum status status = attention_tiles_reserve(&a->tiles, plan->n_chunk_tiles, error);
    if (status == STATUS_OK)
        status = attention_grow(&a->kv, &a->kv_capacity, 2 * a->v_offset, 1, error);
    if (status == STATUS_OK)
        status =
            attention_grow(&a->own, &a->own_capacity, plan->own_floats, sizeof(*a->own), error);
    if (status == STATUS_OK)
        status =
            attention_grow(&a->pages, &a->pages_capacity, plan->n_pages, sizeof(void *), error);
    if (status == STATUS_OK)
        status = attention_grow(&a->works, &a->works_capacity,
                                plan->n_pieces * a->config.n_kv_heads, sizeof(*a->works), error);
    if (status == STATUS_OK)
        status = attention_grow(&a->unfolded, &a->unfolded_capacity, plan->n_runs, 1, error);
    return status;
}

void attention_begin_step(struct attention *attention, uint64_t step,
                          const struct attention_segment *segments, uint32_t n_segments)
{
    struct attention *a = attention;
    struct error error = {0};
    for (uint32_t i = 0; i < a->n_parts; i++)
        if (a->parts[i].sequence != NULL)
            a->parts[i].sequence->part = ATTENTION_NO_PART;
    a->n_parts = 0;
    a->n_rows = 0;
    a->wait_us = 0;
    attention_plan_reset(&a->plan);
    attention_client_listen(a->client);
    if (attention_grow(&a->parts, &a->parts_capacity, n_segments, sizeof(*a->parts), &error) !=
        STATUS_OK)
        return; /* attention_segment_error knows no segment then, and says so */
    for (uint32_t i = 0; i < n_segments; i++) {
        struct attention_part *part = &a->parts[i];
        *part = (struct attention_part){.id = segments[i].sequence,
                                        .incarnation = segments[i].incarnation,
                                        .position = segments[i].position,
                                        .n_tokens = segments[i].n_tokens,
                                        .row = (uint32_t)a->n_rows};
        a->n_parts = i + 1;
        error = (struct error){0};
        if (begin_segment(a, &segments[i], i, &error) != STATUS_OK)
            fail_part(part, &error);
        a->n_rows += segments[i].n_tokens;
    }
    error = (struct error){0};
    if (attention_plan_appends(&a->plan, a->parts, a->n_parts, &error) != STATUS_OK ||
        reserve_memory(a, &error) != STATUS_OK ||
        attention_client_begin(a->client, step, &a->plan, a->parts, a->n_parts, &error) !=
            STATUS_OK)
        for (uint32_t i = 0; i < a->n_parts; i++)
            fail_part(&a->parts[i], &error);
}

/* ---- a layer ---- */

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
    const bool half = a->config.shape.type == KV_F16;
    const size_t bytes = kv_type_bytes(a->config.shape.type);
    size_t begin, end;
    thread_pool_share(a->n_rows * a->kv_row, 64, lane, n_lanes, &begin, &end);
    const enum weight_type type = half ? WEIGHT_F16 : WEIGHT_F32;
    weight_quantize(type, a->kv + begin * bytes, a->k_in + begin, end - begin);
    weight_quantize(type, a->kv + a->v_offset + begin * bytes, a->v_in + begin, end - begin);
}

/* A lane takes every n-th (part, head). */
static void write_tiles(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct attention *a = context;
    const uint32_t n_heads = a->config.n_kv_heads;
    const size_t stride = a->kv_row * kv_type_bytes(a->config.shape.type);
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
    const size_t row_bytes = a->kv_row * kv_type_bytes(a->config.shape.type);
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
            fail_part(part, &error);
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
    run_lanes(a, a->n_rows * a->kv_row, round_rows);
    attention_client_append(a->client, layer, a->kv, a->kv + a->v_offset);
    find_pages(a, layer - a->config.first_layer);
    run_lanes(a, a->n_rows * a->kv_row, write_tiles);
    if (a->holder != NULL)
        append_local(a, layer);
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
            fail_part(part, &error);
    }
    error = (struct error){0};
    if (n_works > 0 && attend_run(a->attend, a->works, n_works, &error) != STATUS_OK)
        for (uint32_t i = 0; i < a->n_parts; i++)
            fail_part(&a->parts[i], &error);
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
    a->out = out;
    evaluate_own(a, layer);

    const uint64_t began = clock_us();
    attention_client_wait(a->client);
    a->wait_us += clock_us() - began;

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
        fail_part(part, &error);
    }
    attention_client_release(a->client);
    keep_open_tiles(a, layer - a->config.first_layer);
    for (uint32_t i = 0; i < a->n_parts; i++)
        if (!part_works(&a->parts[i]))
            memset(out + a->parts[i].row * a->q_row, 0,
                   a->parts[i].n_tokens * a->q_row * sizeof(*out));
}

/* ---- a step ends ---- */

void attention_end_step(struct attention *attention)
{
    for (uint32_t i = 0; i < attention->n_parts; i++) {
        struct attention_part *part = &attention->parts[i];
        if (!part_works(part) || part->sequence == NULL)
            continue;
        part->sequence->position = part->position + part->n_tokens;
        part->sequence->forking = false;
    }
}

const struct error *attention_segment_error(const struct attention *attention, uint32_t segment)
{
    static const struct error no_memory = {STATUS_NO_MEMORY,
                                           "attention: no memory to begin the step"};
    if (segment >= attention->n_parts)
        return &no_memory;
    const struct attention_part *part = &attention->parts[segment];
    return part->error.status != STATUS_OK ? &part->error : NULL;
}

uint64_t attention_wait_us(const struct attention *attention)
{
    return attention->wait_us;
}

void attention_traffic(const struct attention *attention, uint32_t holder,
                       struct attention_traffic *traffic)
{
    attention_client_traffic(attention->client, holder, traffic);
    if (holder == attention->local)
        traffic->kv_bytes = attention->local_kv_bytes;
}

uint64_t attention_local_bytes(const struct attention *attention)
{
    if (attention->holder == NULL)
        return 0;
    const struct kv_holder_usage usage = kv_holder_usage(attention->holder);
    return usage.pages_total * usage.page_bytes;
}
