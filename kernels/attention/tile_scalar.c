/* tile_scalar.c - the tile kernel in plain C: the fallback everywhere, and the order to follow.
 *
 * The loops over 16 tokens and over head_dim are independent sums side by side: a compiler for a
 * machine with vectors and fused multiply-add may use them without changing a bit. */
#include "kernels/attention/tile.h"
#include "kernels/numeric.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static float lane_sum(const float *p)
{
    float lane[TILE_LANES];
    for (int i = 0; i < TILE_LANES; i++)
        lane[i] = ((p[i] + p[16 + i]) + (p[32 + i] + p[48 + i])) +
                  ((p[64 + i] + p[80 + i]) + (p[96 + i] + p[112 + i]));
    for (int width = TILE_LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

/* score[t] of the blocks of tokens that hold [first, last). */
static void float_scores(uint32_t head_dim, const float *q, const float *k, uint32_t first,
                         uint32_t last, float *score)
{
    for (uint32_t block = first / TILE_BLOCK; block * TILE_BLOCK < last; block++) {
        float *s = score + block * TILE_BLOCK;
        memset(s, 0, TILE_BLOCK * sizeof(*s));
        for (uint32_t d = 0; d < head_dim; d++) {
            const float *column = k + ((size_t)block * head_dim + d) * TILE_BLOCK;
            for (int i = 0; i < TILE_BLOCK; i++)
                s[i] = fmaf(q[d], column[i], s[i]);
        }
    }
}

static void q8_scores(uint32_t head_dim, struct tile_q8_query q, struct tile_q8 k, uint32_t first,
                      uint32_t last, float *score)
{
    const uint32_t n_blocks = head_dim / TILE_Q8_DIMS;
    for (uint32_t t = first; t < last; t++) {
        const uint8_t *values =
            (const uint8_t *)k.values + (size_t)(t / TILE_Q8_TOKENS) * TILE_Q8_TOKENS * head_dim;
        const uint16_t *scales =
            k.scales + (size_t)(t / TILE_Q8_TOKENS) * TILE_Q8_TOKENS * n_blocks;
        score[t] = 0.0f;
        for (uint32_t b = 0; b < n_blocks; b++) {
            int32_t dot = 0;
            for (uint32_t d = b * TILE_Q8_DIMS; d < (b + 1) * TILE_Q8_DIMS; d++)
                dot +=
                    q.q[d] *
                    (values[d / 4 * (4 * TILE_Q8_TOKENS) + t % TILE_Q8_TOKENS * 4 + d % 4] - 128);
            const float scale =
                half_to_float(scales[b * TILE_Q8_TOKENS + t % TILE_Q8_TOKENS]) * q.scale[b];
            score[t] = fmaf((float)dot, scale, score[t]);
        }
    }
}

/* Turns the scores of [first, last) into p, and all others into 0; returns l. */
static float weights_of(const struct attend_shape *shape, uint32_t first, uint32_t last, float *p,
                        float *m)
{
    float largest = -INFINITY;
    for (uint32_t t = first; t < last; t++) {
        p[t] *= shape->scale;
        if (shape->soft_cap > 0.0f)
            p[t] = shape->soft_cap * tanh_f32(p[t] / shape->soft_cap);
        largest = p[t] > largest ? p[t] : largest;
    }
    *m = largest + 0.0f;
    const float base = *m == -INFINITY ? 0.0f : *m; /* (-inf) - (-inf) is NaN and would spread */
    for (uint32_t t = 0; t < TILE_TOKENS; t++)
        p[t] = t >= first && t < last ? exp_f32(p[t] - base) : 0.0f;
    return lane_sum(p);
}

static void float_values(uint32_t head_dim, const float *p, const float *v, uint32_t first,
                         uint32_t last, float *o)
{
    for (uint32_t t = first; t < last; t++)
        for (uint32_t d = 0; d < head_dim; d++)
            o[d] = fmaf(p[t], v[(size_t)t * head_dim + d], o[d]);
}

static void q8_values(uint32_t head_dim, const float *p, struct tile_q8 v, uint32_t first,
                      uint32_t last, float *o)
{
    for (uint32_t b = 0; b < head_dim / TILE_Q8_DIMS; b++)
        for (uint32_t t = first; t < last; t++) {
            const size_t row = (size_t)b * TILE_TOKENS + t;
            const float weight = p[t] * half_to_float(v.scales[row]);
            const int8_t *values = (const int8_t *)v.values + row * TILE_Q8_DIMS;
            for (uint32_t d = 0; d < TILE_Q8_DIMS; d++)
                o[b * TILE_Q8_DIMS + d] = fmaf(weight, (float)values[d], o[b * TILE_Q8_DIMS + d]);
        }
}

/* Half a tile in f32, in the same layout. */
static const float *widened(const struct tile_call *call, const void *half, float *scratch)
{
    if (call->shape->type == KV_F32)
        return half;
    kv_widen(call->shape->type, scratch, half, (size_t)TILE_TOKENS * call->shape->head_dim);
    return scratch;
}

static void scalar_attend(const struct tile_call *call, struct tile_partial out)
{
    const struct attend_shape *shape = call->shape;
    const uint32_t head_dim = shape->head_dim;
    const bool q8 = shape->type == KV_Q8_0;
    const float *k = NULL, *v = NULL;
    if (!q8) {
        k = widened(call, call->k, call->scratch);
        v = widened(call, call->v, call->scratch + (size_t)TILE_TOKENS * head_dim);
    }
    for (uint32_t row = 0; row < call->n_rows; row++) {
        const uint32_t first = call->first != NULL ? call->first[row] : 0;
        const uint32_t last = call->last != NULL ? call->last[row] : TILE_TOKENS;
        const float *query = call->q + row * tile_query_floats(shape->type, head_dim);
        float p[TILE_TOKENS], *o = out.o + (size_t)row * head_dim;

        if (q8)
            q8_scores(head_dim, tile_q8_query(query, head_dim), tile_q8(call->k, head_dim), first,
                      last, p);
        else
            float_scores(head_dim, query, k, first, last, p);
        out.l[row] = weights_of(shape, first, last, p, &out.m[row]);
        memset(o, 0, head_dim * sizeof(*o));
        if (q8)
            q8_values(head_dim, p, tile_q8(call->v, head_dim), first, last, o);
        else
            float_values(head_dim, p, v, first, last, o);
    }
}

static void scalar_merge(struct tile_partial a, struct tile_partial b, size_t n_rows,
                         size_t head_dim)
{
    for (size_t row = 0; row < n_rows; row++) {
        float *o = a.o + row * head_dim;
        const float *other = b.o + row * head_dim;
        if (b.m[row] == -INFINITY)
            continue;
        if (a.m[row] == -INFINITY) {
            a.m[row] = b.m[row];
            a.l[row] = b.l[row];
            memcpy(o, other, head_dim * sizeof(*o));
            continue;
        }
        const float m = a.m[row] > b.m[row] ? a.m[row] : b.m[row];
        const float scale_a = exp_f32(a.m[row] - m), scale_b = exp_f32(b.m[row] - m);
        a.m[row] = m;
        a.l[row] = fmaf(b.l[row], scale_b, a.l[row] * scale_a);
        for (size_t d = 0; d < head_dim; d++)
            o[d] = fmaf(other[d], scale_b, o[d] * scale_a);
    }
}

static void scalar_merge_four(const struct tile_partial four[4], size_t n_rows, size_t head_dim)
{
    scalar_merge(four[0], four[1], n_rows, head_dim);
    scalar_merge(four[2], four[3], n_rows, head_dim);
    scalar_merge(four[0], four[2], n_rows, head_dim);
}

const struct tile_kernels tile_kernels_scalar = {
    .name = "scalar",
    .attend = scalar_attend,
    .merge = scalar_merge,
    .merge_four = scalar_merge_four,
};
