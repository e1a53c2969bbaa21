/* coordinator/scores.h - what the workers say of a prompt's own tokens: the logit of each, and the
 * row before it.
 *
 * The log-probability of a token is logit - log_sum_exp, as of one that is sampled (sampler.h):
 * with the same bits as if the row before it had been sampled, and this token been taken. */
#ifndef LONGSPAN_COORDINATOR_SCORES_H
#define LONGSPAN_COORDINATOR_SCORES_H

#include "coordinator/sampler.h"
#include "proto/longspan.pb-c.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

/* The scores of a step's segments; zero is none. Memory is kept for later steps. */
struct scores {
    float *logits;        /* [n] */
    double *log_sum_exps; /* [n] */
    int32_t *top_ids;     /* [n_tops] */
    float *top_logits;    /* [n_tops] */
    size_t n, n_tops;
    size_t capacity, top_capacity;
};

/* Where one segment's are; n 0: it has none. */
struct scores_place {
    size_t first, first_top;
    uint32_t n, n_top;
};

/* A token that was scored: its logit, and the row that it follows, of which there are candidates
 * only. */
struct scores_row {
    struct sampler_row row;
    float logit;
};

void scores_close(struct scores *scores);
void scores_clear(struct scores *scores);

/* Those of one segment, which asked for n tokens and n_top candidates of each (the vocabulary at
 * most). An empty message is that of a failed segment. STATUS_PROTOCOL: another number.
 * STATUS_NO_MEMORY. */
enum status scores_take(struct scores *scores, const Longspan__Scores *message, uint32_t n,
                        uint32_t n_top, struct scores_place *place, struct error *error);

/* The i-th token of a segment; one that did not come has no candidates. Borrowed until
 * scores_clear. */
struct scores_row scores_row(const struct scores *scores, const struct scores_place *place,
                             uint32_t i, uint32_t vocab);

/* Checks the row as sampler_row_check does, of one candidate at least, and that the token is no
 * better than the row's best; it may be impossible (-inf). */
enum status scores_check(const struct scores_row *scored, struct error *error);

#endif
