/* kernels/attention/tile_simd.h - the tile kernel over vectors of any length; the body of
 * tile_avx2.c and tile_avx512.c, which define before:
 *     VEC, LANES, TILE_NAME (a string), and the functions vec_...
 *     scores_tokens(R)   vectors of tokens that R rows sweep together in q k
 *     values_dims(R)     vectors of dimensions that R rows sweep together in p v
 *     MAX_ROWS           the largest R of decode, and EACH_ROWS(half): ROWS_OF(1, half) and so on
 *     BLOCK_ROWS         the R of prefill
 *
 * Every sum of the evaluation order (tile.h) runs inside one vector lane, so vectors and blocking
 * change no bit; what is left is to keep both multipliers busy. A register block is R rows by T
 * vectors: each vector of K or V that is loaded is used R times, each value of q or p that is
 * broadcast T times, and R * T independent chains hide the latency of the multiply-add.
 *
 * Decode, a few rows: f16 is widened in the register block itself, so that the tile is read once,
 * and what comes next is fetched ahead. Prefill: the tile is widened once into scratch memory, in
 * pieces that stay in the first-level cache while all rows pass over them: 64 tokens of K, then 64
 * dimensions of V. */
#include "kernels/attention/tile.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum {
    VECS = TILE_TOKENS / LANES,      /* of scores, per row */
    BLOCK_VECS = TILE_BLOCK / LANES, /* of one block of K */
    PIECE = 64,                      /* tokens of K, dimensions of V that pass together */
    DIRECT_ROWS = 2 * MAX_ROWS,      /* up to so many rows widen in registers, twice at most */
    MAX_HEAD_DIM = 512
};

#define INLINE static inline __attribute__((always_inline))

/* ---- register blocks
 * ------------------------------------------------------------------------------ */

/* LANES elements as f32. */
INLINE VEC load_wide(const void *from, size_t element, const bool half)
{
    return half ? vec_widen((const uint16_t *)from + element)
                : vec_load((const float *)from + element);
}

INLINE void fetch(const char *from, ptrdiff_t ahead)
{
    _mm_prefetch(from + ahead, _MM_HINT_T0);
}

/* s[r][token] = chain over d of q[r][d] * k[token][d], for R rows and T vectors of tokens from
 * vector `vec` on. ahead: bytes from an element of K to what is read later. */
INLINE void scores_block(const int R, const int T, const bool half, const float *q, size_t head_dim,
                         const void *k, int vec, ptrdiff_t ahead, float *s)
{
    VEC sum[MAX_ROWS][VECS];
    size_t at[VECS];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) {
        at[t] = (size_t)((vec + t) / BLOCK_VECS) * TILE_BLOCK * head_dim +
                (size_t)((vec + t) % BLOCK_VECS) * LANES;
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[r][t] = vec_zero();
    }
    for (size_t d = 0; d < head_dim; d++) {
        if (half && ahead != 0 && d % 2 == 0)
#pragma GCC unroll 16
            for (int t = 0; t < T; t += BLOCK_VECS)
                fetch((const char *)((const uint16_t *)k + at[t] + d * TILE_BLOCK), ahead);
        if (R < T) {
            VEC row[MAX_ROWS];
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                row[r] = vec_set1(q[(size_t)r * head_dim + d]);
#pragma GCC unroll 16
            for (int t = 0; t < T; t++) {
                const VEC column = load_wide(k, at[t] + d * TILE_BLOCK, half);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++)
                    sum[r][t] = vec_fma(row[r], column, sum[r][t]);
            }
        } else {
            VEC column[VECS];
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
                column[t] = load_wide(k, at[t] + d * TILE_BLOCK, half);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const VEC row = vec_set1(q[(size_t)r * head_dim + d]);
#pragma GCC unroll 16
                for (int t = 0; t < T; t++)
                    sum[r][t] = vec_fma(row, column[t], sum[r][t]);
            }
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int t = 0; t < T; t++)
            vec_store(s + (size_t)r * TILE_TOKENS + (vec + t) * LANES, sum[r][t]);
}

