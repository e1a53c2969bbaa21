/* coordinator/scheduler.h - which tokens of which sequences the next step computes.
 *
 * A sequence is a list of tokens, of which a prefix has been computed: its prompt in chunks, then
 * one token per step, the one that was sampled from the step before. Its life:
 *
 *     WAITING      for pages and a place in the batch
 *     RESERVING    has pages; the holders have to acknowledge them
 *     RUNNING      prefilling, then decoding
 *     FINISHED     nothing more to compute
 *     CLOSING      named in the `closed` of a step that is in flight
 *     CLOSED       for the caller: free its pages at the holders, then scheduler_release, after which it is
 *     KEPT         its whole pages stay at the holders for others (--prefix-cache), or
 *     WAITING      again: it was preempted, or
 *     UNUSED
 *     RESTORING    a prefix that holders have on disk, on its way to KEPT
 *
 * Who comes first (*rank*): the higher priority, then the one that came earlier.
 *
 * Steps. Up to `depth` steps are in flight, one per pipeline stage, and the sequences that decode
 * are dealt to as many micro-batches (micro_batches.h), so that all stages have work; with one
 * stage there is one. A step has the decodes of one micro-batch, all of them back from their last
 * step and the one that left longest ago first; then, for what is left of its budget, prompt
 * tokens, at most `chunk` (iteration-level batching with chunked prefills: Yu et al. 2022, Orca;
 * Agrawal et al. 2024, Sarathi-Serve). The budget is `chunk` tokens, or a time:
 * scheduler_set_budget.
 *     A sequence that decodes and has its pages has a token in one of any `depth` consecutive steps
 *     that leave after its last one is back.
 * Prompts share the budget: half of it is for the prompt that ranks first, the rest for the one
 * with the fewest tokens left, then the next, and what nobody needs is the first one's again.
 *     So with B the prompt tokens of a step, a prompt of n tokens before which rank others with m
 *     tokens left is computed within 2 (n + m) / B steps and one for each of them, however many
 *     short ones come later; and a short one behind a long one does not wait for it.
 * Chunks of one sequence may be in flight in several steps at once; a sample is awaited before the
 * sequence goes on. A step fills (worker/fill.h) or computes, and filling goes first, so that
 * sequences that were asked for together begin to decode together.
 *
 * Pages. A sequence is admitted when the pages of the tokens that it has are free, and one more for
 * each sequence that runs; after that it grows page by page, ahead of need (placement.h). One that
 * does not fit is passed by later ones that do, at most SCHEDULER_PASSES times, then nobody passes
 * it any more. When a sequence cannot grow, kept ones go, the one that was used longest ago first;
 * then the sequence that ranks last of all that run is preempted: its pages are freed, it waits
 * again, and computes prompt and samples anew, as prompt: with the same bits, and so the same
 * samples (scheduler_preempt).
 *     The sequence that ranks first is never preempted and, since all pages suffice for any one
 *     sequence, always ends: there is no deadlock.
 *
 * Prefixes. When a sequence is admitted it takes over the whole pages of the longest prefix of its
 * tokens that another one, running or kept, has computed (prefix_index.h), all but one token at
 * most: a *fork*. What it took over stays at the holders as long as one of both is open. A prompt
 * can be told to wait until an earlier one, whose beginning it has, is computed so far.
 *
 * Windows. In layers with a sliding window, holders release the tokens that no later row can see
 * (kv_window.h). So a running sequence can be forked at pages from the one on in which its last
 * step began, and at earlier ones only while nothing has left the smallest window; a kept sequence
 * only at its end. Where no fork is possible the prefix is computed again. A running sequence that
 * is about to be forked waits, rather than go on to positions that would make the fork impossible.
 *
 * Pure: no I/O, no clock. The caller sends steps, reserves and frees. One thread. */
#ifndef LONGSPAN_COORDINATOR_SCHEDULER_H
#define LONGSPAN_COORDINATOR_SCHEDULER_H

#include "coordinator/micro_batches.h"
#include "coordinator/placement.h"
#include "coordinator/prefix_index.h"
#include "coordinator/step_cost.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULER_NONE UINT32_MAX

enum {
    SCHEDULER_PASSES = 64,      /* later sequences that are admitted before one that does not fit */
    SCHEDULER_LEAST_PROMPT = 16 /* prompt tokens that a step has, whatever its budget */
};

enum scheduler_state {
    SCHEDULER_UNUSED,
    SCHEDULER_WAITING,
    SCHEDULER_RESTORING,
    SCHEDULER_RESERVING,
    SCHEDULER_RUNNING,
    SCHEDULER_FINISHED,
    SCHEDULER_CLOSING,
    SCHEDULER_CLOSED,
    SCHEDULER_KEPT,
};

