/* serve.c - the job's life, and the messages that take effect at once: Hello, Fork, Append. */
#include "attention_node/serve_state.h"

#include "attention_node/store.h"
#include "proto/protocol.h"
#include "sys/array.h"
#include "sys/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WARN_US = 1000000,
    STORE_END_MS = 1000 /* for what waits to be stored when a job ends */
};

enum status serve_grow(void *items, size_t *capacity, size_t n, size_t bytes, struct error *error)
{
    return array_grow(items, capacity, n, bytes)
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY, "no memory for %zu items of %zu bytes", n,
                           bytes);
}

enum status serve_create(struct serve **serve, const struct serve_config *config,
                         struct error *error)
{
    struct serve *s = calloc(1, sizeof(*s));
    bool complete = s != NULL;
    for (size_t i = 0; complete && i <= SERVE_QUERIES; i++) {
        s->frames[i] = malloc(sizeof(*s->frames[i]));
        complete = s->frames[i] != NULL;
        if (complete)
            frames_init(s->frames[i]);
    }
    if (!complete) {
        serve_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "no memory to serve");
    }
    s->config = *config;
    if (s->config.run_bytes == 0)
        s->config.run_bytes = SERVE_RUN_BYTES;
    frames_init(&s->answer);
    arena_init(&s->arena, 0);
    *serve = s;
    return STATUS_OK;
}

void serve_destroy(struct serve *serve)
{
    if (serve == NULL)
        return;
    serve_drop(serve);
    for (size_t i = 0; i <= SERVE_QUERIES && serve->frames[i] != NULL; i++) {
        frames_clear(serve->frames[i]);
        free(serve->frames[i]);
    }
    frames_clear(&serve->answer);
    frame_pool_destroy(&serve->pool);
    arena_destroy(&serve->arena);
    free(serve->peers);
    free(serve->entries);
    free(serve->ranges);
    free(serve->works);
    free(serve->marks);
    free(serve);
}

/* ---- the job ---- */

/* What is stored belongs to this model, and to the layout of this device. */
static void begin_store(struct serve *serve, const Longspan__NodeSetup *setup,
                        const struct kv_holder_shape *shape, const struct kernels *kernels)
{
    struct store_job job = {.shape = *shape};
    if (serve->config.store == NULL || setup->fingerprint.len != sizeof(job.fingerprint))
        return;
    job.shape.windows =
        NULL; /* of the message, which the job outlives; check_windows: there are none */
    memcpy(job.fingerprint, setup->fingerprint.data, sizeof(job.fingerprint));
    if (!kernels->host_memory)
        snprintf(job.device, sizeof(job.device), "%s", kernels->name);
    store_begin(serve->config.store, &job, serve->holder);
}

/* What is stored are whole prefixes, which layers with a window do not have. */
static enum status check_windows(const struct serve *serve, const Longspan__NodeSetup *setup,
                                 struct error *error)
{
    if (setup->n_windows != 0 && setup->n_windows != setup->n_layers)
        return error_set(error, STATUS_INVALID,
                         "%s: job %016" PRIx64 " with windows of %zu layers, of %u",
                         serve->config.name, setup->job, setup->n_windows, setup->n_layers);
    for (size_t i = 0; i < setup->n_windows && serve->config.store != NULL; i++)
        if (setup->windows[i] > 0)
            return error_set(error, STATUS_UNSUPPORTED,
                             "%s: layers of this model have a sliding window, and release what "
                             "--kv-store would have to store; start this node without it",
                             serve->config.name);
    return STATUS_OK;
}

/* Numbers that no job can have; those of heads and pages are attend_create's and kv_holder_create's
 * to check. */
static enum status check_setup(const struct serve *serve, const Longspan__NodeSetup *setup,
                               struct error *error)
{
    if (!isfinite(setup->scale) || !isfinite(setup->soft_cap) || setup->soft_cap < 0.0f)
        return error_set(error, STATUS_INVALID, "%s: job %016" PRIx64 " with scale %g, soft cap %g",
                         serve->config.name, setup->job, (double)setup->scale,
                         (double)setup->soft_cap);
    if (setup->job == 0 || setup->n_layers == 0 || setup->n_kv_heads == 0 ||
        setup->first_layer > UINT32_MAX - setup->n_layers ||
        setup->first_kv_head > UINT32_MAX - setup->n_kv_heads || setup->max_tokens == 0 ||
        setup->max_tokens > (uint32_t)TREE_MAX_TILES * TILE_TOKENS - 1)
        return error_set(error, STATUS_INVALID,
                         "%s: job %016" PRIx64 " with layers %u + %u, KV heads %u + %u and %u "
                         "tokens cannot be",
                         serve->config.name, setup->job, setup->first_layer, setup->n_layers,
                         setup->first_kv_head, setup->n_kv_heads, setup->max_tokens);
    return check_windows(serve, setup, error);
}