/* Vectors [vec, end) of tokens; both even. */
INLINE void scores_rows(const int R, const bool half, const float *q, size_t head_dim,
                        const void *k, int vec, int end, ptrdiff_t ahead, float *s)
{
    const int T = scores_tokens(R);
    for (; vec + T <= end; vec += T)
        scores_block(R, T, half, q, head_dim, k, vec, ahead, s);
    for (; vec < end; vec += 2)
        scores_block(R, 2, half, q, head_dim, k, vec, ahead, s);
}

/* o[r][d] = chain over t in [first, last) of p[r][t] * v[t][d], from 0 or (add) from o, for R rows
 * and C vectors of d. v: tokens are v_stride elements apart. */
INLINE void values_block(const int R, const int C, const bool half, const float *p, const void *v,
                         size_t element, size_t v_stride, uint32_t first, uint32_t last, bool add,
                         ptrdiff_t ahead, float *o, size_t o_stride)
{
    VEC sum[MAX_ROWS][VECS];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int c = 0; c < C; c++)
            sum[r][c] = add ? vec_load(o + r * o_stride + c * LANES) : vec_zero();
    element += first * v_stride;
    for (uint32_t t = first; t < last; t++, element += v_stride) {
        if (half && ahead != 0)
#pragma GCC unroll 16
            for (int c = 0; c < C; c += 32 / LANES)
                fetch((const char *)((const uint16_t *)v + element + c * LANES), ahead);
        VEC column[VECS];
#pragma GCC unroll 16
        for (int c = 0; c < C; c++)
            column[c] = load_wide(v, element + c * LANES, half);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const VEC weight = vec_set1(p[(size_t)r * TILE_TOKENS + t]);
#pragma GCC unroll 16
            for (int c = 0; c < C; c++)
                sum[r][c] = vec_fma(weight, column[c], sum[r][c]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int c = 0; c < C; c++)
            vec_store(o + r * o_stride + c * LANES, sum[r][c]);
}

/* All of `width` dimensions, a multiple of LANES. */
INLINE void values_rows(const int R, const bool half, const float *p, const void *v,
                        size_t v_stride, size_t width, uint32_t first, uint32_t last, bool add,
                        ptrdiff_t ahead, float *o, size_t o_stride)
{
    const int C = values_dims(R);
    size_t d = 0;
    for (; d + C * LANES <= width; d += C * LANES)
        values_block(R, C, half, p, v, d, v_stride, first, last, add, ahead, o + d, o_stride);
    if (C > 4 && d + 4 * LANES <= width) {
        values_block(R, 4, half, p, v, d, v_stride, first, last, add, ahead, o + d, o_stride);
        d += 4 * LANES;
    }
    if (C > 2 && d + 2 * LANES <= width) {
        values_block(R, 2, half, p, v, d, v_stride, first, last, add, ahead, o + d, o_stride);
        d += 2 * LANES;
    }
    if (d < width)
        values_block(R, 1, half, p, v, d, v_stride, first, last, add, ahead, o + d, o_stride);
}

/* One function for each number of rows and type. */
#define ROWS_OF(R, half)                                                                           \
    static void scores_##half##_##R(const float *q, size_t head_dim, const void *k, int vec,       \
                                    int end, ptrdiff_t ahead, float *s)                            \
    {                                                                                              \
        scores_rows(R, half, q, head_dim, k, vec, end, ahead, s);                                  \
    }                                                                                              \
    static void values_##half##_##R(const float *p, const void *v, size_t v_stride, size_t width,  \
                                    uint32_t first, uint32_t last, bool add, ptrdiff_t ahead,      \
                                    float *o, size_t o_stride)                                     \
    {                                                                                              \
        values_rows(R, half, p, v, v_stride, width, first, last, add, ahead, o, o_stride);         \
    }
EACH_ROWS(0)
EACH_ROWS(1)
#undef ROWS_OF

static const struct {
    void (*scores)(const float *q, size_t head_dim, const void *k, int vec, int end,
                   ptrdiff_t ahead, float *s);
    void (*values)(const float *p, const void *v, size_t v_stride, size_t width, uint32_t first,
                   uint32_t last, bool add, ptrdiff_t ahead, float *o, size_t o_stride);
} rows_table[2][MAX_ROWS + 1] = {
#define ROWS_OF(R, half) {scores_##half##_##R, values_##half##_##R},
    {{NULL, NULL}, EACH_ROWS(0)},
    {{NULL, NULL}, EACH_ROWS(1)},
#undef ROWS_OF
};

