/* kernels/attention/tile.h - the tile kernel: attention of a row block over one tile, from nothing.
 *
 * For the executor (attend.c), partial.c, tests and bench/ only. The evaluation order of a row, the
 * same in every variant and for every number of rows:
 *     score[t] = scale * chain over d of fma(q[d], k[t][d], .), from +0
 *     score[t] = cap * tanh(score[t] / cap)                           where there is a soft cap
 *     m        = largest score of the visible tokens, + 0 (so that a zero is +0)
 *     p[t]     = exp_f32(score[t] - m); 0 where t is not visible
 *     l        = 16 lanes, token t in lane t % 16; each lane adds its eight p as
 *                ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7)),
 *                then lanes i and i + 8 are added, i and i + 4, i and i + 2, i and i + 1
 *     o[d]     = chain over the visible t, ascending, of fma(p[t], v[t][d], .), from +0
 * k and v are the exact f32 values of f32, f16 and bf16 rows. For q8_0, a row is int8 k[t][d] times
 * a scale K[t][b] for each block b of 32 dimensions (likewise v and V), and the query row is made
 * int8 q[d] times Q[b] too (tile_query_write):
 *     dot[t][b] = sum over the block's d of q[d] * k[t][d], in integers, exact
 *     score[t]  = scale * chain over b of fma(float(dot[t][b]), K[t][b] * Q[b], .), from +0
 *     o[d]      = chain over the visible t, ascending, of fma(p[t] * V[t][b], float(v[t][d]), .)
 *
 * Values of tokens that a row does not see are never used: their memory may hold anything. */
#ifndef LONGSPAN_KERNELS_ATTENTION_TILE_H
#define LONGSPAN_KERNELS_ATTENTION_TILE_H

#include "kernels/attention/attend.h"

enum {
    TILE_BLOCK = 64,       /* tokens of K that are stored together */
    TILE_Q8_TOKENS = 16,   /* likewise, of q8_0 */
    TILE_LANES = 16,       /* of the sum l */
    TILE_BLOCK_ROWS = 256, /* rows of one call, at most */
    TILE_Q8_DIMS = 32,     /* of one scale of q8_0 */
    TILE_FOLDED_ROWS = 8   /* rows whose weights p V are in scratch at a time */
};

/* The m, l and o of some consecutive rows of a partial; o: [n_rows][head_dim]. */
struct tile_partial {
    float *m, *l, *o;
};

struct tile_call {
    const struct attend_shape *shape;
    const float *q; /* n_rows query rows, as tile_query_write left them */
    uint32_t n_rows;
    /* Row r sees tokens [first[r], last[r]) of the tile; none where last[r] <= first[r]. Both NULL:
     * all rows see all tokens. */
    const uint8_t *first, *last;
    const void *k, *v; /* the halves of the tile */
    const void *next;  /* the tile that is read after this one, to be fetched ahead; may be NULL */
    float *scratch;    /* tile_scratch_floats, 64-byte aligned */
};

struct tile_kernels {
    const char *name; /* as in kernels/kernels.h */
    void (*attend)(const struct tile_call *call, struct tile_partial out);

    /* partial_merge of rows: a = merge(a, b). */
    void (*merge)(struct tile_partial a, struct tile_partial b, size_t n_rows, size_t head_dim);

    /* Of four partials: a = merge(merge(a, b), merge(c, d)), those after a are lost. The tree's
     * last two levels of tiles, in one pass over the rows. */
    void (*merge_four)(const struct tile_partial four[4], size_t n_rows, size_t head_dim);
};

extern const struct tile_kernels tile_kernels_scalar;
#if defined(__x86_64__)
extern const struct tile_kernels tile_kernels_avx2;
extern const struct tile_kernels tile_kernels_avx512;
#elif defined(__aarch64__)
extern const struct tile_kernels tile_kernels_neon;
extern const struct tile_kernels tile_kernels_dotprod;
#endif

/* The variant of that name; NULL: not compiled in. */
const struct tile_kernels *tile_kernels_find(const char *name);

/* The fastest that this machine can run. */
const struct tile_kernels *tile_kernels_fastest(void);

/* A query row as the kernels take it: the values themselves, or for q8_0 int8 q[head_dim], f32
 * Q[head_dim / 32], and for each block -128 times the sum of its q (K is stored as k + 128). A
 * value that is no number, or infinite, makes its block's scores NaN. */
size_t tile_query_floats(enum kv_type type, uint32_t head_dim);
void tile_query_write(enum kv_type type, uint32_t head_dim, float *query, const float *q);

/* A query row and a tile of q8_0, part by part; see attend.h. */
struct tile_q8_query {
    const int8_t *q;
    const float *scale;
    const int32_t *offset;
};
struct tile_q8 {
    const void *values; /* k + 128 as uint8_t, or v as int8_t */
    const uint16_t *scales;
};
static inline struct tile_q8_query tile_q8_query(const float *query, uint32_t head_dim)
{
    const float *scale = query + head_dim / 4;
    return (struct tile_q8_query){(const int8_t *)query, scale,
                                  (const int32_t *)(const void *)(scale + head_dim / TILE_Q8_DIMS)};
}
static inline struct tile_q8 tile_q8(const void *half, uint32_t head_dim)
{
    const void *scales = (const char *)half + (size_t)TILE_TOKENS * head_dim;
    return (struct tile_q8){half, scales};
}

/* Scratch memory of one call: K and V of a tile in f32, its scores, weights of V's blocks, and o of
 * rows whose head_dim is not a multiple of 16. */
size_t tile_scratch_floats(uint32_t head_dim);

/* Rows [row, ...) of a partial of n_rows rows. */
struct tile_partial tile_partial_at(float *partial, size_t n_rows, size_t head_dim, size_t row);

void tile_partial_clear(struct tile_partial partial, size_t n_rows, size_t head_dim);

#endif
