/* proto/wire_ring.h - the messages of frames.h between two processes of one host, through memory
 * that they share.
 *
 * One side creates a ring and describes it to the other over a ZeroMQ connection, whose trust it so
 * inherits; the other one opens it if it can (sys/neighbour.h). From then on each sends and
 * receives whole messages, in order, as with frames_send and frames_receive of deadline 0. For each
 * direction there is a ring of bytes with one writer and one reader:
 *
 *     message   n, size[n] (64-bit), then the frames; each begins at a multiple of 64
 *
 * A message may be longer than the ring: it passes in pieces, as the reader makes room. What does
 * not fit waits in the sender's own memory, at most `queue_bytes` of it (one message may always),
 * and moves on whenever the sender sends or receives.
 *
 * The other process is not trusted more than a socket's peer: positions and sizes are read once,
 * then checked; no pointer and nothing that this side has written is read back. Whoever breaks a
 * rule, or is gone, ends the ring; what was in it is lost, like with a connection.
 *
 * A waiting process does not look for ever: wire_poll takes rings, spins, then sleeps on a bell
 * that the other side rings only if somebody sleeps. A ring belongs to one thread. */
#ifndef LONGSPAN_PROTO_WIRE_RING_H
#define LONGSPAN_PROTO_WIRE_RING_H

#include "proto/frames.h"
#include "sys/neighbour.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct wire_ring; /* opaque */

enum { WIRE_RING_LEAST_BYTES = 4096, WIRE_RING_MOST_BYTES = 1 << 28 };

struct wire_ring_options {
    const char *name;           /* of the other side, for messages; copied */
    uint32_t ring_bytes;        /* each direction, a power of two; 0: 8 MiB, touched as used */
    uint64_t max_message_bytes; /* 0: 256 MiB */
    uint64_t queue_bytes;       /* 0: 512 MiB */
};

/* What the other side needs to open it; travels in Hello (longspan.proto, Ring). */
struct wire_ring_offer {
    uint32_t process, memory, bell, answer_bell; /* descriptors of that process */
    uint32_t ring_bytes;
    uint8_t nonce[NEIGHBOUR_NONCE_BYTES];
};

/* The caller owns *ring. STATUS_NO_MEMORY, STATUS_UNSUPPORTED. */
enum status wire_ring_create(struct wire_ring **ring, const struct wire_ring_options *options,
                             struct error *error);
void wire_ring_describe(const struct wire_ring *ring, struct wire_ring_offer *offer);

/* The creator, when it knows that the other side has opened it: lets go of what that one uses, so
 * that its end can be noticed. */
void wire_ring_begin(struct wire_ring *ring);

/* The other side. options->ring_bytes is the offer's. STATUS_NOT_FOUND: another host, user or
 * container, or an offer that has ended. STATUS_PROTOCOL: not a ring. STATUS_NO_MEMORY. */
enum status wire_ring_open(struct wire_ring **ring, const struct wire_ring_offer *offer,
                           const struct wire_ring_options *options, struct error *error);

/* Drops what was not read. NULL is fine. */
void wire_ring_destroy(struct wire_ring *ring);

/* Whether it is the one of this offer. */
bool wire_ring_is(const struct wire_ring *ring, const uint8_t nonce[NEIGHBOUR_NONCE_BYTES]);

/* Received messages come from this peer: so a ROUTER's loop can treat them as its own. */
void wire_ring_set_peer(struct wire_ring *ring, const struct frames *from);
bool wire_ring_has_peer(const struct wire_ring *ring, const struct frames *frames);

/* Takes over the frames; they are empty afterwards. STATUS_TIMEOUT: the queue is full, the frames
 * are as before. After any other failure they are empty: STATUS_EXHAUSTED: more bytes than
 * max_message_bytes. STATUS_UNREACHABLE: the ring has ended. STATUS_NO_MEMORY. */
enum status wire_ring_send(struct wire_ring *ring, struct frames *frames, struct error *error);

/* Clears `frames`, then receives a whole message. STATUS_TIMEOUT: there is none yet.
 * STATUS_UNREACHABLE: the ring has ended, and no whole message is left. */
enum status wire_ring_receive(struct wire_ring *ring, struct frames *frames, struct error *error);

/* ---- for wire_poll ---- */

/* Whether receive would get further: bytes came, room for what waits here, or the end. */
bool wire_ring_readable(const struct wire_ring *ring);

/* Before sleeping on the descriptor. False: do not, it is readable. */
bool wire_ring_sleep(struct wire_ring *ring);
int wire_ring_descriptor(const struct wire_ring *ring);
/* After it, with what poll(2) said about the descriptor. */
void wire_ring_wake(struct wire_ring *ring, short events);

#endif
