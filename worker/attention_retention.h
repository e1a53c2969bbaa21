/* worker/attention_retention.h - appends that one holder has not confirmed yet, to be sent again.
 *
 * An Append message is kept as it was sent, for as long as one of its entries lies above the
 * holder's mark. Marks come with every reply, and whoever was appended to is asked in the next step
 * at the latest; so at any time about one step's tokens are kept. One thread owns it. */
#ifndef LONGSPAN_WORKER_ATTENTION_RETENTION_H
#define LONGSPAN_WORKER_ATTENTION_RETENTION_H

#include "proto/frame_pool.h"
#include "sys/status.h"
#include "worker/attention_sequence.h"

struct attention_retained_entry {
    struct attention_sequence *sequence; /* NULL: covered, or forgotten */
    uint32_t end;                        /* its tokens end here */
};

/* header: one frame; rows: two frames, k at 0 and v at v_offset, rows_bytes each. */
struct attention_retained {
    struct attention_retained *next;
    struct frame_buffer *header, *rows;
    uint64_t step; /* in which it was made */
    size_t header_bytes, v_offset, rows_bytes;
    size_t n_entries, n_open, capacity;
    struct attention_retained_entry *entries;
};

struct attention_retention {
    uint32_t n_layers;
    struct attention_retained **first, **last; /* [n_layers], oldest first */
    struct attention_retained *idle;
};

/* STATUS_NO_MEMORY. */
enum status attention_retention_open(struct attention_retention *retention, uint32_t n_layers,
                                     struct error *error);
/* Zeroed memory is fine. Gives the buffers back. */
void attention_retention_close(struct attention_retention *retention);

/* Keeps a message of n_entries, which the caller fills in at once; it takes over the buffers.
 * STATUS_NO_MEMORY: it does not. */
enum status attention_retention_add(struct attention_retention *retention, uint32_t layer,
                                    size_t n_entries, struct attention_retained **retained,
                                    struct error *error);

/* Lets go what lies below sequence->mark, of the sequences with that stamp. */
void attention_retention_cover(struct attention_retention *retention, uint32_t layer,
                               uint64_t stamp);

void attention_retention_forget(struct attention_retention *retention,
                                const struct attention_sequence *sequence);

#endif
