/* node.c - the loop, and what the coordinator says. What workers say is serve.c's. */
#include "attention_node/node.h"

#include "attention_node/endpoint.h"
#include "attention_node/rings.h"
#include "attention_node/serve.h"
#include "attention_node/store.h"
#include "kernels/kernels.h"
#include "proto/arena.h"
#include "proto/protocol.h"
#include "proto/waiting.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/random.h"
#include "sys/seat.h"
#include "sys/size.h"
#include "sys/topology.h"
#include "sys/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SECOND_US = 1000000,
    CONNECTING_US = 20000,
    CONNECTING_SLOW_US = 250000,
    DRAIN_MESSAGES = 256, /* of one socket, before the other one has its turn */
    STILL_WAITING_US = 15000000,
    STORE_IDLE_US = 50000, /* without a message for so long, kept pages are written */
    PROBE_MS = 150         /* of reading, for the node's weight in the placement */
};
static const uint64_t MOST_PROBE_BYTES = UINT64_C(256) << 20;

struct node {
    struct node_config config;
    char host[ADDRESS_HOST_BYTES], name[ADDRESS_HOST_BYTES];
    char endpoint[ADDRESS_BYTES]; /* advertised */
    const struct kernels *kernels;
    struct device *device;
    uint64_t node;  /* our incarnation */
    double started; /* in seconds since 1970 */
    double bytes_per_s;
    char device_name[32]; /* "cpu", "cuda:1" */
    struct thread_pool *pool;
    struct seat seat; /* of its lanes, while there is a job */
    char processors[ADDRESS_HOST_BYTES];
    struct trace *trace;
    struct trace_track *track; /* of the loop */
    uint64_t asked_ns;         /* Ping, last */
    struct wire_context *context;
    struct wire_socket *control, *data;
    struct rings rings;
    struct serve *serve;
    struct store *store; /* NULL: none */
    struct arena arena;
    struct frames in, out;
    uint32_t spin_us;

    bool ended; /* refused; `end` says why */
    struct error end;
    bool connected; /* the coordinator's socket */
    uint64_t began_us;
    uint64_t said_us;             /* NodeJoin or Ping, last */
    uint64_t usage_us;            /* NodeUsage was looked at, last */
    struct kv_holder_usage usage; /* as it was told last */
    struct serve_counts counts;   /* likewise */
    uint64_t heard_us;            /* anything of the coordinator */
    uint64_t waiting_us;          /* since when there is no job */
    uint64_t data_us;             /* a data message, last */
};

/* ---- what we say to the coordinator ---- */

/* False: not sent; the queue is full, or the connection not ready yet. */
static bool say(struct node *node, const Longspan__Control *control)
{
    void *header;
    struct error error = {0};
    frames_clear(&node->out);
    enum status status =
        frames_add(&node->out, longspan__control__get_packed_size(control), &header, &error);
    if (status == STATUS_OK) {
        longspan__control__pack(control, header);
        status = frames_send(node->control, &node->out, 0, &error);
    }
    frames_clear(&node->out);
    if (status != STATUS_OK && status != STATUS_TIMEOUT) /* full or not connected: said again */
        log_warn(node->config.log, "cannot write to the coordinator: %s", error.text);
    return status == STATUS_OK;
}

static bool say_join(struct node *node)
{
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    Longspan__NodeJoin join = LONGSPAN__NODE_JOIN__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    char version[] = LONGSPAN_VERSION, kernels[32];
    snprintf(kernels, sizeof(kernels), "%s", node->kernels->name);
    constants.protocol = PROTOCOL_VERSION;
    constants.tile_tokens = TILE_TOKENS;
    constants.page_tokens = PAGE_TOKENS;
    constants.kernels = kernels;
    constants.version = version;
    join.constants = &constants;
    join.name = node->name;
    join.host = node->host;
    join.endpoint = node->endpoint;
    join.node = node->node;
    join.memory_bytes = node->config.memory_bytes;
    join.device = node->device_name;
    join.read_bytes_per_s = node->bytes_per_s;
    join.lanes = thread_pool_lanes(node->pool);
    join.job = serve_job(node->serve);
    join.pid = (uint32_t)getpid();
    join.started = node->started;
    join.processors = node->processors;
    control.body_case = LONGSPAN__CONTROL__BODY_NODE_JOIN;
    control.node_join = &join;
    return say(node, &control);
}