enum status serve_setup(struct serve *serve, const Longspan__NodeSetup *setup, struct error *error)
{
    if (serve->job != 0 && serve->job == setup->job)
        return STATUS_OK;
    if (serve->job != 0)
        return error_set(error, STATUS_FAILED,
                         "%s: already serves job %016" PRIx64 "; give it up there first, or start "
                         "another attention node",
                         serve->config.name, serve->job);
    enum status status = check_setup(serve, setup, error);
    if (status != STATUS_OK)
        return status;
    const struct attend_shape shape = {.type = (enum kv_type)setup->kv_type,
                                       .head_dim = setup->head_dim,
                                       .group = setup->group,
                                       .scale = setup->scale,
                                       .soft_cap = setup->soft_cap};
    const struct kv_holder_shape holder_shape = {.type = shape.type,
                                                 .head_dim = shape.head_dim,
                                                 .first_layer = setup->first_layer,
                                                 .n_layers = setup->n_layers,
                                                 .first_kv_head = setup->first_kv_head,
                                                 .n_kv_heads = setup->n_kv_heads,
                                                 .windows =
                                                     setup->n_windows > 0 ? setup->windows : NULL,
                                                 .chunk = setup->chunk};
    struct attend *attend = NULL; /* first: it knows which shapes are possible */
    const struct kernels *kernels = serve->config.kernels;
    struct device *device = serve->config.device;
    status = attend_create(&attend, kernels, device, serve->config.pool, &shape, error);
    if (status == STATUS_OK)
        status = kv_holder_create(&serve->holder, kernels, device, &holder_shape,
                                  serve->config.memory_bytes, error);
    if (status != STATUS_OK) {
        attend_destroy(attend);
        return status;
    }
    if (serve->config.seat != NULL && kernels->host_memory) {
        void *base;
        size_t bytes;
        kv_holder_memory(serve->holder, &base, &bytes);
        seat_spread(serve->config.seat, base, bytes); /* any lane may read any tile */
    }
    serve_memory_open(&serve->memory, kernels, device);
    serve->attend = attend;
    serve->shape = shape;
    serve->setup = *setup;
    serve->setup.fingerprint = (ProtobufCBinaryData){0}; /* of the message; the store has a copy */
    serve->setup.windows = NULL;                         /* likewise; the holder has one */
    serve->setup.n_windows = 0;
    serve->job = setup->job;
    begin_store(serve, setup, &holder_shape, kernels);
    return STATUS_OK;
}

void serve_drop(struct serve *serve)
{
    for (size_t i = 0; i < serve->n_queries; i++)
        frames_clear(serve->frames[i]);
    for (size_t i = 0; i < serve->n_peers; i++)
        serve_forget_kept(serve, &serve->peers[i]);
    serve->n_queries = serve->n_entries = serve->n_ranges = 0;
    serve->waiting_bytes = 0;
    serve->n_peers = serve->last_peer = 0;
    if (serve->config.store != NULL)
        store_end(serve->config.store, STORE_END_MS);
    attend_destroy(serve->attend);
    kv_holder_destroy(serve->holder);
    serve_memory_close(&serve->memory);
    serve->attend = NULL;
    serve->holder = NULL;
    serve->job = 0;
}

uint64_t serve_job(const struct serve *serve)
{
    return serve->job;
}

struct kv_holder_usage serve_usage(const struct serve *serve)
{
    const struct kv_holder_usage none = {0};
    return serve->holder != NULL ? kv_holder_usage(serve->holder) : none;
}

uint64_t serve_capacity(const struct serve *serve)
{
    const struct kv_holder_usage usage = serve_usage(serve);
    return usage.pages_total * usage.page_bytes;
}

