/* kernels/cpu/elementwise.h - what is not a product, as plain loops that a compiler makes vectors
 * of.
 *
 * Each variant's source includes this file, so that the loops are compiled once per instruction
 * set. Without -ffast-math a compiler may not change the order of any sum, so that they give the
 * same bits. */
#ifndef LONGSPAN_KERNELS_CPU_ELEMENTWISE_H
#define LONGSPAN_KERNELS_CPU_ELEMENTWISE_H

#include "kernels/cpu/variant.h"
#include "kernels/numeric.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void pack_float(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n)
{
    float *out = tile;
    if (n_rows == 1) {
        memcpy(out, x, n * sizeof(*out));
        return;
    }
    enum { PIECE = 16 }; /* columns whose tile stays in the first-level cache while rows pass */
    for (size_t begin = 0; begin < n; begin += PIECE) {
        const size_t end = n - begin < PIECE ? n : begin + PIECE;
        for (uint32_t row = 0; row < n_rows; row++)
            for (size_t k = begin; k < end; k++)
                out[k * n_rows + row] = x[row * x_stride + k];
    }
}

/* 32 values to integers in [-127, 127]; returns the scale. */
static inline float quantize_block(int32_t *integers, const float *x)
{
    uint32_t largest = 0; /* patterns of |x| are ordered like the numbers; NaN above infinity */
    for (int i = 0; i < 32; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= 0x7f800000 || largest < 0x0d800000) { /* not finite, or below 2^-100 */
        memset(integers, 0, 32 * sizeof(*integers));
        return largest >= 0x7f800000 ? NAN : 0.0f; /* so tiny is as good as zero */
    }
    float maximum;
    memcpy(&maximum, &largest, sizeof(maximum));
    const float inverse = 127.0f / maximum;
    for (int i = 0; i < 32; i++) {
        const float shifted = x[i] * inverse + 12582912.0f; /* 1.5 * 2^23: rounds to an integer */
        int32_t bits;
        memcpy(&bits, &shifted, sizeof(bits));
        integers[i] = bits - 0x4b400000;
    }
    return maximum / 127.0f;
}

/* A compiler that first unrolls a loop as short as this one adds one number after the other. */
static inline int32_t sum_of_16(const int32_t *integers)
{
    int32_t sum = 0;
#pragma GCC unroll 1
    for (int i = 0; i < 16; i++)
        sum += integers[i];
    return sum;
}

static void pack_quant(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n)
{
    uint8_t *block = tile;
    for (size_t k = 0; k < n; k += 32, block += (size_t)n_rows * CPU_X_BLOCK_BYTES)
        for (size_t row = 0; row < n_rows; row++) {
            int8_t q[32];
            int32_t integers[32], words[CPU_X_WORDS];
            const float scale = quantize_block(integers, x + row * x_stride + k);
            const int32_t first = sum_of_16(integers), second = sum_of_16(integers + 16);
            for (int i = 0; i < 32; i++)
                q[i] = (int8_t)integers[i];
            const float sum = scale * (float)(first + second);
            memcpy(words + CPU_X_VALUES, q, sizeof(q));
            memcpy(words + CPU_X_SCALE, &scale, 4);
            memcpy(words + CPU_X_SUM, &sum, 4);
            words[CPU_X_START] = -8 * (first + second);
            words[CPU_X_STARTS] = -32 * first;
            words[CPU_X_STARTS + 1] = -32 * second;
            for (size_t i = 0; i < CPU_X_WORDS; i++)
                memcpy(block + (i * n_rows + row) * 4, &words[i], 4);
        }
}

/* The sum of squares: 16 sums in double, of the columns k with the same k % 16 (a square is exact
 * there), added pairwise at the end. */
static void rms_norm_row(float *y, const float *x, const float *weight, uint32_t n, float epsilon)
{
    double sums[16] = {0};
    uint32_t k = 0;
    for (; k + 16 <= n; k += 16)
        for (uint32_t j = 0; j < 16; j++)
            sums[j] += (double)x[k + j] * (double)x[k + j];
    for (uint32_t j = 0; k < n; k++, j++)
        sums[j] += (double)x[k] * (double)x[k];
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++)
            sums[j] += sums[j + half];
    const float scale = (float)(1.0 / sqrt(sums[0] / n + (double)epsilon));
    for (k = 0; k < n; k++)
        y[k] = x[k] * scale * weight[k];
}

