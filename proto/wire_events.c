/* wire_events.c - what ZeroMQ's monitor of a socket reports, in four words.
 *
 * A listener that cannot decrypt a peer's first words only hangs up: the peer sees a connection
 * that ends within the handshake, and tries again, for ever. That, and a mechanism that differs
 * (a key on one side only), is what a wrong --cluster-key looks like from here. */
#include "proto/address.h"
#include "proto/wire_parts.h"
#include "proto/wire_socket.h"

#include "sys/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

enum {
    /* A listener that ends while we shake hands hangs up too; three times in a row is a key. */
    UNEXPLAINED_FAILURES = 3,
    LOOK_MS = 1000,
    AWAY_US = 2000000, /* between two looks: this process was stopped */
    REPORTED_EVENTS = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                      ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                      ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED
};

enum status wire_events_open(struct wire_socket *socket, struct error *error)
{
    char channel[64];
    snprintf(channel, sizeof(channel), "inproc://monitor-%u",
             atomic_fetch_add(&socket->context->n_opened, 1));
    socket->monitor = zmq_socket(socket->context->zmq, ZMQ_PAIR);
    /* Unbounded: a full channel would block ZeroMQ's I/O thread. Events are few and small. */
    const int unbounded = 0;
    if (socket->monitor == NULL ||
        zmq_setsockopt(socket->monitor, ZMQ_RCVHWM, &unbounded, sizeof(unbounded)) != 0 ||
        zmq_socket_monitor(socket->zmq, channel, REPORTED_EVENTS) != 0 ||
        zmq_connect(socket->monitor, channel) != 0)
        return error_set(error, STATUS_NO_MEMORY, "cannot watch the socket to %s: %s",
                         socket->endpoint, zmq_strerror(errno));
    return STATUS_OK;
}

/* One event as ZeroMQ reports it: frame 0 number (16 bits) and value (32 bits), frame 1 endpoint.
 */
static bool receive_event(void *monitor, unsigned *number, int *value, char *endpoint, size_t size)
{
    uint8_t head[6];
    uint16_t raw_number;
    int n;
    do {
        n = zmq_recv(monitor, head, sizeof(head), ZMQ_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n != (int)sizeof(head))
        return false;
    memcpy(&raw_number, head, sizeof(raw_number));
    memcpy(value, head + sizeof(raw_number), sizeof(*value));
    *number = raw_number;
    do {
        n = zmq_recv(monitor, endpoint, size - 1, ZMQ_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return false;
    endpoint[(size_t)n < size - 1 ? (size_t)n : size - 1] = '\0';
    return true;
}

bool wire_socket_event(struct wire_socket *socket, struct wire_event *event)
{
    unsigned number;
    struct wire_event read;
    while (
        receive_event(socket->monitor, &number, &read.code, read.endpoint, sizeof(read.endpoint))) {
        switch (number) {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            read.kind = WIRE_READY;
            break;
        case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
            read.kind = WIRE_HANDSHAKE_FAILED;
            socket->n_unready_ends++;
            break;
        case ZMQ_EVENT_DISCONNECTED:
            if (socket->n_unready_ends > 0) { /* the end of what was never ready */
                socket->n_unready_ends--;
                continue;
            }
            read.kind = WIRE_LOST;
            break;
        case ZMQ_EVENT_CONNECT_RETRIED:
            read.kind = WIRE_RETRY;
            read.code = 0;
            break;
        default:
            continue;
        }
        *event = read;
        return true;
    }
    return false;
}

const char *wire_event_text(const struct wire_event *event, char text[512])
{
    static const char *const formats[] = {
        [WIRE_READY] = "connected: %s",
        [WIRE_LOST] = "connection lost: %s",
        [WIRE_RETRY] = "nobody answers at %s, trying again",
        [WIRE_HANDSHAKE_FAILED] = "handshake failed: wrong or missing --cluster-key: %s",
    };
    snprintf(text, 512, formats[event->kind], event->endpoint);
    return text;
}

/* Where ZeroMQ gave a reason, one failure is enough, and no other attempt follows. */
static bool is_explained(const struct wire_event *event)
{
    return event->code >= ZMQ_PROTOCOL_ERROR_ZMTP_UNSPECIFIED || event->code == 300 ||
           event->code == 400 || event->code == 500;
}

bool wire_handshake_refused(const struct wire_event *event, unsigned *n_failures)
{
    return event->kind == WIRE_HANDSHAKE_FAILED &&
           (is_explained(event) || ++*n_failures >= UNEXPLAINED_FAILURES);
}

enum status wire_socket_await(struct wire_socket *socket, uint64_t deadline_us, struct error *error)
{
    unsigned n_failures = 0;
    uint64_t looked_us = clock_us();
    for (;;) {
        struct wire_event event;
        while (wire_socket_event(socket, &event)) {
            if (event.kind == WIRE_READY)
                return STATUS_OK;
            if (wire_handshake_refused(&event, &n_failures))
                return error_set(error, STATUS_UNREACHABLE,
                                 "%s (%s): handshake failed: wrong or missing --cluster-key",
                                 socket->name, socket->endpoint);
        }
        const uint64_t now = clock_us(), away_us = now - looked_us;
        looked_us = now;
        if (away_us > AWAY_US && deadline_us < UINT64_MAX - away_us)
            deadline_us += away_us;
        if (now >= deadline_us) {
            char advice[ADDRESS_ADVICE_BYTES];
            return error_set(error, STATUS_UNREACHABLE, "nobody answers at %s (%s): %s",
                             socket->endpoint, socket->name,
                             address_advice(socket->endpoint, advice));
        }
        const uint64_t left_ms = (deadline_us - now + 999) / 1000;
        zmq_pollitem_t item = {.socket = socket->monitor, .events = ZMQ_POLLIN};
        if (zmq_poll(&item, 1, left_ms > LOOK_MS ? LOOK_MS : (long)left_ms) < 0 && errno != EINTR)
            return error_set(error, STATUS_CANCELLED, "%s: %s", socket->name, zmq_strerror(errno));
    }
}
