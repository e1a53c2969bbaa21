/* sampler.c - see sampler.h.
 *
 * The whole vocabulary is never sorted, and most of it is left out by a look at each logit: what
 * min-p or top-p cannot keep, however the rest is distributed. Of what is left, top-p takes tokens
 * from a heap until it has enough of them; top-k keeps a heap of k. Drawing needs no order but a
 * fixed one. */
#include "coordinator/sampler.h"

#include "coordinator/sampler_row.h"
#include "kernels/numeric.h"

#include <math.h>

/* What numbers that are none come from, worker bugs aside. */
#define REMEDY                                                                                     \
    "; the model file may be damaged, or its keys and values too large for f16: try --kv-type f32"

enum status sampler_check(const struct sampler_settings *settings, struct error *error)
{
    /* Written so that NaN fails. */
    if (!(settings->temperature >= 0.0f && settings->temperature <= 1000.0f))
        return error_set(error, STATUS_INVALID, "temperature %g: must be from 0 (greedy) to 1000",
                         (double)settings->temperature);
    if (!(settings->top_p >= 0.0f && settings->top_p <= 1.0f))
        return error_set(error, STATUS_INVALID, "top-p %g: must be above 0, and at most 1 (no cut)",
                         (double)settings->top_p);
    if (!(settings->min_p >= 0.0f && settings->min_p <= 1.0f))
        return error_set(error, STATUS_INVALID, "min-p %g: must be from 0 (no cut) to 1",
                         (double)settings->min_p);
    if (settings->top_k > SAMPLER_MAX_TOP_K)
        return error_set(error, STATUS_INVALID, "top-k %u: must be at most %d, or 0 for no cut",
                         settings->top_k, SAMPLER_MAX_TOP_K);
    return STATUS_OK;
}

bool sampler_needs_row(const struct sampler_settings *settings)
{
    return settings->adjusts || (settings->temperature > 0.0f && settings->top_k == 0);
}

uint32_t sampler_candidates(const struct sampler_settings *settings, uint32_t n_logprobs,
                            uint32_t vocab)
{
    uint32_t n = settings->temperature > 0.0f && !sampler_needs_row(settings) ? settings->top_k : 1;
    n = n > n_logprobs ? n : n_logprobs;
    return n < vocab ? n : vocab;
}

void sampler_start(struct sampler *sampler, const struct sampler_settings *settings)
{
    sampler->settings = *settings;
    random_seed(&sampler->random, settings->seed);
}

static enum status check_whole(const struct sampler_row *row, struct error *error)
{
    const float best = row->logits[0];
    for (uint32_t i = 0; sampler_row_exceeds(row->row, row->vocab, best) && i < row->vocab; i++) {
        if (isnan(row->row[i]) || row->row[i] == INFINITY)
            return error_set(error, STATUS_FAILED, "logit of token %u is %g" REMEDY, i,
                             (double)row->row[i]);
        if (row->row[i] > best)
            return error_set(error, STATUS_PROTOCOL,
                             "token %u of the row has logit %g, the best candidate only %g", i,
                             (double)row->row[i], (double)best);
    }
    if (row->row[row->ids[0]] != best)
        return error_set(error, STATUS_PROTOCOL,
                         "the best candidate's logit is not that of the row");
    return STATUS_OK;
}

enum status sampler_row_check(const struct sampler_row *row, uint32_t least, struct error *error)
{
    if (row->n < least || row->n == 0)
        return error_set(error, STATUS_PROTOCOL, "%u candidates where %u were asked for", row->n,
                         least);
    if (!isfinite(row->log_sum_exp))
        return error_set(error, STATUS_FAILED,
                         "the log-sum-exp of the logits is %g: nothing to sample from" REMEDY,
                         row->log_sum_exp);
    for (uint32_t i = 0; i < row->n; i++) {
        if (!isfinite(row->logits[i]))
            return error_set(error, STATUS_FAILED, "logit of token %d is %g" REMEDY, row->ids[i],
                             (double)row->logits[i]);
        if (row->ids[i] < 0 || (uint32_t)row->ids[i] >= row->vocab)
            return error_set(error, STATUS_PROTOCOL, "candidate %d is outside the vocabulary of %u",
                             row->ids[i], row->vocab);
        if (i > 0 && !(row->logits[i - 1] > row->logits[i] ||
                       (row->logits[i - 1] == row->logits[i] && row->ids[i - 1] < row->ids[i])))
            return error_set(error, STATUS_PROTOCOL, "candidates %u and %u are out of order", i - 1,
                             i);
    }
    return row->row != NULL ? check_whole(row, error) : STATUS_OK;
}

