/* link.c - silence is measured from the first ping without an answer, not from the last message: a
 * rank that was busy for a minute has neither pinged nor read, and learns nothing from that. */
#include "worker/link.h"

#include "proto/arena.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"
#include "sys/memory.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    AWAY_US = 2000000, /* between two looks: this process was busy, or stopped */
    LINGER_MS = 2000,  /* for a failure's text to reach the coordinator */
    LEAVING_MS = 10,   /* for a message that is half sent: proto/wire_socket.h, linger_ms */
};

struct link {
    struct wire_socket *socket;
    struct frames received, sent;
    struct arena arena; /* of the message that was received last */
    uint64_t job;
    uint32_t rank, spin_us;
    uint64_t pinged_us; /* last ping; 0: never */
    struct trace *trace;
    uint64_t asked_ns; /* clock_ns of the last ping */
    uint64_t n_loaded, n_load_bytes;
    uint64_t unanswered_us; /* first ping since the last message; 0: none */
    uint64_t looked_us;     /* for messages; 0: never */
    bool left;
};

enum status link_open(struct link **link, struct wire_context *wire, const char *endpoint,
                      uint32_t rank, uint32_t spin_us, struct error *error)
{
    struct link *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return error_set(error, STATUS_NO_MEMORY, "link: no memory");
    frames_init(&l->received);
    frames_init(&l->sent);
    arena_init(&l->arena, 0);
    l->rank = rank;
    l->spin_us = spin_us;
    const struct wire_socket_options options = {.kind = WIRE_DEALER,
                                                .endpoint = endpoint,
                                                .name = "the coordinator",
                                                .linger_ms = LINGER_MS};
    const enum status status = wire_socket_open(&l->socket, wire, &options, error);
    if (status != STATUS_OK) {
        link_close(l);
        return status;
    }
    *link = l;
    return STATUS_OK;
}

void link_close(struct link *link)
{
    if (link == NULL)
        return;
    frames_clear(&link->received);
    frames_clear(&link->sent);
    arena_destroy(&link->arena);
    wire_socket_close(link->socket);
    free(link);
}

void link_leave(struct link *link)
{
    if (link == NULL)
        return;
    link->left = true;
    wire_socket_set_linger(link->socket, LEAVING_MS);
}

enum status link_await(struct link *link, uint64_t deadline_us, struct error *error)
{
    return wire_socket_await(link->socket, deadline_us, error);
}

void link_trace(struct link *link, struct trace *trace)
{
    link->trace = trace;
}

void link_set_job(struct link *link, uint64_t job)
{
    link->job = job;
}

void link_set_loaded(struct link *link, uint64_t n_loaded, uint64_t n_all)
{
    link->n_loaded = n_loaded;
    link->n_load_bytes = n_all;
}

static enum status send(struct link *link, const Longspan__Control *control, const void *tensors,
                        size_t tensor_bytes, uint64_t deadline_us, struct error *error)
{
    frames_clear(&link->sent);
    enum status status = frames_add_message(&link->sent, &control->base, error);
    if (status == STATUS_OK && tensor_bytes > 0)
        status = frames_add_copy(&link->sent, tensors, tensor_bytes, error);
    if (status == STATUS_OK)
        status = frames_send(link->socket, &link->sent, deadline_us, error);
    frames_clear(&link->sent);
    return status;
}

enum status link_send(struct link *link, const Longspan__Control *control, const void *tensors,
                      size_t tensor_bytes, struct error *error)
{
    return send(link, control, tensors, tensor_bytes, clock_us() + LINK_SILENCE_US, error);
}

void link_ping(struct link *link)
{
    const uint64_t now = clock_us();
    if (link->left || (link->pinged_us != 0 && now - link->pinged_us < LINK_PING_US))
        return;
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    ping.job = link->job;
    ping.rank = link->rank;
    ping.name = "worker";
    ping.peak_bytes = memory_peak_bytes();
    ping.loaded_bytes = link->n_loaded;
    ping.load_bytes = link->n_load_bytes;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_PING;
    control.ping = &ping;
    link->pinged_us = now;
    link->asked_ns = clock_ns();
    if (link->unanswered_us == 0)
        link->unanswered_us = now;
    /* One that does not leave is missed as an answer is: the silence is noticed. */
    send(link, &control, NULL, 0, 0, NULL);
}

/* How long poll may wait: the next ping, the silence's end, the caller's deadline. */
static uint64_t next_look(const struct link *link, uint64_t deadline_us)
{
    uint64_t next = link->pinged_us + LINK_PING_US;
    if (link->unanswered_us != 0 && link->unanswered_us + LINK_SILENCE_US < next)
        next = link->unanswered_us + LINK_SILENCE_US;
    return deadline_us < next ? deadline_us : next;
}

enum status link_unpack(struct link *link, struct link_message *message, const void *bytes,
                        size_t n_bytes, struct error *error)
{
    *message = (struct link_message){.bytes = bytes, .n_bytes = n_bytes};
    arena_reset(&link->arena);
    message->control = longspan__control__unpack(&link->arena.allocator, n_bytes, bytes);
    if (message->control == NULL)
        return error_set(error, STATUS_PROTOCOL, "%s sent %zu bytes that are no control message",
                         wire_socket_name(link->socket), n_bytes);
    if (message->control->body_case == LONGSPAN__CONTROL__BODY_PONG &&
        message->control->pong != NULL)
        trace_heard(link->trace, link->asked_ns, message->control->pong->clock_ns);
    return STATUS_OK;
}

/* Who was stopped, as all of a machine may be, has answers still to be brought: it asks again. */
static void note_absence(struct link *link, uint64_t now)
{
    if (link->looked_us != 0 && now - link->looked_us > AWAY_US)
        link->unanswered_us = 0;
    link->looked_us = now;
}

static enum status check_silence(const struct link *link, uint64_t now, struct error *error)
{
    const uint64_t patience = LINK_SILENCE_US + (link->rank > 0 ? LINK_PATIENCE_US : 0);
    if (link->unanswered_us == 0 || now - link->unanswered_us < patience)
        return STATUS_OK;
    return error_set(error, STATUS_TIMEOUT, "the coordinator at %s has been silent for %d s",
                     wire_socket_endpoint(link->socket), LINK_SILENCE_US / 1000000);
}

enum status link_receive(struct link *link, struct link_message *message, uint64_t deadline_us,
                         struct error *error)
{
    *message = (struct link_message){.control = NULL};
    for (;;) {
        struct error why;
        enum status status = frames_receive(link->socket, &link->received, 0, &why);
        if (status == STATUS_OK) {
            link->unanswered_us = 0;
            return link_unpack(link, message, frames_data(&link->received, 0),
                               frames_size(&link->received, 0), error);
        }
        if (status != STATUS_TIMEOUT)
            return error_set(error, status, "%s", why.text);
        const uint64_t now = clock_us();
        note_absence(link, now);
        if ((status = check_silence(link, now, error)) != STATUS_OK || now >= deadline_us)
            return status;
        link_ping(link);
        struct wire_poll_item item = {.socket = link->socket};
        status = wire_poll(&item, 1, link->spin_us, next_look(link, deadline_us), &why);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return error_set(error, status, "%s", why.text);
        if (status == STATUS_OK && !item.readable)
            return STATUS_OK; /* a signal */
    }
}
