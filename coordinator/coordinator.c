/* coordinator.c - see coordinator.h: what is opened, in which order, and the loop. */
#include "coordinator/coordinator.h"

#include "coordinator/cluster.h"
#include "coordinator/control.h"
#include "coordinator/early.h"
#include "coordinator/http/server.h"
#include "coordinator/serving.h"
#include "coordinator/status_reply.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "proto/cluster_key.h"
#include "proto/wire_context.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"
#include "sys/descriptors.h"
#include "sys/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
    TICK_US = 250000,         /* deadlines are looked at this often */
    AWAY_US = 1000000,        /* what takes longer counts as that: the process was stopped */
    GOODBYE_MS = 1000,        /* for Leave to reach the kernel */
    CLOSING_US = 500000,      /* for the last steps, when we are told to stop */
    UNPACKED_BYTES = 1 << 30, /* a request of 2^26 tokens unpacks to less */
    /* Descriptors for clients of the socket, `longspan status` say, and for what is opened later. */
    SPARE_DESCRIPTORS = 16,
    FEW_DESCRIPTORS = 4, /* so many are left when it is time to say so */
};

struct coordinator {
    const struct coordinator_options *options;
    const struct log *log;
    char *model_path; /* absolute: workers may run in another directory */
    struct model_file *file;
    struct hparams hparams;
    struct tokenizer *tokenizer;
    struct wire_context *wire;
    struct wire_socket *socket;
    struct control control;
    bool control_open, cluster_open;
    struct cluster cluster;
    struct serving *serving; /* NULL until the cluster is ready */
    struct early early;
    struct server *http;   /* NULL: none */
    uint64_t drain_end_us; /* 0: nobody asked us to stop */
    struct frames in;
    struct arena arena; /* of the message that is being handled */
    uint64_t next_tick_us;
    uint64_t seen_us, away_us; /* now(): by clock_us when it was last told; what does not count */
    bool descriptors_few;      /* has been said */
    struct trace *trace;
    struct trace_track *track; /* of the one thread */
};

/* A clock that hardly moves while this process does not, in a container or a virtual machine that is
 * paused. Others are silent then, and whether they were cannot be told. On a machine that is suspended
 * clock_us stands still by itself. */
static uint64_t now(struct coordinator *c)
{
    const uint64_t us = clock_us();
    if (c->seen_us != 0 && us - c->seen_us > AWAY_US)
        c->away_us += us - c->seen_us - AWAY_US;
    c->seen_us = us;
    return us - c->away_us;
}

/* Everything about the model that can be wrong is found before anybody is waited for. */
static enum status open_model(struct coordinator *c, struct error *error)
{
    const char *path = c->options->model;
    enum status status = model_open(&c->file, path, error);
    if (status == STATUS_OK)
        status = hparams_read(&c->hparams, c->file, error);
    if (status == STATUS_OK)
        status = weights_check(c->file, &c->hparams, error);
    if (status == STATUS_OK)
        status = tokenizer_open(&c->tokenizer, c->file, error);
    if (status == STATUS_OK && tokenizer_vocab(c->tokenizer) > c->hparams.vocab)
        status = error_set(error, STATUS_INVALID,
                           "%s: its tokenizer has %u tokens, and its embedding %u rows", path,
                           tokenizer_vocab(c->tokenizer), c->hparams.vocab);
    if (status == STATUS_OK && (c->model_path = realpath(path, NULL)) == NULL)
        status = error_set(error, STATUS_IO, "%s: its absolute path cannot be told", path);
    return status;
}