static bool say_ping(struct node *node)
{
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    ping.job = serve_job(node->serve);
    ping.name = node->name;
    ping.peak_bytes = memory_peak_bytes();
    control.body_case = LONGSPAN__CONTROL__BODY_PING;
    control.ping = &ping;
    node->asked_ns = clock_ns();
    return say(node, &control);
}

/* Tells what changed since it was told last. */
static void say_usage(struct node *node)
{
    const struct kv_holder_usage usage = serve_usage(node->serve);
    const struct serve_counts counts = serve_counts(node->serve);
    if (memcmp(&usage, &node->usage, sizeof(usage)) == 0 &&
        memcmp(&counts, &node->counts, sizeof(counts)) == 0)
        return;
    Longspan__NodeUsage message = LONGSPAN__NODE_USAGE__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    message.job = serve_job(node->serve);
    message.pages_taken = usage.pages_taken;
    message.pages_reserved = usage.pages_reserved;
    message.page_bytes = usage.page_bytes;
    message.pages_total = usage.pages_total;
    message.queries = counts.queries;
    message.appends = counts.appends;
    message.dropped = counts.dropped + counts.malformed + counts.strangers;
    message.attend_us = counts.attend_us;
    control.body_case = LONGSPAN__CONTROL__BODY_NODE_USAGE;
    control.node_usage = &message;
    if (say(node, &control)) {
        node->usage = usage;
        node->counts = counts;
    }
}

/* So that nobody waits for us until a deadline. */
static void say_leave(struct node *node)
{
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    char reason[] = "it was asked to stop";
    leave.reason = reason;
    control.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
    control.leave = &leave;
    say(node, &control);
}

static Longspan__Failure failure_of(struct error *error)
{
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    failure.status = (uint32_t)error->status;
    failure.text = error->text;
    return failure;
}

/* ---- what the coordinator says ---- */

static void drop_job(struct node *node, const char *why)
{
    if (serve_job(node->serve) != 0)
        log_info(node->config.log, "job %016" PRIx64 " ends: %s; its pages are freed",
                 serve_job(node->serve), why);
    serve_drop(node->serve);
    seat_give(&node->seat);
    rings_end(&node->rings);
    node->usage = (struct kv_holder_usage){0};
    node->waiting_us = clock_us();
    node->said_us = 0;
}

/* Before the job's memory is taken: it goes where the lanes are. */
static void take_seat(struct node *node, uint32_t host_lanes)
{
    const uint32_t own = thread_pool_lanes(node->pool);
    seat_give(&node->seat);
    seat_take(&node->seat, node->pool, host_lanes > own ? host_lanes : own, node->config.pin);
    node->spin_us = waiting_answer_us(node->seat.sharing);
}

static void handle_setup(struct node *node, const Longspan__NodeSetup *setup)
{
    struct error error = {0};
    const bool known = serve_job(node->serve) == setup->job;
    Longspan__NodeReady ready = LONGSPAN__NODE_READY__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    Longspan__Failure failure;
    ready.job = setup->job;
    if (serve_job(node->serve) == 0)
        take_seat(node, setup->host_lanes);
    if (serve_setup(node->serve, setup, &error) != STATUS_OK) {
        failure = failure_of(&error);
        ready.failure = &failure;
        log_error(node->config.log, "%s", error.text);
        if (serve_job(node->serve) == 0)
            seat_give(&node->seat); /* others may have the processors */
    } else {
        char text[SIZE_TEXT_BYTES];
        size_t n_stored = 0;
        ready.capacity_bytes = serve_capacity(node->serve);
        ready.stores = node->store != NULL;
        if (node->store != NULL)
            ready.stored.data = (uint8_t *)store_names(node->store, &n_stored);
        ready.stored.len = n_stored * STORE_NAME_BYTES;
        if (!known)
            log_info(node->config.log,
                     "serves job %016" PRIx64 ": layers %u to %u, KV heads %u to %u, head_dim %u, "
                     "%s, up to %s; lanes %s",
                     setup->job, setup->first_layer, setup->first_layer + setup->n_layers - 1,
                     setup->first_kv_head, setup->first_kv_head + setup->n_kv_heads - 1,
                     setup->head_dim, kv_type_name((enum kv_type)setup->kv_type),
                     size_format(ready.capacity_bytes, text), node->seat.text);
    }
    control.body_case = LONGSPAN__CONTROL__BODY_NODE_READY;
    control.node_ready = &ready;
    say(node, &control);
}

