/* kernels/attention/tile_simd.h - the tile kernel over vectors of any length; the body of
 * tile_avx2.c, tile_avx512.c and tile_neon.h, which define before:
 *     VEC, VECI, LANES, and the functions vec_... and veci_...
 *     scores_tokens(R)   vectors of tokens that R rows sweep together in q k
 *     q8_scores_tokens(R) likewise, where q and k are integers
 *     values_dims(R)     vectors of dimensions that R rows sweep together in p v
 *     MAX_ROWS           the largest R of decode, and EACH_ROWS(half): ROWS_OF(1, half) and so on
 *     BLOCK_ROWS         the R of prefill
 *     N_REGISTERS        of vectors
 *
 * Every sum of the evaluation order (tile.h) runs inside one vector lane, so vectors and blocking
 * change no bit; what is left is to keep both multipliers busy (tile_simd_rows.h), and to fetch the
 * next tile ahead.
 *
 * Decode, a few rows: the tile is widened in the register block itself, so that it is read once.
 * Prefill: the tile is widened once into scratch memory, in pieces that stay in the first-level
 * cache while all rows pass over them: 64 tokens of K, then 64 dimensions of V. K of q8_0 is never
 * widened: its scores are sums of integers. */
#include "kernels/attention/tile.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum {
    VECS = TILE_TOKENS / LANES,      /* of scores, per row */
    BLOCK_VECS = TILE_BLOCK / LANES, /* of one block of K */
    Q8_VECS = TILE_Q8_TOKENS / LANES,
    LANE_VECS = TILE_LANES / LANES,
    PIECE = 64,                 /* tokens of K, dimensions of V that pass together */
    DIRECT_ROWS = 2 * MAX_ROWS, /* up to so many rows widen in registers, twice at most */
    LINE = 64,                  /* bytes of a line of the cache */
};

#define INLINE static inline __attribute__((always_inline))

#include "kernels/attention/tile_simd_rows.h"

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
    VEC p[VECS], lane[LANE_VECS]; /* the 16 lanes of tile.h */
