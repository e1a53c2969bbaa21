/* coordinator/micro_batches.h - which decodes go together, when several steps can be in flight.
 *
 * A pipeline of n stages is busy when n steps are under way, and a sequence is in one of them only.
 * So the sequences that decode are dealt to as many micro-batches as there are stages, or
 * sequences; each one's next step leaves as soon as the samples of its last are in (Lamina's
 * staggered pipelining, v2, section 4.3). A step takes as long as the KV cache it reads and the
 * rows it computes: these are dealt evenly. A sequence stays where it is as long as that is so,
 * because one that moves waits for its new companions to come back.
 *
 * Pure; nothing here changes a bit of any result. */
#ifndef LONGSPAN_COORDINATOR_MICRO_BATCHES_H
#define LONGSPAN_COORDINATOR_MICRO_BATCHES_H

#include <stdint.h>

#define MICRO_BATCHES_NONE UINT32_MAX

/* What computing one row counts for, in tokens of KV cache read. It differs between models and
 * machines; only how even the batches are depends on it. */
enum { MICRO_BATCHES_ROW_TOKENS = 4096 };

/* One sequence that decodes. */
struct micro_batches_member {
    uint32_t batch; /* MICRO_BATCHES_NONE: new */
    uint32_t n_tokens;
};

/* Gives each new member the lightest batch, then moves members, one by one, to the lightest while
 * that makes a heavier batch clearly lighter. No batch is empty while another has two members.
 * `load`: scratch for n_batches, then each batch's load, in tokens. n_batches at least 1; a
 * member's batch that is not below it counts as new. O(members * (batches + moves)). */
void micro_batches_deal(struct micro_batches_member *members, uint32_t n_members, uint64_t *load,
                        uint32_t n_batches);

#endif
