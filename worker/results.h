/* worker/results.h - from the last stage's logits to what goes back: candidates, and rows if
 * wanted.
 *
 * Each shard has the logits of its part of the vocabulary. Its device finds the best of its part, so
 * that the rest need not leave it; shard 0 collects and merges. Memory grows with the largest step. */
#ifndef LONGSPAN_WORKER_RESULTS_H
#define LONGSPAN_WORKER_RESULTS_H

#include "kernels/candidates.h"
#include "kernels/kernels.h"
#include "sys/status.h"
#include "sys/thread_pool.h"
#include "worker/group.h"
#include "worker/setup.h"
#include "worker/step.h"

#include <stddef.h>
#include <stdint.h>

/* On shard 0, of the last step; elsewhere n_rows is 0. Row i belongs to the i-th segment that takes
 * part and wants something. */
struct results {
    uint32_t n_rows;
    const struct candidates_sum *sums; /* [n_rows] */
    const struct candidate *best;      /* row i: sums[i].count from best + i * stride on */
    size_t stride;
    uint32_t n_logits; /* rows of the segments that want logits */
    float *logits;     /* [n_logits][vocab]; the reader may use it up */
    uint32_t vocab;    /* of the whole model */

    struct results_memory *memory; /* private */
};

/* `shards`: what each shard of the stage holds, [tensor]. Logits are made on `device`. All is borrowed. The caller ends *results
 * with results_destroy. STATUS_NO_MEMORY. */
enum status results_create(struct results **results, struct thread_pool *pool,
                           const struct kernels *kernels, struct device *device,
                           struct group *group, const struct setup_shard *shards,
                           struct error *error);
void results_destroy(struct results *results);

void results_clear(struct results *results);

/* Device memory for the step's logits, [n_wanted][own part of the vocabulary], to be filled. */
enum status results_logits(struct results *results, const struct step *step, float **logits,
                           struct error *error);

/* After that, once: all shards of the stage together. The logits are used up. */
enum status results_make(struct results *results, const struct step *step, struct error *error);

#endif