static void say_reserved(struct node *node, uint64_t job, uint64_t request, struct error *error)
{
    Longspan__ReserveReply reply = LONGSPAN__RESERVE_REPLY__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    Longspan__Failure failure;
    reply.job = job;
    reply.request = request;
    if (error->status != STATUS_OK) {
        failure = failure_of(error);
        reply.failure = &failure;
        log_debug(node->config.log, "refused to reserve: %s", error->text);
    }
    control.body_case = LONGSPAN__CONTROL__BODY_RESERVE_REPLY;
    control.reserve_reply = &reply;
    say(node, &control);
}

/* Answered when the pages are there. */
static void handle_restore(struct node *node, const Longspan__Restore *restore)
{
    struct error error = {.status = STATUS_OK};
    if (serve_restore(node->serve, restore, &error) != STATUS_OK)
        say_reserved(node, restore->job, restore->request, &error);
}

static void handle_reserve(struct node *node, const Longspan__Reserve *reserve)
{
    struct error error = {.status = STATUS_OK};
    serve_reserve(node->serve, reserve, &error);
    say_reserved(node, reserve->job, reserve->request, &error);
}

static void handle_refusal(struct node *node, const Longspan__Refusal *refusal)
{
    const enum status status = refusal->status > STATUS_OK && refusal->status < STATUS_COUNT
                                   ? (enum status)refusal->status
                                   : STATUS_FAILED;
    error_set(&node->end, status, "%s", refusal->text);
    node->ended = true;
}

/* Another job in a Pong: the coordinator that we worked for was replaced, and knows nothing of us.
 */
static void handle_pong(struct node *node, const Longspan__Pong *pong)
{
    const uint64_t job = serve_job(node->serve);
    trace_heard(node->trace, node->asked_ns, pong->clock_ns);
    if (job != 0 && pong->job != 0 && pong->job != job)
        drop_job(node, "the coordinator has another job");
}

static void handle_control(struct node *node)
{
    arena_reset(&node->arena);
    const Longspan__Control *control =
        frames_size(&node->in, 0) > SERVE_HEADER_BYTES
            ? NULL
            : longspan__control__unpack(&node->arena.allocator, frames_size(&node->in, 0),
                                        frames_data(&node->in, 0));
    if (control == NULL) {
        log_warn(node->config.log, "a message of the coordinator cannot be read: %zu bytes",
                 frames_size(&node->in, 0));
        return;
    }
    node->heard_us = clock_us();
    switch (control->body_case) {
    case LONGSPAN__CONTROL__BODY_NODE_SETUP:
        handle_setup(node, control->node_setup);
        break;
    case LONGSPAN__CONTROL__BODY_RESERVE:
        handle_reserve(node, control->reserve);
        break;
    case LONGSPAN__CONTROL__BODY_RESTORE:
        handle_restore(node, control->restore);
        break;
    case LONGSPAN__CONTROL__BODY_FREE:
        serve_free(node->serve, control->free);
        break;
    case LONGSPAN__CONTROL__BODY_REFUSAL:
        handle_refusal(node, control->refusal);
        break;
    case LONGSPAN__CONTROL__BODY_LEAVE:
        drop_job(node, control->leave->reason[0] != '\0' ? control->leave->reason
                                                         : "the coordinator leaves");
        node->said_us = clock_us(); /* it is about to go: knock a second later */
        break;
    case LONGSPAN__CONTROL__BODY_PONG:
        handle_pong(node, control->pong);
        break;
    default:
        log_debug(node->config.log, "a message of kind %d is not for attention nodes",
                  (int)control->body_case);
    }
}