/* To be read by the caller; changed by the functions below only. */
struct scheduler_sequence {
    enum scheduler_state state;
    uint64_t name;        /* its number on the wire, never used again */
    uint32_t incarnation; /* 1, and one more each time that it was preempted */
    void *owner;          /* the caller's */
    uint32_t owner_index;
    int32_t priority;
    uint64_t order;  /* of coming */
    int32_t *tokens; /* prompt and samples; NULL: it is kept */
    uint32_t n_prompt, n_tokens;
    uint32_t n_again; /* tokens that it had when it was admitted: they are computed as a prompt */
    uint32_t n_fill;  /* of n_prompt: filled from fill_seed */
    uint64_t fill_seed;
    uint32_t max_tokens; /* positions that it may compute; n_prompt at least */
    uint32_t n_sent;     /* computed, or in flight: the next position */
    uint32_t n_done;     /* computed and committed */
    bool damaged;        /* a segment of it failed: its pages are not for others */
    bool returns;        /* preempted: it waits again when it is closed */

    /* What it shares. */
    bool shares;                    /* it may take over pages */
    uint32_t parent, shared_tokens; /* whose it takes over in its first step; SCHEDULER_NONE */
    uint64_t parent_name;
    uint32_t cached_tokens;           /* that it had not to compute, when it was first admitted */
    uint32_t awaited, awaited_tokens; /* not admitted before that one is so far; SCHEDULER_NONE */
    uint64_t awaited_name;
    uint32_t n_awaiting;           /* sequences that await this one */
    uint32_t n_forks;              /* admitted to fork it, and not in a step yet */
    uint32_t released_from;        /* holders may lack what rows from this position on do not see */
    uint32_t kept_tokens;          /* that stay at the holders when it is closed */
    uint64_t used;                 /* when a kept one was last of use */
    struct prefix_name *names;     /* of its prefixes of whole pages: n_named are known, */
    uint32_t n_named, n_published; /* n_published in the index */

    bool counts;    /* it has a place in the batch */
    bool has_place; /* `place` is its sequence in the placement */
    uint32_t place;
    uint32_t n_acked;  /* tokens whose pages the holders have acknowledged */
    uint32_t n_asked;  /* tokens whose pages they have been asked for */
    uint32_t n_told;   /* tokens whose spans the workers have been told */
    uint32_t n_passed; /* sequences that were admitted before it out of turn */
    bool known_to_workers;
    uint32_t micro_batch; /* while it decodes; MICRO_BATCHES_NONE: not dealt yet */
    uint32_t active_at;   /* its place among the active ones (scheduler_state.h) */
};

struct scheduler_segment {
    uint32_t sequence; /* index */
    uint32_t position, n_tokens;
    bool fills;                      /* the tokens mean nothing */
    bool wants;                      /* the last row's logits: its result is a sample */
    bool forks;                      /* the first segment of a fork */
    uint32_t spans_begin, spans_end; /* tokens whose spans go with it; equal: none */
};

struct scheduler_step {
    uint64_t number; /* 1, 2, 3... */
    uint32_t n_segments, n_closed;
    struct scheduler_segment *segments;
    uint32_t *closed; /* indices */
};

struct scheduler_config {
    uint32_t chunk;          /* prompt tokens of a step, at most */
    uint32_t max_batch;      /* sequences admitted at once, at most */
    uint32_t depth;          /* steps in flight, at most */
    bool keeps;              /* finished sequences are kept for others */
    uint32_t window;         /* the smallest sliding window of any layer, in tokens; 0: none */
    struct prefix_name root; /* of the empty prefix (prefix_index.h) */
};

struct scheduler; /* opaque */

/* `placement` stays the caller's and outlives it. STATUS_INVALID: a zero. STATUS_NO_MEMORY. */
enum status scheduler_create(struct scheduler **scheduler, const struct scheduler_config *config,
                             struct placement *placement, struct error *error);
void scheduler_destroy(struct scheduler *scheduler);

/* From now on a step has so much work that it takes about `us` with these prices, but `most_tokens`
 * of prompt, and `chunk`, at most. */
void scheduler_set_budget(struct scheduler *scheduler, const struct step_prices *prices, double us,
                          uint32_t most_tokens);

/* What the caller wants computed. `tokens` is copied; n_tokens >= 1; max_tokens >= n_tokens, and
 * not more than all holders have. With a parent (an index): not admitted before that one has
 * computed shared_tokens, or will not: tokens that both have, of which it can take over whole
 * pages. The first n_fill < n_tokens tokens are filled; a sequence that fills shares nothing. */
struct scheduler_prompt {
    const int32_t *tokens;
    uint32_t n_tokens, max_tokens;
    uint32_t n_fill;
    uint64_t fill_seed;
    int32_t priority;
    bool alone; /* takes over nobody's pages */
    uint32_t parent, shared_tokens;
    void *owner;
    uint32_t owner_index;
};

/* The sequence waits. *index names it until scheduler_release. STATUS_NO_MEMORY. */
enum status scheduler_add(struct scheduler *scheduler, const struct scheduler_prompt *prompt,
                          uint32_t *index, struct error *error);