enum status serve_reserve(struct serve *serve, const Longspan__Reserve *reserve,
                          struct error *error)
{
    if (serve->job == 0 || reserve->job != serve->job)
        return error_set(error, STATUS_NOT_FOUND, "%s: does not serve job %016" PRIx64,
                         serve->config.name, reserve->job);
    arena_reset(&serve->arena);
    struct span *spans = arena_array(&serve->arena, reserve->n_spans, sizeof(*spans));
    if (spans == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu spans", serve->config.name,
                         reserve->n_spans);
    for (size_t i = 0; i < reserve->n_spans; i++)
        spans[i] = (struct span){reserve->spans[i]->begin, reserve->spans[i]->end};
    struct error why = {0};
    const enum status status =
        kv_holder_reserve(serve->holder, reserve->sequence, reserve->incarnation, spans,
                          reserve->n_spans, reserve->shared_tokens, &why);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: %s", serve->config.name, why.text);
    return STATUS_OK;
}

void serve_free(struct serve *serve, const Longspan__Free *free_message)
{
    if (serve->job != 0 && free_message->job == serve->job) {
        kv_holder_trim(serve->holder, free_message->sequence, free_message->incarnation,
                       free_message->keep_tokens);
        if (serve->config.store != NULL && free_message->names.len % STORE_NAME_BYTES == 0)
            store_keep(serve->config.store, free_message->sequence, free_message->incarnation,
                       free_message->names.data, free_message->names.len / STORE_NAME_BYTES);
    }
}

enum status serve_restore(struct serve *serve, const Longspan__Restore *restore,
                          struct error *error)
{
    Longspan__Reserve reserve = LONGSPAN__RESERVE__INIT;
    reserve.job = restore->job;
    reserve.request = restore->request;
    reserve.sequence = restore->sequence;
    reserve.incarnation = restore->incarnation;
    reserve.n_spans = restore->n_spans;
    reserve.spans = restore->spans;
    if (serve->config.store == NULL || restore->names.len % STORE_NAME_BYTES != 0)
        return error_set(error, STATUS_NOT_FOUND, "%s: stores no pages (--kv-store)",
                         serve->config.name);
    const enum status status = serve_reserve(serve, &reserve, error);
    if (status != STATUS_OK)
        return status;
    struct span *spans = arena_array(&serve->arena, restore->n_spans, sizeof(*spans));
    if (spans == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu spans", serve->config.name,
                         restore->n_spans);
    for (size_t i = 0; i < restore->n_spans; i++)
        spans[i] = (struct span){restore->spans[i]->begin, restore->spans[i]->end};
    const struct store_wanted wanted = {.sequence = restore->sequence,
                                        .incarnation = restore->incarnation,
                                        .spans = spans,
                                        .n_spans = restore->n_spans,
                                        .names = restore->names.data,
                                        .n_names = restore->names.len / STORE_NAME_BYTES};
    return store_restore(serve->config.store, restore->request, &wanted, error);
}

/* ---- peers ---- */

struct serve_peer *serve_find_peer(struct serve *serve, const struct frames *message)
{
    for (size_t i = 0; i < serve->n_peers; i++) {
        const size_t at = (serve->last_peer + i) % serve->n_peers; /* often the same as before */
        struct serve_peer *peer = &serve->peers[at];
        if (frames_same_peer(&peer->identity, &message->peer)) {
            serve->last_peer = at;
            peer->used = ++serve->peer_uses;
            return peer;
        }
    }
    return NULL;
}

/* When too many have come, the one that was silent for longest has to say Hello again. */
static enum status add_peer(struct serve *serve, const struct frames *message, uint32_t rank,
                            struct error *error)
{
    struct serve_peer *peer = serve_find_peer(serve, message);
    if (peer == NULL && serve->n_peers == SERVE_PEERS) {
        peer = &serve->peers[0];
        for (size_t i = 1; i < serve->n_peers; i++)
            if (serve->peers[i].used < peer->used)
                peer = &serve->peers[i];
        serve_forget_kept(serve, peer);
    } else if (peer == NULL) {
        const enum status status = serve_grow(&serve->peers, &serve->peers_capacity,
                                              serve->n_peers + 1, sizeof(*serve->peers), error);
        if (status != STATUS_OK)
            return status;
        peer = &serve->peers[serve->n_peers++];
        peer->kept = (struct serve_kept){0};
    }
    peer->identity = message->peer;
    peer->rank = rank;
    peer->used = ++serve->peer_uses;
    return STATUS_OK;
}