/* ---- the loop ---- */

static enum status receive_control(struct node *node, struct error *error)
{
    for (int i = 0; i < DRAIN_MESSAGES && !node->ended; i++) {
        struct error why = {0};
        const enum status status = frames_receive(node->control, &node->in, 0, &why);
        if (status == STATUS_OK)
            handle_control(node);
        else if (status == STATUS_PROTOCOL)
            log_warn(node->config.log, "%s", why.text);
        else
            return status == STATUS_TIMEOUT ? STATUS_OK : error_set(error, status, "%s", why.text);
    }
    return STATUS_OK;
}

/* ---- data: sockets and rings ---- */

/* Whether the next query still fits into the run that is gathered. */
static bool has_room(const struct node *node)
{
    return serve_pending(node->serve) < SERVE_QUERIES;
}

static enum status receive_socket(struct node *node, struct error *error)
{
    for (int i = 0; i < DRAIN_MESSAGES && has_room(node); i++) {
        struct error why = {0};
        const enum status status = frames_receive(node->data, serve_inbox(node->serve), 0, &why);
        if (status == STATUS_OK) {
            node->data_us = clock_us();
            serve_message(node->serve);
        } else if (status == STATUS_PROTOCOL) {
            log_warn(node->config.log, "%s", why.text);
        } else {
            return status == STATUS_TIMEOUT ? STATUS_OK : error_set(error, status, "%s", why.text);
        }
    }
    return STATUS_OK;
}

static void receive_ring(struct node *node, struct rings_entry *entry)
{
    for (int i = 0; i < DRAIN_MESSAGES && has_room(node) && !entry->ended; i++) {
        struct error why = {0};
        const enum status status = wire_ring_receive(entry->ring, serve_inbox(node->serve), &why);
        if (status == STATUS_TIMEOUT)
            return;
        if (status == STATUS_OK) {
            node->data_us = clock_us();
            serve_message(node->serve);
        } else {
            log_debug(node->config.log, "%s", why.text);
            entry->ended = true;
        }
    }
}

/* All that waits there, up to a bound; then every query of it at once. `rings`: one for each. */
static enum status receive_data(struct node *node, bool socket, const struct wire_poll_item *rings,
                                uint32_t n_rings, struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < n_rings; i++)
        if (rings[i].readable)
            receive_ring(node, &node->rings.entries[i]);
    if (socket)
        status = receive_socket(node, error);
    serve_run(node->serve);
    return status;
}

static void send_answer(void *context, struct frames *answer, enum serve_answer kind)
{
    struct node *node = context;
    struct error error = {0};
    struct wire_ring *ring = kind == SERVE_ANSWER ? rings_find(&node->rings, answer) : NULL;
    /* A rank that does not read must not stop the others: it asks again when it wants to know. */
    const enum status status = ring != NULL ? wire_ring_send(ring, answer, &error)
                                            : frames_send(node->data, answer, 0, &error);
    if (status != STATUS_OK)
        log_debug(node->config.log, "an answer is dropped: %s",
                  status == STATUS_TIMEOUT ? "the queue is full" : error.text);
    frames_clear(answer);
}

static bool take_offer(void *context, const struct frames *hello, const Longspan__Ring *offer)
{
    struct node *node = context;
    return rings_offer(&node->rings, hello, offer);
}

static enum status watch_connection(struct node *node, struct error *error)
{
    struct wire_event event;
    char text[512];
    while (wire_socket_event(node->control, &event)) {
        switch (event.kind) {
        case WIRE_READY:
            node->connected = true;
            node->said_us = 0;
            break;
        case WIRE_LOST:
            node->connected = false;
            log_info(node->config.log, "lost the connection to the coordinator at %s",
                     node->config.coordinator);
            break;
        case WIRE_HANDSHAKE_FAILED:
            return error_set(error, STATUS_UNREACHABLE, "%s", wire_event_text(&event, text));
        case WIRE_RETRY:
            break;
        }
    }
    while (wire_socket_event(node->data, &event))
        if (event.kind == WIRE_HANDSHAKE_FAILED)
            log_warn(node->config.log, "a worker cannot join: %s", wire_event_text(&event, text));
    return STATUS_OK;
}