/* ---- a row's exponentials
 * ------------------------------------------------------------------------- */

INLINE VEC soft_cap_of(VEC x, VEC cap)
{
    const VEC one = vec_set1(1.0f), y = vec_div(x, cap);
    const VEC e = vec_exp(vec_mul(vec_set1(-2.0f), vec_abs(y)));
    return vec_mul(cap, vec_copysign(vec_div(vec_sub(one, e), vec_add(one, e)), y));
}

/* In: s = sums over head_dim. Out: p, m, l. Tokens outside [first, last) may hold anything. */
INLINE void exponentials(const struct attend_shape *shape, float *s, uint32_t first, uint32_t last,
                         float *m, float *l)
{
    const VEC scale = vec_set1(shape->scale), cap = vec_set1(shape->soft_cap);
    VEC x[VECS];
#pragma GCC unroll 16
    for (int i = 0; i < VECS; i++)
        x[i] = vec_mul(vec_load(s + i * LANES), scale);
    if (shape->soft_cap > 0.0f)
        for (int i = 0; i < VECS; i++)
            x[i] = soft_cap_of(x[i], cap);
    if (first > 0 || last < TILE_TOKENS) {
        for (int i = 0; i < VECS; i++)
            vec_store(s + i * LANES, x[i]);
        for (uint32_t t = 0; t < first; t++)
            s[t] = -INFINITY;
        for (uint32_t t = last; t < TILE_TOKENS; t++)
            s[t] = -INFINITY;
        for (int i = 0; i < VECS; i++)
            x[i] = vec_load(s + i * LANES);
    }
    VEC largest[4] = {x[0], x[1], x[2], x[3]};
#pragma GCC unroll 16
    for (int i = 4; i < VECS; i++)
        largest[i % 4] = vec_max(largest[i % 4], x[i]);
    *m = vec_largest(vec_max(vec_max(largest[0], largest[1]), vec_max(largest[2], largest[3]))) +
         0.0f;
    /* (-inf) - (-inf) is NaN and would spread */
    const VEC base = vec_set1(*m == -INFINITY ? 0.0f : *m);
#pragma GCC unroll 16
    for (int i = 0; i < VECS; i++) {
        x[i] = vec_exp(vec_sub(x[i], base));
        vec_store(s + i * LANES, x[i]);
    }
    VEC lane[BLOCK_VECS]; /* the 16 lanes of tile.h */
#pragma GCC unroll 16
    for (int i = 0; i < BLOCK_VECS; i++) {
        const VEC *p = x + i;
        enum { B = BLOCK_VECS };
        lane[i] = vec_add(vec_add(vec_add(p[0], p[B]), vec_add(p[2 * B], p[3 * B])),
                          vec_add(vec_add(p[4 * B], p[5 * B]), vec_add(p[6 * B], p[7 * B])));
    }
    *l = vec_lane_sum(lane);
}

/* ---- a tile
 * --------------------------------------------------------------------------------------- */

/* What all row blocks of a call read. */
struct pass {
    const struct tile_call *call;
    uint32_t head_dim, padded; /* padded: to a multiple of LANES */
    bool half;                 /* k and v are f16: direct */
    const void *k, *v;
    float *p, *o;               /* p: [n_rows][TILE_TOKENS]; o: [n_rows][padded] */
    ptrdiff_t ahead_k, ahead_v; /* bytes to what is fetched ahead; 0: nothing */
};

static void widen(float *to, const void *from, size_t n, bool half)
{
    for (size_t i = 0; i < n; i += LANES)
        vec_store(to + i, load_wide(from, i, half));
}

/* V in pieces of PIECE dimensions: [piece][token][dimension], the last one narrower. */
static void widen_values(float *to, const void *v, uint32_t head_dim, uint32_t padded, bool half)
{
    for (uint32_t d = 0; d < padded; d += PIECE) {
        const uint32_t width = padded - d < PIECE ? padded - d : PIECE;
        for (uint32_t t = 0; t < TILE_TOKENS; t++, to += width)
            for (uint32_t i = 0; i < width; i += LANES) {
                const size_t element = (size_t)t * head_dim + d + i;
                if (d + i + LANES <= head_dim)
                    vec_store(to + i, load_wide(v, element, half));
                else /* half a vector is left: head_dim is a multiple of 8 */
                    for (uint32_t j = 0; j < LANES; j++)
                        to[i + j] = d + i + j >= head_dim ? 0.0f
                                    : half ? half_to_float(((const uint16_t *)v)[element + j])
                                           : ((const float *)v)[element + j];
            }
    }
}

