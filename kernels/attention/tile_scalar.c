/* tile_scalar.c - the tile kernel in plain C: the fallback everywhere, and the order to follow.
 *
 * The loops over 16 tokens and over head_dim are independent sums side by side: a compiler for a
 * machine with vectors and fused multiply-add may use them without changing a bit. */
#include "kernels/attention/tile.h"
#include "kernels/numeric.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { N_BLOCKS = TILE_TOKENS / TILE_BLOCK };

/* K and V of the tile as f32, in the same layout. */
static const float *widen(const struct tile_call *call)
{
    const size_t n = 2 * (size_t)TILE_TOKENS * call->shape->head_dim;
    if (call->shape->type == KV_F32)
        return call->tile;
    const uint16_t *halves = call->tile;
    for (size_t i = 0; i < n; i++)
        call->scratch[i] = half_to_float(halves[i]);
    return call->scratch;
}

/* tanh by e^(-2|x|): absolute error under 2e-7. */
static float tanh_f32(float x)
{
    const float e = exp_f32(-2.0f * fabsf(x));
    return copysignf((1.0f - e) / (1.0f + e), x);
}

static float lane_sum(const float *p)
{
    float lane[TILE_BLOCK];
    for (int i = 0; i < TILE_BLOCK; i++)
        lane[i] = ((p[i] + p[16 + i]) + (p[32 + i] + p[48 + i])) +
                  ((p[64 + i] + p[80 + i]) + (p[96 + i] + p[112 + i]));
    for (int width = TILE_BLOCK / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

static void attend_row(const struct attend_shape *shape, const float *q, const float *k,
                       const float *v, uint32_t first, uint32_t last, float *m, float *l, float *o)
{
    const uint32_t head_dim = shape->head_dim;
    float p[TILE_TOKENS];

    float largest = -INFINITY;
    for (uint32_t block = first / TILE_BLOCK; block * TILE_BLOCK < last; block++) {
        float *score = p + block * TILE_BLOCK;
        memset(score, 0, TILE_BLOCK * sizeof(*score));
        for (uint32_t d = 0; d < head_dim; d++) {
            const float *column = k + ((size_t)block * head_dim + d) * TILE_BLOCK;
            for (int i = 0; i < TILE_BLOCK; i++)
                score[i] = fmaf(q[d], column[i], score[i]);
        }
    }
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
    *l = lane_sum(p);

    memset(o, 0, head_dim * sizeof(*o));
    for (uint32_t t = first; t < last; t++)
        for (uint32_t d = 0; d < head_dim; d++)
            o[d] = fmaf(p[t], v[(size_t)t * head_dim + d], o[d]);
}

static void scalar_attend(const struct tile_call *call, struct tile_partial out)
{
    const struct attend_shape *shape = call->shape;
    const float *k = widen(call), *v = k + (size_t)TILE_TOKENS * shape->head_dim;

    for (uint32_t row = 0; row < call->n_rows; row++)
        attend_row(shape, call->q + (size_t)row * shape->head_dim, k, v,
                   call->first != NULL ? call->first[row] : 0,
                   call->last != NULL ? call->last[row] : TILE_TOKENS, out.m + row, out.l + row,
                   out.o + (size_t)row * shape->head_dim);
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

const struct tile_kernels tile_kernels_scalar = {
    .name = "scalar",
    .attend = scalar_attend,
    .merge = scalar_merge,
};
