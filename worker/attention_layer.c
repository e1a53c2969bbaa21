/* attention_layer.c - one layer: questions out, tokens kept, tiles evaluated, answers folded.
 *
 * All works that are evaluated here, own tiles and local holder, are one call of attend_run, so one
 * lean schedule, while the remote holders work. The fold then takes the nodes of all sources in the
 * tree's order, so that it does not matter who evaluated what.
 *
 * A device with memory of its own is waited for where a remote holder takes part: once for q, which
 * leaves as soon as it is made, and once for k, v and the partials that were evaluated here, which
 * the host sends and folds. Where a local holder has everything it is not waited for at all. */
#include "worker/attention_state.h"

#include "kernels/attention/kv_window.h"
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

static bool some_work(const struct attention *a)
{
    for (uint32_t i = 0; i < a->n_parts; i++)
        if (part_works(&a->parts[i]))
            return true;
    return false;
}

static void fail_all(struct attention *a, const struct error *error)
{
    for (uint32_t i = 0; i < a->n_parts; i++)
        attention_fail_part(&a->parts[i], error);
}

/* Where the host sees what lies at `device`, of which `host` holds the copy. */
static void *seen(const struct attention *a, const void *device, const struct device_buffer *host)
{
    return a->kernels->host_memory ? (void *)(uintptr_t)device : host->memory;
}

/* After download: all that was asked of the device is done, or every part has failed. */
static void finish_device(struct attention *a)
{
    struct error error = {.status = STATUS_OK};
    if (a->kernels->finish(a->device, &error) != STATUS_OK)
        fail_all(a, &error);
}

/* Rows of q and out in this layer. */
static size_t n_asking(const struct attention *a)
{
    return a->plan->shape.needed_only ? a->n_needed : a->n_rows;
}

void attention_query(struct attention *attention, uint32_t layer, const float *q)
{
    struct attention *a = attention;
    assert(layer - a->config.first_layer < a->config.n_layers);
    a->q = q;
    a->plan = attention_plans_of(&a->plans, layer - a->config.first_layer);
    if (a->n_parts == 0)
        return;
    if (!a->kernels->host_memory && attention_plan_asks(a->plan) && some_work(a)) {
        a->kernels->download(a->device, a->q_host.memory, q,
                             n_asking(a) * a->q_row * sizeof(float));
        finish_device(a);
    }
    attention_client_query(a->client, layer, seen(a, q, &a->q_host));
}

/* k of a row and head in the KV type, on the device; v lies v_offset behind it. */
static const unsigned char *kv_at(const struct attention *a, size_t row, size_t head)
{
    const size_t stride = kv_row_bytes(a->config.shape.type, a->kv_row);
    return (const unsigned char *)a->kv.memory + row * stride +
           head * (stride / a->config.n_kv_heads);
}

/* A lane takes every n-th (part, head). */
static void write_tiles(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct attention *a = context;
    const uint32_t n_heads = a->config.n_kv_heads;
    const size_t stride = kv_row_bytes(a->config.shape.type, a->kv_row);
    for (size_t i = lane; i < (size_t)a->n_parts * n_heads; i += n_lanes) {
        const struct attention_part *part = &a->parts[i / n_heads];
        const size_t head = i % n_heads;
        const unsigned char *k = kv_at(a, part->row, head);
        if (part_works(part))
            attention_tiles_write(&a->tiles, a->pages + part->first_page + head * part->n_tiles,
                                  part->position, part->n_tokens, k, k + a->v_offset, stride);
    }
}