/* The i-th of n parts of n_rows rows that differ by one row at most. */
INLINE uint32_t part_begin(uint32_t n_rows, uint32_t i, uint32_t n)
{
    return n_rows * i / n;
}

/* The tokens that rows [row, end) see together: any of them (*low, *high), all of them. */
static void visible_tokens(const struct tile_call *call, uint32_t row, uint32_t end, uint32_t *low,
                           uint32_t *high, uint32_t *low_all, uint32_t *high_all)
{
    *low = call->first == NULL ? 0 : TILE_TOKENS;
    *high = call->last == NULL ? TILE_TOKENS : 0;
    *low_all = 0;
    *high_all = TILE_TOKENS;
    for (; call->first != NULL && row < end; row++) {
        const uint32_t first = call->first[row], last = call->last[row];
        *low_all = first > *low_all ? first : *low_all;
        *high_all = last < *high_all ? last : *high_all;
        if (first < last) {
            *low = first < *low ? first : *low;
            *high = last > *high ? last : *high;
        }
    }
}

static void pass_scores(const struct pass *pass, uint32_t n_parts)
{
    const struct tile_call *call = pass->call;
    const int step = pass->half || n_parts == 1 ? VECS : PIECE / LANES;
    for (int vec = 0; vec < VECS; vec += step)
        for (uint32_t i = 0; i < n_parts; i++) {
            const uint32_t row = part_begin(call->n_rows, i, n_parts);
            const uint32_t end = part_begin(call->n_rows, i + 1, n_parts);
            uint32_t low, high, low_all, high_all;
            visible_tokens(call, row, end, &low, &high, &low_all, &high_all);
            int from = (int)(low / (2 * LANES)) * 2,
                to = (int)((high + 2 * LANES - 1) / (2 * LANES)) * 2;
            from = from > vec ? from : vec;
            to = to < vec + step ? to : vec + step;
            if (from < to)
                rows_table[pass->half][end - row].scores(
                    call->q + (size_t)row * pass->head_dim, pass->head_dim, pass->k, from, to,
                    pass->ahead_k, pass->p + (size_t)row * TILE_TOKENS);
        }
}

/* `width` dimensions of V from v on, to o. */
static void pass_values(const struct pass *pass, uint32_t n_parts, const void *v, size_t v_stride,
                        uint32_t width, float *o)
{
    const struct tile_call *call = pass->call;
    for (uint32_t i = 0; i < n_parts; i++) {
        const uint32_t row = part_begin(call->n_rows, i, n_parts);
        const uint32_t end = part_begin(call->n_rows, i + 1, n_parts);
        float *p = pass->p + (size_t)row * TILE_TOKENS, *to = o + (size_t)row * pass->padded;
        uint32_t low, high, low_all, high_all;
        visible_tokens(call, row, end, &low, &high, &low_all, &high_all);
        if (low_all == 0 && high_all == TILE_TOKENS) {
            rows_table[pass->half][end - row].values(p, v, v_stride, width, 0, TILE_TOKENS, false,
                                                     pass->ahead_v, to, pass->padded);
            continue;
        }
        /* Each row's own tokens alone, in order: before, among and after those that all rows see.
         */
        const bool common = low_all < high_all;
        for (uint32_t r = row; r < end; r++) {
            const uint32_t first = call->first[r], last = common ? low_all : call->last[r];
            rows_table[pass->half][1].values(pass->p + (size_t)r * TILE_TOKENS, v, v_stride, width,
                                             first, last, false, 0, o + (size_t)r * pass->padded,
                                             pass->padded);
        }
        if (!common)
            continue;
        rows_table[pass->half][end - row].values(p, v, v_stride, width, low_all, high_all, true, 0,
                                                 to, pass->padded);
        for (uint32_t r = row; r < end; r++)
            if (call->last[r] > high_all)
                rows_table[pass->half][1].values(pass->p + (size_t)r * TILE_TOKENS, v, v_stride,
                                                 width, high_all, call->last[r], true, 0,
                                                 o + (size_t)r * pass->padded, pass->padded);
    }
}