static enum status open_socket(struct coordinator *c, struct error *error)
{
    struct cluster_key key;
    const bool has_key = c->options->cluster_key != NULL;
    enum status status =
        has_key ? cluster_key_read(c->options->cluster_key, &key, error) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    const struct wire_context_options context = {.key = has_key ? &key : NULL,
                                                 .insecure_network = c->options->insecure_network};
    status = wire_context_create(&c->wire, &context, error);
    if (has_key)
        cluster_key_wipe(&key);
    if (status != STATUS_OK)
        return status;
    const struct wire_socket_options options = {.kind = WIRE_ROUTER,
                                                .listen = true,
                                                .endpoint = c->options->listen,
                                                .name = "the coordinator's socket",
                                                .handover = true,
                                                .linger_ms = GOODBYE_MS,
                                                .queue_messages = 100000};
    status = wire_socket_open(&c->socket, c->wire, &options, error);
    if (status != STATUS_OK)
        return status;
    control_open(&c->control, c->socket);
    c->control_open = true;
    return STATUS_OK;
}

/* One for each rank and node; who has too few waits for connections that cannot come. */
static uint32_t reserved_descriptors(const struct coordinator *c)
{
    return c->options->workers + c->options->nodes + SPARE_DESCRIPTORS;
}

static enum status check_descriptors(const struct coordinator *c, struct error *error)
{
    const size_t left = descriptors_left();
    if (left >= reserved_descriptors(c))
        return STATUS_OK;
    return error_set(error, STATUS_EXHAUSTED,
                     "%zu more files can be open (ulimit -n): too few for %u workers, %u attention "
                     "nodes and clients, at least %u: raise the limit",
                     left, c->options->workers, c->options->nodes, reserved_descriptors(c));
}

static enum status open_http(struct coordinator *c, struct error *error)
{
    const struct server_model model = {.file = c->file,
                                       .tokenizer = c->tokenizer,
                                       .vocab = c->hparams.vocab,
                                       .path = c->model_path,
                                       .name = c->hparams.name};
    if (c->options->http.address == NULL)
        return STATUS_OK;
    const enum status status = wire_socket_listen_inside(c->socket, SERVER_ENDPOINT, error);
    return status == STATUS_OK ? server_open(&c->http, &c->options->http, &model,
                                             reserved_descriptors(c), c->wire, c->log, error)
                               : status;
}

static enum status open_all(struct coordinator *c, struct error *error)
{
    enum status status = trace_create(&c->trace, c->options->trace, "coordinator", error);
    c->track = trace_track(c->trace, "main");
    if (status == STATUS_OK)
        status = open_model(c, error);
    if (status == STATUS_OK)
        status = open_socket(c, error);
    if (status != STATUS_OK)
        return status;
    const struct cluster_model model = {c->model_path, c->file, &c->hparams};
    status = cluster_open(&c->cluster, c->options, &model, &c->control, c->log, now(c), error);
    c->cluster_open = true;
    if (status == STATUS_OK)
        log_info(c->log, "listening at %s for %u worker%s and %u attention node%s; model %s",
                 wire_socket_endpoint(c->socket), c->options->workers,
                 c->options->workers > 1 ? "s" : "", c->options->nodes,
                 c->options->nodes == 1 ? "" : "s", c->hparams.name);
    if (status == STATUS_OK)
        status = check_descriptors(c, error);
    return status == STATUS_OK ? open_http(c, error) : status;
}

