/* wire_poll.c - waiting for several sockets, rings and descriptors: first by looking, then in the
 * kernel.
 *
 * A look at a ring is a look at memory; a look at a socket takes two system calls inside ZeroMQ. So
 * a loop that has rings looks at sockets and descriptors now and then only.
 *
 * ZeroMQ's descriptor of a socket becomes readable when one of its threads has news for it, once:
 * the news must be asked for (ZMQ_EVENTS) before one sleeps on it and after each awakening. */
#include "proto/wire_parts.h"
#include "proto/wire_ring.h"
#include "proto/wire_socket.h"

#include "sys/clock.h"
#include "sys/offer.h"
#include "sys/spin.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <zmq.h>

enum {
    RING_LOOKS = 4, /* a fraction of a microsecond: then the processor is offered to others */
    OFFERS = 16     /* between two looks at sockets, where there are rings */
};

/* -1 with errno: the context ends. */
static int socket_events(struct wire_socket *socket)
{
    int events = 0;
    size_t size = sizeof(events);
    return zmq_getsockopt(socket->zmq, ZMQ_EVENTS, &events, &size) == 0 ? events & ZMQ_POLLIN : -1;
}

bool wire_socket_readable(struct wire_socket *socket)
{
    return socket_events(socket) > 0;
}

static int socket_descriptor(struct wire_socket *socket)
{
    int descriptor = -1;
    size_t size = sizeof(descriptor);
    return zmq_getsockopt(socket->zmq, ZMQ_FD, &descriptor, &size) == 0 ? descriptor : -1;
}

static bool look_at_rings(struct wire_poll_item *items, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        if (items[i].ring != NULL) {
            items[i].readable = wire_ring_readable(items[i].ring);
            any = any || items[i].readable;
        }
    return any;
}

/* 1: something is readable. 0: nothing. -1 with errno. */
static int look_at_sockets(struct wire_poll_item *items, size_t n)
{
    int any = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].socket != NULL) {
            const int events = socket_events(items[i].socket);
            if (events < 0)
                return -1;
            items[i].readable = events > 0;
            any |= events > 0;
        }
    return any;
}

static bool is_descriptor(const struct wire_poll_item *item)
{
    return item->socket == NULL && item->ring == NULL;
}

/* Descriptors that the caller named, after a poll of all of them. */
static int note_descriptors(struct wire_poll_item *items, size_t n, const struct pollfd *polled)
{
    int any = 0;
    for (size_t i = 0; i < n; i++)
        if (is_descriptor(&items[i])) {
            items[i].readable = polled[i].revents != 0;
            any |= items[i].readable;
        }
    return any;
}

static int poll_once(struct wire_poll_item *items, struct pollfd *polled, size_t n,
                     uint64_t timeout_us)
{
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                                     .tv_nsec = (long)(timeout_us % 1000000 * 1000)};
    const int found = ppoll(polled, n, &timeout, NULL);
    for (size_t i = 0; i < n; i++)
        polled[i].revents = found > 0 ? polled[i].revents : 0;
    return found < 0 ? -1 : note_descriptors(items, n, polled);
}

/* At everything, without waiting. As look_at_sockets. */
static int look(struct wire_poll_item *items, size_t n)
{
    struct pollfd polled[WIRE_POLL_ITEMS];
    bool descriptors = false;
    for (size_t i = 0; i < n; i++) {
        polled[i] = (struct pollfd){.fd = is_descriptor(&items[i]) ? items[i].descriptor : -1,
                                    .events = POLLIN};
        descriptors = descriptors || is_descriptor(&items[i]);
    }
    const int sockets = look_at_sockets(items, n);
    const int others = descriptors ? poll_once(items, polled, n, 0) : 0;
    if (sockets < 0 || others < 0)
        return -1;
    return look_at_rings(items, n) || sockets > 0 || others > 0;
}

/* Sleeps until something is readable, or a signal, at most timeout_us; then looks. */
static int sleep_once(struct wire_poll_item *items, size_t n, uint64_t timeout_us)
{
    struct pollfd polled[WIRE_POLL_ITEMS];
    bool quiet = true; /* no ring was written to in the last moment */
    for (size_t i = 0; i < n; i++) {
        polled[i] =
            (struct pollfd){.fd = items[i].ring != NULL     ? wire_ring_descriptor(items[i].ring)
                                  : items[i].socket != NULL ? socket_descriptor(items[i].socket)
                                                            : items[i].descriptor,
                            .events = POLLIN};
        if (items[i].ring != NULL)
            quiet = wire_ring_sleep(items[i].ring) && quiet;
    }
    const int others = poll_once(items, polled, n, quiet ? timeout_us : 0);
    const int code = errno;
    for (size_t i = 0; i < n; i++)
        if (items[i].ring != NULL)
            wire_ring_wake(items[i].ring, polled[i].revents);
    errno = code;
    if (others < 0)
        return -1;
    const int sockets = look_at_sockets(items, n);
    return sockets < 0 ? -1 : look_at_rings(items, n) || sockets > 0 || others > 0;
}

static bool has_rings(const struct wire_poll_item *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (items[i].ring != NULL)
            return true;
    return false;
}

/* Who we wait for, or the thread of ZeroMQ's that brings it, may want the processor. */
static bool offer(const struct wire_poll_item *items, size_t n)
{
    const bool given_back = offer_processor();
    for (size_t i = 0; i < n; i++)
        if (items[i].socket != NULL) { /* of all: a process has one context */
            wire_threads_note(&items[i].socket->context->threads, given_back);
            break;
        }
    return given_back;
}

/* Whether ZeroMQ's thread has something to bring away that these sockets sent. */
static bool has_sent(struct wire_poll_item *items, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        if (items[i].socket != NULL) {
            any = any || items[i].socket->sent;
            items[i].socket->sent = false;
        }
    return any;
}

/* As look_at_sockets. Nobody starves behind a busy ring: the first look is at everything. */
static int spin(struct wire_poll_item *items, size_t n, uint64_t until_us)
{
    const int n_offers = has_rings(items, n) ? OFFERS : 1;
    if (has_sent(items, n) && !offer(items, n)) /* no answer comes before */
        return look(items, n);
    do {
        const int any = look(items, n);
        if (any != 0)
            return any;
        for (int i = 0; i < n_offers; i++) {
            for (int j = 0; n_offers > 1 && j < RING_LOOKS; j++) {
                if (look_at_rings(items, n))
                    return 1;
                spin_pause();
            }
            if (!offer(items, n))
                return 0;
        }
    } while (clock_us() < until_us);
    return 0;
}

enum status wire_poll(struct wire_poll_item *items, size_t n, uint32_t spin_us,
                      uint64_t deadline_us, struct error *error)
{
    if (n > WIRE_POLL_ITEMS)
        return error_set(error, STATUS_INVALID, "%zu things to wait for, at most %d", n,
                         WIRE_POLL_ITEMS);
    uint64_t now = clock_us();
    const uint64_t spin_end_us = deadline_us - now < spin_us ? deadline_us : now + spin_us;
    int any = now < deadline_us && spin_us > 0 ? spin(items, n, spin_end_us) : look(items, n);
    for (;;) {
        if (any > 0 || (any < 0 && errno == EINTR))
            return STATUS_OK;
        if (any < 0)
            return error_set(error, errno == ETERM ? STATUS_CANCELLED : STATUS_IO,
                             "waiting for sockets: %s", zmq_strerror(errno));
        now = clock_us();
        if (now >= deadline_us)
            return error_set(error, STATUS_TIMEOUT, "nothing came before the deadline");
        any = sleep_once(items, n, deadline_us - now);
    }
}