/* The same, where the device writes: what goes into each tile, then all of it at once. */
static void write_tiles_on_device(struct attention *a)
{
    const size_t stride = kv_row_bytes(a->config.shape.type, a->kv_row);
    size_t n = 0;
    for (uint32_t i = 0; i < a->n_parts; i++) {
        const struct attention_part *part = &a->parts[i];
        if (!part_works(part))
            continue;
        for (uint32_t head = 0; head < a->config.n_kv_heads; head++) {
            void *const *pages = a->pages + part->first_page + (size_t)head * part->n_tiles;
            uint32_t done = 0, first = part->position % TILE_TOKENS;
            for (uint32_t tile = 0; tile < part->n_tiles; tile++, first = 0) {
                const uint32_t room = TILE_TOKENS - first, left = part->n_tokens - done;
                const unsigned char *k = kv_at(a, part->row + done, head);
                a->writes[n] = (struct tile_tokens){.tile = pages[tile],
                                                    .k = k,
                                                    .v = k + a->v_offset,
                                                    .first = first,
                                                    .n_tokens = left < room ? left : room};
                done += a->writes[n++].n_tokens;
            }
        }
    }
    if (n > 0)
        a->kernels->attention_device->write(a->device, a->config.shape.type,
                                            a->config.shape.head_dim, stride, a->writes, n);
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
    const struct attention_plan_list *list = &a->plan->lists[a->local];
    const struct kv_heads heads = {layer, a->config.first_kv_head, a->config.n_kv_heads};
    const size_t row_bytes = kv_row_bytes(a->config.shape.type, a->kv_row);
    for (size_t i = 0; i < list->n_appends; i++) {
        const struct attention_plan_append *append = &a->plan->appends[list->first_append + i];
        struct attention_part *part = &a->parts[append->part];
        const uint32_t n = append->tokens.end - append->tokens.begin;
        const unsigned char *k = kv_at(a, part->row + (append->tokens.begin - part->position), 0);
        struct error error = {0};
        if (!part_works(part))
            continue;
        const struct kv_append rows = {.position = part->position,
                                       .first = append->tokens.begin,
                                       .n_tokens = n,
                                       .k = k,
                                       .v = k + a->v_offset};
        if (kv_holder_append(a->holder, part->id, part->incarnation, heads, &rows, &error) !=
            STATUS_OK)
            attention_fail_part(part, &error);
        else
            a->local_kv_bytes += 2 * n * row_bytes;
    }
}

/* To the remote holders: k and v as the host sees them. */
static void send_appends(struct attention *a, uint32_t layer)
{
    const uint64_t at = trace_begin(a->config.trace);
    const unsigned char *k = seen(a, a->kv.memory, &a->kv_host);
    if (k != NULL)
        attention_client_append(a->client, layer, k, k + a->v_offset);
    trace_span(a->config.trace, "append", at);
}

struct attention_kv attention_kv(const struct attention *attention)
{
    const struct attention *a = attention;
    const bool has_room = a->n_parts > 0 && a->kv.bytes >= 2 * a->v_offset;
    unsigned char *k = has_room ? a->kv.memory : NULL;
    return (struct attention_kv){a->config.shape.type, k, k != NULL ? k + a->v_offset : NULL};
}

/* All of it is only asked for here; remote holders get theirs in attention_finish. */
static void append_on_device(struct attention *a, uint32_t layer)
{
    if (a->appends)
        a->kernels->download(a->device, a->kv_host.memory, a->kv.memory, 2 * a->v_offset);
    if (!a->whole) {
        find_pages(a, layer - a->config.first_layer);
        write_tiles_on_device(a);
    }
    if (a->holder != NULL) {
        append_local(a, layer);
        kv_holder_flush(a->holder);
    }
}

static void append_on_host(struct attention *a, uint32_t layer)
{
    send_appends(a, layer);
    const uint64_t at = trace_begin(a->config.trace);
    find_pages(a, layer - a->config.first_layer);
    run_lanes(a, a->n_rows * a->kv_row, write_tiles);
    if (a->holder != NULL) {
        append_local(a, layer);
        kv_holder_flush(a->holder);
    }
    trace_span(a->config.trace, "keep k, v", at);
}

void attention_append(struct attention *attention, uint32_t layer)
{
    if (!some_work(attention))
        return;
    if (attention->kernels->host_memory)
        append_on_host(attention, layer);
    else
        append_on_device(attention, layer);
}

