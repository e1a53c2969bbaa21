/* coordinator/reports.h - what the ranks report of the steps in flight, until all have.
 *
 * Every rank reports every step, in order; a step counts when all have reported it. One rank, shard
 * 0 of the last stage, also brings the results: for each segment that wants one, in order, its
 * candidates, and for WANT_LOGITS the whole row in the frames behind the header; for each segment
 * with tokens to be scored, these scores (scores.h). Errors of a segment may come from any rank;
 * the first one is kept. Everything is checked before it is kept. No I/O. */
#ifndef LONGSPAN_COORDINATOR_REPORTS_H
#define LONGSPAN_COORDINATOR_REPORTS_H

#include "coordinator/sampler.h"
#include "coordinator/scores.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct reports; /* opaque */

struct reports_shape {
    uint32_t n_ranks, result_rank;
    uint32_t depth;        /* steps in flight, at most */
    uint32_t max_segments; /* of a step */
    uint32_t n_holders, vocab;
    uint32_t n_layers; /* of the largest stage */
};

/* What a segment of a step will bring. */
struct reports_want {
    bool candidates, row;
    uint32_t n_candidates;
    uint32_t n_scored, n_top; /* tokens to be scored, and the best ones beside each */
};

/* With a holder since the beginning: bytes moved and stored; queries answered, and their times from
 * sending to answer, added. */
struct reports_traffic {
    uint64_t sent_bytes, received_bytes, kv_bytes;
    uint64_t round_trips, round_trip_us;
};

/* What a rank did since the beginning. */
struct reports_rank {
    uint64_t steps, compute_us;
    const uint64_t *layer_wait_us; /* [n_layers]: by layer of its stage, for attention nodes */
};

/* STATUS_NO_MEMORY. */
enum status reports_create(struct reports **reports, const struct reports_shape *shape,
                           struct error *error);
void reports_destroy(struct reports *reports);

/* A step that is being sent: to be reported by `deadline_us`. At most `depth` at once. */
void reports_expect(struct reports *reports, uint64_t step, const struct reports_want *wants,
                    uint32_t n_segments, uint64_t deadline_us);

/* One rank's report; `frames` has the rows behind frame 0. STATUS_PROTOCOL: not a step that is
 * awaited, a second report, results of another number or size. STATUS_NO_MEMORY. Either is the end
 * of the job, since no result can be trusted any more. */
enum status reports_take(struct reports *reports, uint32_t rank, const Longspan__StepDone *done,
                         struct frames *frames, struct error *error);

/* All ranks have reported the oldest step. */
bool reports_complete(const struct reports *reports);

/* Of the oldest step, which is complete: the error of a segment (NULL: none), and its result (only
 * for a segment that wants, without an error; to be checked by sampler_row_check). Borrowed until
 * reports_pop. */
const struct error *reports_error(const struct reports *reports, uint32_t segment);
struct sampler_row reports_row(const struct reports *reports, uint32_t segment);

/* Likewise, of a segment with tokens to be scored: sampler_row of the row before the i-th of them,
 * and its own logit; to be checked by scores_check. */
struct scores_row reports_scores(const struct reports *reports, uint32_t segment, uint32_t i);

/* Forgets the oldest step. */
void reports_pop(struct reports *reports);

/* The deadline of the oldest step; UINT64_MAX: nothing is awaited. */
uint64_t reports_deadline(const struct reports *reports);

/* Has this rank reported the oldest step? */
bool reports_has(const struct reports *reports, uint32_t rank);
uint64_t reports_oldest(const struct reports *reports);

/* All ranks together, and one of them. */
struct reports_traffic reports_traffic(const struct reports *reports, uint32_t holder);
struct reports_traffic reports_link(const struct reports *reports, uint32_t rank, uint32_t holder);

struct reports_rank reports_rank(const struct reports *reports, uint32_t rank);

#endif