/* ---- messages ---- */

struct frames *serve_inbox(struct serve *serve)
{
    return serve->frames[serve->n_queries];
}

size_t serve_pending(const struct serve *serve)
{
    return serve->n_queries;
}

bool serve_has_room(const struct serve *serve)
{
    return serve->n_queries < SERVE_QUERIES && serve->waiting_bytes < serve->config.run_bytes;
}

struct serve_counts serve_counts(const struct serve *serve)
{
    return serve->counts;
}

/* A peer that sends nonsense must not fill the log. */
static void warn(struct serve *serve, const char *what, const char *why)
{
    const uint64_t now = clock_us();
    if (serve->warned_us != 0 && now - serve->warned_us < WARN_US)
        return;
    serve->warned_us = now;
    log_warn(serve->config.log,
             "dropped %s: %s (so far %" PRIu64 " malformed, %" PRIu64 " of strangers)", what, why,
             serve->counts.malformed, serve->counts.strangers);
}

enum status serve_check_place(const struct serve *serve, const Longspan__Data *data,
                              struct error *error)
{
    const Longspan__NodeSetup *setup = &serve->setup;
    const uint64_t heads_end = (uint64_t)data->head + data->n_heads;
    if (data->layer < setup->first_layer || data->layer - setup->first_layer >= setup->n_layers ||
        data->n_heads == 0 || data->head < setup->first_kv_head ||
        heads_end > (uint64_t)setup->first_kv_head + setup->n_kv_heads)
        return error_set(error, STATUS_PROTOCOL,
                         "%s: layer %u, KV heads [%u, %" PRIu64 ") is not in layers [%u, %u), KV "
                         "heads [%u, %u)",
                         serve->config.name, data->layer, data->head, heads_end, setup->first_layer,
                         setup->first_layer + setup->n_layers, setup->first_kv_head,
                         setup->first_kv_head + setup->n_kv_heads);
    return STATUS_OK;
}

static enum status check_hello(const struct serve *serve, const Longspan__Data *data,
                               struct error *error)
{
    const Longspan__Hello *hello = data->hello;
    const Longspan__Constants *constants = hello->constants;
    if (constants == NULL || constants->protocol != PROTOCOL_VERSION)
        return error_set(error, STATUS_PROTOCOL,
                         "%s: rank %u speaks protocol version %u, this attention node (version "
                         "%s) speaks %u; install the same version everywhere",
                         serve->config.name, hello->rank,
                         constants != NULL ? constants->protocol : 0, LONGSPAN_VERSION,
                         (unsigned)PROTOCOL_VERSION);
    if (constants->tile_tokens != TILE_TOKENS || constants->page_tokens != PAGE_TOKENS)
        return error_set(error, STATUS_PROTOCOL,
                         "%s: rank %u has tiles of %u and pages of %u tokens, this attention node "
                         "%u and %u; install the same version everywhere",
                         serve->config.name, hello->rank, constants->tile_tokens,
                         constants->page_tokens, (unsigned)TILE_TOKENS, (unsigned)PAGE_TOKENS);
    if (hello->node != serve->config.node)
        return error_set(error, STATUS_UNREACHABLE, "%s: is not the process that rank %u looks for",
                         serve->config.name, hello->rank);
    if (serve->job == 0 || data->job != serve->job)
        return error_set(error, STATUS_NOT_FOUND,
                         "%s: does not serve job %016" PRIx64 " (any more): its tokens are gone",
                         serve->config.name, data->job);
    return STATUS_OK;
}

