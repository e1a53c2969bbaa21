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
    LINE = 64,                       /* bytes of a line of the cache */
};

#define INLINE static inline __attribute__((always_inline))

/* ---- register blocks --------------------------------------------------------------------- */

/* LANES elements as f32. */
INLINE VEC load_wide(const void *from, size_t element, const bool half)
{
    return half ? vec_widen((const uint16_t *)from + element)
                : vec_load((const float *)from + element);
}

/* What a register block's sources are: the widened tile, or the tile as it lies in memory. */
enum kind { WIDE, DIRECT_F32, DIRECT_F16, N_KINDS };

/* Memory that will be read next, [at, end), fetched line by line while what came before is
 * computed: V during the scores, the next tile's K during the values. Measured on one core
 * (bench/attention --lanes 1), f16, groups of 4: 13 GB/s without; 34 so; 30 if the exponentials
 * fetch a share too; 28 into the second-level cache only. */
struct fetch {
    const char *at, *end;
};

/* In a loop that reads `width` elements a turn: fetches as much. */
INLINE void fetch_in_loop(struct fetch *fetch, const enum kind kind, const int width, size_t turn)
{
    const int bytes = width * (kind == DIRECT_F32 ? 4 : 2);
    const int n = bytes > LINE ? bytes / LINE : 1;
    if (kind != WIDE && turn % (size_t)(n * LINE / bytes) == 0 && fetch->at < fetch->end) {
#pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            _mm_prefetch(fetch->at + (ptrdiff_t)i * LINE, _MM_HINT_T0);
        fetch->at += (ptrdiff_t)n * LINE;
    }
}

/* s[r][token] = scale * chain over d of q[r][d] * k[token][d], for R rows and T vectors of tokens
 * from vector `vec` on. */
INLINE void scores_block(const int R, const int T, const enum kind kind, const float *q,
                         size_t head_dim, const void *k, int vec, struct fetch *fetch, float scale,
                         float *s)
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
        fetch_in_loop(fetch, kind, T * LANES, d);
        if (R < T) {
            VEC row[MAX_ROWS];
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                row[r] = vec_set1(q[(size_t)r * head_dim + d]);
#pragma GCC unroll 16
            for (int t = 0; t < T; t++) {
                const VEC column = load_wide(k, at[t] + d * TILE_BLOCK, kind == DIRECT_F16);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++)
                    sum[r][t] = vec_fma(row[r], column, sum[r][t]);
            }
        } else {
            VEC column[VECS];
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
                column[t] = load_wide(k, at[t] + d * TILE_BLOCK, kind == DIRECT_F16);
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
            vec_store(s + (size_t)r * TILE_TOKENS + (vec + t) * LANES,
                      vec_mul(sum[r][t], vec_set1(scale)));
}

/* Vectors [vec, end) of tokens; both even. */
INLINE void scores_rows(const int R, const enum kind kind, const float *q, size_t head_dim,
                        const void *k, int vec, int end, struct fetch *fetch, float scale, float *s)
{
    const int T = scores_tokens(R);
    for (; vec + T <= end; vec += T)
        scores_block(R, T, kind, q, head_dim, k, vec, fetch, scale, s);
    for (; vec < end; vec += 2)
        scores_block(R, 2, kind, q, head_dim, k, vec, fetch, scale, s);
}

/* o[r][d] = chain over t in [first, last) of p[r][t] * v[t][d], from 0 or (add) from o, for R rows
 * and C vectors of d. v: tokens are v_stride elements apart. */
