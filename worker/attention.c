/* attention.c - the steps of a rank: sequences come and go, and what each layer will do is planned.
 */
#include "worker/attention.h"

#include "kernels/kernels.h"
#include "worker/attention_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
    a->local = ATTENTION_NO_HOLDER;
    for (uint32_t i = 0; i < config->n_holders; i++) {
        const char *endpoint = config->holders[i].endpoint;
        a->remote[i] = endpoint != NULL && endpoint[0] != '\0';
        if (!a->remote[i])
            a->local = i;
    }
    if (a->local == ATTENTION_NO_HOLDER)
        return STATUS_OK;
    const struct kv_holder_shape shape = {.type = config->shape.type,
                                          .head_dim = config->shape.head_dim,
                                          .first_layer = config->first_layer,
                                          .n_layers = config->n_layers,
                                          .first_kv_head = config->first_kv_head,
                                          .n_kv_heads = config->n_kv_heads,
                                          .windows = config->windows,
                                          .chunk = config->chunk};
    const uint64_t bytes = config->local_kv_bytes > 0
                               ? config->local_kv_bytes
                               : kv_holder_share(a->kernels->memory_available(a->device));
    const enum status status =
        kv_holder_create(&a->holder, a->kernels, a->device, &shape, bytes, error);
    if (status == STATUS_OK && config->seat != NULL && a->kernels->host_memory) {
        void *base;
        size_t n;
        kv_holder_memory(a->holder, &base, &n);
        seat_spread(config->seat, base, n); /* any lane may read any tile */
    }
    return status;
}

static enum status open_parts(struct attention *a, struct wire_context *wire,
                              const struct attention_config *config, struct error *error)
{
    enum status status =
        attend_create(&a->attend, a->kernels, a->device, a->pool, &config->shape, error);
    if (status == STATUS_OK)
        status = attention_sequences_open(&a->sequences, config->max_sequences, error);
    if (status == STATUS_OK)
        status =
            attention_tiles_open(&a->tiles, a->kernels, a->device,
                                 &(struct attention_tiles_shape){.type = config->shape.type,
                                                                 .head_dim = config->shape.head_dim,
                                                                 .n_layers = config->n_layers,
                                                                 .n_heads = config->n_kv_heads,
                                                                 .n_slabs = config->max_sequences},
                                 error);
    if (status == STATUS_OK)
        status = open_local(a, config, error);
    /* Host memory keeps to partials: its lanes fold them as fast as they are made. */
    a->whole =
        !a->kernels->host_memory && config->n_holders == 1 && a->local != ATTENTION_NO_HOLDER;
    if (status == STATUS_OK)
        status =
            attention_plans_open(&a->plans,
                                 &(struct attention_plan_shape){.head_dim = config->shape.head_dim,
                                                                .group = config->shape.group,
                                                                .n_heads = config->n_kv_heads,
                                                                .n_holders = config->n_holders,
                                                                .remote = a->remote,
                                                                .whole_holder = a->whole},
                                 config->windows, config->n_layers, error);
    if (status == STATUS_OK)
        status = attention_client_open(&a->client, wire, config, a->kernels->name, error);
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
    if (a == NULL || (a->remote = calloc(config->n_holders + 1, sizeof(*a->remote))) == NULL ||
        (a->layer_wait_us = calloc(config->n_layers, sizeof(*a->layer_wait_us))) == NULL) {
        if (a != NULL)
            free(a->remote);
        free(a);
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory to start");
    }
    a->pool = pool;
    a->kernels = config->kernels;
    a->device = config->device;
    a->config = *config;
    a->config.holders = NULL;
    a->config.constants_version = NULL;
    a->config.windows = NULL;
    a->kv = a->own = device_buffer(a->kernels, a->device, false);
    a->q_host = a->kv_host = a->own_host = a->out_host = device_buffer(a->kernels, a->device, true);
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
    attention_plans_close(&attention->plans);
    attention_tiles_close(&attention->tiles);
    attention_sequences_close(&attention->sequences);
    kv_holder_destroy(attention->holder);
    attend_destroy(attention->attend);
    free(attention->remote);
    free(attention->layer_wait_us);
    free(attention->parts);
    free(attention->spans);
    struct device_buffer *const buffers[] = {&attention->kv,       &attention->own,
                                             &attention->q_host,   &attention->kv_host,
                                             &attention->own_host, &attention->out_host};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        device_buffer_release(buffers[i]);
    free(attention->pages);
    free(attention->writes);
    free(attention->works);
    free(attention->unfolded);
    free(attention);
}