/* One piece's works, one for each head. False: the local holder lacks it. */
static bool piece_works(struct attention *a, const struct attention_piece *piece, uint32_t layer,
                        float *out, size_t *n_works, struct error *error)
{
    const bool whole = a->whole;
    const struct attention_run *run = &a->plan->runs[piece->run];
    const struct attention_part *part = &a->parts[run->part];
    const struct attend_shape *shape = &a->config.shape;
    for (uint32_t head = 0; head < a->config.n_kv_heads; head++) {
        const size_t row = run->row * a->q_row + (size_t)head * shape->group * shape->head_dim;
        struct attend_work work = {.q = a->q + row,
                                   .q_token_stride = a->q_row,
                                   .n_tokens = run->n_tokens,
                                   .position = run->position,
                                   .window = a->plan->shape.window,
                                   .ranges = a->plan->ranges + piece->first_range,
                                   .n_ranges = (uint32_t)piece->n_ranges,
                                   .own_tile = whole || piece->source == ATTENTION_OWN};
        const struct kv_view view = {work.ranges, work.n_ranges,
                                     kv_window_begin(work.window, work.position)};
        if (whole) {
            work.final_out = out + row;
            work.final_token_stride = a->q_row;
        } else {
            work.out = (float *)a->own.memory + piece->offset + head * piece->head_floats;
        }
        if (piece->source == ATTENTION_OWN)
            work.source =
                (struct tile_source){.pages = a->pages + part->first_page + head * part->n_tiles,
                                     .first_tile = part->first_tile,
                                     .page_tiles = 1};
        else if (kv_holder_source(a->holder, part->id, part->incarnation, layer,
                                  a->config.first_kv_head + head, &view, &work.source,
                                  error) != STATUS_OK)
            return false;
        a->works[(*n_works)++] = work;
    }
    return true;
}

/* All that are evaluated here. `out`: for finished rows, where there are such. Returns how many. */
static size_t find_works(struct attention *a, uint32_t layer, float *out)
{
    size_t n_works = 0;
    for (size_t i = 0; i < a->plan->n_pieces; i++) {
        const struct attention_piece *piece = &a->plan->pieces[i];
        struct attention_part *part = &a->parts[a->plan->runs[piece->run].part];
        if (!part_works(part) || piece->source == ATTENTION_BLANK ||
            (piece->source < a->config.n_holders && a->remote[piece->source]))
            continue;
        struct error error = {0};
        if (!piece_works(a, piece, layer, out, &n_works, &error))
            attention_fail_part(part, &error);
    }
    return n_works;
}

static void evaluate_own(struct attention *a, uint32_t layer, float *out)
{
    const size_t n_works = find_works(a, layer, out);
    struct error error = {0};
    if (n_works > 0 && attend_run(a->attend, a->works, n_works, &error) != STATUS_OK)
        fail_all(a, &error);
}

