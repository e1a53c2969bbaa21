/* coordinator/placement.h - who holds which tokens of a sequence; accounting of pages over all
 * holders.
 *
 * Attention over a sequence is finished when the slowest holder is, so tokens are dealt in
 * proportion to the holders' weights (their measured read bandwidth), which is stream-K
 * (LeanAttention, section 4.2) with machines as lanes. The pieces:
 *   - The unit is the stripe: a power-of-two number of pages, aligned. A sequence that fits one
 *     stripe stays on one holder, the least loaded one (used pages over weight).
 *   - A known prompt is dealt in runs: a power-of-two number of stripes, aligned at its own size,
 *     about 1/8 of the smallest share. A run is one node of the merge tree, so few partials
 *     come back; eight runs and more per holder keep every prefix balanced too, which is prefill.
 *   - What is generated later is dealt stripe by stripe; in longer units once a sequence is long, so
 *     that it has about 128 nodes of the merge tree at most.
 *   - Whose turn it is: the earliest deadline among those that are behind (Tijdeman 1980, "The
 *     chairman assignment problem"): after each unit, every holder is within one unit of its share.
 *     Ties: the least loaded holder, then the lower index.
 *   - A holder without room is passed over; only then may a stripe be cut between pages.
 *   - Layers with a sliding window read the newest pages only. Where all layers have one, stripes are so
 *     short, and runs no longer, that a window is spread over all holders: WINDOW_UNITS of them on each.
 *     Where some see everything these do most of the work, and are dealt for.
 *   - A fork takes over the parent's pages below the fork point. Pages have reference counts: they are
 *     free again when the last sequence that uses them is closed. In layers with a window every
 *     sequence has its own.
 *   - A sequence has the pages that it was given and no promise of more: growing can fail, and then
 *     another sequence is preempted (scheduler.h). What pages cost is in page_cost.h.
 *
 * Deterministic, no I/O. Belongs to one thread. */
#ifndef LONGSPAN_COORDINATOR_PLACEMENT_H
#define LONGSPAN_COORDINATOR_PLACEMENT_H

#include "plan/page_cost.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct placement; /* opaque */

enum { PLACEMENT_MAX_HOLDERS = 1024 };
#define PLACEMENT_NO_PARENT UINT32_MAX

struct placement_holder {
    double weight;     /* any positive number; only ratios count */
    uint64_t capacity; /* units (page_cost.h) */
};

/* Tokens [begin, end) at `holder`; multiples of PAGE_TOKENS. */
struct placement_span {
    uint32_t holder, begin, end;
};

/* `holders` is copied. stripe_tokens: a power-of-two multiple of PAGE_TOKENS. `cost` outlives the
 * placement; NULL: a page costs one unit.
 * STATUS_INVALID: that, a weight that is not positive and finite, no holder or more than
 * PLACEMENT_MAX_HOLDERS. STATUS_NO_MEMORY. */
enum status placement_create(struct placement **placement, const struct placement_holder *holders,
                             uint32_t n_holders, uint32_t stripe_tokens,
                             const struct page_cost *cost, struct error *error);
void placement_destroy(struct placement *placement);

/* Places tokens [0, n_tokens) of a new sequence that may grow to max_tokens (at least n_tokens,
 * which is at least 1). With a parent, tokens below shared_tokens (a multiple of PAGE_TOKENS that
 * the parent covers) stay where the parent has them. *sequence is a small number, used again after
 * placement_close. STATUS_EXHAUSTED: what is free does not suffice; nothing is changed.
 * STATUS_NO_MEMORY. */
enum status placement_open(struct placement *placement, uint32_t n_tokens, uint32_t max_tokens,
                           uint32_t parent, uint32_t shared_tokens, uint32_t *sequence,
                           struct error *error);

/* A sequence whose n_pages pages are where holders[i] says; it cannot grow. STATUS_EXHAUSTED: one
 * of them has not as many free pages; nothing is changed. STATUS_NO_MEMORY. */
enum status placement_open_at(struct placement *placement, const uint32_t *holders,
                              uint32_t n_pages, uint32_t *sequence, struct error *error);

/* Covers [0, n_tokens) at least; n_tokens <= max_tokens. STATUS_EXHAUSTED: what is free does not
 * suffice; nothing is changed. STATUS_NO_MEMORY. */
enum status placement_grow(struct placement *placement, uint32_t sequence, uint32_t n_tokens,
                           struct error *error);

/* Whether one page more can be had. */
bool placement_can_grow(const struct placement *placement, uint32_t sequence);

/* Gives back its pages from n_tokens on, a multiple of PAGE_TOKENS, except those that forks still
 * use; it cannot grow any more. */
void placement_trim(struct placement *placement, uint32_t sequence, uint32_t n_tokens);

/* Nobody computes it any more: its pages stay for forks, and it cannot grow. Once. */
void placement_keep(struct placement *placement, uint32_t sequence);

/* Gives back its pages, except those that forks still use. */
void placement_close(struct placement *placement, uint32_t sequence);

/* Tokens that are covered: a multiple of PAGE_TOKENS. */
uint32_t placement_tokens(const struct placement *placement, uint32_t sequence);

/* The spans that cover [begin, end), ascending, neighbours of one holder joined. begin and end are
 * multiples of PAGE_TOKENS, end <= placement_tokens. Returns how many there are and writes at most
 * `max` of them. */
size_t placement_spans(const struct placement *placement, uint32_t sequence, uint32_t begin,
                       uint32_t end, struct placement_span *spans, size_t max);

/* Does the holder have any of its pages? */
bool placement_holds(const struct placement *placement, uint32_t sequence, uint32_t holder);

/* Units in use at a holder; pages that are shared by forks counted once. */
uint64_t placement_used(const struct placement *placement, uint32_t holder);

/* Of them, those that only kept sequences have. */
uint64_t placement_kept(const struct placement *placement, uint32_t holder);

/* The same of all holders. */
uint64_t placement_all_kept(const struct placement *placement);

/* Units that nobody else uses: those that closing it would give back. O(its pages). */
uint64_t placement_own(const struct placement *placement, uint32_t sequence);

/* Units of all holders that nobody uses. */
uint64_t placement_free(const struct placement *placement);

/* Pages that holders have room for, wherever what is left at one makes no whole page. */
uint64_t placement_free_pages(const struct placement *placement);

/* Units that n_pages pages cost at least, of which a parent has the first `shared`. */
uint64_t placement_least_cost(const struct placement *placement, uint32_t n_pages, uint32_t shared);

/* Units of a page, where nothing has left a window. */
uint64_t placement_page(const struct placement *placement);

/* Units that one page more of it can cost. */
uint64_t placement_growth(const struct placement *placement, uint32_t sequence);

#endif