/* Tokens to choose from. With the whole row, `order` is a list of ids; without, of places among the
 * candidates. */
struct choice {
    const struct sampler_row *row;
    const float *whole; /* the logits of all; NULL: candidates */
    uint32_t *order;
    uint32_t n;
    float max;
};

static float choice_logit(const struct choice *c, uint32_t i)
{
    return c->whole != NULL ? c->whole[i] : c->row->logits[i];
}

static int32_t choice_id(const struct choice *c, uint32_t i)
{
    return c->whole != NULL ? (int32_t)i : c->row->ids[i];
}

static double choice_weight(const struct choice *c, uint32_t i)
{
    return (double)exp_f32(choice_logit(c, i) - c->max);
}

/* Both lists ascend with ids (candidates: among equal logits), so the place breaks ties. */
static bool before(const struct choice *c, uint32_t i, uint32_t j)
{
    const float a = choice_logit(c, i), b = choice_logit(c, j);
    return a > b || (a == b && i < j);
}

/* Heaps have their best at the root, or their worst. */
enum heap { BEST, WORST };

static bool above(const struct choice *c, enum heap heap, uint32_t i, uint32_t j)
{
    return heap == BEST ? before(c, i, j) : before(c, j, i);
}

static void sift_down(const struct choice *c, enum heap heap, uint32_t n, uint32_t root)
{
    const uint32_t item = c->order[root];
    for (uint32_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && above(c, heap, c->order[child + 1], c->order[child]))
            child++;
        if (!above(c, heap, c->order[child], item))
            break;
        c->order[root] = c->order[child];
    }
    c->order[root] = item;
}

static void make_heap(const struct choice *c, enum heap heap)
{
    for (uint32_t root = c->n / 2; root-- > 0;)
        sift_down(c, heap, c->n, root);
}

/* Takes the root of the first `left`, which are a heap. It shrinks from its end; what it gave is
 * parked behind it. */
static uint32_t pop(const struct choice *c, enum heap heap, uint32_t left)
{
    const uint32_t root = c->order[0];
    c->order[0] = c->order[left - 1];
    c->order[left - 1] = root;
    sift_down(c, heap, left - 1, 0);
    return root;
}

/* Keeps the `taken` that were popped, best first. */
static void keep_popped(struct choice *c, uint32_t taken)
{
    for (uint32_t i = 0; i < taken / 2; i++) {
        const uint32_t a = c->n - 1 - i, b = c->n - taken + i;
        const uint32_t swap = c->order[a];
        c->order[a] = c->order[b];
        c->order[b] = swap;
    }
    for (uint32_t i = 0; i < taken; i++)
        c->order[i] = c->order[c->n - taken + i];
    c->n = taken;
}

static void take_all(struct choice *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        c->order[i] = i;
}

/* The k best of the whole row, best first. Candidates are cut already, and in the same order. */
static void cut_top_k(struct choice *c, uint32_t k)
{
    const uint32_t n = c->n;
    c->n = k < n ? k : n;
    take_all(c);
    make_heap(c, WORST);
    for (uint32_t i = c->n; i < n; i++)
        if (before(c, i, c->order[0])) {
            c->order[0] = i;
            sift_down(c, WORST, c->n, 0);
        }
    for (uint32_t left = c->n; left > 1; left--)
        pop(c, WORST, left);
}

/* Of the whole row keeps all tokens that weigh this much at least, and few others: an exponential
 * for each would take longer than to find, by halving, the logit that belongs to the weight. */
static void leave_light_ones_out(struct choice *c, double weight)
{
    float lighter = EXP_F32_LOW, heavier = 0.0f;
    for (int i = 0; i < 32; i++) {
        const float middle = 0.5f * (lighter + heavier);
        if ((double)exp_f32(middle) < weight)
            lighter = middle;
        else
            heavier = middle;
    }
    c->n = sampler_row_filter(c->whole, c->n, c->max, lighter, c->order);
}

