/* coordinator/scheduler.h - which tokens of which sequences the next step computes.
 *
 * A sequence is a list of tokens, of which a prefix has been computed: its prompt in chunks, then
 * one token per step, the one that was sampled from the step before. Its life:
 *
 *     WAITING      for pages and a place in the batch; in order of arrival
 *     RESERVING    has pages; the holders have to acknowledge them
 *     RUNNING      prefilling, then decoding
 *     FINISHED     nothing more to compute; kept while a fork still needs its pages
 *     CLOSING      named in the `closed` of a step that is in flight
 *     CLOSED       for the caller: free its pages at the holders, then scheduler_release
 *
 * Positions before a prompt may be filled instead of computed, for measuring (worker/fill.h). A step
 * fills or computes, and filling goes first, so that sequences that were asked for together begin to
 * decode together.
 *
 * Up to `depth` steps are in flight, one per pipeline stage, and the sequences that decode are dealt
 * to as many micro-batches (micro_batches.h), so that all stages have work; with one stage there is
 * one. A step has the decodes of one micro-batch, all of them back from their last step and the
 * one that left longest ago first; then prompt tokens, at most `chunk` of them in total, in order of
 * admission. So no decode waits for more than one chunk per stage, and a step has at most chunk +
 * max_batch rows. Prompt chunks of one sequence may be in flight in several steps at once; a sample
 * is awaited before the sequence goes on.
 *
 * A fork (SGLang's prefix sharing, Zheng et al. 2024, within one request) waits until its parent
 * has been computed up to the fork point, and computes at least its last prompt token itself. When
 * no parent is running and the fork's pages are not free, it gives up sharing: better twice than
 * never.
 *
 * Pages: a sequence is admitted when the pages of all tokens that it may reach are free
 * (placement.h), so that what runs never runs out; they are reserved at the holders for the prompt
 * first, then page by page ahead of need.
 *
 * Pure: no I/O, no clock. The caller sends steps, reserves and frees. One thread. */
#ifndef LONGSPAN_COORDINATOR_SCHEDULER_H
#define LONGSPAN_COORDINATOR_SCHEDULER_H

#include "coordinator/micro_batches.h"
#include "coordinator/placement.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEDULER_NONE UINT32_MAX

enum scheduler_state {
    SCHEDULER_UNUSED,
    SCHEDULER_WAITING,
    SCHEDULER_RESERVING,
    SCHEDULER_RUNNING,
    SCHEDULER_FINISHED,
    SCHEDULER_CLOSING,
    SCHEDULER_CLOSED,
};

/* To be read by the caller; changed by the functions below only. */
struct scheduler_sequence {
    enum scheduler_state state;
    uint64_t name; /* its number on the wire, never used again */
    void *owner;   /* the caller's */
    uint32_t owner_index;
    int32_t *tokens; /* prompt and samples */
    uint32_t n_prompt, n_tokens;
    uint32_t n_fill; /* of n_prompt: filled from fill_seed */
    uint64_t fill_seed;
    uint32_t max_tokens; /* positions that it may compute; n_prompt at least */
    uint32_t n_sent;     /* computed, or in flight: the next position */
    uint32_t n_done;     /* computed and committed */
    uint32_t parent;     /* SCHEDULER_NONE: no fork */
    uint32_t shared_tokens;
    uint32_t n_forks; /* that have not begun yet */
    bool has_place;   /* `place` is its sequence in the placement */
    uint32_t place;
    uint32_t n_acked; /* tokens whose pages the holders have acknowledged */
    uint32_t n_asked; /* tokens whose pages they have been asked for */
    uint32_t n_told;  /* tokens whose spans the workers have been told */
    bool known_to_workers;
    uint64_t order;       /* of admission */
    uint32_t micro_batch; /* while it decodes; MICRO_BATCHES_NONE: not dealt yet */
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
    uint32_t chunk;     /* prompt tokens of a step, at most */
    uint32_t max_batch; /* sequences admitted at once, at most */
    uint32_t depth;     /* steps in flight, at most */
};

struct scheduler; /* opaque */

/* `placement` stays the caller's and outlives it. STATUS_INVALID: a zero. STATUS_NO_MEMORY. */
enum status scheduler_create(struct scheduler **scheduler, const struct scheduler_config *config,
                             struct placement *placement, struct error *error);
void scheduler_destroy(struct scheduler *scheduler);

/* What the caller wants computed. `tokens` is copied; n_tokens >= 1; max_tokens >= n_tokens, and
 * not more than all holders have. With a parent (an index, of which at least shared_tokens prompt
 * tokens are equal): shared_tokens is a positive multiple of PAGE_TOKENS below n_tokens. The first
 * n_fill < n_tokens tokens are filled; a sequence that fills has no parent and is none. */
struct scheduler_prompt {
    const int32_t *tokens;
    uint32_t n_tokens, max_tokens;
    uint32_t n_fill;
    uint64_t fill_seed;
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

/* Builds the next step and counts it as in flight. NULL: nothing can be sent now. The step belongs
 * to the scheduler until scheduler_pop; it may be sent late, but in order. */
const struct scheduler_step *scheduler_next(struct scheduler *scheduler);

/* The oldest step in flight, which is the next to be reported; NULL: none. */
const struct scheduler_step *scheduler_oldest(const struct scheduler *scheduler);

/* All ranks have reported the oldest step: its tokens count as computed, what it closed is CLOSED.
 * The samples of its segments are given afterwards, with scheduler_sampled or scheduler_finish; its
 * memory is given back by scheduler_pop. */
void scheduler_commit(struct scheduler *scheduler);
void scheduler_pop(struct scheduler *scheduler);

/* The sequence goes on with this token. Only after a committed segment that wants, and while
 * n_tokens < max_tokens. */
void scheduler_sampled(struct scheduler *scheduler, uint32_t index, int32_t token);

/* The sequence ends: done, failed or cancelled, in any state. Forks of it that have not begun must
 * be finished too when it has not been computed up to their fork point. */
void scheduler_finish(struct scheduler *scheduler, uint32_t index);

/* A sequence that is CLOSED, or SCHEDULER_NONE. scheduler_release gives its pages back to the
 * placement, and its index. */
uint32_t scheduler_closed(const struct scheduler *scheduler);
void scheduler_release(struct scheduler *scheduler, uint32_t index);

/* Counts for logs, and for knowing when nothing is left to do. */
uint32_t scheduler_in_flight(const struct scheduler *scheduler);
uint32_t scheduler_n_sequences(const struct scheduler *scheduler); /* not UNUSED */

/* The earlier prompt with the longest common prefix, and that prefix in whole pages, at least
 * one token less than `n_tokens`: 0 when there is none. Among equals the earliest. */
uint32_t scheduler_common_prefix(const int32_t *tokens, uint32_t n_tokens,
                                 const int32_t *const *earlier, const uint32_t *n_earlier,
                                 uint32_t n, uint32_t *which);

#endif
