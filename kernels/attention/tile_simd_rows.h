/* kernels/attention/tile_simd_rows.h - the register blocks of the tile kernel: q k and p v for some
 * rows at a time. Part of tile_simd.h, which see.
 *
 * A register block is R rows by T vectors: each vector of K or V that is loaded is used R times,
 * each value of q or p that is broadcast T times, and R * T independent chains hide the latency of
 * the multiply-add. */
/* What a register block's sources are: the widened tile, or the tile as it lies in memory. */
enum kind { WIDE, DIRECT_F32, DIRECT_F16, DIRECT_BF16, DIRECT_Q8, N_KINDS };

INLINE size_t kind_bytes(const enum kind kind)
{
    return kind == DIRECT_Q8 ? 1 : kind == DIRECT_F16 || kind == DIRECT_BF16 ? 2 : 4;
}

/* LANES elements as f32. */
INLINE VEC load_wide(const void *from, size_t element, const enum kind kind)
{
    const char *at = (const char *)from + element * kind_bytes(kind);
    return kind == DIRECT_F16    ? vec_widen_half(at)
           : kind == DIRECT_BF16 ? vec_widen_bfloat16(at)
           : kind == DIRECT_Q8   ? vec_widen_int8(at)
                                 : vec_load((const float *)(const void *)at);
}

/* Memory that will be read next, [at, end): the tile after this one, fetched into the second-level
 * cache line by line while this one is computed. The first level cannot hold both. Each loop
 * fetches about as much as its share of the time. */
struct fetch {
    const char *at, *end;
};

/* In a loop: fetches `bytes` a turn. */
INLINE void fetch_in_loop(struct fetch *fetch, const int bytes, size_t turn)
{
    const int n = bytes > LINE ? bytes / LINE : 1;
    if (turn % (size_t)(n * LINE / bytes) == 0 && fetch->at < fetch->end) {
#pragma GCC unroll 16
        for (int i = 0; i < n; i++)
            __builtin_prefetch(fetch->at + (ptrdiff_t)i * LINE, 0, 2);
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
    size_t
        at[VECS]; /* of vector vec + t, from k on: vec is a multiple of T, so no T crosses a block
                      * unless it is made of whole ones */
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) {
        at[t] = (size_t)(t / BLOCK_VECS) * TILE_BLOCK * head_dim + (size_t)(t % BLOCK_VECS) * LANES;
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[r][t] = vec_zero();
    }
    const size_t block = (size_t)vec / BLOCK_VECS, lane = (size_t)vec % BLOCK_VECS * LANES;
    k = (const char *)k + (block * TILE_BLOCK * head_dim + lane) * kind_bytes(kind);
    for (size_t d = 0; d < head_dim; d++) {
        if (kind != WIDE)
            fetch_in_loop(fetch, T * LANES * (int)kind_bytes(kind), d);
        if (R < T) {
            VEC row[MAX_ROWS];
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                row[r] = vec_set1(q[(size_t)r * head_dim + d]);
#pragma GCC unroll 16
            for (int t = 0; t < T; t++) {
                const VEC column = load_wide(k, at[t] + d * TILE_BLOCK, kind);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++)
                    sum[r][t] = vec_fma(row[r], column, sum[r][t]);
            }
        } else {
            VEC column[VECS];
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
                column[t] = load_wide(k, at[t] + d * TILE_BLOCK, kind);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const VEC row = vec_set1(q[(size_t)r * head_dim + d]);
#pragma GCC unroll 16
                for (int t = 0; t < T; t++)
                    sum[r][t] = vec_fma(row, column[t], sum[r][t]);
            }
        }
    }
    if (R * T + T + 2 > N_REGISTERS - 1)
        __asm__("" : "+m"(scale)); /* it takes no register in the loop */
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int t = 0; t < T; t++)
            vec_store(s + (size_t)r * TILE_TOKENS + (vec + t) * LANES,
                      vec_mul(sum[r][t], vec_set1(scale)));
}

/* q8_0: s[r][token] = scale * chain over blocks of float(dot) * (K * Q). K lies as k + 128, which
 * veci_dot_start or veci_column makes good: all integers, so exact in any order. */
