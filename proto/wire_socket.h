/* proto/wire_socket.h - one ZeroMQ socket, set up as every socket of this project is.
 *
 * A socket belongs to one thread at a time. Kinds: a ROUTER listens, and names the peer of every
 * message; a DEALER connects, reconnects by itself (after 10 ms, later 1 s), and keeps order.
 * Messages go through proto/frames.h. Nothing here waits without a deadline.
 *
 * Bounds. To each peer at most `queue_bytes` leave frames_send without having reached the kernel (the
 * peer's speed is the sender's), to all peers of a ROUTER together at most `all_queues_bytes`; to
 * who has none on its way one message may always go, and a peer has never more on its way than is
 * left of the whole. So peers that do not read keep nothing from the others. `queue_messages` bounds
 * small ones, per peer and direction. A received message beyond `max_message_bytes` is refused
 * (proto/frames.h); a frame beyond twice that cuts the connection before memory is taken. */
#ifndef LONGSPAN_PROTO_WIRE_SOCKET_H
#define LONGSPAN_PROTO_WIRE_SOCKET_H

#include "proto/wire_context.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_socket; /* opaque */

enum wire_kind { WIRE_ROUTER, WIRE_DEALER };

struct wire_socket_options {
    enum wire_kind kind;
    bool listen;          /* bind; otherwise connect */
    const char *endpoint; /* see proto/address.h */
    bool inside;          /* connects to wire_socket_listen_inside: `endpoint` is that name */
    const char *name;     /* of the peer, for messages: "the coordinator"; NULL: the endpoint */
    const char *identity; /* how a ROUTER at the other end shall know us; NULL: it invents one.
                             1 to 255 bytes */
    bool handover;        /* ROUTER: who comes with an identity in use takes it over (a restarted
                             peer), instead of being ignored until the old connection is gone */
    bool immediate;       /* queue only for connections that are complete: without, what is sent
                             early waits for the peer */
    uint32_t linger_ms;   /* how long after close unsent messages may still go; 0: dropped. Not 0
                             where a close may meet a half-sent message: libzmq up to 4.3.5 aborts
                             the process when the connection breaks then (its issue 3442) */
    uint64_t max_message_bytes; /* 0: 256 MiB */
    uint64_t queue_bytes;       /* 0: 512 MiB */
    uint64_t all_queues_bytes;  /* ROUTER; 0: an eighth of the memory */
    uint32_t queue_messages;    /* 0: 1000 */
};

/* Applies the rule of trust (address_check). Listening returns ready; connecting goes on in the
 * background, see wire_socket_await. The caller owns *socket.
 * STATUS_INVALID: address or identity. STATUS_UNREACHABLE: the address is in use or not ours.
 * STATUS_NO_MEMORY: too many sockets. */
enum status wire_socket_open(struct wire_socket **socket, struct wire_context *context,
                             const struct wire_socket_options *options, struct error *error);

/* A socket that listens, listens to threads of this process too, at inproc://NAME: they open theirs
 * with `inside`, through the same context. Neither keys nor events play a part there.
 * STATUS_UNREACHABLE: the name is in use, or none. */
enum status wire_socket_listen_inside(struct wire_socket *socket, const char *endpoint,
                                      struct error *error);

/* NULL is fine. */
void wire_socket_close(struct wire_socket *socket);

/* Another time than the options' linger_ms, for a close that follows: the peer is known to be
 * gone. */
void wire_socket_set_linger(struct wire_socket *socket, uint32_t linger_ms);

/* Where it listens, with the port that `*` became; or what it connects to. */
const char *wire_socket_endpoint(const struct wire_socket *socket);

/* options.name, or the endpoint. */
const char *wire_socket_name(const struct wire_socket *socket);

/* ---- connections, as they come and go ---- */

enum wire_event_kind {
    WIRE_READY,            /* a handshake succeeded: messages flow */
    WIRE_LOST,             /* an established connection ended */
    WIRE_RETRY,            /* nobody answered; another attempt follows by itself */
    WIRE_HANDSHAKE_FAILED, /* somebody answered who has another key, none, or is no Longspan */
};
struct wire_event {
    enum wire_event_kind kind;
    char endpoint[288]; /* the peer's as connected to; ours, where we listen */
    int code;           /* errno, or ZeroMQ's protocol error; 0: unknown */
};

/* The oldest event not yet asked for. False: none. Never waits. */
bool wire_socket_event(struct wire_socket *socket, struct wire_event *event);

/* One line for the log: "handshake with tcp://head:5600 failed: wrong or missing --cluster-key". */
const char *wire_event_text(const struct wire_event *event, char text[512]);

/* Whether the event is a failed handshake that time does not mend: ZeroMQ said why, or it is one of
 * several in a row. A peer that dies during a handshake looks like one without a reason.
 * *n_failures: 0 at first, then the callee's. */
bool wire_handshake_refused(const struct wire_event *event, unsigned *n_failures);

/* Of a connecting socket: waits until the peer is there. Takes events away, up to that. Time in which
 * this process was itself stopped, for seconds, does not bring the deadline nearer.
 * STATUS_UNREACHABLE: nobody listens there until the deadline, or the handshake failed (then
 * at once: time does not mend a key). The text says which. */
enum status wire_socket_await(struct wire_socket *socket, uint64_t deadline_us,
                              struct error *error);

/* ---- waiting ---- */

struct wire_ring; /* proto/wire_ring.h */

struct wire_poll_item {
    struct wire_socket *socket; /* or NULL: */
    struct wire_ring *ring;     /* or NULL: */
    int descriptor;             /* a file descriptor */
    bool readable;              /* set by wire_poll */
};
enum { WIRE_POLL_ITEMS = 160 };

/* Waits until something can be read: spins for `spin_us`, then blocks. Returns STATUS_OK with none
 * readable when a signal came: the loop looks at what its handler wrote. A descriptor whose other
 * end was closed is readable. STATUS_TIMEOUT: deadline. STATUS_CANCELLED: the context ends.
 * STATUS_INVALID: more than WIRE_POLL_ITEMS.
 *
 * Spinning looks at rings, which are memory, all the time, and at the rest now and then. In between
 * the processor is offered to others (sys/sharing.h): who makes the answer may want it, and a
 * socket's messages come through a thread of ZeroMQ's. */
enum status wire_poll(struct wire_poll_item *items, size_t n, uint32_t spin_us,
                      uint64_t deadline_us, struct error *error);

/* Whether a message waits. Never waits itself. */
bool wire_socket_readable(struct wire_socket *socket);

#endif