/* One piece of what is to be read from the store, or written; then tells what became of it. False: there
 * is nothing to do now. */
static bool turn_store(struct node *node)
{
    if (node->store == NULL)
        return false;
    const bool worked = store_work(node->store, clock_us() - node->data_us >= STORE_IDLE_US);
    uint64_t request;
    struct error error;
    while (store_restored(node->store, &request, &error))
        say_reserved(node, serve_job(node->serve), request, &error);
    Longspan__NodeStored stored = LONGSPAN__NODE_STORED__INIT;
    const uint8_t *added = NULL, *gone = NULL;
    size_t n_added, n_gone;
    if (!worked && store_changed(node->store, &added, &n_added, &gone, &n_gone)) {
        Longspan__Control control = LONGSPAN__CONTROL__INIT;
        stored.job = serve_job(node->serve);
        stored.added.data = (uint8_t *)added;
        stored.added.len = n_added * STORE_NAME_BYTES;
        stored.gone.data = (uint8_t *)gone;
        stored.gone.len = n_gone * STORE_NAME_BYTES;
        control.body_case = LONGSPAN__CONTROL__BODY_NODE_STORED;
        control.node_stored = &stored;
        say(node, &control);
    }
    return worked;
}

/* Says what is due, and gives up a job nobody cares for. Returns when to look again. */
static uint64_t timers(struct node *node)
{
    uint64_t now = clock_us();
    const bool serving = serve_job(node->serve) != 0;
    if (serving && now - node->heard_us > (uint64_t)node->config.silence_ms * 1000) {
        char why[96];
        snprintf(why, sizeof(why), "nothing heard of the coordinator for %" PRIu64 " s",
                 (now - node->heard_us) / SECOND_US);
        drop_job(node, why);
        now = clock_us();
    }
    if (!serving && now - node->waiting_us >= STILL_WAITING_US) {
        log_info(node->config.log, "%s the coordinator at %s",
                 node->connected ? "waits for a job of" : "cannot reach", node->config.coordinator);
        node->waiting_us = now;
    }
    if (now - node->said_us >= SECOND_US) {
        const bool said = serve_job(node->serve) != 0 ? say_ping(node)
                          : node->connected           ? say_join(node)
                                                      : true;
        node->said_us = said ? now : now - SECOND_US + CONNECTING_US;
    }
    if (serve_job(node->serve) != 0 && now - node->usage_us >= SECOND_US) {
        say_usage(node);
        node->usage_us = now;
    }
    /* A connection that is made does not wake the poll. */
    return serving || node->connected
               ? node->said_us + SECOND_US
               : now + (now - node->began_us < 5 * SECOND_US ? CONNECTING_US : CONNECTING_SLOW_US);
}

/* Waits for the first n_fixed items, and for the rings, which are put behind them. */
static enum status await(struct node *node, struct wire_poll_item *items, size_t n_fixed,
                         uint64_t deadline_us, struct error *error)
{
    rings_sweep(&node->rings);
    for (uint32_t i = 0; i < node->rings.n; i++)
        items[n_fixed + i] = (struct wire_poll_item){.ring = node->rings.entries[i].ring};
    const uint32_t spin_us = serve_job(node->serve) != 0 ? node->spin_us : 0;
    const uint64_t at = trace_begin(node->track);
    const enum status status =
        wire_poll(items, n_fixed + node->rings.n, spin_us, deadline_us, error);
    if (status == STATUS_TIMEOUT)
        trace_step(node->track, 0, TRACE_IDLE);
    trace_span(node->track, "wait", at);
    return status;
}

