/* superblock_quantize.c - a search for the scales that make the weighted squared error least.
 *
 * A weight's error counts with (rms of its sub-block + |weight|): large weights carry more of an
 * output than small ones. Four steps:
 *   1. per sub-block, nine step sizes around the one that just covers the range: the integers of
 *      each, then the scale and minimum that fit these integers best (least squares, two unknowns);
 *   2. d and dmin, so that the greatest scale and minimum take the whole range of their integers;
 *   3. per sub-block, the integers of scale and minimum: the nearest and their neighbours, each
 *      judged by the error that it really gives;
 *   4. d and dmin again, by least squares over the whole super-block, then step 3 once more, kept
 *      if the error is less.
 * Sums run in eight lanes of f32 that are added in one fixed order, with no fused multiply-add: the
 * same bytes on every machine, whatever the compiler makes vectors of. A super-block is first
 * multiplied by a power of two that brings its largest weight to [0.5, 1), so that no square of it
 * leaves f32. */
#include "kernels/quant/superblock.h"

#include "kernels/numeric.h"
#include "kernels/quant/quantize.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LANES = 8, STEP_SIZES = 9 };

/* What the integers of a type can be. */
struct range {
    int part;          /* weights of a sub-block */
    float least, most; /* of q */
    float scale_least, scale_most;
    bool has_min;
};

static struct range range_of(enum weight_type type)
{
    switch (type) {
    case WEIGHT_Q4_K:
        return (struct range){32, 0, 15, 0, 63, true};
    case WEIGHT_Q5_K:
        return (struct range){32, 0, 31, 0, 63, true};
    default:
        return (struct range){16, -32, 31, -128, 127, false};
    }
}

/* Of one super-block, scaled. value = scale q - min. */
struct search {
    struct range range;
    float x[SUPERBLOCK_ELEMENTS], weight[SUPERBLOCK_ELEMENTS];
    float scale[SUPERBLOCK_PARTS], min[SUPERBLOCK_PARTS]; /* the best of step 1 */
    float down, up; /* powers of two: x = weight of the model * down, and back */
};

static float sum_lanes(const float lanes[LANES])
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/* To the nearest integer, ties to even; |x| < 2^22. */
static float nearest(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}

/* False: it holds a NaN or an infinity. All zeros are scaled by anything. */
static bool normalise(struct search *s, const float *x)
{
    uint32_t largest = 0;
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= 0x7f800000)
        return false;
    const int exponent = (int)(largest >> 23) - 126;
    const int within = exponent < -125 ? -125 : exponent > 125 ? 125 : exponent;
    s->down = exp_f32_power(-within);
    s->up = exp_f32_power(within);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
        s->x[i] = x[i] * s->down;
    return true;
}

static void weigh(struct search *s)
{
    for (int p = 0; p < SUPERBLOCK_ELEMENTS; p += s->range.part) {
        float lanes[LANES] = {0};
        for (int i = 0; i < s->range.part; i += LANES)
            for (int k = 0; k < LANES; k++)
                lanes[k] += s->x[p + i + k] * s->x[p + i + k];
        const float rms = sqrtf(sum_lanes(lanes) / (float)s->range.part);
        for (int i = 0; i < s->range.part; i++)
            s->weight[p + i] = rms + fabsf(s->x[p + i]);
    }
}

/* ---- step 1 --------------------------------------------------------------------------------- */

/* The weighted sums of one choice of integers: of 1, q, q^2, and with r, how far a weight is from
 * its integer, in steps: r, q r, r^2. */
struct sums {
    float w, q, qq, r, qr, rr;
};

static struct sums sum_part(const struct range *range, const float *x, const float *weight,
                            float inverse, float min)
{
    float w[LANES] = {0}, wq[LANES] = {0}, wqq[LANES] = {0};
    float wr[LANES] = {0}, wqr[LANES] = {0}, wrr[LANES] = {0};
    for (int i = 0; i < range->part; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float steps = (x[i + k] + min) * inverse;
            const float q = nearest(quantize_clamp(steps, range->least, range->most)),
                        r = steps - q;
            const float q_weight = weight[i + k] * q, r_weight = weight[i + k] * r;
            w[k] += weight[i + k];
            wq[k] += q_weight;
            wqq[k] += q_weight * q;
            wr[k] += r_weight;
            wqr[k] += q_weight * r;
            wrr[k] += r_weight * r;
        }
    return (struct sums){sum_lanes(w),  sum_lanes(wq),  sum_lanes(wqq),
                         sum_lanes(wr), sum_lanes(wqr), sum_lanes(wrr)};
}

