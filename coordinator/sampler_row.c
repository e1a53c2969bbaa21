/* sampler_row.c - see sampler_row.h. Weights are summed by block, and not kept: once it is known in
 * which block the drawn number lies, those of that block are made again. */
#include "coordinator/sampler_row.h"

#include "kernels/numeric.h"

enum { LANES = 8, MOST_BLOCKS = 512 };

/* exp_f32 takes nine fused multiply-adds, which are calls of the C library where the compiler may
 * not use the instruction; their results are the same bits. */
#if defined(__x86_64__)
#define WITH_FMA __attribute__((target("avx2,fma")))
static bool have_fma(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
#define WITH_FMA
static bool have_fma(void)
{
    return true;
}
#endif
#define IN_EACH static inline __attribute__((always_inline))

/* ---- comparisons ----------------------------------------------------------------------------- */

bool sampler_row_exceeds(const float *row, uint32_t n, float most)
{
    int any = 0;
    for (uint32_t i = 0; i < n; i++)
        any |= !(row[i] <= most); /* so that NaN counts */
    return any != 0;
}

uint32_t sampler_row_best(const float *row, uint32_t n)
{
    float lanes[LANES];
    const uint32_t whole = n - n % LANES;
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = row[0];
    for (uint32_t i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] = row[i + lane] > lanes[lane] ? row[i + lane] : lanes[lane];
    float max = lanes[0];
    for (int lane = 1; lane < LANES; lane++)
        max = lanes[lane] > max ? lanes[lane] : max;
    for (uint32_t i = whole; i < n; i++)
        max = row[i] > max ? row[i] : max;
    uint32_t best = 0;
    while (best + 1 < n && row[best] != max)
        best++;
    return best;
}

uint32_t sampler_row_filter(const float *row, uint32_t n, float max, float least, uint32_t *order)
{
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        order[n_kept] = i;
        n_kept += row[i] - max >= least;
    }
    return n_kept;
}

/* ---- sums of weights ------------------------------------------------------------------------- */

IN_EACH float weight(float logit, float max, float temperature)
{
    return exp_f32((logit - max) / temperature);
}

IN_EACH double sum_block(const float *row, uint32_t n, float max, float temperature)
{
    double lanes[LANES] = {0.0};
    const uint32_t whole = n - n % LANES;
    for (uint32_t i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)weight(row[i + lane], max, temperature);
    for (uint32_t i = whole; i < n; i++)
        lanes[i - whole] += (double)weight(row[i], max, temperature);
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/* Logits of a block: so many that there are MOST_BLOCKS of them at most, in whole lanes. */
static uint32_t block_of(uint32_t n)
{
    const uint32_t least = n / MOST_BLOCKS + 1;
    return (least + LANES - 1) / LANES * LANES;
}

IN_EACH double sum_blocks(const float *row, uint32_t n, float max, float temperature, double *sums)
{
    const uint32_t block = block_of(n);
    double total = 0.0;
    for (uint32_t first = 0, i = 0; first < n; first += block, i++) {
        sums[i] = sum_block(row + first, n - first < block ? n - first : block, max, temperature);
        total += sums[i];
    }
    return total;
}

WITH_FMA static double sum_blocks_fma(const float *row, uint32_t n, float max, float temperature,
                                      double *sums)
{
    return sum_blocks(row, n, max, temperature, sums);
}

static double sum_blocks_here(const float *row, uint32_t n, float max, float temperature,
                              double sums[MOST_BLOCKS])
{
    return have_fma() ? sum_blocks_fma(row, n, max, temperature, sums)
                      : sum_blocks(row, n, max, temperature, sums);
}

double sampler_row_total(const float *row, uint32_t n, float max)
{
    double sums[MOST_BLOCKS];
    return sum_blocks_here(row, n, max, 1.0f, sums);
}

uint32_t sampler_row_draw(const float *row, uint32_t n, float max, float temperature, double u)
{
    double sums[MOST_BLOCKS];
    const double goal = u * sum_blocks_here(row, n, max, temperature, sums);
    const uint32_t block = block_of(n), n_blocks = (n - 1) / block + 1;
    double sum = 0.0, before = 0.0; /* before: that of the blocks in front of the chosen one */
    uint32_t chosen = 0;
    for (uint32_t i = 0; i < n_blocks && sum <= goal; i++) {
        if (sums[i] == 0.0)
            continue; /* also the last ones, should rounding walk past the goal */
        chosen = i;
        before = sum;
        sum += sums[i];
    }
    const uint32_t first = chosen * block, end = n - first < block ? n : first + block;
    uint32_t last = first;
    sum = before;
    for (uint32_t i = first; i < end; i++) {
        const double w = (double)weight(row[i], max, temperature);
        if (w == 0.0)
            continue;
        last = i;
        sum += w;
        if (sum > goal)
            break;
    }
    return last;
}