/* The nodes of one (run, head), from wherever they are. */
static int fold_run(struct attention *a, const struct attention_run *run, uint32_t head)
{
    const struct attention_plan *plan = a->plan;
    const size_t head_dim = a->config.shape.head_dim;
    const size_t floats = partial_floats(run->n_rows, head_dim);
    struct partial_fold fold;
    float *own = NULL;
    int complete = 1;
    partial_fold_reset(&fold, run->tile, run->n_rows, head_dim);
    for (size_t i = run->first_piece; i < run->first_piece + run->n_pieces; i++) {
        const struct attention_piece *piece = &plan->pieces[i];
        const bool remote = piece->source < plan->shape.n_holders && a->remote[piece->source];
        float *base = remote ? attention_client_reply(a->client, piece->source)
                             : (float *)seen(a, a->own.memory, &a->own_host);
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
    for (size_t i = lane; i < a->plan->n_runs * n_heads; i += n_lanes) {
        const struct attention_run *run = &a->plan->runs[i / n_heads];
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
            a->kernels->copy(a->device,
                             attention_tiles_slab(&a->tiles, part->sequence->slot, layer, head),
                             a->pages[part->first_page + (size_t)(head + 1) * part->n_tiles - 1],
                             a->tiles.tile_bytes);
    }
}

/* The partials of all sources become rows, on the host. */
static void fold_all(struct attention *a)
{
    struct error error = {0};
    if (a->plan->n_runs > 0)
        memset(a->unfolded, 0, a->plan->n_runs);
    run_lanes(a, n_asking(a) * a->q_row, fold_runs);
    for (size_t i = 0; i < a->plan->n_runs; i++) {
        struct attention_part *part = &a->parts[a->plan->runs[i].part];
        if (!part_works(part) || !a->unfolded[i])
            continue;
        error_set(&error, STATUS_EXHAUSTED,
                  "attention: sequence %" PRIu64 ": the tiles before token %u come in too many "
                  "pieces, or not each once; use larger stripes",
                  part->id, part->position);
        attention_fail_part(part, &error);
    }
}

/* What the host needs of this layer, once the device has made it. */
static void bring_to_host(struct attention *a, uint32_t layer)
{
    if (a->plan->own_floats > 0 && some_work(a))
        a->kernels->download(a->device, a->own_host.memory, a->own.memory,
                             a->plan->own_floats * sizeof(float));
    finish_device(a);
    if (a->appends)
        send_appends(a, layer);
}

/* Rows of parts that failed become zeros. */
static void clear_failed(struct attention *a, float *out)
{
    for (uint32_t i = 0; i < a->n_parts; i++) {
        const struct attention_asking asking = attention_plan_asking(a->plan, &a->parts[i]);
        if (!part_works(&a->parts[i]))
            a->kernels->clear(a->device, out + asking.row * a->q_row,
                              asking.n_tokens * a->q_row * sizeof(*out));
    }
}

void attention_finish(struct attention *attention, uint32_t layer, float *out)
{
    struct attention *a = attention;
    struct trace_track *trace = a->config.trace;
    const bool on_device = !a->kernels->host_memory, folds = !a->whole;
    uint64_t at = trace_begin(trace);
    evaluate_own(a, layer, out);
    if (on_device && folds)
        bring_to_host(a, layer);
    at = trace_span(trace, "own tiles", at);

    const uint64_t began = clock_us();
    attention_client_wait(a->client);
    const uint64_t waited = clock_us() - began;
    a->wait_us += waited;
    a->layer_wait_us[layer - a->config.first_layer] = (uint32_t)waited;
    at = trace_span(trace, "wait for holders", at);

    a->out = seen(a, out, &a->out_host);
    if (folds)
        fold_all(a);
    if (on_device && folds && some_work(a))
        a->kernels->upload(a->device, out, a->out, n_asking(a) * a->q_row * sizeof(*out));
    attention_client_release(a->client);
    if (folds)
        keep_open_tiles(a, layer - a->config.first_layer);
    clear_failed(a, out);
    trace_span(trace, "merge", at);
}

/* ---- in parts of which the launch can be recorded -------------------------------------------- */

bool attention_may_prepare(const struct attention *attention)
{
    const struct attention *a = attention;
    bool may = a->whole && a->n_parts > 0 && a->kernels->attention_device->prepare != NULL;
    for (uint32_t i = 0; i < a->n_parts && may; i++)
        may = part_works(&a->parts[i]) && a->parts[i].n_tokens == 1;
    return may;
}

bool attention_prepare(struct attention *attention, uint32_t layer, const float *q, float *out,
                       uint64_t *kind)
{
    struct attention *a = attention;
    const uint32_t slot = layer - a->config.first_layer;
    const uint64_t at = trace_begin(a->config.trace);
    struct error error = {0};
    assert(slot < a->config.n_layers);
    a->q = q;
    a->plan = attention_plans_of(&a->plans, slot);
    append_local(a, layer);
    const struct attend_writes writes = kv_holder_take_writes(a->holder);
    const size_t n_works = find_works(a, layer, out);
    for (size_t i = 0; i < n_works; i++) /* earlier steps' */
        a->works[i].settled_tiles = a->works[i].position / TILE_TOKENS;
    a->launches =
        attend_prepare(a->attend, slot, a->works, n_works, &writes, kind, &error) == STATUS_OK;
    if (!a->launches)
        fail_all(a, &error);
    bool complete = true;
    for (uint32_t i = 0; i < a->n_parts; i++)
        complete = complete && part_works(&a->parts[i]);
    trace_span(a->config.trace, "append", at);
    return complete;
}

enum status attention_launch(struct attention *attention, uint32_t layer, float *out,
                             struct error *error)
{
    struct attention *a = attention;
    const uint64_t at = trace_begin(a->config.trace);
    enum status status = STATUS_OK;
    if (a->launches)
        status = attend_launch(a->attend, layer - a->config.first_layer, error);
    clear_failed(a, out);
    trace_span(a->config.trace, "own tiles", at);
    return status;
}