/* The scale and minimum that fit the integers of `inverse` and `min` best; returns their error. */
static float fit(const struct range *range, const struct sums *s, float inverse, float min,
                 float *scale_out, float *min_out)
{
    /* r is fitted by a q + b */
    const float determinant = s->w * s->qq - s->q * s->q;
    float a = 0.0f, b = 0.0f;
    if (range->has_min && determinant > 0.0f) {
        a = (s->w * s->qr - s->q * s->r) / determinant;
        b = (s->qq * s->r - s->q * s->qr) / determinant;
    }
    if (!range->has_min || determinant <= 0.0f || b > min * inverse) {
        b = range->has_min ? min * inverse : 0.0f; /* a minimum below 0 cannot be stored */
        a = s->qq > 0.0f ? (s->qr - b * s->q) / s->qq : 0.0f;
    }
    const float error =
        s->rr - 2.0f * (a * s->qr + b * s->r) + a * a * s->qq + 2.0f * a * b * s->q + b * b * s->w;
    *scale_out = (1.0f + a) / inverse;
    *min_out = range->has_min ? min - b / inverse : 0.0f;
    return error / (inverse * inverse);
}

/* The step that just covers a sub-block, and its minimum. Without minima the largest weight goes to
 * the end of the range that has one more. 0: all are equal to -min. */
static float covering_step(const struct range *range, const float *x, float *min)
{
    float least = 0.0f, greatest = x[0];
    for (int i = 0; i < range->part; i++) {
        least = x[i] < least ? x[i] : least;
        greatest = x[i] > greatest ? x[i] : greatest;
    }
    *min = range->has_min ? -least : 0.0f;
    if (range->has_min)
        return greatest > least ? (greatest - least) / range->most : 0.0f;
    return (greatest > -least ? greatest : least) / range->least;
}

static void search_part(struct search *s, int part)
{
    const float *x = s->x + part * s->range.part, *weight = s->weight + part * s->range.part;
    float min, best = INFINITY;
    const float step = covering_step(&s->range, x, &min);
    s->scale[part] = 0.0f;
    s->min[part] = min;
    if (fabsf(step) < 0x1p-100f) /* nothing to divide by; far below what a half can hold */
        return;
    const float all = s->range.has_min ? s->range.most : -s->range.least;
    for (int i = 0; i < STEP_SIZES; i++) {
        const float inverse = (1.0f + 0.2f * (float)(i - STEP_SIZES / 2) / all) / step;
        const struct sums sums = sum_part(&s->range, x, weight, inverse, min);
        float scale, fitted_min;
        const float error = fit(&s->range, &sums, inverse, min, &scale, &fitted_min);
        if (error < best) {
            best = error;
            s->scale[part] = scale;
            s->min[part] = fitted_min;
        }
    }
}

/* ---- steps 2 to 4 ---------------------------------------------------------------------------- */

/* The half of a scale of scales; the least one rather than none. */
static uint16_t half_of(float d)
{
    const uint16_t half = half_from_float(quantize_clamp(d, -QUANTIZE_GREATEST, QUANTIZE_GREATEST));
    return (half & 0x7fff) != 0 || d == 0.0f ? half : (uint16_t)(half | 1);
}

/* The error of a sub-block with this scale and minimum; its integers go to `q`. */
static float quantize_part(const struct search *s, int part, float scale, float min, float *q)
{
    const float *x = s->x + part * s->range.part, *weight = s->weight + part * s->range.part;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    float lanes[LANES] = {0};
    for (int i = 0; i < s->range.part; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float steps =
                quantize_clamp((x[i + k] + min) * inverse, s->range.least, s->range.most);
            q[i + k] = nearest(steps);
            const float error = x[i + k] - (scale * q[i + k] - min);
            lanes[k] += weight[i + k] * error * error;
        }
    return sum_lanes(lanes);
}

