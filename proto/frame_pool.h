/* proto/frame_pool.h - memory for frames that is used again, and can be sent more than once.
 *
 * A buffer has references: the pool's own, its taker's, and one for each message that ZeroMQ still
 * has to send. Who takes a buffer fills it, adds it to as many messages as it likes (the same rows
 * to several peers, or again to one that did not answer), and gives it back at any time: it becomes
 * idle when the last message has left. So nothing is allocated or copied per message once the
 * sizes have been seen. Pool and buffers belong to one thread; only ZeroMQ's release is elsewhere.
 */
#ifndef LONGSPAN_PROTO_FRAME_POOL_H
#define LONGSPAN_PROTO_FRAME_POOL_H

#include "proto/frames.h"
#include "sys/status.h"

#include <stddef.h>

struct frame_buffer; /* opaque */

enum {
    FRAME_POOL_MOST_IDLE = 64,             /* buffers, and of all of them together */
    FRAME_POOL_MOST_IDLE_BYTES = 256 << 20 /* that a pool keeps for later */
};

/* Zeroed memory is an empty pool. */
struct frame_pool {
    struct frame_buffer **buffers;
    size_t n, capacity;
    size_t bytes; /* of all its buffers, idle or not */
};

/* Idle buffers are freed, those under way when they have been sent; those still taken must have
 * been given back. */
void frame_pool_destroy(struct frame_pool *pool);

/* A buffer of at least `bytes`, content undefined. STATUS_NO_MEMORY. */
enum status frame_pool_take(struct frame_pool *pool, size_t bytes, struct frame_buffer **buffer,
                            struct error *error);

/* One more who gives it back. */
struct frame_buffer *frame_buffer_share(struct frame_buffer *buffer);

/* The taker needs it no longer. NULL is fine. */
void frame_buffer_give(struct frame_buffer *buffer);

/* Aligned to 64. */
void *frame_buffer_data(struct frame_buffer *buffer);

/* Adds [offset, offset + bytes) as a frame, without a copy; nobody may write there until the
 * message was sent. Fails as frames_add_borrowed. */
enum status frame_buffer_add(struct frame_buffer *buffer, size_t offset, size_t bytes,
                             struct frames *frames, struct error *error);

#endif