void attention_drop(struct attention *attention, uint64_t sequence, uint32_t incarnation,
                    uint32_t keep_tokens)
{
    struct attention_sequence *known =
        attention_sequences_find(&attention->sequences, sequence, incarnation);
    if (attention->holder != NULL)
        kv_holder_trim(attention->holder, sequence, incarnation, keep_tokens);
    if (known == NULL)
        return;
    if (known->part != ATTENTION_NO_PART) /* its part's results can still be asked for */
        attention->parts[known->part].sequence = NULL;
    attention_client_forget(attention->client, known);
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
        if (segment->position == 0 || segment->position % PAGE_TOKENS != 0 ||
            (parent != NULL && segment->position > parent->position))
            return error_set(error, STATUS_INVALID,
                             "attention: sequence %" PRIu64 " forks from %" PRIu64
                             " at token %u: it takes whole pages of %u tokens that the parent has",
                             segment->sequence, segment->parent, segment->position,
                             (unsigned)PAGE_TOKENS);
    } else if (segment->position != 0) {
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64 " is not open and begins at token %u",
                         segment->sequence, segment->position);
    }
    enum status status = attention_sequences_add(&a->sequences, segment->sequence,
                                                 segment->incarnation, sequence, error);
    if (status != STATUS_OK || !segment->fork)
        return status;
    (*sequence)->position = segment->position;
    (*sequence)->forking = true;
    (*sequence)->fork_tokens = segment->position;
    (*sequence)->parent = segment->parent;
    (*sequence)->parent_incarnation = segment->parent_incarnation;
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
    if (!sequence->forking ||
        !attention_sequence_holds(sequence, a->local, sequence->fork_tokens / TILE_TOKENS))
        return status;
    const struct kv_fork fork = {.parent = sequence->parent,
                                 .parent_incarnation = sequence->parent_incarnation,
                                 .child = sequence->id,
                                 .child_incarnation = sequence->incarnation,
                                 .n_tokens = sequence->fork_tokens};
    struct kv_heads heads = {a->config.first_layer, a->config.first_kv_head, a->config.n_kv_heads};
    for (uint32_t i = 0; status == STATUS_OK && i < a->config.n_layers; i++, heads.layer++)
        status = kv_holder_fork(a->holder, &fork, heads, error);
    return status;
}

/* The parent's spans; of a parent that is forgotten here, the message has to say them all. */
static enum status inherit_spans(const struct attention *a, struct attention_sequence *sequence,
                                 struct error *error)
{
    const struct attention_sequence *parent =
        attention_sequences_find(&a->sequences, sequence->parent, sequence->parent_incarnation);
    if (parent != NULL)
        return attention_sequence_inherit(sequence, parent, sequence->fork_tokens,
                                          a->config.n_holders, error);
    const uint32_t end = sequence->fork_tokens / TILE_TOKENS;
    const uint32_t missing = attention_sequence_uncovered(sequence, 0, end);
    if (missing == end)
        return STATUS_OK;
    return error_set(error, STATUS_INVALID,
                     "attention: sequence %" PRIu64 " forks from %" PRIu64
                     ", which is not open, and nobody is said to have token %u",
                     sequence->id, sequence->parent, missing * TILE_TOKENS);
}

/* Spans, inherited ones too; then whether everybody who has to work for this segment can. */
static enum status place_segment(struct attention *a, const struct attention_segment *segment,
                                 struct attention_sequence *sequence, struct error *error)
{
    enum status status = attention_sequence_add_spans(sequence, segment->spans, segment->n_spans,
                                                      a->config.n_holders, error);
    if (status == STATUS_OK && sequence->forking)
        status = inherit_spans(a, sequence, error);
    if (status == STATUS_OK && a->holder != NULL && (segment->n_spans > 0 || sequence->forking))
        status = reserve_local(a, sequence, error);
    const uint32_t end = (segment->position + segment->n_tokens - 1) / TILE_TOKENS + 1;
    for (uint32_t i = 0; status == STATUS_OK && i < a->config.n_holders; i++)
        if (a->remote[i] && attention_sequence_holds(sequence, i, end))
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
        status = attention_plans_add(&a->plans, part, index, error);
    return status;
}

void attention_fail_part(struct attention_part *part, const struct error *error)
{
    if (part->error.status == STATUS_OK)
        part->error = *error;
    if (part->sequence != NULL && part->sequence->error.status == STATUS_OK)
        part->sequence->error = *error;
}

/* What passes through the host on its way to remote holders, or is folded there. */
static enum status reserve_host_memory(struct attention *a, const struct attention_plans_size *size,
                                       struct error *error)
{
    const size_t q_bytes = a->n_rows * a->q_row * sizeof(float);
    enum status status = STATUS_OK;
    if (a->asks)
        status = device_buffer_reserve(&a->q_host, q_bytes, error);
    if (status == STATUS_OK && a->appends)
        status = device_buffer_reserve(&a->kv_host, 2 * a->v_offset, error);
    if (status == STATUS_OK && !a->whole)
        status = device_buffer_reserve(&a->own_host, size->own_floats * sizeof(float), error);
    if (status == STATUS_OK && !a->whole)
        status = device_buffer_reserve(&a->out_host, q_bytes, error);
    return status == STATUS_OK ? attention_grow(&a->writes, &a->writes_capacity, size->n_pages,
                                                sizeof(*a->writes), error)
                               : status;
}

