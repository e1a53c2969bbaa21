/* candidates.c - a heap whose top is the worst of the best: most logits are compared with it once.
 *
 * The sum of exponentials goes over the row a second time, four at once, in float, added up in
 * double: a plain polynomial without fused multiply-adds, so that the compiler can vectorize it for
 * every x86 without changing a bit. Its error, 2e-7 relative, is that of the logarithm absolutely.
 */
#include "kernels/candidates.h"

#include <math.h>
#include <string.h>

static bool is_worse(struct candidate a, struct candidate b)
{
    return a.logit != b.logit ? a.logit < b.logit : a.id > b.id;
}

/* Moves heap[i] down to its place; parents are worse than children. */
static void sift_down(struct candidate *heap, uint32_t n, uint32_t i)
{
    const struct candidate moved = heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n)
            break;
        if (child + 1 < n && is_worse(heap[child + 1], heap[child]))
            child++;
        if (!is_worse(heap[child], moved))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static uint32_t find_best(struct candidate *heap, uint32_t k, const float *logits, size_t n,
                          int32_t first)
{
    const uint32_t count = k < n ? k : (uint32_t)n;
    if (count == 0)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        heap[i] = (struct candidate){logits[i], first + (int32_t)i};
    for (uint32_t i = count / 2; i-- > 0;)
        sift_down(heap, count, i);
    for (size_t i = count; i < n; i++)
        if (logits[i] > heap[0].logit) { /* equal: the lower id is there already */
            heap[0] = (struct candidate){logits[i], first + (int32_t)i};
            sift_down(heap, count, 0);
        }
    for (uint32_t last = count; last-- > 1;) { /* the worst goes to the end */
        const struct candidate worst = heap[0];
        heap[0] = heap[last];
        heap[last] = worst;
        sift_down(heap, last, 0);
    }
    return count;
}

/* e^x for x <= 0, relative error under 3e-7; 0 below -87. ln 2 in two parts, the first with so few
 * bits that its product with an integer is exact (Cody and Waite 1980). */
static inline float exp_negative(float x)
{
    const float clamped = x < -87.0f ? -87.0f : x;
    const float magic = 12582912.0f; /* 1.5 * 2^23 rounds to an integer */
    const float shifted = clamped * 1.44269504f + magic;
    const float n = shifted - magic;
    const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (int32_t)((uint32_t)(bits - 0x4b400000 + 127) << 23);
    float power;
    memcpy(&power, &bits, sizeof(power));
    return x < -87.0f ? 0.0f : p * power;
}

enum { SUMS = 8 }; /* independent, added in a fixed order at the end */

static double sum_exponentials(const float *logits, size_t n, float largest)
{
    double sums[SUMS] = {0};
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++)
            sums[j] += (double)exp_negative(logits[i + j] - largest);
    for (size_t j = 0; i < n; i++, j++)
        sums[j] += (double)exp_negative(logits[i] - largest);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) +
           ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* Eight columns at once, so that the compiler can compare them in one vector. */
static struct candidates_sum look_at(const float *logits, size_t n)
{
    float largest[SUMS];
    uint32_t bad[SUMS] = {0};
    for (size_t j = 0; j < SUMS; j++)
        largest[j] = -INFINITY;
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS)
        for (size_t j = 0; j < SUMS; j++) {
            const float logit = logits[i + j];
            bad[j] += logit < INFINITY ? 0 : 1; /* NaN too */
            largest[j] = logit > largest[j] ? logit : largest[j];
        }
    for (; i < n; i++) {
        bad[0] += logits[i] < INFINITY ? 0 : 1;
        largest[0] = logits[i] > largest[0] ? logits[i] : largest[0];
    }
    struct candidates_sum sum = {.largest = -INFINITY};
    for (size_t j = 0; j < SUMS; j++) {
        sum.bad += bad[j];
        sum.largest = largest[j] > sum.largest ? largest[j] : sum.largest;
    }
    if (sum.bad == 0 && sum.largest > -INFINITY)
        sum.sum = sum_exponentials(logits, n, sum.largest);
    return sum;
}