static void simd_attend(const struct tile_call *call, struct tile_partial out)
{
    const struct attend_shape *shape = call->shape;
    const uint32_t head_dim = shape->head_dim;
    const bool half = shape->type == KV_F16;
    const char *tile = call->tile;
    const size_t half_tile = tile_bytes(shape->type, head_dim) / 2;
    struct pass pass = {.call = call,
                        .head_dim = head_dim,
                        .padded = (head_dim + LANES - 1) / LANES * LANES,
                        .half = half,
                        .k = tile,
                        .v = tile + half_tile};
    const size_t n_wide = (size_t)TILE_TOKENS * pass.padded;
    float *k = call->scratch, *v = k + n_wide;
    pass.p = v + n_wide;
    pass.o = pass.padded == head_dim ? out.o : pass.p + (size_t)TILE_BLOCK_ROWS * TILE_TOKENS;

    const bool direct = call->n_rows <= DIRECT_ROWS && pass.padded == head_dim;
    const uint32_t most = direct ? MAX_ROWS : BLOCK_ROWS;
    const uint32_t n_parts = (call->n_rows + most - 1) / most;
    if (direct) {
        pass.ahead_k = (ptrdiff_t)half_tile;
        pass.ahead_v = call->next != NULL ? (const char *)call->next - (const char *)pass.v : 0;
    } else {
        widen(k, tile, (size_t)TILE_TOKENS * head_dim, half);
        widen_values(v, tile + half_tile, head_dim, pass.padded, half);
        pass.half = false;
        pass.k = k;
    }

    pass_scores(&pass, n_parts);
    for (uint32_t row = 0; row < call->n_rows; row++)
        exponentials(shape, pass.p + (size_t)row * TILE_TOKENS,
                     call->first != NULL ? call->first[row] : 0,
                     call->last != NULL ? call->last[row] : TILE_TOKENS, out.m + row, out.l + row);
    if (direct) {
        pass_values(&pass, n_parts, pass.v, head_dim, head_dim, pass.o);
        return;
    }
    for (uint32_t d = 0; d < pass.padded; d += PIECE) {
        const uint32_t width = pass.padded - d < PIECE ? pass.padded - d : PIECE;
        pass_values(&pass, n_parts, v + (size_t)d * TILE_TOKENS, width, width, pass.o + d);
    }
    for (uint32_t row = 0; row < call->n_rows && pass.o != out.o; row++)
        memcpy(out.o + (size_t)row * head_dim, pass.o + (size_t)row * pass.padded,
               head_dim * sizeof(float));
}

/* ---- merge
 * ---------------------------------------------------------------------------------------- */

static void simd_merge(struct tile_partial a, struct tile_partial b, size_t n_rows, size_t head_dim)
{
    for (size_t begin = 0; begin < n_rows; begin += LANES) {
        const size_t n = n_rows - begin < LANES ? n_rows - begin : LANES;
        float m[LANES] = {0}, m_b[LANES] = {0}, scale_a[LANES], scale_b[LANES];
        memcpy(m, a.m + begin, n * sizeof(*m));
        memcpy(m_b, b.m + begin, n * sizeof(*m));
        const VEC wide_a = vec_load(m), wide_b = vec_load(m_b), wide = vec_max(wide_a, wide_b);
        vec_store(m, wide);
        vec_store(scale_a, vec_exp(vec_sub(wide_a, wide)));
        vec_store(scale_b, vec_exp(vec_sub(wide_b, wide)));

        for (size_t i = 0; i < n; i++) {
            const size_t row = begin + i;
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
            a.m[row] = m[i];
            a.l[row] = fmaf(b.l[row], scale_b[i], a.l[row] * scale_a[i]);
            const VEC times_a = vec_set1(scale_a[i]), times_b = vec_set1(scale_b[i]);
            size_t d = 0;
            for (; d + LANES <= head_dim; d += LANES)
                vec_store(o + d,
                          vec_fma(vec_load(other + d), times_b, vec_mul(vec_load(o + d), times_a)));
            for (; d < head_dim; d++)
                o[d] = fmaf(other[d], scale_b[i], o[d] * scale_a[i]);
        }
    }
}
