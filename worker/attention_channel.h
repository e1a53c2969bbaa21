/* worker/attention_channel.h - the wire to one remote holder: what is sent there, and one query's
 * state.
 *
 * A channel sends; attention_client.c decides when, and judges what comes back. Everything on a
 * channel stays in order. Messages are built once, kept in pool buffers and sent again from there.
 */
#ifndef LONGSPAN_WORKER_ATTENTION_CHANNEL_H
#define LONGSPAN_WORKER_ATTENTION_CHANNEL_H

#include "proto/arena.h"
#include "proto/frame_pool.h"
#include "proto/longspan.pb-c.h"
#include "proto/wire_ring.h"
#include "proto/wire_socket.h"
#include "worker/attention_plan.h"
#include "worker/attention_retention.h"

enum {
    ATTENTION_HEADER_BYTES = 4 << 20, /* of one message's header, at most; nodes refuse more */
    ATTENTION_NAME_BYTES = 320
};

/* What all channels of a rank share; client.c owns it. */
struct attention_wire {
    struct attention_config config; /* its pointers are copied or not used after opening */
    char version[64], kernels[32];
    struct frame_pool pool;
    struct arena arena; /* of the message that is being built, or read */
    struct frames out;
    size_t row_floats;   /* of q, one token: [head][group][head_dim] */
    size_t kv_row_bytes; /* of k or v, one token: [head][head_dim] */
    uint64_t step;
    const struct attention_plan *plan; /* of the layer under way */
    struct attention_part *parts;
    uint32_t n_parts, spin_us;
    char boot[NEIGHBOUR_BOOT_BYTES];
};

struct attention_channel {
    struct wire_socket *socket; /* NULL: a local holder */
    struct wire_ring *ring;     /* offered in every Hello; NULL: none, or no longer */
    bool ring_used;             /* the node has opened it: all but Hello goes there */
    char name[ATTENTION_NAME_BYTES];
    uint32_t holder;
    uint64_t node;
    bool greeted; /* it has answered our Hello */
    bool silent;  /* a query got no answer in time, and nothing was heard since */
    uint64_t heard_us, hello_us;
    struct error lost; /* not STATUS_OK: its pages are gone for good */

    /* The query under way, and its answer. */
    bool waiting;
    uint64_t query;
    uint32_t layer;
    struct frame_buffer *header, *rows;
    size_t header_bytes, rows_bytes;
    size_t *included; /* entries of the plan, in the order of the query */
    size_t n_included, included_capacity;
    size_t reply_floats;
    uint64_t began_us, retry_us, retry_after_us, resend_us;
    uint64_t sent_ns;
    uint64_t lacking_marks; /* their sum in the last `missing` */
    bool resent;            /* `missing` was answered once */
    struct frames *reply;   /* swapped with the one that was received into */
    float *data;            /* in `reply`, until the layer is finished; NULL: none */

    struct attention_retention retention;
    struct attention_traffic traffic;
};

/* STATUS_NO_MEMORY and what wire_socket_open says. */
enum status attention_channel_open(struct attention_channel *channel, struct attention_wire *wire,
                                   struct wire_context *context,
                                   const struct attention_holder *holder, struct error *error);
/* Zeroed memory is fine. */
void attention_channel_close(struct attention_channel *channel);

/* Queued, or dropped when the queue is full: it is repeated anyway. Goes by ZeroMQ, always: it is
 * what settles how the rest goes. */
void attention_channel_hello(struct attention_channel *channel, struct attention_wire *wire);

/* What a HelloReply says about the ring. False: the node does not use the one that we used: what
 * was in it is lost. */
bool attention_channel_settle(struct attention_channel *channel, const Longspan__HelloReply *reply);

/* From now on all goes by ZeroMQ, and the node is told by a Hello. */
void attention_channel_leave_ring(struct attention_channel *channel, struct attention_wire *wire);

/* Tells the holder which sequences share pages of a parent. stamp 0: those whose first step this is.
 * Otherwise again, as the message was lost: those of the query that the last reply named (this
 * stamp) with a mark below the fork. Returns their number; -1: not sent, *error says why. */
int attention_channel_fork(struct attention_channel *channel, struct attention_wire *wire,
                           uint32_t layer, uint64_t stamp, struct error *error);

/* Sends the new tokens of this holder, rows of the step in the KV type, and keeps them.
 * Parts that failed are left out. */
enum status attention_channel_append(struct attention_channel *channel, struct attention_wire *wire,
                                     uint32_t layer, const unsigned char *k, const unsigned char *v,
                                     struct error *error);

/* Sends again what was kept for this layer; `older`: only what was made before this step. Returns
 * the number of messages; -1: see *error. */
int attention_channel_append_again(struct attention_channel *channel, struct attention_wire *wire,
                                   uint32_t layer, bool older, struct error *error);

/* Packs the entries channel->included into channel->header, and places the pieces in the reply. */
enum status attention_channel_pack(struct attention_channel *channel, struct attention_wire *wire,
                                   struct attention_piece *pieces, struct error *error);

/* Sends the packed query, for the first time or again. */
enum status attention_channel_ask(struct attention_channel *channel, struct attention_wire *wire,
                                  struct error *error);

/* Reads a received header: *data borrows the arena until the next message is built or read.
 * False: not a Data message of this job, to be dropped. */
bool attention_channel_read(struct attention_wire *wire, struct frames *in, Longspan__Data **data);

#endif