INLINE void values_block(const int R, const int C, const enum kind kind, const float *p,
                         const void *v, size_t element, size_t v_stride, uint32_t first,
                         uint32_t last, bool add, struct fetch *fetch, float *o, size_t o_stride)
{
    VEC sum[MAX_ROWS][VECS];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int c = 0; c < C; c++)
            sum[r][c] = add ? vec_load(o + r * o_stride + c * LANES) : vec_zero();
    element += first * v_stride;
    for (uint32_t t = first; t < last; t++, element += v_stride) {
        fetch_in_loop(fetch, kind, C * LANES, t);
        VEC column[VECS];
#pragma GCC unroll 16
        for (int c = 0; c < C; c++)
            column[c] = load_wide(v, element + c * LANES, kind == DIRECT_F16);
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
INLINE void values_rows(const int R, const enum kind kind, const float *p, const void *v,
                        size_t v_stride, size_t width, uint32_t first, uint32_t last, bool add,
                        struct fetch *fetch, float *o, size_t o_stride)
{
    const int C = values_dims(R);
    size_t d = 0;
    for (; d + C * LANES <= width; d += C * LANES)
        values_block(R, C, kind, p, v, d, v_stride, first, last, add, fetch, o + d, o_stride);
    if (C > 4 && d + 4 * LANES <= width) {
        values_block(R, 4, kind, p, v, d, v_stride, first, last, add, fetch, o + d, o_stride);
        d += 4 * LANES;
    }
    if (C > 2 && d + 2 * LANES <= width) {
        values_block(R, 2, kind, p, v, d, v_stride, first, last, add, fetch, o + d, o_stride);
        d += 2 * LANES;
    }
    if (d < width)
        values_block(R, 1, kind, p, v, d, v_stride, first, last, add, fetch, o + d, o_stride);
}

/* One function for each number of rows and type. */
#define ROWS_OF(R, kind)                                                                           \
    static void scores_##kind##_##R(const float *q, size_t head_dim, const void *k, int vec,       \
                                    int end, struct fetch *fetch, float scale, float *s)           \
    {                                                                                              \
        scores_rows(R, kind, q, head_dim, k, vec, end, fetch, scale, s);                           \
    }                                                                                              \
    static void values_##kind##_##R(const float *p, const void *v, size_t v_stride, size_t width,  \
                                    uint32_t first, uint32_t last, bool add, struct fetch *fetch,  \
                                    float *o, size_t o_stride)                                     \
    {                                                                                              \
        values_rows(R, kind, p, v, v_stride, width, first, last, add, fetch, o, o_stride);         \
    }
EACH_ROWS(WIDE)
EACH_ROWS(DIRECT_F32)
EACH_ROWS(DIRECT_F16)
#undef ROWS_OF

static const struct {
    void (*scores)(const float *q, size_t head_dim, const void *k, int vec, int end,
                   struct fetch *fetch, float scale, float *s);
    void (*values)(const float *p, const void *v, size_t v_stride, size_t width, uint32_t first,
                   uint32_t last, bool add, struct fetch *fetch, float *o, size_t o_stride);
} rows_table[N_KINDS][MAX_ROWS + 1] = {
#define ROWS_OF(R, kind) {scores_##kind##_##R, values_##kind##_##R},
    {{NULL, NULL}, EACH_ROWS(WIDE)},
    {{NULL, NULL}, EACH_ROWS(DIRECT_F32)},
    {{NULL, NULL}, EACH_ROWS(DIRECT_F16)},
#undef ROWS_OF
};

/* ---- a row's exponentials ---------------------------------------------------------------- */

INLINE VEC soft_cap_of(VEC x, VEC cap)
{
    const VEC one = vec_set1(1.0f), y = vec_div(x, cap);
    const VEC e = vec_exp(vec_mul(vec_set1(-2.0f), vec_abs(y)));
    return vec_mul(cap, vec_copysign(vec_div(vec_sub(one, e), vec_add(one, e)), y));
}

/* Scores of a row: the soft cap, and -inf for tokens outside [first, last), which may hold
 * anything. */
static void cap_and_mask(const struct attend_shape *shape, float *s, uint32_t first, uint32_t last)
{
    for (int i = 0; i < VECS && shape->soft_cap > 0.0f; i++)
        vec_store(s + i * LANES, soft_cap_of(vec_load(s + i * LANES), vec_set1(shape->soft_cap)));
    for (uint32_t t = 0; t < first; t++)
        s[t] = -INFINITY;
    for (uint32_t t = last; t < TILE_TOKENS; t++)
        s[t] = -INFINITY;
}

