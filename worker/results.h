/* worker/results.h - from the last stage's logits to what goes back: candidates, rows if wanted,
 * and scores.
 *
 * A segment that wants something has a result for its last row. A segment of a prompt whose tokens
 * shall be scored names, for rows from its first on, the tokens that follow them: their logits go
 * back, and the best candidates beside them. Scored rows can be as many as a step has; their logits
 * are made and looked at RESULTS_SCORED_ROWS at a time, so that memory does not grow with them.
 *
 *     begin ─▶ logits, score, for each piece of the scored rows ─▶ logits, make */
#ifndef LONGSPAN_WORKER_RESULTS_H
#define LONGSPAN_WORKER_RESULTS_H

#include "sys/status.h"
#include "worker/candidate_table.h"
#include "worker/step.h"

#include <stdint.h>

enum { RESULTS_SCORED_ROWS = 64 }; /* whose logits are there at the same time, at most */

/* On shard 0, of the last step; elsewhere, and after results_clear, the tables have no rows. */
struct results {
    struct candidate_table
        answers; /* row i: of the i-th segment that takes part and wants something */
    struct candidate_table
        scores;        /* scored rows of the segments that take part, one after the other */
    uint32_t n_logits; /* rows of the segments that want logits */
    float *logits;     /* [n_logits][vocab]; the reader may use it up */
    uint32_t vocab;    /* of the whole model */

    struct results_memory *memory; /* private */
};

/* What `source` names is borrowed. The caller ends *results with results_destroy.
 * STATUS_NO_MEMORY. */
enum status results_create(struct results **results, const struct candidate_source *source,
                           struct error *error);
void results_destroy(struct results *results);

void results_clear(struct results *results);

/* A step begins: tables for all of its rows. */
enum status results_begin(struct results *results, const struct step *step, struct error *error);

/* Device memory for the logits of n rows, [n][own part of the vocabulary], to be filled; those that
 * were there are gone. */
enum status results_logits(struct results *results, uint32_t n, float **logits,
                           struct error *error);

/* The logits are those of scored rows [first, first + n), counted as in `scores`. */
enum status results_score(struct results *results, uint32_t first, uint32_t n, struct error *error);

/* At last, once: the logits are those of the n_wanted rows. All shards of the stage together. */
enum status results_make(struct results *results, const struct step *step, struct error *error);

#endif