/* Cosines are made once per row, for all heads, some pairs at a time. */
static void rotate_row(float *x, uint32_t position, uint32_t n_heads, uint32_t head_dim,
                       const struct rope *rope)
{
    enum { PAIRS = 64 };
    float cosine[PAIRS], sine[PAIRS];
    const uint32_t n_pairs = rope->n_dims / 2;

    assert(rope->n_dims <= head_dim && rope->n_dims % 2 == 0);
    for (uint32_t begin = 0; begin < n_pairs; begin += PAIRS) {
        const uint32_t n = n_pairs - begin < PAIRS ? n_pairs - begin : PAIRS;
        for (uint32_t i = 0; i < n; i++) {
            double s, c;
            sincos_f64((double)position * rope->frequency[begin + i], &s, &c);
            cosine[i] = (float)(c * (double)rope->magnitude);
            sine[i] = (float)(s * (double)rope->magnitude);
        }
        for (uint32_t h = 0; h < n_heads; h++) {
            float *head = x + (size_t)h * head_dim;
            float *first = rope->neox ? head + begin : head + 2 * (size_t)begin;
            float *second = rope->neox ? first + n_pairs : first + 1;
            const size_t step = rope->neox ? 1 : 2;
            for (size_t i = 0; i < n; i++) {
                const float a = first[i * step], b = second[i * step];
                first[i * step] = fmaf(a, cosine[i], -(b * sine[i]));
                second[i * step] = fmaf(a, sine[i], b * cosine[i]);
            }
        }
    }
}

/* SwiGLU of one pair, and of what is left over by vectors. */
static inline float swiglu_one(float gate, float up)
{
    return gate / (1.0f + exp_f32(-gate)) * up;
}

/* GEGLU and the soft cap, likewise. */
static inline float geglu_one(float gate, float up)
{
    return gate / (1.0f + exp_f32(gelu_exponent_f32(gate))) * up;
}

static inline float soft_cap_one(float x, float cap)
{
    return cap * tanh_f32(x / cap);
}

static void scale_vector(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

static void add_vectors(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

/* Range by range, like a binary counter: two finished siblings are added at once. Ranges without
 * terms are added too: 0 + -0 is 0 wherever they lie. */
static void combine_piece(float *out, const float *y, size_t n_columns,
                          const struct combine_terms *terms, size_t row, size_t first, size_t n)
{
    enum { LEVELS = 4 }; /* of 2^3 = MATRIX_SEGMENTS ranges */
    float sums[LEVELS][CPU_COMBINE_PIECE];
    const uint32_t *end = terms->end + row * terms->n_ranges;
    uint32_t term = row > 0 ? end[-1] : 0, depth = 0;

    assert(n <= CPU_COMBINE_PIECE && terms->n_ranges <= MATRIX_SEGMENTS);
    for (uint32_t range = 0; range < terms->n_ranges; range++) {
        float *sum = sums[depth++];
        memset(sum, 0, n * sizeof(*sum));
        for (; term < end[range]; term++) {
            const float *from = y + terms->row[term] * n_columns + first;
            const float weight = terms->weight[term];
            for (size_t i = 0; i < n; i++)
                sum[i] = fmaf(weight, from[i], sum[i]);
        }
        for (uint32_t done = range + 1; done % 2 == 0; done /= 2, depth--)
            add_vectors(sums[depth - 2], sums[depth - 1], n);
    }
    assert(depth == 1);
    memcpy(out + row * n_columns + first, sums[0], n * sizeof(*out));
}

/* A variant's members from here, with the gates of its own source. */
#define ELEMENTWISE                                                                                \
    .rms_norm = rms_norm_row, .rotate = rotate_row, .swiglu = swiglu, .geglu = geglu,              \
    .add = add_vectors, .scale = scale_vector, .soft_cap = soft_cap, .combine = combine_piece

#endif