INLINE float largest_of(const float *s)
{
    VEC largest[4];
#pragma GCC unroll 16
    for (int i = 0; i < 4; i++)
        largest[i] = vec_load(s + i * LANES);
#pragma GCC unroll 16
    for (int i = 4; i < VECS; i++)
        largest[i % 4] = vec_max(largest[i % 4], vec_load(s + i * LANES));
    return vec_largest(vec_max(vec_max(largest[0], largest[1]), vec_max(largest[2], largest[3]))) +
           0.0f;
}

/* Turns the scores of a row into p; returns l. */
INLINE float exponentials(float *s, float m)
{
    /* (-inf) - (-inf) is NaN and would spread */
    const VEC base = vec_set1(m == -INFINITY ? 0.0f : m);
    VEC p[VECS], lane[BLOCK_VECS]; /* the 16 lanes of tile.h */
#pragma GCC unroll 16
    for (int i = 0; i < VECS; i++) {
        p[i] = vec_exp(vec_sub(vec_load(s + i * LANES), base));
        vec_store(s + i * LANES, p[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < BLOCK_VECS; i++) {
        enum { B = BLOCK_VECS };
        const VEC *x = p + i;
        lane[i] = vec_add(vec_add(vec_add(x[0], x[B]), vec_add(x[2 * B], x[3 * B])),
                          vec_add(vec_add(x[4 * B], x[5 * B]), vec_add(x[6 * B], x[7 * B])));
    }
    return vec_lane_sum(lane);
}

/* ---- a tile ------------------------------------------------------------------------------ */

/* What all row blocks of a call read. */
struct pass {
    const struct tile_call *call;
    uint32_t head_dim, padded; /* padded: to a multiple of LANES */
    enum kind kind;            /* of k and v */
    const void *k, *v;
    float *p, *m, *l, *o;              /* p: [n_rows][TILE_TOKENS]; o: [n_rows][padded] */
    struct fetch in_scores, in_values; /* empty: nothing to fetch */
};

static void widen(float *to, const void *from, size_t n, bool half)
{
    for (size_t i = 0; i < n; i += LANES)
        vec_store(to + i, load_wide(from, i, half));
}

/* V in pieces of PIECE dimensions: [piece][token][dimension], the last one narrower. */
static void widen_values(float *to, const void *v, uint32_t head_dim, uint32_t padded, bool half)
{
    const uint32_t rest = padded == head_dim ? 0 : 8; /* head_dim is a multiple of 8 */
    for (uint32_t d = 0; d < padded; d += PIECE) {
        const uint32_t width = padded - d < PIECE ? padded - d : PIECE;
        const uint32_t n_whole = d + width > head_dim ? width - LANES : width;
        for (uint32_t t = 0; t < TILE_TOKENS; t++, to += width) {
            const size_t element = (size_t)t * head_dim + d;
            for (uint32_t i = 0; i < n_whole; i += LANES)
                vec_store(to + i, load_wide(v, element + i, half));
            for (uint32_t i = n_whole; i < width; i++)
                to[i] = i >= n_whole + rest ? 0.0f
                        : half              ? half_to_float(((const uint16_t *)v)[element + i])
                                            : ((const float *)v)[element + i];
        }
    }
}

/* Rows that are in registers together, and which tokens any and all of them see. */
struct block {
    uint32_t row, end;
    uint32_t low, high;         /* any */
    uint32_t low_all, high_all; /* all; none where high_all <= low_all */
};

/* The i-th of n blocks; they differ by one row at most. */
static struct block block_of(const struct tile_call *call, uint32_t i, uint32_t n)
{
    struct block block = {.row = call->n_rows * i / n,
                          .end = call->n_rows * (i + 1) / n,
                          .high = TILE_TOKENS,
                          .high_all = TILE_TOKENS};
    if (call->first == NULL)
        return block;
    block.low = TILE_TOKENS;
    block.high = 0;
    for (uint32_t row = block.row; row < block.end; row++) {
        const uint32_t first = call->first[row], last = call->last[row];
        block.low_all = first > block.low_all ? first : block.low_all;
        block.high_all = last < block.high_all ? last : block.high_all;
        if (first < last) {
            block.low = first < block.low ? first : block.low;
            block.high = last > block.high ? last : block.high;
        }
    }
    return block;
}

/* Scores of vectors [vec, end) of tokens. */
static void block_scores(struct pass *pass, const struct block *block, int vec, int end)
{
    const struct tile_call *call = pass->call;
    const int low = (int)(block->low / (2 * LANES)) * 2;
    const int high = (int)((block->high + 2 * LANES - 1) / (2 * LANES)) * 2;
    vec = vec > low ? vec : low;
    end = end < high ? end : high;
    if (vec < end)
        rows_table[pass->kind][block->end - block->row].scores(
            call->q + (size_t)block->row * pass->head_dim, pass->head_dim, pass->k, vec, end,
            &pass->in_scores, call->shape->scale, pass->p + (size_t)block->row * TILE_TOKENS);
}

static void block_exponentials(struct pass *pass, const struct block *block)
{
    const struct tile_call *call = pass->call;
    const struct attend_shape *shape = call->shape;
    float *p = pass->p;
    if (call->first != NULL || shape->soft_cap > 0.0f)
        for (uint32_t row = block->row; row < block->end; row++)
            cap_and_mask(shape, p + (size_t)row * TILE_TOKENS,
                         call->first != NULL ? call->first[row] : 0,
                         call->last != NULL ? call->last[row] : TILE_TOKENS);
    /* Apart, so that no exponential waits for the chain that finds its row's largest score. */
    for (uint32_t row = block->row; row < block->end; row++)
        pass->m[row] = largest_of(p + (size_t)row * TILE_TOKENS);
    for (uint32_t row = block->row; row < block->end; row++)
        pass->l[row] = exponentials(p + (size_t)row * TILE_TOKENS, pass->m[row]);
}

/* One row's tokens [first, last). */
static void row_values(struct pass *pass, uint32_t row, const void *v, size_t v_stride,
                       uint32_t width, uint32_t first, uint32_t last, bool add, float *o)
{
    rows_table[pass->kind][1].values(pass->p + (size_t)row * TILE_TOKENS, v, v_stride, width, first,
                                     last, add, &pass->in_values, o + (size_t)row * pass->padded,
                                     pass->padded);
}

/* `width` dimensions of V, from v on, to o. */
static void block_values(struct pass *pass, const struct block *block, const void *v,
                         size_t v_stride, uint32_t width, float *o)
{
    const struct tile_call *call = pass->call;
    const bool all = block->low_all == 0 && block->high_all == TILE_TOKENS;
    const bool common = block->low_all < block->high_all;

    /* A row's own tokens alone, in order: before, among and after those that all rows see. */
    for (uint32_t row = block->row; row < block->end && !all; row++)
        row_values(pass, row, v, v_stride, width, call->first[row],
                   common ? block->low_all : call->last[row], false, o);
    if (common)
        rows_table[pass->kind][block->end - block->row].values(
            pass->p + (size_t)block->row * TILE_TOKENS, v, v_stride, width, block->low_all,
            block->high_all, !all, &pass->in_values, o + (size_t)block->row * pass->padded,
            pass->padded);
    for (uint32_t row = block->row; row < block->end && !all && common; row++)
        if (call->last[row] > block->high_all)
            row_values(pass, row, v, v_stride, width, block->high_all, call->last[row], true, o);
}

/* Few rows: every block from end to end, on the tile as it lies in memory. */
static void attend_direct(struct pass *pass)
{
    const struct tile_call *call = pass->call;
    const uint32_t n_blocks = (call->n_rows + MAX_ROWS - 1) / MAX_ROWS;
    const char *k = pass->k, *v = pass->v, *next = call->next;
    pass->in_scores = (struct fetch){v, v + (v - k)};
    if (next != NULL)
        pass->in_values = (struct fetch){next, next + (v - k)};
    for (uint32_t i = 0; i < n_blocks; i++) {
        const struct block block = block_of(call, i, n_blocks);
        block_scores(pass, &block, 0, VECS);
        block_exponentials(pass, &block);
        block_values(pass, &block, pass->v, pass->head_dim, pass->head_dim, pass->o);
    }
}

/* Many rows: piece by piece of the widened tile, all blocks over each; where the whole tile is one
 * piece, so are a block's scores, exponentials and values. */
static void attend_widened(struct pass *pass)
{
    const struct tile_call *call = pass->call;
    const size_t n_wide = (size_t)TILE_TOKENS * pass->padded;
    const uint32_t n_blocks = (call->n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    float *k = call->scratch, *v = k + n_wide;
    widen(k, pass->k, (size_t)TILE_TOKENS * pass->head_dim, pass->kind == DIRECT_F16);
    widen_values(v, pass->v, pass->head_dim, pass->padded, pass->kind == DIRECT_F16);
    pass->kind = WIDE;
    pass->k = k;

    if (pass->padded <= PIECE / 2) {
        for (uint32_t i = 0; i < n_blocks; i++) {
            const struct block block = block_of(call, i, n_blocks);
            block_scores(pass, &block, 0, VECS);
            block_exponentials(pass, &block);
            block_values(pass, &block, v, pass->padded, pass->padded, pass->o);
        }
        return;
    }
    for (int vec = 0; vec < VECS; vec += PIECE / LANES)
        for (uint32_t i = 0; i < n_blocks; i++) {
            const struct block block = block_of(call, i, n_blocks);
            block_scores(pass, &block, vec, vec + PIECE / LANES);
        }
    for (uint32_t i = 0; i < n_blocks; i++) {
        const struct block block = block_of(call, i, n_blocks);
        block_exponentials(pass, &block);
    }
    for (uint32_t d = 0; d < pass->padded; d += PIECE)
        for (uint32_t i = 0; i < n_blocks; i++) {
            const struct block block = block_of(call, i, n_blocks);
            const uint32_t width = pass->padded - d < PIECE ? pass->padded - d : PIECE;
            block_values(pass, &block, v + (size_t)d * TILE_TOKENS, width, width, pass->o + d);
        }
}

static void simd_attend(const struct tile_call *call, struct tile_partial out)
{
    const uint32_t head_dim = call->shape->head_dim;
    const uint32_t padded = (head_dim + LANES - 1) / LANES * LANES;
    struct pass pass = {
        .call = call,
        .head_dim = head_dim,
        .padded = padded,
        .kind = call->shape->type == KV_F16 ? DIRECT_F16 : DIRECT_F32,
        .k = call->tile,
        .v = (const char *)call->tile + tile_bytes(call->shape->type, head_dim) / 2,
        .p = call->scratch + 2 * (size_t)TILE_TOKENS * padded,
        .m = out.m,
        .l = out.l,
        .o = out.o,
    };
    if (padded != head_dim)
        pass.o = pass.p + (size_t)TILE_BLOCK_ROWS * TILE_TOKENS;
    if (call->n_rows <= DIRECT_ROWS && padded == head_dim)
        attend_direct(&pass);
    else
        attend_widened(&pass);
    for (uint32_t row = 0; row < call->n_rows && padded != head_dim; row++)
        memcpy(out.o + (size_t)row * head_dim, pass.o + (size_t)row * padded,
               head_dim * sizeof(float));
}

/* ---- merge ------------------------------------------------------------------------------- */

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
