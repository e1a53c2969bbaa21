/* coordinator/sampler.h - the next token from a row of logits: greedy, or seeded.
 *
 * With temperature 0 the token of the largest logit is taken, the lower id among equals. Otherwise
 *     1. top-k     keeps the k largest logits
 *     2. top-p     keeps the most probable tokens until their sum reaches p (Holtzman et al. 2020),
 *                  probabilities being those at temperature 1 of what top-k left
 *     3. min-p     keeps tokens of at least min_p times the largest probability (Nguyen et al.
 * 2024)
 *     4. draw      one number u, weights e^((logit - max) / temperature)
 * This is the order of llama.cpp's default chain (common/sampling: top_k, top_p, min_p, temperature
 * last): the cuts judge the model, the temperature then only flattens what is left. At least one
 * token always survives.
 *
 * Own exp and sums in one written order: a seed gives the same ids on every host. Each token takes
 * exactly one number from the sequence's generator, and every sequence has its own, so that ids do
 * not depend on batch mates either.
 *
 * The candidates of the workers (the best n of a row and the log-sum-exp of the whole row) suffice
 * for greedy and for 1 <= top_k <= SAMPLER_MAX_TOP_K; with top_k = 0 any token may be drawn, and
 * the whole row is needed; also where its logits are changed first, by penalties, biases, or a
 * constraint (what it forbids is -inf): the cuts and the draw then see the changed ones. No I/O. */
#ifndef LONGSPAN_COORDINATOR_SAMPLER_H
#define LONGSPAN_COORDINATOR_SAMPLER_H

#include "sys/random.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { SAMPLER_MAX_TOP_K = 1024, SAMPLER_MAX_LOGPROBS = 64 };

struct sampler_settings {
    float temperature; /* 0: greedy */
    uint32_t top_k;    /* 0: no cut */
    float top_p;       /* 1 (or 0, what a message without the field says): no cut */
    float min_p;       /* 0: no cut */
    uint64_t seed;
    bool
        adjusts; /* the row is changed before sampling (penalties.h): struct sampler_row.adjusted */
};

/* STATUS_INVALID: negative or not a number, top_p or min_p above 1, top_k above SAMPLER_MAX_TOP_K.
 * The text names value and limit. */
enum status sampler_check(const struct sampler_settings *settings, struct error *error);

/* Does it need the whole row, and how many candidates? `n_logprobs` of them will be shown. */
bool sampler_needs_row(const struct sampler_settings *settings);
uint32_t sampler_candidates(const struct sampler_settings *settings, uint32_t n_logprobs,
                            uint32_t vocab);

/* One sequence's sampler. */
struct sampler {
    struct sampler_settings settings;
    struct random_state random;
};
void sampler_start(struct sampler *sampler, const struct sampler_settings *settings);

/* What is known of a row: `n` best tokens in descending order of logit, ties by ascending id, and
 * log_sum_exp of the whole row; `row` has all `vocab` logits, or is NULL. */
struct sampler_row {
    const int32_t *ids;
    const float *logits;
    uint32_t n;
    double log_sum_exp;
    const float *row;
    uint32_t vocab;
    const float *adjusted; /* the row as it shall be sampled; NULL: as it is */
};

/* Checks what a peer sent: order, ids inside the vocabulary and no id twice in a row, finite
 * numbers (a logit of the row may be -inf), the first candidate the row's best, at least `least`
 * candidates. STATUS_PROTOCOL, or STATUS_FAILED (no number: the model or a worker computes
 * nonsense). */
enum status sampler_row_check(const struct sampler_row *row, uint32_t least, struct error *error);

/* Takes the next token of a checked row; *logprob is the model's: logit - log_sum_exp, before
 * temperature, cuts and adjustment. `scratch` has room for vocab numbers when the whole row is
 * needed, else it may be NULL. */
int32_t sampler_take(struct sampler *sampler, const struct sampler_row *row, uint32_t *scratch,
                     float *logprob);

#endif
