/* kernels/candidates.h - what the sampler needs of a row of logits: the best K, and the
 * log-sum-exp.
 *
 * Each shard of the last stage looks at its own part of the vocabulary, where its logits are (the
 * table's `candidates`, kernels.h); the parts are merged on shard 0. Order: larger logit first,
 * lower id first where equal. No libm; bits do not depend on the lanes. */
#ifndef LONGSPAN_KERNELS_CANDIDATES_H
#define LONGSPAN_KERNELS_CANDIDATES_H

#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct candidate {
    float logit;
    int32_t id;
};

/* Of one row, over the tokens looked at. */
struct candidates_sum {
    double sum;     /* of e^(logit - largest) */
    float largest;  /* -inf: nothing but -inf */
    uint32_t count; /* candidates that are there */
    uint32_t bad;   /* logits that are NaN or +inf: no distribution, the row must fail */
};

/* On the host: rows of logits [n_rows][n], token ids from `first` on. Row i: its best min(k[i], n)
 * go to best + i * stride, in order; stride >= every k[i]. */
void candidates_find(struct thread_pool *pool, struct candidates_sum *sums, struct candidate *best,
                     size_t stride, const float *logits, size_t n_rows, size_t n, int32_t first,
                     const uint32_t *k);

/* One row of several parts, ascending in ids, part p at sums[p * sum_stride] and best + p * stride:
 * the best k of all to `out`, and their sum. out may not overlap the parts. */
struct candidates_sum candidates_merge(struct candidate *out, uint32_t k,
                                       const struct candidates_sum *sums, size_t sum_stride,
                                       const struct candidate *best, size_t stride,
                                       uint32_t n_parts);

/* log(sum of e^logit); -inf for a row of -inf. Error under 1e-6 in all. */
double candidates_log_sum_exp(const struct candidates_sum *sum);

/* Natural logarithm, relative error under 1e-14 for positive normal numbers; additions, products
 * and divisions only, the same bits everywhere. */
double candidates_log(double x);

#endif