static enum status loop(struct node *node, struct error *error)
{
    struct wire_poll_item items[3 + RINGS_MAX] = {
        {.socket = node->control}, {.socket = node->data}, {.descriptor = node->config.stop}};
    _Static_assert(3 + RINGS_MAX <= WIRE_POLL_ITEMS, "one poll waits for all");
    const size_t n_fixed = node->config.stop >= 0 ? 3 : 2;
    node->began_us = node->heard_us = node->waiting_us = clock_us();
    while (!node->ended) {
        enum status status = watch_connection(node, error);
        if (status != STATUS_OK)
            return status;
        const uint64_t deadline_us = timers(node);
        status = await(node, items, n_fixed, turn_store(node) ? 0 : deadline_us, error);
        if (status == STATUS_TIMEOUT)
            continue;
        if (status != STATUS_OK)
            return status;
        const uint32_t n_rings = node->rings.n;
        if (n_fixed == 3 && items[2].readable) {
            say_leave(node);
            log_info(node->config.log, "asked to stop");
            return STATUS_OK;
        }
        if (items[0].readable && (status = receive_control(node, error)) != STATUS_OK)
            return status;
        const uint64_t began = clock_us();
        status = receive_data(node, items[1].readable, items + n_fixed, n_rings, error);
        if (status != STATUS_OK)
            return status;
        node->heard_us += clock_us() - began; /* who computes cannot listen */
    }
    return error_set(error, node->end.status, "%s", node->end.text);
}

/* ---- starting ---- */

static enum status open_sockets(struct node *node, struct error *error)
{
    const struct node_config *config = &node->config;
    char bind[ADDRESS_BYTES];
    enum status status =
        wire_context_create(&node->context,
                            &(struct wire_context_options){
                                .key = config->key, .insecure_network = config->insecure_network},
                            error);
    if (status == STATUS_OK)
        status = endpoint_bind(config->bind, config->coordinator, node->node, bind, error);
    if (status == STATUS_OK)
        status =
            wire_socket_open(&node->data, node->context,
                             &(struct wire_socket_options){.kind = WIRE_ROUTER,
                                                           .listen = true,
                                                           .endpoint = bind,
                                                           .handover = true,
                                                           .max_message_bytes = SERVE_MESSAGE_BYTES,
                                                           .linger_ms = 200},
                             error);
    if (status == STATUS_OK)
        status = endpoint_advertise(config->advertise, wire_socket_endpoint(node->data),
                                    config->coordinator, node->host, node->endpoint, error);
    /* Immediate: what is said to nobody must not wait, and flood the coordinator that comes. */
    if (status == STATUS_OK)
        status = wire_socket_open(&node->control, node->context,
                                  &(struct wire_socket_options){.kind = WIRE_DEALER,
                                                                .endpoint = config->coordinator,
                                                                .name = "the coordinator",
                                                                .immediate = true,
                                                                .linger_ms = 200},
                                  error);
    return status;
}

/* Its memory for pages is settled here: the device knows what it has. Where that is the host's, pages
 * are taken as they fill, and more may be free then. */
static enum status open_device(struct node *node, struct error *error)
{
    const struct kernels *kernels = node->kernels;
    char asked[SIZE_TEXT_BYTES], left[SIZE_TEXT_BYTES];
    enum status status = kernels->open(&node->device, node->pool, node->config.device_index, error);
    if (status != STATUS_OK)
        return status;
    kernels_device_name(node->device_name, sizeof(node->device_name), kernels,
                        node->config.device_index);
    const uint64_t available = kernels->memory_available(node->device);
    uint64_t *bytes = &node->config.memory_bytes;
    if (*bytes == 0 && available == 0)
        return error_set(error, STATUS_INVALID,
                         "the kernel does not say how much memory is available; say --memory SIZE");
    if (*bytes > available && !kernels->host_memory)
        return error_set(error, STATUS_NO_MEMORY,
                         "--memory %s: %s has %s left; say less, or nothing for 80%% of that",
                         size_format(*bytes, asked), node->device_name,
                         size_format(available, left));
    if (*bytes > 0)
        return STATUS_OK;
    *bytes = kv_holder_share(available);
    log_info(node->config.log, "takes up to %s for KV pages, 80%% of what %s has left (--memory)",
             size_format(*bytes, asked), node->device_name);
    return STATUS_OK;
}