static void handle_hello(struct serve *serve, const struct frames *request,
                         const Longspan__Data *data)
{
    struct error why = {0};
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    Longspan__HelloReply reply = LONGSPAN__HELLO_REPLY__INIT;
    Longspan__Data answer = LONGSPAN__DATA__INIT;
    enum status status = check_hello(serve, data, &why);
    const bool known = status == STATUS_OK && serve_find_peer(serve, request) != NULL;
    if (status == STATUS_OK)
        status = add_peer(serve, request, data->hello->rank, &why);
    if (status != STATUS_OK) {
        failure.status = (uint32_t)status;
        failure.text = why.text;
        reply.failure = &failure;
        warn(serve, "a Hello", why.text);
    } else if (!known) {
        const char *kernels = data->hello->constants->kernels;
        if (kernels[0] != '\0' && strcmp(kernels, serve->config.kernels->name) != 0)
            log_warn(serve->config.log,
                     "rank %u has %s kernels, this node %s; --strict-bits would refuse to rely on "
                     "the same bits",
                     data->hello->rank, kernels, serve->config.kernels->name);
    }
    reply.node = serve->config.node;
    if (status == STATUS_OK && serve->config.offer != NULL &&
        serve->config.offer(serve->config.context, request, data->hello->ring)) {
        reply.ring = data->hello->ring->nonce;
    }
    answer.job = data->job;
    answer.step = data->step;
    answer.body_case = LONGSPAN__DATA__BODY_HELLO_REPLY;
    answer.hello_reply = &reply;
    frames_clear(&serve->answer);
    if (frames_add_message(&serve->answer, &answer.base, &why) != STATUS_OK)
        return; /* it will be repeated */
    frames_reply_to(&serve->answer, request);
    serve->config.send(serve->config.context, &serve->answer, SERVE_GREETING);
}

static void dropped(struct serve *serve, const char *what, uint64_t sequence,
                    const struct error *why)
{
    serve->counts.dropped++;
    log_debug(serve->config.log, "%s of sequence %" PRIu64 " dropped: %s", what, sequence,
              why->text);
}

static struct kv_heads heads_of(const Longspan__Data *data)
{
    return (struct kv_heads){data->layer, data->head, data->n_heads};
}

static enum status handle_fork(struct serve *serve, const Longspan__Data *data, struct error *error)
{
    const enum status status = serve_check_place(serve, data, error);
    for (size_t i = 0; status == STATUS_OK && i < data->fork->n_entries; i++) {
        const Longspan__ForkEntry *entry = data->fork->entries[i];
        struct error why = {0};
        serve->counts.forks++;
        const struct kv_fork fork = {.parent = entry->parent,
                                     .parent_incarnation = entry->parent_incarnation,
                                     .child = entry->child,
                                     .child_incarnation = entry->child_incarnation,
                                     .n_tokens = entry->n_tokens};
        if (kv_holder_fork(serve->holder, &fork, heads_of(data), &why) != STATUS_OK)
            dropped(serve, "a fork", entry->child, &why);
    }
    return status;
}

static enum status handle_append(struct serve *serve, struct frames *message,
                                 const Longspan__Data *data, struct error *error)
{
    const Longspan__Append *append = data->append;
    enum status status = serve_check_place(serve, data, error);
    if (status != STATUS_OK)
        return status;
    if (message->n != 3)
        return error_set(error, STATUS_PROTOCOL, "%u frames instead of header, k and v",
                         message->n);
    const size_t token_bytes =
        data->n_heads * kv_row_bytes(serve->shape.type, serve->shape.head_dim);
    const size_t bytes = frames_size(message, 1);
    uint64_t n_tokens = 0; /* cannot overflow: fewer than 2^22 entries of 32 bits each */
    for (size_t i = 0; i < append->n_entries; i++) {
        const Longspan__AppendEntry *entry = append->entries[i];
        if ((uint64_t)entry->first + entry->n_tokens > serve->setup.max_tokens)
            return error_set(error, STATUS_PROTOCOL,
                             "tokens [%u, %" PRIu64 ") of sequence %" PRIu64
                             ", of which the job has at most %u",
                             entry->first, (uint64_t)entry->first + entry->n_tokens,
                             entry->sequence, serve->setup.max_tokens);
        n_tokens += entry->n_tokens;
    }
    if (frames_size(message, 2) != bytes || n_tokens > SERVE_MESSAGE_BYTES / token_bytes ||
        n_tokens * token_bytes != bytes)
        return error_set(error, STATUS_PROTOCOL,
                         "%zu bytes of k and %zu of v for %" PRIu64 " tokens of %zu bytes", bytes,
                         frames_size(message, 2), n_tokens, token_bytes);
    const void *k_rows = frames_data(message, 1), *v_rows = frames_data(message, 2);
    status = serve_memory_rows(&serve->memory, serve->holder, &k_rows, &v_rows, bytes, error);
    if (status != STATUS_OK)
        return status;
    const unsigned char *k = k_rows, *v = v_rows;
    for (size_t i = 0; i < append->n_entries; i++) {
        const Longspan__AppendEntry *entry = append->entries[i];
        struct error why = {0};
        serve->counts.appends++;
        const struct kv_append rows = {.position = entry->position,
                                       .first = entry->first,
                                       .n_tokens = entry->n_tokens,
                                       .k = k,
                                       .v = v};
        if (entry->n_tokens > 0 &&
            kv_holder_append(serve->holder, entry->sequence, entry->incarnation, heads_of(data),
                             &rows, &why) != STATUS_OK)
            dropped(serve, "an append", entry->sequence, &why);
        k += entry->n_tokens * token_bytes;
        v += entry->n_tokens * token_bytes;
    }
    return STATUS_OK;
}

