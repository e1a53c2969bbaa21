/* node_control.c - what the node says to the coordinator, and what it does when that says
 * something. */
#include "attention_node/node_state.h"

#include "proto/protocol.h"
#include "proto/waiting.h"
#include "sys/clock.h"
#include "sys/memory.h"
#include "sys/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- what we say to the coordinator ---- */

/* False: not sent; the queue is full, or the connection not ready yet. */
static bool say(struct node *node, const Longspan__Control *control)
{
    struct error error = {0};
    const enum status status = frames_send_message(node->control, &control->base, 0, &error);
    if (status != STATUS_OK && status != STATUS_TIMEOUT) /* full or not connected: said again */
        log_warn(node->config.log, "cannot write to the coordinator: %s", error.text);
    return status == STATUS_OK;
}

bool node_say_join(struct node *node)
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

bool node_say_ping(struct node *node)
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

void node_say_usage(struct node *node)
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

void node_say_stored(struct node *node, const uint8_t *added, size_t n_added, const uint8_t *gone,
                     size_t n_gone)
{
    Longspan__NodeStored stored = LONGSPAN__NODE_STORED__INIT;
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

void node_say_leave(struct node *node)
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

void node_drop_job(struct node *node, const char *why)
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

void node_say_reserved(struct node *node, uint64_t job, uint64_t request, struct error *error)
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
        node_say_reserved(node, restore->job, restore->request, &error);
}

static void handle_reserve(struct node *node, const Longspan__Reserve *reserve)
{
    struct error error = {.status = STATUS_OK};
    serve_reserve(node->serve, reserve, &error);
    node_say_reserved(node, reserve->job, reserve->request, &error);
}

static void handle_refusal(struct node *node, const Longspan__Refusal *refusal)
{
    error_set(&node->end, status_received(refusal->status), "%s", refusal->text);
    node->ended = true;
}

/* Another job in a Pong: the coordinator that we worked for was replaced, and knows nothing of us.
 */
static void handle_pong(struct node *node, const Longspan__Pong *pong)
{
    const uint64_t job = serve_job(node->serve);
    trace_heard(node->trace, node->asked_ns, pong->clock_ns);
    if (job != 0 && pong->job != 0 && pong->job != job)
        node_drop_job(node, "the coordinator has another job");
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
        node_drop_job(node, control->leave->reason[0] != '\0' ? control->leave->reason
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

enum status node_receive_control(struct node *node, struct error *error)
{
    for (int i = 0; i < NODE_DRAIN_MESSAGES && !node->ended; i++) {
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