#pragma GCC unroll 16
    for (int i = 0; i < VECS; i++) {
        p[i] = vec_exp(vec_sub(vec_load(s + i * LANES), base));
        vec_store(s + i * LANES, p[i]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANE_VECS; i++) {
        enum { B = LANE_VECS };
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
    size_t query_floats;
    bool q8;
    enum kind k_kind, v_kind; /* what k and v are */
    const void *k, *v;
    float *p, *m, *l, *o; /* p: [n_rows][TILE_TOKENS]; o: [n_rows][padded] */
    float *folded;        /* [TILE_FOLDED_ROWS][TILE_TOKENS]: p times a scale of V */
    struct fetch fetch;   /* empty: nothing to fetch */
};

static void widen(float *to, const void *from, size_t n, const enum kind kind)
{
    for (size_t i = 0; i < n; i += LANES)
        vec_store(to + i, load_wide(from, i, kind));
}

/* One element of V; head_dim need not be a multiple of LANES. */
static float widen_one(const void *v, size_t element, enum kind kind)
{
    return kind == DIRECT_F16    ? half_to_float(((const uint16_t *)v)[element])
           : kind == DIRECT_BF16 ? bfloat16_to_float(((const uint16_t *)v)[element])
                                 : ((const float *)v)[element];
}

/* V in pieces of PIECE dimensions: [piece][token][dimension], the last one narrower. */
static void widen_values(float *to, const void *v, uint32_t head_dim, uint32_t padded,
                         const enum kind kind)
{
    const uint32_t rest = padded == head_dim ? 0 : 8; /* head_dim is a multiple of 8 */
    for (uint32_t d = 0; d < padded; d += PIECE) {
        const uint32_t width = padded - d < PIECE ? padded - d : PIECE;
        const uint32_t n_whole = d + width > head_dim ? width - LANES : width;
        for (uint32_t t = 0; t < TILE_TOKENS; t++, to += width) {
            const size_t element = (size_t)t * head_dim + d;
            for (uint32_t i = 0; i < n_whole; i += LANES)
                vec_store(to + i, load_wide(v, element + i, kind));
            for (uint32_t i = n_whole; i < width; i++)
                to[i] = i >= n_whole + rest ? 0.0f : widen_one(v, element + i, kind);
        }
    }
}

/* Half a tile, in the layout that many rows pass over. */
static void widen_tile(struct pass *pass, float *k, float *v)
{
    const uint32_t head_dim = pass->head_dim, padded = pass->padded;
    const size_t n = (size_t)TILE_TOKENS * head_dim;
    switch (pass->v_kind) {
    case DIRECT_F16:
        widen(k, pass->k, n, DIRECT_F16);
        widen_values(v, pass->v, head_dim, padded, DIRECT_F16);
        break;
    case DIRECT_BF16:
        widen(k, pass->k, n, DIRECT_BF16);
        widen_values(v, pass->v, head_dim, padded, DIRECT_BF16);
        break;
    case DIRECT_Q8: /* already in pieces, of TILE_Q8_DIMS dimensions */
        widen(v, pass->v, n, DIRECT_Q8);
        pass->v = v;
        pass->v_kind = WIDE;
        return;
    default:
        widen(k, pass->k, n, DIRECT_F32);
        widen_values(v, pass->v, head_dim, padded, DIRECT_F32);
    }
    pass->k = k;
    pass->v = v;
    pass->k_kind = pass->v_kind = WIDE;
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
        rows_table[pass->k_kind][block->end - block->row].scores(
            call->q + block->row * pass->query_floats, pass->head_dim, pass->k, vec, end,
            &pass->fetch, call->shape->scale, pass->p + (size_t)block->row * TILE_TOKENS);
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

/* What a block's rows are multiplied with, from row block->row on. */
struct values {
    const float *p; /* [rows][TILE_TOKENS] */
    const void *v;
    size_t v_stride;
    uint32_t width;
    float *o; /* [rows][padded] */
};

/* Rows [row, row + n) of the block, tokens [first, last). */
static void add_values(struct pass *pass, const struct values *values, uint32_t row, uint32_t n,
                       uint32_t first, uint32_t last, bool add)
{
    rows_table[pass->v_kind][n].values(
        values->p + (size_t)row * TILE_TOKENS, values->v, values->v_stride, values->width, first,
        last, add, &pass->fetch, values->o + (size_t)row * pass->padded, pass->padded);
}

static void block_values(struct pass *pass, const struct block *block, const struct values *values)
{
    const struct tile_call *call = pass->call;
    const uint32_t n = block->end - block->row;
    const bool all = block->low_all == 0 && block->high_all == TILE_TOKENS;
    const bool common = block->low_all < block->high_all;

    /* A row's own tokens alone, in order: before, among and after those that all rows see. */
    for (uint32_t i = 0; i < n && !all; i++)
        add_values(pass, values, i, 1, call->first[block->row + i],
                   common ? block->low_all : call->last[block->row + i], false);
    if (common)
        add_values(pass, values, 0, n, block->low_all, block->high_all, !all);
    for (uint32_t i = 0; i < n && !all && common; i++)
        if (call->last[block->row + i] > block->high_all)
            add_values(pass, values, i, 1, block->high_all, call->last[block->row + i], true);
}

/* `width` dimensions of V from dimension d on, which lie at v. */
static void block_floats(struct pass *pass, const struct block *block, const void *v,
                         size_t v_stride, uint32_t d, uint32_t width)
{
    const struct values values = {.p = pass->p + (size_t)block->row * TILE_TOKENS,
                                  .v = v,
                                  .v_stride = v_stride,
                                  .width = width,
                                  .o = pass->o + (size_t)block->row * pass->padded + d};
    block_values(pass, block, &values);
}

/* q8_0, all dimensions: a scale of V belongs to a token and 32 dimensions, so it goes into p. What
 * lies in the place of a scale that no row sees is multiplied too, and never used. */
static void block_q8(struct pass *pass, const struct block *block)
{
    const struct tile_q8 tile = tile_q8(pass->call->v, pass->head_dim);
    const uint32_t n = block->end - block->row;
    for (uint32_t b = 0; b < pass->head_dim / TILE_Q8_DIMS; b++) {
        const size_t element = (size_t)b * TILE_TOKENS * TILE_Q8_DIMS;
        for (int i = 0; i < VECS; i++) {
            const VEC scale = vec_widen_half(tile.scales + b * TILE_TOKENS + i * LANES);
            for (uint32_t row = 0; row < n; row++) {
                const size_t at = (size_t)row * TILE_TOKENS + (size_t)i * LANES;
                vec_store(
                    pass->folded + at,
                    vec_mul(vec_load(pass->p + (size_t)block->row * TILE_TOKENS + at), scale));
            }
        }
        const struct values values = {
            .p = pass->folded,
            .v = (const char *)pass->v + element * kind_bytes(pass->v_kind),
            .v_stride = TILE_Q8_DIMS,
            .width = TILE_Q8_DIMS,
            .o = pass->o + (size_t)block->row * pass->padded + b * TILE_Q8_DIMS};
        block_values(pass, block, &values);
    }
}

/* Few rows: every block from end to end, on the tile as it lies in memory. */
static void attend_direct(struct pass *pass)
{
    const struct tile_call *call = pass->call;
    const uint32_t n_blocks = (call->n_rows + MAX_ROWS - 1) / MAX_ROWS;
    const size_t half = tile_bytes(call->shape->type, pass->head_dim) / 2;
    const char *v = pass->v, *next = call->next;
    if (next != NULL)
        pass->fetch = (struct fetch){next, next + 2 * half};
    for (uint32_t i = 0; i < n_blocks; i++) {
        const struct block block = block_of(call, i, n_blocks);
        block_scores(pass, &block, 0, VECS);
        block_exponentials(pass, &block);
        if (pass->q8)
            block_q8(pass, &block);
        else
            block_floats(pass, &block, v, pass->head_dim, 0, pass->head_dim);
    }
}

/* What a step of attend_widened fetches of what comes next, before it begins. */
static void fetch_share(struct fetch *fetch, size_t bytes)
{
    for (size_t i = 0; i < bytes && fetch->at < fetch->end; i += LINE, fetch->at += LINE)
        __builtin_prefetch(fetch->at, 0, 2);
}

/* Many rows: piece by piece of the widened tile, all blocks over each; where the whole tile is one
 * piece, so are a block's scores, exponentials and values. */
static void attend_widened(struct pass *pass)
{
    const struct tile_call *call = pass->call;
    const uint32_t n_blocks = (call->n_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const bool whole = pass->q8 || pass->padded <= PIECE / 2;
    const uint32_t n_pieces = whole ? 1 : TILE_TOKENS / PIECE + (pass->padded + PIECE - 1) / PIECE;
    const size_t bytes = tile_bytes(call->shape->type, pass->head_dim);
    const size_t share = (bytes / (n_pieces * n_blocks) + LINE) / LINE * LINE;
    const char *next = call->next;
    float *v = call->scratch + (size_t)TILE_TOKENS * pass->padded;
    widen_tile(pass, call->scratch, v);
    if (next != NULL)
        pass->fetch = (struct fetch){next, next + bytes};

    for (uint32_t i = 0; i < n_blocks && whole; i++) {
        const struct block block = block_of(call, i, n_blocks);
        fetch_share(&pass->fetch, share);
        block_scores(pass, &block, 0, VECS);
        block_exponentials(pass, &block);
        if (pass->q8)
            block_q8(pass, &block);
        else
            block_floats(pass, &block, v, pass->padded, 0, pass->padded);
    }
    for (int vec = 0; vec < VECS && !whole; vec += PIECE / LANES)
        for (uint32_t i = 0; i < n_blocks; i++) {
            const struct block block = block_of(call, i, n_blocks);
            fetch_share(&pass->fetch, share);
            block_scores(pass, &block, vec, vec + PIECE / LANES);
            if (vec + PIECE / LANES == VECS) /* while its scores are in the first-level cache */
                block_exponentials(pass, &block);
        }
    for (uint32_t d = 0; d < pass->padded && !whole; d += PIECE)
        for (uint32_t i = 0; i < n_blocks; i++) {
            const struct block block = block_of(call, i, n_blocks);
            const uint32_t width = pass->padded - d < PIECE ? pass->padded - d : PIECE;
            fetch_share(&pass->fetch, share);
            block_floats(pass, &block, v + (size_t)d * TILE_TOKENS, width, d, width);
        }
}

static void simd_attend(const struct tile_call *call, struct tile_partial out)
{
    static const enum kind kinds[KV_TYPES] = {[KV_F32] = DIRECT_F32,
                                              [KV_F16] = DIRECT_F16,
                                              [KV_BF16] = DIRECT_BF16,
                                              [KV_Q8_0] = DIRECT_Q8};
    const enum kv_type type = call->shape->type;
    const uint32_t head_dim = call->shape->head_dim;
    const uint32_t padded = (head_dim + LANES - 1) / LANES * LANES;
    struct pass pass = {
        .call = call,
        .head_dim = head_dim,
        .padded = padded,
        .query_floats = tile_query_floats(type, head_dim),
        .q8 = type == KV_Q8_0,
        .k_kind = kinds[type],
        .v_kind = kinds[type],
        .k = call->k,
        .v = call->v,
        .folded = call->scratch + 2 * (size_t)TILE_TOKENS * padded,
        .m = out.m,
        .l = out.l,
        .o = out.o,
    };
    pass.p = pass.folded + TILE_FOLDED_ROWS * TILE_TOKENS;
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

/* o = o * scale_a + other * scale_b, of one row. */
INLINE void merge_outputs(float *o, const float *other, float scale_a, float scale_b,
                          size_t head_dim)
{
    const VEC times_a = vec_set1(scale_a), times_b = vec_set1(scale_b);
    size_t d = 0;
    for (; d + LANES <= head_dim; d += LANES)
        vec_store(o + d, vec_fma(vec_load(other + d), times_b, vec_mul(vec_load(o + d), times_a)));
    for (; d < head_dim; d++)
        o[d] = fmaf(other[d], scale_b, o[d] * scale_a);
}

/* The m, l and scales of LANES rows: of each partial in a merge with the other. */
struct merge_scales {
    VEC m, l;
    float a[LANES], b[LANES];
};

INLINE void merge_scales(struct merge_scales *out, VEC m_a, VEC l_a, VEC m_b, VEC l_b)
{
    out->m = vec_max(m_a, m_b);
    const VEC scale_a = vec_exp(vec_sub(m_a, out->m)), scale_b = vec_exp(vec_sub(m_b, out->m));
    out->l = vec_fma(l_b, scale_b, vec_mul(l_a, scale_a));
    vec_store(out->a, scale_a);
    vec_store(out->b, scale_b);
}

/* a = merge(a, b) where one of them may be empty, which the other one passes through exactly. */
static void merge_row(struct tile_partial a, struct tile_partial b, size_t row, size_t head_dim)
{
    float *o = a.o + row * head_dim;
    const float *other = b.o + row * head_dim;
    if (b.m[row] == -INFINITY)
        return;
    if (a.m[row] == -INFINITY) {
        a.m[row] = b.m[row];
        a.l[row] = b.l[row];
        memcpy(o, other, head_dim * sizeof(*o));
        return;
    }
    struct merge_scales scales;
    merge_scales(&scales, vec_set1(a.m[row]), vec_set1(a.l[row]), vec_set1(b.m[row]),
                 vec_set1(b.l[row]));
    vec_store_first(a.m + row, scales.m, 1);
    vec_store_first(a.l + row, scales.l, 1);
    merge_outputs(o, other, scales.a[0], scales.b[0], head_dim);
}

static void simd_merge(struct tile_partial a, struct tile_partial b, size_t n_rows, size_t head_dim)
{
    for (size_t begin = 0; begin < n_rows; begin += LANES) {
        const size_t n = n_rows - begin < LANES ? n_rows - begin : LANES;
        const VEC m_a = vec_load_first(a.m + begin, n), m_b = vec_load_first(b.m + begin, n);
        if (vec_any_is(m_a, -INFINITY) || vec_any_is(m_b, -INFINITY)) {
            for (size_t row = begin; row < begin + n; row++)
                merge_row(a, b, row, head_dim);
            continue;
        }
        struct merge_scales scales;
        merge_scales(&scales, m_a, vec_load_first(a.l + begin, n), m_b,
                     vec_load_first(b.l + begin, n));
        vec_store_first(a.m + begin, scales.m, n);
        vec_store_first(a.l + begin, scales.l, n);
        for (size_t i = 0; i < n; i++) {
            float *o = a.o + (begin + i) * head_dim;
            const float *other = b.o + (begin + i) * head_dim;
            merge_outputs(o, other, scales.a[i], scales.b[i], head_dim);
        }
    }
}

static void simd_merge_four(const struct tile_partial four[4], size_t n_rows, size_t head_dim)
{
    for (size_t begin = 0; begin < n_rows; begin += LANES) {
        const size_t n = n_rows - begin < LANES ? n_rows - begin : LANES;
        VEC m[4], l[4];
        bool empty = false;
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            m[i] = vec_load_first(four[i].m + begin, n);
            l[i] = vec_load_first(four[i].l + begin, n);
            empty |= vec_any_is(m[i], -INFINITY);
        }
        if (empty) {
            for (size_t row = begin; row < begin + n; row++) {
                merge_row(four[0], four[1], row, head_dim);
                merge_row(four[2], four[3], row, head_dim);
                merge_row(four[0], four[2], row, head_dim);
            }
            continue;
        }
        struct merge_scales left, right, both;
        merge_scales(&left, m[0], l[0], m[1], l[1]);
        merge_scales(&right, m[2], l[2], m[3], l[3]);
        merge_scales(&both, left.m, left.l, right.m, right.l);
        vec_store_first(four[0].m + begin, both.m, n);
        vec_store_first(four[0].l + begin, both.l, n);
        for (size_t i = 0; i < n; i++) {
            const size_t at = (begin + i) * head_dim;
            float *o = four[0].o + at;
            const float *b = four[1].o + at, *c = four[2].o + at, *d = four[3].o + at;
            size_t e = 0;
            for (; e + LANES <= head_dim; e += LANES) {
                const VEC x = vec_fma(vec_load(b + e), vec_set1(left.b[i]),
                                      vec_mul(vec_load(o + e), vec_set1(left.a[i])));
                const VEC y = vec_fma(vec_load(d + e), vec_set1(right.b[i]),
                                      vec_mul(vec_load(c + e), vec_set1(right.a[i])));
                vec_store(o + e, vec_fma(y, vec_set1(both.b[i]), vec_mul(x, vec_set1(both.a[i]))));
            }
            for (; e < head_dim; e++) {
                const float x = fmaf(b[e], left.b[i], o[e] * left.a[i]);
                const float y = fmaf(d[e], right.b[i], c[e] * right.a[i]);
                o[e] = fmaf(y, both.b[i], x * both.a[i]);
            }
        }
    }
}