/* Keeps the most probable tokens, in descending order at the front of `order`. `uncut`: the choice
 * is still the whole row. Then tokens that weigh less than (1 - p) / n of the total weigh less than
 * (1 - p) of it together, and the others reach p without them; half of that leaves room for
 * rounding. */
static void cut_top_p(struct choice *c, double p, bool uncut)
{
    double total = 0.0;
    if (uncut) {
        total = sampler_row_total(c->whole, c->n, c->max);
        leave_light_ones_out(c, 0.5 * (1.0 - p) * total / c->n);
    } else {
        for (uint32_t i = 0; i < c->n; i++)
            total += choice_weight(c, c->order[i]);
    }
    make_heap(c, BEST);
    const double goal = p * total;
    double sum = 0.0;
    uint32_t taken = 0;
    while (taken < c->n && (taken == 0 || sum < goal))
        sum += choice_weight(c, pop(c, BEST, c->n - taken++));
    keep_popped(c, taken);
}

static void cut_min_p(struct choice *c, double min_p, bool uncut)
{
    uint32_t n = 0;
    if (uncut)
        leave_light_ones_out(c, 0.5 * min_p);
    for (uint32_t i = 0; i < c->n; i++)
        if (choice_weight(c, c->order[i]) >= min_p)
            c->order[n++] = c->order[i];
    c->n = n; /* the best one has weight 1 and stays */
}

static uint32_t draw(const struct choice *c, float temperature, double u)
{
    double total = 0.0;
    for (uint32_t i = 0; i < c->n; i++)
        total += (double)exp_f32((choice_logit(c, c->order[i]) - c->max) / temperature);
    const double goal = u * total;
    double sum = 0.0;
    uint32_t last = c->order[0];
    for (uint32_t i = 0; i < c->n; i++) {
        const double w = (double)exp_f32((choice_logit(c, c->order[i]) - c->max) / temperature);
        if (w == 0.0)
            continue; /* also the last one, should rounding walk past the goal */
        last = c->order[i];
        sum += w;
        if (sum > goal)
            break;
    }
    return last;
}

static uint32_t choose(struct sampler *sampler, struct choice *c)
{
    const struct sampler_settings *settings = &sampler->settings;
    const bool top_p = settings->top_p > 0.0f && settings->top_p < 1.0f;
    const bool top_k = settings->top_k > 0, min_p = settings->min_p > 0.0f;
    const double u = random_f64(&sampler->random);
    if (c->whole != NULL && !top_k && !top_p && !min_p)
        return sampler_row_draw(c->whole, c->n, c->max, settings->temperature, u);
    if (c->whole == NULL)
        take_all(c);
    else if (top_k)
        cut_top_k(c, settings->top_k);
    if (top_p)
        cut_top_p(c, (double)settings->top_p, c->whole != NULL && !top_k);
    if (min_p)
        cut_min_p(c, (double)settings->min_p, c->whole != NULL && !top_k && !top_p);
    return draw(c, settings->temperature, u);
}

int32_t sampler_take(struct sampler *sampler, const struct sampler_row *row, uint32_t *scratch,
                     float *logprob)
{
    const struct sampler_settings *settings = &sampler->settings;
    uint32_t places[SAMPLER_MAX_TOP_K];
    struct choice c = {.row = row, .max = row->logits[0]};
    uint32_t place = 0; /* greedy, of the candidates */
    if (sampler_needs_row(settings)) {
        c.whole = row->adjusted != NULL ? row->adjusted : row->row;
        if (row->adjusted != NULL || settings->temperature == 0.0f) {
            place = sampler_row_best(c.whole, row->vocab);
            c.max = c.whole[place];
        }
        c.order = scratch;
        c.n = row->vocab;
    } else {
        c.order = places;
        c.n = row->n < settings->top_k ? row->n : settings->top_k;
    }
    if (settings->temperature > 0.0f)
        place = choose(sampler, &c);
    const float logit = c.whole != NULL ? row->row[place] : row->logits[place];
    *logprob = (float)((double)logit - row->log_sum_exp);
    return choice_id(&c, place);
}