static enum status handle(struct serve *serve, struct frames *message, const Longspan__Data *data,
                          struct error *error)
{
    if (data->body_case == LONGSPAN__DATA__BODY_HELLO) {
        handle_hello(serve, message, data);
        return STATUS_OK;
    }
    if (serve->job == 0 || data->job != serve->job || serve_find_peer(serve, message) == NULL) {
        serve->counts.strangers++;
        error_set(error, STATUS_NOT_FOUND,
                  "%s: its sender has not said Hello, or is of another job", serve->config.name);
        /* A rank whose connection was made anew learns that it has to introduce itself. */
        if (data->body_case == LONGSPAN__DATA__BODY_ATTEND)
            serve_refuse(serve, message, data,
                         &(struct serve_refusal){
                             .query = data->attend->query, .why = error, .missing = true});
        return STATUS_NOT_FOUND;
    }
    if (data->body_case == LONGSPAN__DATA__BODY_APPEND)
        return handle_append(serve, message, data, error);
    if (data->body_case == LONGSPAN__DATA__BODY_FORK)
        return handle_fork(serve, data, error);
    if (data->body_case == LONGSPAN__DATA__BODY_ATTEND) {
        uint32_t entry = 0;
        struct error why = {0};
        serve->counts.queries++;
        if (serve_query_add(serve, data, &entry, &why) != STATUS_OK)
            serve_refuse(
                serve, message, data,
                &(struct serve_refusal){.query = data->attend->query, .why = &why, .entry = entry});
        return STATUS_OK;
    }
    return error_set(error, STATUS_PROTOCOL, "neither Hello, Fork, Append nor Attend");
}

/* The step and layer that a message is about. */
static void trace_place(struct trace_track *track, const Longspan__Data *data)
{
    enum trace_phase phase = TRACE_DECODE;
    if (data->body_case == LONGSPAN__DATA__BODY_ATTEND)
        for (size_t i = 0; i < data->attend->n_entries; i++)
            if (data->attend->entries[i]->n_tokens > 1)
                phase = TRACE_PREFILL;
    if (data->body_case == LONGSPAN__DATA__BODY_APPEND)
        for (size_t i = 0; i < data->append->n_entries; i++)
            if (data->append->entries[i]->n_tokens > 1)
                phase = TRACE_PREFILL;
    trace_step(track, data->step, phase);
    trace_layer(track, data->layer);
}

void serve_message(struct serve *serve)
{
    if (!serve_has_room(serve)) {
        const size_t at = serve->n_queries;
        struct frames *message = serve->frames[at];
        serve_run(serve); /* all others are empty now */
        serve->frames[at] = serve->frames[0];
        serve->frames[0] = message;
    }
    struct frames *message = serve_inbox(serve);
    const size_t n_before = serve->n_queries;
    struct error error = {0};
    Longspan__Data *data = NULL;
    const uint64_t at = trace_begin(serve->config.trace);
    arena_reset(&serve->arena);
    if (message->n > 0 && frames_size(message, 0) <= SERVE_HEADER_BYTES)
        data = longspan__data__unpack(&serve->arena.allocator, frames_size(message, 0),
                                      frames_data(message, 0));
    if (data != NULL)
        trace_place(serve->config.trace, data);
    enum status status = data != NULL
                             ? handle(serve, message, data, &error)
                             : error_set(&error, STATUS_PROTOCOL, "its header cannot be read");
    if (status != STATUS_OK) {
        serve->counts.malformed += status != STATUS_NOT_FOUND;
        warn(serve, "a message", error.text);
    }
    if (serve->n_queries == n_before)
        frames_clear(message);
    trace_span(serve->config.trace, serve->n_queries > n_before ? "take query" : "take append", at);
}
