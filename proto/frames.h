/* proto/frames.h - one message: a header frame and the raw tensors behind it.
 *
 *     frame 0      a protobuf header (longspan.proto), which says what the others are
 *     frame 1...   raw tensors, little-endian, of lengths that the header's reader checks
 *
 * A ROUTER's messages also have a peer: whom a message came from, or goes to. Frames own their
 * memory; received ones are not copied, and their data is aligned to 8 bytes. A struct lives in
 * the caller's loop and is used again: send and receive leave nothing behind in it.
 *
 * Every receive and send has a deadline (clock_us; 0: only try). */
#ifndef LONGSPAN_PROTO_FRAMES_H
#define LONGSPAN_PROTO_FRAMES_H

#include "proto/wire_socket.h"
#include "sys/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

enum { FRAMES_MAX = 16, FRAMES_PEER_BYTES = 255 };

/* How a ROUTER knows one of its connections. */
struct frames_peer {
    uint32_t n; /* bytes; 0: nobody */
    uint8_t bytes[FRAMES_PEER_BYTES];
};

/* Read n and peer; leave the rest to frames.c. */
struct frames {
    uint32_t n; /* frames, without the peer */
    struct frames_peer peer;
    struct frames_block *blocks[FRAMES_MAX]; /* memory to be counted when sent; or NULL */
    zmq_msg_t parts[FRAMES_MAX];
};

/* Empty, without a peer. A struct of zeros is that too. */
void frames_init(struct frames *frames);

/* Gives back all memory; empty again, without a peer. */
void frames_clear(struct frames *frames);

/* Clears `to`, then moves everything there; `from` is empty afterwards. */
void frames_move(struct frames *to, struct frames *from);

/* Of frame i < n. Valid until the frames are sent, cleared or received into. */
size_t frames_size(const struct frames *frames, uint32_t i);
void *frames_data(struct frames *frames, uint32_t i);

/* Adds a frame of `size` bytes, undefined (aligned to 64), for the caller to fill at *data; or a
 * copy of `data`. STATUS_EXHAUSTED: FRAMES_MAX are there. STATUS_NO_MEMORY. */
enum status frames_add(struct frames *frames, size_t size, void **data, struct error *error);
enum status frames_add_copy(struct frames *frames, const void *data, size_t size,
                            struct error *error);

/* Adds a message of longspan.proto: give &header->base. Fails like frames_add. */
enum status frames_add_message(struct frames *frames, const ProtobufCMessage *message,
                               struct error *error);

/* Adds the caller's memory without a copy. Once done with it ZeroMQ calls release(data, hint), from
 * any thread; also after a failure to send. Not called when this function fails. */
enum status frames_add_borrowed(struct frames *frames, void *data, size_t size,
                                void (*release)(void *data, void *hint), void *hint,
                                struct error *error);

/* Whom a ROUTER sends to: the peer of a received message, or an identity of 1 to 255 bytes. */
void frames_reply_to(struct frames *reply, const struct frames *request);
void frames_set_peer(struct frames *frames, const void *identity, size_t size);

bool frames_same_peer(const struct frames_peer *a, const struct frames_peer *b);

/* Clears `frames`, then receives. On failure they are empty.
 * STATUS_TIMEOUT: nothing came. STATUS_PROTOCOL: the message had too many frames or bytes, and is
 * gone; the peer is set, so that it can be told. STATUS_CANCELLED: the context ends.
 * STATUS_IO: the socket failed. */
enum status frames_receive(struct wire_socket *socket, struct frames *frames, uint64_t deadline_us,
                           struct error *error);

/* Hands all frames to the socket; afterwards they are empty. At least one frame; a ROUTER needs a
 * peer. STATUS_TIMEOUT: the queue stayed full; the frames are as before, to be sent again or
 * cleared. After any other failure they are empty: STATUS_UNREACHABLE: a ROUTER has no such peer
 * (any more), or the connection ended within the message. STATUS_EXHAUSTED: more bytes than
 * max_message_bytes. STATUS_CANCELLED, STATUS_IO. */
enum status frames_send(struct wire_socket *socket, struct frames *frames, uint64_t deadline_us,
                        struct error *error);

/* Sends a message of longspan.proto alone, of a DEALER. Fails like frames_add and frames_send; what
 * could not be sent is dropped. */
enum status frames_send_message(struct wire_socket *socket, const ProtobufCMessage *message,
                                uint64_t deadline_us, struct error *error);

#endif