INLINE void q8_scores_block(const int R, const int T, const struct tile_q8_query *q,
                            size_t head_dim, struct tile_q8 k, int vec, struct fetch *fetch,
                            float scale, float *s)
{
    const size_t n_blocks = head_dim / TILE_Q8_DIMS;
    VEC sum[MAX_ROWS][VECS];
    const char *values[VECS];
    const uint16_t *scales[VECS];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) {
        const size_t block = (size_t)((vec + t) / Q8_VECS),
                     lane = (size_t)((vec + t) % Q8_VECS) * LANES;
        values[t] = (const char *)k.values + block * TILE_Q8_TOKENS * head_dim + 4 * lane;
        scales[t] = k.scales + block * TILE_Q8_TOKENS * n_blocks + lane;
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[r][t] = vec_zero();
    }
    for (size_t b = 0; b < n_blocks; b++) {
        VECI dot[MAX_ROWS][VECS];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
                dot[r][t] = veci_dot_start(q[r].offset[b]);
        for (size_t d = b * TILE_Q8_DIMS; d < (b + 1) * TILE_Q8_DIMS; d += 4) {
            VECI column[VECS];
            fetch_in_loop(fetch, T * LANES, d / 4);
#pragma GCC unroll 16
            for (int t = 0; t < T; t++)
                column[t] = veci_column(values[t] + d * TILE_Q8_TOKENS);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const VECI row = veci_set1_bytes(q[r].q + d);
#pragma GCC unroll 16
                for (int t = 0; t < T; t++)
                    dot[r][t] = veci_dot(dot[r][t], column[t], row);
            }
        }
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) {
            const VEC wide = vec_widen_half(scales[t] + b * TILE_Q8_TOKENS);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                sum[r][t] = vec_fma(vec_from_int(dot[r][t]), vec_mul(wide, vec_set1(q[r].scale[b])),
                                    sum[r][t]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int t = 0; t < T; t++)
            vec_store(s + (size_t)r * TILE_TOKENS + (vec + t) * LANES,
                      vec_mul(sum[r][t], vec_set1(scale)));
}

INLINE void q8_scores_rows(const int R, const float *q, size_t head_dim, const void *k, int vec,
                           int end, struct fetch *fetch, float scale, float *s)
{
    const int T = q8_scores_tokens(R);
    const struct tile_q8 tile = tile_q8(k, (uint32_t)head_dim);
    struct tile_q8_query rows[MAX_ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
        rows[r] = tile_q8_query(q + (size_t)r * tile_query_floats(KV_Q8_0, (uint32_t)head_dim),
                                (uint32_t)head_dim);
    for (; vec + T <= end; vec += T)
        q8_scores_block(R, T, rows, head_dim, tile, vec, fetch, scale, s);
    for (; vec < end; vec++)
        q8_scores_block(R, 1, rows, head_dim, tile, vec, fetch, scale, s);
}

/* Vectors [vec, end) of tokens, both even; and what lies before vec up to a multiple of T. */
INLINE void scores_rows(const int R, const enum kind kind, const float *q, size_t head_dim,
                        const void *k, int vec, int end, struct fetch *fetch, float scale, float *s)
{
    if (kind == DIRECT_Q8) {
        q8_scores_rows(R, q, head_dim, k, vec, end, fetch, scale, s);
        return;
    }
    const int T = scores_tokens(R);
    for (vec = vec / T * T; vec + T <= end; vec += T)
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
        if (kind != WIDE)
            fetch_in_loop(fetch, C * LANES * (int)(kind == DIRECT_Q8 ? 2 : kind_bytes(kind)), t);
        if (R < C && R * C + C + 1 > N_REGISTERS) { /* the columns do not fit beside the sums */
            VEC weight[MAX_ROWS];
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                weight[r] = vec_set1(p[(size_t)r * TILE_TOKENS + t]);
#pragma GCC unroll 16
            for (int c = 0; c < C; c++) {
                const VEC column = load_wide(v, element + c * LANES, kind);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++)
                    sum[r][c] = vec_fma(weight[r], column, sum[r][c]);
            }
        } else {
            VEC column[VECS];
#pragma GCC unroll 16
            for (int c = 0; c < C; c++)
                column[c] = load_wide(v, element + c * LANES, kind);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const VEC weight = vec_set1(p[(size_t)r * TILE_TOKENS + t]);
#pragma GCC unroll 16
                for (int c = 0; c < C; c++)
                    sum[r][c] = vec_fma(weight, column[c], sum[r][c]);
            }
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
EACH_ROWS(DIRECT_BF16)
EACH_ROWS(DIRECT_Q8)
#undef ROWS_OF

static const struct {
    void (*scores)(const float *q, size_t head_dim, const void *k, int vec, int end,
                   struct fetch *fetch, float scale, float *s);
    void (*values)(const float *p, const void *v, size_t v_stride, size_t width, uint32_t first,
                   uint32_t last, bool add, struct fetch *fetch, float *o, size_t o_stride);
} rows_table[N_KINDS][MAX_ROWS + 1] = {
#define ROWS_OF(R, kind) {scores_##kind##_##R, values_##kind##_##R},
    {{NULL, NULL}, EACH_ROWS(WIDE)},       {{NULL, NULL}, EACH_ROWS(DIRECT_F32)},
    {{NULL, NULL}, EACH_ROWS(DIRECT_F16)}, {{NULL, NULL}, EACH_ROWS(DIRECT_BF16)},
    {{NULL, NULL}, EACH_ROWS(DIRECT_Q8)},
#undef ROWS_OF
};
