/* coordinator/scheduler_state.h - what scheduler.c (lives of sequences), scheduler_pages.c (who
 * gets pages, and who goes) and scheduler_step.c (what a step has) share. */
#ifndef LONGSPAN_COORDINATOR_SCHEDULER_STATE_H
#define LONGSPAN_COORDINATOR_SCHEDULER_STATE_H

#include "coordinator/scheduler.h"

struct scheduler {
    struct scheduler_config config;
    struct placement *placement;
    struct prefix_index *index;
    struct scheduler_sequence *sequences;
    uint32_t n_sequences; /* of the table */
    /* Indices of the sequences that are neither UNUSED nor KEPT, in no order: all that a step has
     * to look at. With --prefix-cache the table can have tens of thousands of kept ones. */
    uint32_t *active; /* [n_sequences] */
    uint32_t n_active;
    uint32_t n_open; /* with a place in the batch (max_batch), so with a slot at the workers */
    uint64_t next_name, next_step, next_order, clock; /* clock: of uses */
    struct scheduler_step *ring;                      /* [depth] */
    uint32_t first, n_flying;
    struct scheduler_usage usage; /* its sums */

    /* Of scheduler_step.c. */
    struct step_prices prices;
    double budget;
    uint32_t most_tokens;
    uint32_t *ready;                      /* [max_batch] scratch: running sequences by rank */
    uint32_t *share;                      /* [max_batch] scratch: prompt tokens of each */
    uint32_t *short_first;                /* [max_batch] scratch: those of them with prompt left */
    struct micro_batches_member *members; /* [max_batch] scratch: those of them that decode */
    uint64_t *load;                       /* [depth] scratch: of micro-batches */
    uint64_t *left;                       /* [depth]: the step in which each one left last */
};

/* a comes before b. */
bool scheduler_ranks_before(const struct scheduler_sequence *a, const struct scheduler_sequence *b);

/* Whether the holders have what a fork at n_tokens takes over. */
bool scheduler_can_fork(const struct scheduler *scheduler, uint32_t index, uint32_t n_tokens);

/* Whether those that are about to fork it can still do so when what rows from `position` on do not
 * see has been released. */
bool scheduler_forks_can_wait(const struct scheduler *scheduler, uint32_t index, uint32_t position);

/* Ends what it computes: kept_pages of its pages stay for others. */
void scheduler_retire(struct scheduler *scheduler, uint32_t index, uint32_t kept_pages);

/* It waits for nobody any more. */
void scheduler_stop_awaiting(struct scheduler *scheduler, struct scheduler_sequence *q);

/* A kept sequence goes. */
void scheduler_evict(struct scheduler *scheduler, uint32_t index);

#endif