const struct scheduler_sequence *scheduler_sequence(const struct scheduler *scheduler,
                                                    uint32_t index);

/* The next sequence that may be admitted now: it is RESERVING, and the holders of its spans in
 * [0, n_asked) have to be asked for them (shared_tokens of them come from the parent), then
 * scheduler_acked be called. False: nobody can be admitted now. *error is set when memory failed
 * (the sequence still waits). */
bool scheduler_admit(struct scheduler *scheduler, uint32_t *index, struct error *error);

/* A running sequence that needs pages soon: [*begin, n_asked) have to be asked for. */
bool scheduler_grow(struct scheduler *scheduler, uint32_t *index, uint32_t *begin,
                    struct error *error);

/* All holders have acknowledged everything up to n_asked. */
void scheduler_acked(struct scheduler *scheduler, uint32_t index);

/* To be called when scheduler_admit and scheduler_grow have nothing more to give: somebody who runs
 * cannot go on for lack of pages, none are about to come, and this sequence, of those that run the
 * last one by rank, was preempted. Reservations that are under way for it mean nothing any more,
 * samples of its steps in flight neither. SCHEDULER_NONE: nobody has to go. */
uint32_t scheduler_preempt(struct scheduler *scheduler);

/* Holders lack what a running sequence took over from another one, which an interrupted connection
 * may have kept from them: it goes as a preempted one does, and when it returns it takes over
 * nothing; the one that it took over from is not kept any longer. False: it took over nothing. */
bool scheduler_recompute(struct scheduler *scheduler, uint32_t index);

/* Builds the next step and counts it as in flight. NULL: nothing can be sent now. The step belongs
 * to the scheduler until scheduler_pop; it may be sent late, but in order. */
const struct scheduler_step *scheduler_next(struct scheduler *scheduler);

/* The oldest step in flight, which is the next to be reported; NULL: none. */
const struct scheduler_step *scheduler_oldest(const struct scheduler *scheduler);

/* All ranks have reported the oldest step: its tokens count as computed, but those of segments that
 * have failed (NULL: none), what it closed is CLOSED. The samples of its segments are given
 * afterwards, with scheduler_sampled or scheduler_finish; its memory is given back by
 * scheduler_pop. */
void scheduler_commit(struct scheduler *scheduler, const bool *failed);
void scheduler_pop(struct scheduler *scheduler);

/* The sequence goes on with this token. Only after a committed segment that wants, while it is
 * RUNNING and n_tokens < max_tokens. */
void scheduler_sampled(struct scheduler *scheduler, uint32_t index, int32_t token);

/* The sequence ends: done, failed or cancelled, in any state; its owner is not asked any more. */
void scheduler_finish(struct scheduler *scheduler, uint32_t index);

/* A prefix of n_pages pages that the holders have stored, page i holders[i]: it is RESTORING, until
 * scheduler_restored says that they have read it. `names` is copied. STATUS_EXHAUSTED: not enough
 * free pages there. STATUS_NO_MEMORY. */
enum status scheduler_restore(struct scheduler *scheduler, const struct prefix_name *names,
                              const uint32_t *holders, uint32_t n_pages, uint32_t *index,
                              struct error *error);
/* It is KEPT, or, if they could not, CLOSED. */
void scheduler_restored(struct scheduler *scheduler, uint32_t index, bool ok);

/* Lets a waiting sequence wait until that one, of which it has n_pages pages, is kept. */
void scheduler_await(struct scheduler *scheduler, uint32_t index, uint32_t restoring);

/* The longest prefix of a waiting sequence that somebody has computed, in pages. */
uint32_t scheduler_found(const struct scheduler *scheduler, uint32_t index);

/* A sequence that is CLOSED, or SCHEDULER_NONE: kept_tokens of it stay at the holders, all else is
 * to be freed there. scheduler_release does so in the placement. */
uint32_t scheduler_closed(const struct scheduler *scheduler);
void scheduler_release(struct scheduler *scheduler, uint32_t index);

/* Counts for logs, for metrics, and for knowing when nothing is left to do. */
struct scheduler_usage {
    uint32_t n_waiting, n_open, n_kept; /* open: RESERVING to CLOSED */
    uint64_t n_preempted, n_evicted;    /* so far */
};
struct scheduler_usage scheduler_usage(const struct scheduler *scheduler);
uint32_t scheduler_in_flight(const struct scheduler *scheduler);

/* The earlier prompt with the longest common prefix, and that prefix in whole pages, at least
 * one token less than `n_tokens`: 0 when there is none. Among equals the earliest. */
uint32_t scheduler_common_prefix(const int32_t *tokens, uint32_t n_tokens,
                                 const int32_t *const *earlier, const uint32_t *n_earlier,
                                 uint32_t n, uint32_t *which);

#endif
