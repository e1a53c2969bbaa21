/* node.c - start, and the loop: what it waits for, and whose turn it is. What the coordinator says
 * is node_control.c's, what workers say serve.c's. */
#include "attention_node/node_state.h"

#include "attention_node/endpoint.h"
#include "kernels/kernels.h"
#include "proto/address.h"
#include "proto/waiting.h"
#include "sys/clock.h"
#include "sys/random.h"
#include "sys/seat.h"
#include "sys/size.h"
#include "sys/topology.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    SECOND_US = 1000000,
    CONNECTING_US = 20000,
    CONNECTING_SLOW_US = 250000,
    STILL_WAITING_US = 15000000,
    STORE_IDLE_US = 50000,  /* without a message for so long, kept pages are written */
    AWAY_US = 2000000,      /* no turn takes so long but for computing */
    KEEP_AFTER_US = 100000, /* ranks repeat what is not answered for a second or two (retry_ms) */
    PROBE_MS = 150          /* of reading, for the node's weight in the placement */
};
static const uint64_t MOST_PROBE_BYTES = UINT64_C(256) << 20;

/* ---- data: sockets and rings ---- */

static enum status receive_socket(struct node *node, struct error *error)
{
    for (int i = 0; i < NODE_DRAIN_MESSAGES && serve_has_room(node->serve); i++) {
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
    for (int i = 0; i < NODE_DRAIN_MESSAGES && serve_has_room(node->serve) && !entry->ended; i++) {
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

/* One piece of what is to be read from the store, or written; then tells what became of it. False:
 * there is nothing to do now. */
static bool turn_store(struct node *node)
{
    if (node->store == NULL)
        return false;
    const bool worked = store_work(node->store, clock_us() - node->data_us >= STORE_IDLE_US);
    uint64_t request;
    struct error error;
    while (store_restored(node->store, &request, &error))
        node_say_reserved(node, serve_job(node->serve), request, &error);
    const uint8_t *added, *gone;
    size_t n_added, n_gone;
    if (!worked && store_changed(node->store, &added, &n_added, &gone, &n_gone))
        node_say_stored(node, added, n_added, gone, n_gone);
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
        node_drop_job(node, why);
        now = clock_us();
    }
    if (!serving && now - node->waiting_us >= STILL_WAITING_US) {
        char advice[ADDRESS_ADVICE_BYTES];
        if (node->connected)
            log_info(node->config.log, "waits for a job of the coordinator at %s",
                     node->config.coordinator);
        else
            log_info(node->config.log, "cannot reach the coordinator at %s: %s",
                     node->config.coordinator, address_advice(node->config.coordinator, advice));
        node->waiting_us = now;
    }
    if (now - node->said_us >= SECOND_US) {
        const bool said = serve_job(node->serve) != 0 ? node_say_ping(node)
                          : node->connected           ? node_say_join(node)
                                                      : true;
        node->said_us = said ? now : now - SECOND_US + CONNECTING_US;
    }
    if (serve_job(node->serve) != 0 && now - node->usage_us >= SECOND_US) {
        node_say_usage(node);
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
    enum { CONTROL, DATA, STOP, N_FIXED }; /* in front of the rings */
    struct wire_poll_item items[N_FIXED + RINGS_MAX] = {
        [CONTROL] = {.socket = node->control},
        [DATA] = {.socket = node->data},
        [STOP] = {.descriptor = node->config.stop},
    };
    _Static_assert(N_FIXED + RINGS_MAX <= WIRE_POLL_ITEMS, "one poll waits for all");
    const size_t n_fixed = node->config.stop >= 0 ? N_FIXED : STOP;
    node->began_us = node->heard_us = node->waiting_us = clock_us();
    uint64_t turned_us = clock_us();
    while (!node->ended) {
        enum status status = watch_connection(node, error);
        if (status != STATUS_OK)
            return status;
        const uint64_t now_us = clock_us();
        if (now_us - turned_us > AWAY_US) /* who was stopped cannot listen */
            node->heard_us = now_us;
        turned_us = now_us;
        const uint64_t deadline_us = timers(node);
        status = await(node, items, n_fixed, turn_store(node) ? 0 : deadline_us, error);
        if (status == STATUS_TIMEOUT)
            continue;
        if (status != STATUS_OK)
            return status;
        const uint32_t n_rings = node->rings.n;
        if (n_fixed > STOP && items[STOP].readable) {
            node_say_leave(node);
            log_info(node->config.log, "asked to stop");
            return STATUS_OK;
        }
        if (items[CONTROL].readable && (status = node_receive_control(node, error)) != STATUS_OK)
            return status;
        const uint64_t began = clock_us();
        status = receive_data(node, items[DATA].readable, items + n_fixed, n_rings, error);
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

/* Its memory for pages is settled here: the device knows what it has. Where that is the host's,
 * pages are taken as they fill, and more may be free then. */
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
    if (kernels->host_memory)
        status = kv_holder_check_host("--memory", *bytes, 1, error);
    if (status != STATUS_OK)
        return status;
    if (*bytes > available && available > 0)
        log_warn(node->config.log,
                 "--memory %s: only %s are free now: the kernel kills this node if pages need more "
                 "than there is then",
                 size_format(*bytes, asked), size_format(available, left));
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
                                                     .store = node->store,
                                                     .keep_after_us = KEEP_AFTER_US},
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
    enum status status = start(&node, error);
    if (status == STATUS_OK)
        status = loop(&node, error);

    frames_clear(&node.in);
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