struct find {
    struct candidates_sum *sums;
    struct candidate *best;
    size_t stride;
    const float *logits;
    size_t n_rows, n;
    int32_t first;
    const uint32_t *k;
};

static void find_rows(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct find *find = context;
    size_t begin, end;
    thread_pool_share(find->n_rows, 1, lane, n_lanes, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const float *logits = find->logits + row * find->n;
        find->sums[row] = look_at(logits, find->n);
        if (find->sums[row].bad == 0) /* NaN has no place in an order */
            find->sums[row].count = find_best(find->best + row * find->stride, find->k[row], logits,
                                              find->n, find->first);
    }
}

void candidates_find(struct thread_pool *pool, struct candidates_sum *sums, struct candidate *best,
                     size_t stride, const float *logits, size_t n_rows, size_t n, int32_t first,
                     const uint32_t *k)
{
    struct find find = {sums, best, stride, logits, n_rows, n, first, k};
    if (n_rows == 1)
        find_rows(&find, 0, 1); /* the lanes need not wake */
    else if (n_rows > 1)
        thread_pool_run(pool, find_rows, &find);
}

struct candidates_sum candidates_merge(struct candidate *out, uint32_t k,
                                       const struct candidates_sum *sums, size_t sum_stride,
                                       const struct candidate *best, size_t stride,
                                       uint32_t n_parts)
{
    struct candidates_sum merged = {.largest = -INFINITY};
    for (uint32_t part = 0; part < n_parts; part++) {
        const struct candidates_sum *sum = &sums[part * sum_stride];
        merged.bad += sum->bad;
        merged.largest = sum->largest > merged.largest ? sum->largest : merged.largest;
    }
    if (merged.bad > 0)
        return merged;
    for (uint32_t part = 0; part < n_parts && merged.largest > -INFINITY; part++) {
        const struct candidates_sum *sum = &sums[part * sum_stride];
        if (sum->largest > -INFINITY)
            merged.sum += sum->sum * (double)exp_negative(sum->largest - merged.largest);
    }
    /* Each part in turn is merged into what is there, from the back, as in insertion into a sorted
     * list; a part's candidates come after equal ones of lower parts. */
    for (uint32_t part = 0; part < n_parts; part++) {
        const struct candidate *from = best + part * stride;
        uint32_t n_from = sums[part * sum_stride].count, n_out = merged.count;
        const uint32_t total = n_from + n_out;
        merged.count = total < k ? total : k;
        for (uint32_t surplus = total - merged.count; surplus > 0; surplus--) {
            if (n_from == 0 || (n_out > 0 && is_worse(out[n_out - 1], from[n_from - 1])))
                n_out--;
            else
                n_from--;
        }
        for (uint32_t i = merged.count; i-- > 0;) {
            if (n_from == 0 || (n_out > 0 && is_worse(out[n_out - 1], from[n_from - 1])))
                out[i] = out[--n_out];
            else
                out[i] = from[--n_from];
        }
    }
    return merged;
}

/* log(m 2^e) = e ln 2 + 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.172 for m in [sqrt(1/2),
 * sqrt(2)): s^21 / 21 is below 5e-18. */
double candidates_log(double x)
{
    int64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    int64_t exponent = ((bits - 0x3fe6a09e667f3bcd) >> 52); /* sqrt(1/2) */
    bits -= (int64_t)((uint64_t)exponent << 52);
    double m;
    memcpy(&m, &bits, sizeof(m));
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 21;
    for (int i = 19; i >= 3; i -= 2)
        p = p * z + 1.0 / i;
    const double e = (double)exponent;
    return e * 6.93147180369123816490e-01 +
           (e * 1.90821492927058770002e-10 + (2 * s * z * p + 2 * s));
}

double candidates_log_sum_exp(const struct candidates_sum *sum)
{
    if (!(sum->largest > -INFINITY))
        return -INFINITY;
    return (double)sum->largest + candidates_log(sum->sum);
}
