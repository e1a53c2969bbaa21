/* block32_quantize.c - the formats' reference quantizers: one pass for the range, one for the
 * integers. The scale that makes the integers is the f32 one, before it is rounded to half. */
#include "kernels/quant/block32.h"

#include "kernels/quant/quantize.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* 1 / scale; 0 for a scale so small that its half is 0 anyway and that this could overflow. */
static float inverse_of(float scale)
{
    return fabsf(scale) >= 0x1p-126f ? 1.0f / scale : 0.0f;
}

/* The value that is farthest from 0, with its sign, becomes the integer -half: the side of the
 * range that has one more. */
static void fit_signed(struct block32 *block, const float *x, int half)
{
    float largest = 0.0f;
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    const float d = quantize_clamp(largest / (float)-half, -QUANTIZE_GREATEST, QUANTIZE_GREATEST);
    const float inverse = inverse_of(d), bias = (float)half + 0.5f;
    block->d = half_from_float(d);
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        block->q[i] =
            (int8_t)((int)quantize_clamp(x[i] * inverse + bias, 0, (float)(2 * half - 1)) - half);
}

/* The least value becomes 0, the greatest `steps`. */
static void fit_range(struct block32 *block, const float *x, int steps)
{
    float least = x[0], greatest = x[0];
    for (int i = 1; i < BLOCK32_ELEMENTS; i++) {
        least = x[i] < least ? x[i] : least;
        greatest = x[i] > greatest ? x[i] : greatest;
    }
    const float d = quantize_clamp((greatest - least) / (float)steps, 0, QUANTIZE_GREATEST);
    const float inverse = inverse_of(d);
    least = quantize_clamp(least, -QUANTIZE_GREATEST, QUANTIZE_GREATEST);
    block->d = half_from_float(d);
    block->m = half_from_float(least);
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        block->q[i] = (int8_t)quantize_clamp((x[i] - least) * inverse + 0.5f, 0, (float)steps);
}

/* Halves go away from zero. */
static void fit_bytes(struct block32 *block, const float *x)
{
    float largest = 0.0f;
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    const float d = quantize_clamp(largest / 127.0f, 0, QUANTIZE_GREATEST), inverse = inverse_of(d);
    block->d = half_from_float(d);
    for (int i = 0; i < BLOCK32_ELEMENTS; i++) {
        const float scaled = quantize_clamp(x[i] * inverse, -127.0f, 127.0f);
        const int whole = (int)scaled;
        const float rest = scaled - (float)whole;
        block->q[i] = (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
    }
}

void block32_quantize(uint8_t *bytes, enum weight_type type, const float x[BLOCK32_ELEMENTS])
{
    struct block32 block = {.d = QUANTIZE_NAN};
    bool finite = true;
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        finite &= fabsf(x[i]) <= FLT_MAX;
    if (finite && (type == WEIGHT_Q4_0 || type == WEIGHT_Q5_0))
        fit_signed(&block, x, type == WEIGHT_Q4_0 ? 8 : 16);
    else if (finite && type == WEIGHT_Q8_0)
        fit_bytes(&block, x);
    else if (finite)
        fit_range(&block, x, type == WEIGHT_Q4_1 ? 15 : 31);
    block32_write(bytes, type, &block);
}