static enum status open_store(struct node *node, struct error *error)
{
    const struct store_config config = {.directory = node->config.kv_store,
                                        .most_bytes = node->config.kv_store_bytes,
                                        .log = node->config.log};
    return config.directory != NULL ? store_create(&node->store, &config, error) : STATUS_OK;
}

static enum status start(struct node *node, struct error *error)
{
    const struct node_config *config = &node->config;
    struct topology_mask allowed;
    node->started = clock_wall_s();
    topology_host_name(node->host, sizeof(node->host));
    topology_allowed(&allowed);
    topology_text(&allowed, node->processors, sizeof(node->processors));
    snprintf(node->name, sizeof(node->name), "%s",
             config->name != NULL && config->name[0] != '\0' ? config->name : node->host);
    rings_open(&node->rings, config->zeromq_only, config->log);
    node->kernels = config->kernels;
    enum status status = random_unique(&node->node, sizeof(node->node), error);
    if (status == STATUS_OK)
        status = trace_create(&node->trace, config->trace, node->name, error);
    if (status == STATUS_OK)
        status = thread_pool_create(&node->pool, config->n_threads, error);
    node->track = trace_track(node->trace, "main");
    if (status == STATUS_OK)
        thread_pool_trace(node->pool, node->trace, node->track);
    if (status == STATUS_OK)
        status = open_device(node, error);
    if (status == STATUS_OK)
        status = open_store(node, error);
    if (status == STATUS_OK)
        status = serve_create(&node->serve,
                              &(struct serve_config){.name = node->name,
                                                     .node = node->node,
                                                     .memory_bytes = node->config.memory_bytes,
                                                     .pool = node->pool,
                                                     .kernels = node->kernels,
                                                     .device = node->device,
                                                     .log = config->log,
                                                     .send = send_answer,
                                                     .offer = take_offer,
                                                     .context = node,
                                                     .seat = &node->seat,
                                                     .trace = node->track,
                                                     .store = node->store},
                              error);
    if (status == STATUS_OK)
        status = open_sockets(node, error);
    if (status != STATUS_OK)
        return status;
    const uint64_t memory = node->config.memory_bytes, quarter = memory / 4;
    node->bytes_per_s =
        config->bytes_per_s > 0
            ? config->bytes_per_s
            : node->kernels->read_rate(
                  node->device, quarter < MOST_PROBE_BYTES ? quarter : MOST_PROBE_BYTES, PROBE_MS);
    char text[SIZE_TEXT_BYTES];
    log_info(config->log, "%s of memory at %s, %u %s lanes %s %.3g GB/s; joins %s",
             size_format(memory, text), node->endpoint, thread_pool_lanes(node->pool),
             node->kernels->name, config->bytes_per_s > 0 ? "weighing" : "reading",
             node->bytes_per_s / 1e9, config->coordinator);
    return STATUS_OK;
}

enum status node_run(const struct node_config *config, struct error *error)
{
    struct node node = {.config = *config};
    arena_init(&node.arena, 0);
    frames_init(&node.in);
    frames_init(&node.out);
    enum status status = start(&node, error);
    if (status == STATUS_OK)
        status = loop(&node, error);

    frames_clear(&node.in);
    frames_clear(&node.out);
    wire_socket_close(node.control);
    char bound[ADDRESS_BYTES] = "";
    if (node.data != NULL)
        snprintf(bound, sizeof(bound), "%s", wire_socket_endpoint(node.data));
    wire_socket_close(node.data);
    rings_end(&node.rings);
    rings_sweep(&node.rings);
    endpoint_remove(bound);
    serve_destroy(node.serve);
    store_destroy(node.store);
    if (node.device != NULL)
        node.kernels->close(node.device);
    wire_context_destroy(node.context);
    seat_give(&node.seat);
    thread_pool_destroy(node.pool);
    struct error unwritten;
    if (trace_write(node.trace, config->log, &unwritten) != STATUS_OK)
        log_error(config->log, "%s", unwritten.text);
    trace_destroy(node.trace);
    arena_destroy(&node.arena);
    return status;
}
