/* coordinator/step_cost.h - how long a step will take, learnt from those that were measured.
 *
 *     time = per_step + per_token * tokens + per_attended * attended
 *
 * attended: the tokens that each token of the step attends to, added up; that is what attention
 * costs, whoever does it. The three prices are the ones, none negative, with the least squares of
 * the errors; what is measured fades, slowly for steps with prompts and for steps without each, so
 * that an hour of decoding does not make forget what a prompt costs. A step that took much longer
 * than expected counts as if it had been a little longer: on a shared machine that was somebody
 * else.
 *
 * Pure: the caller measures. */
#ifndef LONGSPAN_COORDINATOR_STEP_COST_H
#define LONGSPAN_COORDINATOR_STEP_COST_H

#include <stdbool.h>
#include <stdint.h>

enum { STEP_COST_TERMS = 3 };

/* What a step computes. */
struct step_work {
    double tokens, attended;
    bool prompts; /* some of it is prompt */
};

/* Microseconds. */
struct step_prices {
    double per_step, per_token, per_attended;
};

/* Adds n consecutive tokens from `position` on. */
void step_work_add(struct step_work *work, uint32_t position, uint32_t n_tokens);

double step_prices_of(const struct step_prices *prices, const struct step_work *work);

/* How many tokens from `position` on can be had for `us`, without per_step; at most `most`. */
uint32_t step_prices_tokens(const struct step_prices *prices, uint32_t position, double us,
                            uint32_t most);

/* Zeroed: nothing is known. */
struct step_cost {
    struct step_squares { /* sums over measured steps: products of terms, and with the time */
        double terms[STEP_COST_TERMS][STEP_COST_TERMS], time[STEP_COST_TERMS];
    } of[2]; /* without prompts, with */
    struct step_prices prices;
    uint64_t n[2];         /* measured, of either kind */
    double largest_tokens; /* of those with prompts */
};

/* A step took `us`. */
void step_cost_learn(struct step_cost *cost, const struct step_work *work, double us);

/* Tokens that a step should have at most, for the prices to be believed: twice as many as any that
 * was measured, 16 in the beginning. */
uint32_t step_cost_most_tokens(const struct step_cost *cost);

#endif