static void look_at_remotes(struct attention *a)
{
    a->asks = a->appends = false;
    for (uint32_t i = 0; i < a->plans.n; i++) {
        a->asks = a->asks || attention_plan_asks(&a->plans.plans[i]);
        a->appends = a->appends || attention_plan_sends(&a->plans.plans[i]);
    }
}

bool attention_has_remote(const struct attention *attention)
{
    return attention->asks || attention->appends;
}

/* A slab for each sequence that has own tiles. */
static void use_slabs(struct attention *a)
{
    for (uint32_t i = 0; i < a->n_parts && !a->whole; i++) {
        struct attention_part *part = &a->parts[i];
        struct error error = {0};
        if (part->error.status == STATUS_OK &&
            attention_tiles_use(&a->tiles, part->sequence->slot, &error) != STATUS_OK)
            attention_fail_part(part, &error);
    }
}

/* Memory of the step, in sizes that the plan says. */
static enum status reserve_memory(struct attention *a, struct error *error)
{
    const struct attention_plans_size size = attention_plans_size(&a->plans);
    const size_t kv_bytes = kv_row_bytes(a->config.shape.type, a->n_rows * a->kv_row);
    a->v_offset = (kv_bytes + 63) / 64 * 64;
    enum status status = attention_tiles_reserve(&a->tiles, size.n_chunk_tiles, error);
    if (status == STATUS_OK)
        status = device_buffer_reserve(&a->kv, 2 * a->v_offset, error);
    if (status == STATUS_OK)
        status = device_buffer_reserve(&a->own, size.own_floats * sizeof(float), error);
    if (status == STATUS_OK && !a->kernels->host_memory)
        status = reserve_host_memory(a, &size, error);
    if (status == STATUS_OK)
        status = attention_grow(&a->pages, &a->pages_capacity, size.n_pages, sizeof(void *), error);
    if (status == STATUS_OK)
        status = attention_grow(&a->works, &a->works_capacity, size.n_pieces * a->config.n_kv_heads,
                                sizeof(*a->works), error);
    if (status == STATUS_OK)
        status = attention_grow(&a->unfolded, &a->unfolded_capacity, size.n_runs, 1, error);
    return status;
}

static void fail_all(struct attention *a, const struct error *error)
{
    for (uint32_t i = 0; i < a->n_parts; i++)
        attention_fail_part(&a->parts[i], error);
}

static bool leaves_rows_out(const struct attention *a, const struct attention_segment *segments,
                            uint32_t n_segments)
{
    bool some = false;
    for (uint32_t i = 0; i < n_segments; i++)
        some = some || segments[i].n_needed < segments[i].n_tokens;
    return a->config.last && some;
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
    a->n_rows = a->n_needed = 0;
    a->wait_us = 0;
    memset(a->layer_wait_us, 0, a->config.n_layers * sizeof(*a->layer_wait_us));
    attention_plans_reset(&a->plans, leaves_rows_out(a, segments, n_segments));
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
                                        .n_needed = segments[i].n_needed,
                                        .fill = segments[i].fill,
                                        .row = (uint32_t)a->n_rows,
                                        .needed = (uint32_t)a->n_needed};
        a->n_parts = i + 1;
        error = (struct error){0};
        if (begin_segment(a, &segments[i], i, &error) != STATUS_OK)
            attention_fail_part(part, &error);
        a->n_rows += segments[i].n_tokens;
        a->n_needed += segments[i].n_needed;
    }
    /* The client first: whatever fails, it must not keep the parts of the step before, which may
     * have moved. */
    error = (struct error){0};
    if (attention_client_begin(a->client, step, &a->plans, a->parts, a->n_parts, &error) !=
            STATUS_OK ||
        attention_plans_appends(&a->plans, a->parts, a->n_parts, &error) != STATUS_OK)
        fail_all(a, &error);
    look_at_remotes(a);
    use_slabs(a);
    error = (struct error){0};
    if (reserve_memory(a, &error) != STATUS_OK)
        fail_all(a, &error);
}

/* ---- a step ends ---- */

void attention_end_step(struct attention *attention)
{
    for (uint32_t i = 0; i < attention->n_parts; i++) {
        struct attention_part *part = &attention->parts[i];
        if (part->error.status != STATUS_OK || part->sequence == NULL)
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

uint32_t *attention_layer_wait_us(const struct attention *attention, uint32_t *n_layers)
{
    *n_layers = attention->config.n_layers;
    return attention->layer_wait_us;
}

void attention_traffic(const struct attention *attention, uint32_t holder,
                       struct attention_traffic *traffic)
{
    attention_client_traffic(attention->client, holder, traffic);
    if (holder == attention->local)
        traffic->kv_bytes = attention->local_kv_bytes;
}

uint64_t attention_tile_bytes(const struct attention *attention)
{
    return (uint64_t)attention->tiles.shape.n_slabs * attention->tiles.slab_bytes;
}

uint64_t attention_local_bytes(const struct attention *attention)
{
    if (attention->holder == NULL)
        return 0;
    const struct kv_holder_usage usage = kv_holder_usage(attention->holder);
    return usage.pages_total * usage.page_bytes;
}