/* Step 3 for one sub-block. */
static float choose_part(const struct search *s, int part, float d, float dmin,
                         struct superblock *block)
{
    const struct range *range = &s->range;
    const float scale =
        d != 0.0f
            ? nearest(quantize_clamp(s->scale[part] / d, range->scale_least, range->scale_most))
            : 0;
    const float min = dmin != 0.0f ? nearest(quantize_clamp(s->min[part] / dmin, 0, 63)) : 0;
    float best = INFINITY, q[32], best_q[32] = {0};
    for (float i = scale - 1; i <= scale + 1; i++)
        for (float j = min - 1; j <= min + 1; j++) {
            if (i < range->scale_least || i > range->scale_most || j < 0 || j > 63 ||
                (dmin == 0.0f && j > 0))
                continue;
            const float error = quantize_part(s, part, d * i, dmin * j, q);
            if (error < best) {
                best = error;
                memcpy(best_q, q, sizeof(q));
                block->scale[part] = (int8_t)i;
                if (range->has_min)
                    block->min[part] = (uint8_t)j;
            }
        }
    for (int i = 0; i < range->part; i++)
        block->q[part * range->part + i] = (int8_t)best_q[i];
    return best;
}

/* Step 3. */
static float choose(const struct search *s, struct superblock *block)
{
    const float d = half_to_float(block->d) * s->down, dmin = half_to_float(block->dmin) * s->down;
    float error = 0.0f;
    for (int part = 0; part < SUPERBLOCK_ELEMENTS / s->range.part; part++)
        error += choose_part(s, part, d, dmin, block);
    return error;
}

/* Step 4: d and dmin for the integers of `block`. False: they do not say. */
static bool refit(const struct search *s, struct superblock *block)
{
    float aa = 0.0f, ab = 0.0f, bb = 0.0f, ax = 0.0f, bx = 0.0f;
    for (int part = 0; part < SUPERBLOCK_ELEMENTS / s->range.part; part++) {
        const float scale = (float)block->scale[part];
        const float b = s->range.has_min ? -(float)block->min[part] : 0.0f;
        float w[LANES] = {0}, wq[LANES] = {0}, wqq[LANES] = {0}, wx[LANES] = {0}, wqx[LANES] = {0};
        for (int i = part * s->range.part; i < (part + 1) * s->range.part; i += LANES)
            for (int k = 0; k < LANES; k++) {
                const float q = (float)block->q[i + k], weight = s->weight[i + k];
                w[k] += weight;
                wq[k] += weight * q;
                wqq[k] += weight * q * q;
                wx[k] += weight * s->x[i + k];
                wqx[k] += weight * q * s->x[i + k];
            }
        aa += scale * scale * sum_lanes(wqq);
        ab += scale * b * sum_lanes(wq);
        bb += b * b * sum_lanes(w);
        ax += scale * sum_lanes(wqx);
        bx += b * sum_lanes(wx);
    }
    const float determinant = aa * bb - ab * ab;
    float d, dmin = 0.0f;
    if (determinant > 0x1p-20f * aa * bb) {
        d = (bb * ax - ab * bx) / determinant;
        dmin = (aa * bx - ab * ax) / determinant;
    } else if (aa > 0.0f) {
        d = ax / aa;
    } else {
        return false;
    }
    block->d = half_of(d * s->up);
    block->dmin = half_of(dmin * s->up);
    return true;
}

/* Step 2. Without minima, the largest scale goes to the end of the range that has one more. */
static void choose_super(const struct search *s, struct superblock *block)
{
    float largest = 0.0f, largest_min = 0.0f;
    for (int part = 0; part < SUPERBLOCK_ELEMENTS / s->range.part; part++) {
        largest = fabsf(s->scale[part]) > fabsf(largest) ? s->scale[part] : largest;
        largest_min = s->min[part] > largest_min ? s->min[part] : largest_min;
    }
    const float end = s->range.has_min ? s->range.scale_most : s->range.scale_least;
    block->d = half_of(largest / end * s->up);
    block->dmin = half_of(largest_min / 63.0f * s->up);
}

void superblock_quantize(uint8_t *bytes, enum weight_type type, const float x[SUPERBLOCK_ELEMENTS])
{
    struct search s = {.range = range_of(type)};
    struct superblock best = {.d = QUANTIZE_NAN};
    assert(superblock_holds(type));
    if (!normalise(&s, x)) {
        superblock_write(bytes, type, &best);
        return;
    }
    weigh(&s);
    for (int part = 0; part < SUPERBLOCK_ELEMENTS / s.range.part; part++)
        search_part(&s, part);
    choose_super(&s, &best);
    const float error = choose(&s, &best);
    struct superblock other = best;
    if (refit(&s, &other) && choose(&s, &other) < error)
        best = other;
    superblock_write(bytes, type, &best);
}