static void close_all(struct coordinator *c)
{
    struct early_request *request;
    struct error error;
    if (trace_write(c->trace, c->log, &error) != STATUS_OK)
        log_error(c->log, "%s", error.text);
    trace_destroy(c->trace);
    server_close(c->http);
    while ((request = early_take(&c->early)) != NULL)
        free(request);
    serving_destroy(c->serving);
    if (c->cluster_open)
        cluster_close(&c->cluster);
    if (c->control_open)
        control_close(&c->control);
    frames_clear(&c->in);
    arena_destroy(&c->arena);
    wire_socket_close(c->socket);
    wire_context_destroy(c->wire);
    tokenizer_close(c->tokenizer);
    model_close(c->file);
    free(c->model_path);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void take_request(struct coordinator *c, const struct frames_peer *peer,
                         const Longspan__RunRequest *request, uint64_t now_us)
{
    struct error error;
    if (c->serving != NULL) {
        serving_request(c->serving, peer, request, now_us);
        return;
    }
    const enum status status =
        early_add(&c->early, peer, request->request, frames_data(&c->in, 0), frames_size(&c->in, 0),
                  now_us, "the cluster to be ready", &error);
    if (status != STATUS_OK)
        control_send_event_failure(&c->control, peer, request->request, status, error.text);
}

static void send_status(struct coordinator *c, const struct frames_peer *peer,
                        const Longspan__StatusRequest *request, uint64_t now_us)
{
    struct serving_view view;
    if (c->serving != NULL)
        view = serving_view(c->serving);
    struct error error;
    if (status_reply_send(&c->control, peer, request->request, &c->cluster,
                          c->serving != NULL ? &view : NULL, now_us, &error) != STATUS_OK)
        log_debug(c->log, "status is not told: %s", error.text);
}

static enum status handle_step_done(struct coordinator *c, const struct frames_peer *peer,
                                    const Longspan__StepDone *done, uint64_t now_us,
                                    struct error *error)
{
    const uint32_t rank = cluster_find_rank(&c->cluster, peer);
    if (rank == CLUSTER_NOBODY || done->rank != rank || c->serving == NULL) {
        log_debug(c->log, "a report of step %" PRIu64 " from nobody", done->step);
        return STATUS_OK;
    }
    return serving_step_done(c->serving, rank, done, &c->in, now_us, error);
}

static enum status handle(struct coordinator *c, const struct frames_peer *peer,
                          const Longspan__Control *message, uint64_t now_us, struct error *error)
{
    const uint32_t node = cluster_find_node(&c->cluster, peer);
    switch (message->body_case) {
    case LONGSPAN__CONTROL__BODY_RUN_REQUEST:
        take_request(c, peer, message->run_request, now_us);
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_RUN_CANCEL:
        early_drop(&c->early, peer, false, message->run_cancel->request);
        if (c->serving != NULL)
            serving_cancel(c->serving, peer, message->run_cancel->request);
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_STATUS_REQUEST:
        send_status(c, peer, message->status_request, now_us);
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_RESERVE_REPLY:
        if (c->serving != NULL && node != CLUSTER_NOBODY)
            serving_reserve_reply(c->serving, node, message->reserve_reply);
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_NODE_STORED:
        if (c->serving != NULL && node != CLUSTER_NOBODY)
            serving_node_stored(c->serving, node, message->node_stored);
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_LEAVE:
        early_drop(&c->early, peer, true, 0);
        if (c->serving != NULL)
            serving_client_left(c->serving, peer);
        break;
    case LONGSPAN__CONTROL__BODY_PING:
        early_heard(&c->early, peer, now_us);
        if (c->serving != NULL)
            serving_client_heard(c->serving, peer, now_us);
        break;
    default:
        break;
    }
    enum status status = cluster_message(&c->cluster, peer, message, now_us, error);
    if (status == STATUS_OK && message->body_case == LONGSPAN__CONTROL__BODY_STEP_DONE)
        status = handle_step_done(c, peer, message->step_done, now_us, error);
    return status;
}

static Longspan__Control *unpack(struct coordinator *c, const void *bytes, size_t n_bytes)
{
    arena_reset(&c->arena);
    return longspan__control__unpack(&c->arena.allocator, n_bytes, bytes);
}

/* One message, if there is one. What cannot be read is dropped: it is nobody of ours. */
static enum status receive(struct coordinator *c, bool *received, struct error *error)
{
    enum status status = frames_receive(c->socket, &c->in, 0, error);
    *received = status != STATUS_TIMEOUT;
    if (status == STATUS_TIMEOUT)
        return STATUS_OK;
    if (status == STATUS_PROTOCOL) {
        log_debug(c->log, "a message is dropped: %s", error->text);
        return STATUS_OK;
    }
    if (status != STATUS_OK || c->in.n == 0 || c->in.peer.n == 0)
        return status;
    const struct frames_peer peer = c->in.peer;
    const Longspan__Control *message = unpack(c, frames_data(&c->in, 0), frames_size(&c->in, 0));
    if (message == NULL) {
        log_debug(c->log, "a message of %zu bytes cannot be read", frames_size(&c->in, 0));
        return STATUS_OK;
    }
    status = handle(c, &peer, message, now(c), error);
    arena_reset(&c->arena); /* now: the next one may be long in coming */
    frames_clear(&c->in);
    return status;
}

/* The cluster has just become ready: who waited is served. */
static enum status begin_serving(struct coordinator *c, struct error *error)
{
    const enum status status = serving_create(&c->serving, &c->cluster, &c->control, c->tokenizer,
                                              c->log, c->track, error);
    struct early_request *request;
    while (status == STATUS_OK && (request = early_take(&c->early)) != NULL) {
        const Longspan__Control *message = unpack(c, request->bytes, request->n_bytes);
        if (message != NULL && message->body_case == LONGSPAN__CONTROL__BODY_RUN_REQUEST)
            serving_request(c->serving, &request->client, message->run_request, now(c));
        free(request);
    }
    if (status == STATUS_OK && c->http != NULL)
        server_ready(c->http, c->cluster.max_tokens);
    return status;
}

/* Clients of the socket take as many as there are of them. */
static void look_at_descriptors(struct coordinator *c)
{
    const bool few = descriptors_are_few(FEW_DESCRIPTORS);
    if (few && !c->descriptors_few)
        log_warn(c->log, "nearly all files are open that may be (ulimit -n): who connects now may "
                         "have to wait; raise the limit, or have fewer clients at once");
    c->descriptors_few = few;
}

static enum status tick(struct coordinator *c, struct error *error)
{
    const uint64_t now_us = now(c);
    if (now_us < c->next_tick_us)
        return STATUS_OK;
    c->next_tick_us = now_us + TICK_US;
    look_at_descriptors(c);
    control_send_owed(&c->control);
    serving_drop_silent(&c->early, &c->control, now_us);
    const bool stepping = c->serving != NULL && serving_stepping(c->serving);
    enum status status = cluster_tick(&c->cluster, now_us, stepping, error);
    if (status == STATUS_OK && c->serving != NULL)
        status = serving_tick(c->serving, now_us, error);
    return status;
}

/* A signal can be read. True: it is the end. */
static bool told_to_stop(struct coordinator *c, int stop_descriptor)
{
    struct signalfd_siginfo info;
    if (c->http == NULL || c->drain_end_us != 0 || c->serving == NULL)
        return true;
    (void)!read(stop_descriptor, &info, sizeof(info));
    server_drain(c->http);
    c->drain_end_us = now(c) + c->options->http.drain_s * 1000000ull + 1;
    log_info(c->log, "told to stop: no new requests, those that run have %u s",
             c->options->http.drain_s);
    return false;
}

static bool drained(struct coordinator *c)
{
    return c->drain_end_us != 0 && (server_drained(c->http) || now(c) >= c->drain_end_us);
}

static enum status loop(struct coordinator *c, int stop_descriptor, struct error *error)
{
    while (!drained(c)) {
        struct wire_poll_item items[2 + SERVING_DESCRIPTORS] = {{.socket = c->socket},
                                                                {.descriptor = stop_descriptor}};
        int descriptors[SERVING_DESCRIPTORS];
        const size_t n_items = c->serving != NULL ? 2 + SERVING_DESCRIPTORS : 2;
        if (c->serving != NULL) /* serving_pump looks at them */
            serving_descriptors(c->serving, descriptors);
        for (size_t i = 2; i < n_items; i++)
            items[i].descriptor = descriptors[i - 2];
        if (c->serving == NULL || !serving_stepping(c->serving))
            trace_step(c->track, 0, TRACE_IDLE);
        uint64_t at = trace_begin(c->track);
        enum status status = wire_poll(items, n_items, 0, c->next_tick_us + c->away_us, error);
        trace_span(c->track, "wait", at);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return status;
        if (items[1].readable && told_to_stop(c, stop_descriptor))
            return STATUS_OK;
        bool received = items[0].readable;
        /* A flood of messages must not keep deadlines from being looked at. */
        for (int n = 0; received && n < 100; n++) {
            at = trace_begin(c->track);
            status = receive(c, &received, error);
            trace_span(c->track, "receive", at);
            if (status == STATUS_OK && c->serving == NULL && c->cluster.phase == CLUSTER_READY)
                status = begin_serving(c, error);
            if (status == STATUS_OK && c->serving != NULL)
                status = serving_pump(c->serving, now(c), error);
            if (status != STATUS_OK)
                return status;
        }
        status = tick(c, error);
        if (status == STATUS_OK && c->serving != NULL)
            status = serving_pump(c->serving, now(c), error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* Sequences that have just ended are closed, so that nodes learn what they can store. */
static void close_sequences(struct coordinator *c)
{
    const uint64_t end_us = now(c) + CLOSING_US;
    struct error error;
    while (!serving_closed(c->serving) && now(c) < end_us) {
        struct wire_poll_item item = {.socket = c->socket};
        bool received = true;
        if (serving_pump(c->serving, now(c), &error) != STATUS_OK)
            return;
        if (wire_poll(&item, 1, 0, end_us + c->away_us, &error) != STATUS_OK ||
            receive(c, &received, &error) != STATUS_OK)
            return;
    }
}

/* Whoever still waits for us learns why it need not. */
static void say_goodbye(struct coordinator *c, enum status status, const char *reason)
{
    struct early_request *request;
    while ((request = early_take(&c->early)) != NULL) {
        control_send_event_failure(&c->control, &request->client, request->number, status, reason);
        free(request);
    }
    if (c->serving != NULL)
        serving_fail_all(c->serving, status, reason);
    if (c->serving != NULL && status == STATUS_CANCELLED)
        close_sequences(c);
    cluster_leave(&c->cluster, reason);
}

/* One more look at the socket: clients that asked while we failed to start get their answer too.
 * Not for ever, should somebody flood us. */
static void read_last_requests(struct coordinator *c)
{
    struct error error;
    for (int n = 0; n < 1000 && frames_receive(c->socket, &c->in, 0, &error) == STATUS_OK; n++) {
        if (c->in.n == 0 || c->in.peer.n == 0)
            continue;
        const struct frames_peer peer = c->in.peer;
        const Longspan__Control *message =
            unpack(c, frames_data(&c->in, 0), frames_size(&c->in, 0));
        if (message != NULL && message->body_case == LONGSPAN__CONTROL__BODY_RUN_REQUEST)
            take_request(c, &peer, message->run_request, now(c));
    }
}

enum status coordinator_run(const struct coordinator_options *options, int stop_descriptor,
                            const struct log *log, struct error *error)
{
    struct coordinator *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory");
    struct error failure = {.status = STATUS_OK};
    c->options = options;
    c->log = log;
    frames_init(&c->in);
    arena_init(&c->arena, UNPACKED_BYTES);
    enum status status = open_all(c, &failure);
    if (status == STATUS_OK)
        status = loop(c, stop_descriptor, &failure);
    if (c->control_open && c->cluster_open) {
        if (status != STATUS_OK)
            read_last_requests(c);
        say_goodbye(c, status == STATUS_OK ? STATUS_CANCELLED : status,
                    status == STATUS_OK ? "the coordinator was told to stop" : failure.text);
    }
    close_all(c);
    free(c);
    if (status != STATUS_OK && error != NULL)
        *error = failure;
    return status;
}
