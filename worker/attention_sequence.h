/* worker/attention_sequence.h - the sequences that a rank knows: how far they are, and who holds
 * what.
 *
 * A table of fixed size, found by (sequence, incarnation). The slot of a sequence is also the
 * number of its slab of open tiles. One thread owns it. */
#ifndef LONGSPAN_WORKER_ATTENTION_SEQUENCE_H
#define LONGSPAN_WORKER_ATTENTION_SEQUENCE_H

#include "sys/status.h"
#include "worker/attention.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATTENTION_NO_PART UINT32_MAX

struct attention_sequence {
    uint64_t id;
    uint32_t incarnation;
    uint32_t slot;
    uint32_t position;            /* tokens that every layer of this rank has seen */
    struct attention_span *spans; /* ascending, disjoint, neighbours of one holder joined */
    size_t n_spans, spans_capacity;
    uint32_t fork_tokens; /* the parent's pages below are shared; 0: no fork */
    uint64_t parent;
    uint32_t parent_incarnation;
    uint64_t
        stamp;     /* scratch: number of the last reply, or list, that named it; each has another */
    uint32_t mark; /* the holder's, in that reply */
    bool forking;  /* its first step: holders still have to hear of the fork */
    uint32_t part; /* its segment in this step, ATTENTION_NO_PART: it has none */
    struct error error;              /* not STATUS_OK: it failed, and can only be dropped */
    struct attention_sequence *next; /* of the bucket, or of the free list */
};

struct attention_sequences {
    struct attention_sequence *slots;
    uint32_t n_slots, n_open;
    struct attention_sequence **buckets; /* a power of two of them */
    size_t n_buckets;
    struct attention_sequence *free;
};

/* STATUS_NO_MEMORY. */
enum status attention_sequences_open(struct attention_sequences *sequences, uint32_t n_slots,
                                     struct error *error);
/* Zeroed memory is fine. */
void attention_sequences_close(struct attention_sequences *sequences);

/* NULL: not known. */
struct attention_sequence *attention_sequences_find(const struct attention_sequences *sequences,
                                                    uint64_t id, uint32_t incarnation);

/* A new one at position 0 without spans. STATUS_EXHAUSTED: all slots are taken. */
enum status attention_sequences_add(struct attention_sequences *sequences, uint64_t id,
                                    uint32_t incarnation, struct attention_sequence **sequence,
                                    struct error *error);

void attention_sequences_remove(struct attention_sequences *sequences,
                                struct attention_sequence *sequence);

/* Adds spans; what the same holder has already is ignored. STATUS_INVALID: not whole pages, no such
 * holder, or another holder has some of it. STATUS_NO_MEMORY. Earlier spans of the call stay. */
enum status attention_sequence_add_spans(struct attention_sequence *sequence,
                                         const struct attention_span *spans, size_t n_spans,
                                         uint32_t n_holders, struct error *error);

/* Takes over the parent's spans below n_tokens, where the child has none of its own. */
enum status attention_sequence_inherit(struct attention_sequence *child,
                                       const struct attention_sequence *parent, uint32_t n_tokens,
                                       uint32_t n_holders, struct error *error);

/* The first span that ends after `token`: the one that has it, if any has. n_spans: there is none.
 * O(log n_spans). */
size_t attention_sequence_span_at(const struct attention_sequence *sequence, uint32_t token);

/* Whether the holder has any tile below `end`. */
bool attention_sequence_holds(const struct attention_sequence *sequence, uint32_t holder,
                              uint32_t end);

/* The first tile of [begin, end) that nobody holds; `end` when all are held. */
uint32_t attention_sequence_uncovered(const struct attention_sequence *sequence, uint32_t begin,
                                      uint32_t end);

#endif
