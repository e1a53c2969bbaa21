/* step_cost.c - normal equations of three unknowns, solved for each set of prices that may be
 * zero. */
#include "coordinator/step_cost.h"

#include <math.h>
#include <string.h>

/* Sizes of a usual step, so that the sums have similar sizes. */
static const double UNIT[STEP_COST_TERMS] = {1.0, 256.0, 1e6};

static const double FADES = 0.98;  /* with each step of its kind: about fifty of them count */
static const double OUTLIER = 1.5; /* times what was expected counts at most ... */
static const uint64_t WARM = 8;    /* ... once so many of its kind were measured */
static const uint32_t FIRST_TOKENS = 16;
static const double RIDGE = 1e-9; /* of the diagonal: what was never varied costs nothing */

void step_work_add(struct step_work *work, uint32_t position, uint32_t n_tokens)
{
    work->tokens += n_tokens;
    work->attended += (double)n_tokens * (position + 0.5 * (n_tokens + 1.0));
}

double step_prices_of(const struct step_prices *prices, const struct step_work *work)
{
    return prices->per_step + prices->per_token * work->tokens +
           prices->per_attended * work->attended;
}

uint32_t step_prices_tokens(const struct step_prices *prices, uint32_t position, double us,
                            uint32_t most)
{
    /* a n^2 / 2 + b n = us, in the form that is right for a = 0 too */
    const double a = prices->per_attended;
    const double b = prices->per_token + prices->per_attended * (position + 0.5);
    if (us <= 0.0)
        return 0;
    const double denominator = b + sqrt(b * b + 2.0 * a * us);
    if (denominator <= 0.0 || 2.0 * us / denominator >= most)
        return most;
    return (uint32_t)(2.0 * us / denominator);
}

/* Solves for the terms in `set` by elimination; false: one is not determined. */
static bool solve(const struct step_squares *sums, unsigned set, double x[STEP_COST_TERMS])
{
    double a[STEP_COST_TERMS][STEP_COST_TERMS + 1];
    int terms[STEP_COST_TERMS], n = 0;
    for (int i = 0; i < STEP_COST_TERMS; i++)
        if ((set >> i & 1) != 0)
            terms[n++] = i;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++)
            a[i][j] = sums->terms[terms[i]][terms[j]];
        a[i][i] *= 1.0 + RIDGE;
        a[i][n] = sums->time[terms[i]];
    }
    for (int i = 0; i < n; i++) { /* positive definite: no pivots are chosen */
        if (!(a[i][i] > 0.0))
            return false;
        for (int row = i + 1; row < n; row++) {
            const double factor = a[row][i] / a[i][i];
            for (int column = i; column <= n; column++)
                a[row][column] -= factor * a[i][column];
        }
    }
    memset(x, 0, STEP_COST_TERMS * sizeof(*x));
    for (int i = n - 1; i >= 0; i--) {
        double rest = a[i][n];
        for (int j = i + 1; j < n; j++)
            rest -= a[i][j] * x[terms[j]];
        x[terms[i]] = rest / a[i][i];
    }
    return true;
}

/* The squared error but for a constant: x' A x - 2 b' x. */
static double error_of(const struct step_squares *sums, const double x[STEP_COST_TERMS])
{
    double sum = 0.0;
    for (int i = 0; i < STEP_COST_TERMS; i++) {
        for (int j = 0; j < STEP_COST_TERMS; j++)
            sum += x[i] * sums->terms[i][j] * x[j];
        sum -= 2.0 * sums->time[i] * x[i];
    }
    return sum;
}

static void settle(struct step_cost *cost)
{
    struct step_squares sums = cost->of[0];
    for (int i = 0; i < STEP_COST_TERMS; i++) {
        for (int j = 0; j < STEP_COST_TERMS; j++)
            sums.terms[i][j] += cost->of[1].terms[i][j];
        sums.time[i] += cost->of[1].time[i];
    }
    double best[STEP_COST_TERMS] = {0.0}, least = INFINITY;
    for (unsigned set = 1; set < 1u << STEP_COST_TERMS; set++) {
        double x[STEP_COST_TERMS];
        bool possible = solve(&sums, set, x);
        for (int i = 0; i < STEP_COST_TERMS; i++)
            possible = possible && x[i] >= 0.0 && isfinite(x[i]);
        const double error = possible ? error_of(&sums, x) : INFINITY;
        if (error < least) {
            least = error;
            memcpy(best, x, sizeof(best));
        }
    }
    cost->prices = (struct step_prices){.per_step = best[0] / UNIT[0],
                                        .per_token = best[1] / UNIT[1],
                                        .per_attended = best[2] / UNIT[2]};
}

void step_cost_learn(struct step_cost *cost, const struct step_work *work, double us)
{
    const double expected = step_prices_of(&cost->prices, work);
    if (cost->n[work->prompts] >= WARM && us > OUTLIER * expected)
        us = OUTLIER * expected;
    const double x[STEP_COST_TERMS] = {1.0 / UNIT[0], work->tokens / UNIT[1],
                                       work->attended / UNIT[2]};
    struct step_squares *sums = &cost->of[work->prompts];
    for (int i = 0; i < STEP_COST_TERMS; i++) {
        for (int j = 0; j < STEP_COST_TERMS; j++)
            sums->terms[i][j] = FADES * sums->terms[i][j] + x[i] * x[j];
        sums->time[i] = FADES * sums->time[i] + x[i] * us;
    }
    cost->n[work->prompts]++;
    if (work->prompts && work->tokens > cost->largest_tokens)
        cost->largest_tokens = work->tokens;
    settle(cost);
}

uint32_t step_cost_most_tokens(const struct step_cost *cost)
{
    const double most = 2.0 * cost->largest_tokens;
    return most < FIRST_TOKENS ? FIRST_TOKENS : most < 1e9 ? (uint32_t)most : 1000000000;
}
