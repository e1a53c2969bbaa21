/* tests/kernels/attention/reference.h - made-up K and V in tiles, and attention in plain double. */
#ifndef LONGSPAN_TESTS_KERNELS_ATTENTION_REFERENCE_H
#define LONGSPAN_TESTS_KERNELS_ATTENTION_REFERENCE_H

#include "kernels/attention/attend.h"
#include "kernels/attention/tile.h"
#include "tests/kernels/numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- random numbers, the same in every run --------------------------------------------------- */

/* In [-1, 1). */
static inline float random_unit(uint64_t *state)
{
    return (float)random_below(state, 1u << 24) / (float)(1 << 23) - 1.0f;
}

/* ---- a sequence of one layer and KV head ----------------------------------------------------- */

struct made_kv {
    enum kv_type type;
    uint32_t head_dim, n_tokens, n_tiles;
    float *k, *v; /* [n_tokens][head_dim], rounded to the type */
    char *memory; /* the tiles, 64-byte aligned; NaN where no token was written */
    void **pages; /* of page_tiles tiles each */
    uint32_t page_tiles;
};

/* Rounds the rows of kv->k and kv->v to the type, and writes them into tiles again. */
static inline void made_kv_store(struct made_kv *kv)
{
    const size_t row_bytes = kv_row_bytes(kv->type, kv->head_dim);
    const size_t bytes = tile_bytes(kv->type, kv->head_dim);
    float k[512], v[512];                          /* rows of any type */
    memset(kv->memory, 0xff, kv->n_tiles * bytes); /* a NaN in all types */
    for (uint32_t t = 0; t < kv->n_tokens; t++) {
        float *made_k = kv->k + (size_t)t * kv->head_dim,
              *made_v = kv->v + (size_t)t * kv->head_dim;
        kv_round(kv->type, k, made_k, kv->head_dim);
        kv_round(kv->type, v, made_v, kv->head_dim);
        kv_widen(kv->type, made_k, k, kv->head_dim);
        kv_widen(kv->type, made_v, v, kv->head_dim);
        tile_write(kv->memory + t / TILE_TOKENS * bytes, kv->type, kv->head_dim, t % TILE_TOKENS, 1,
                   k, v, row_bytes);
    }
}

static inline struct made_kv *made_kv_create(enum kv_type type, uint32_t head_dim,
                                             uint32_t n_tokens, uint32_t page_tiles, float k_scale,
                                             uint64_t seed)
{
    struct made_kv *kv = calloc(1, sizeof(*kv));
    const size_t n = (size_t)n_tokens * head_dim, bytes = tile_bytes(type, head_dim);
    kv->type = type;
    kv->head_dim = head_dim;
    kv->n_tokens = n_tokens;
    kv->n_tiles = n_tokens / TILE_TOKENS + 1;
    kv->page_tiles = page_tiles;
    kv->k = malloc((n + 1) * sizeof(float));
    kv->v = malloc((n + 1) * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        kv->k[i] = k_scale * random_unit(&seed);
        kv->v[i] = random_unit(&seed);
    }
    kv->n_tiles = (kv->n_tiles + page_tiles - 1) / page_tiles * page_tiles;
    kv->memory = aligned_alloc(64, kv->n_tiles * bytes);
    kv->pages = malloc((kv->n_tiles / page_tiles) * sizeof(void *));
    for (uint32_t i = 0; i < kv->n_tiles / page_tiles; i++)
        kv->pages[i] = kv->memory + i * page_tiles * bytes;
    made_kv_store(kv);
    return kv;
}

static inline void made_kv_destroy(struct made_kv *kv)
{
    free(kv->k);
    free(kv->v);
    free(kv->memory);
    free(kv->pages);
    free(kv);
}

static inline struct tile_source made_kv_source(const struct made_kv *kv)
{
    return (struct tile_source){kv->pages, 0, kv->page_tiles};
}

static inline float *made_floats(size_t n, float scale, uint64_t seed)
{
    float *x = malloc((n + 1) * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = scale * random_unit(&seed);
    return x;
}

/* ---- the judge ------------------------------------------------------------------------------ */

/* A query row as the kernels of the type take it: q8_0 rounds it to blocks of integers. */
static inline void reference_query(enum kv_type type, uint32_t head_dim, const float *q,
                                   double *query)
{
    float made[512];
    tile_query_write(type, head_dim, made, q);
    const struct tile_q8_query q8 = tile_q8_query(made, head_dim);
    for (uint32_t d = 0; d < head_dim; d++)
        query[d] = type == KV_Q8_0 ? (double)q8.q[d] * (double)q8.scale[d / TILE_Q8_DIMS]
                                   : (double)made[d];
}

/* One query row over tokens [first, last): *m, *l (of e^(score - m)), and out = o / l, in double.
 * No token: *m = -inf, *l = 0, out = 0. magnitude (may be NULL): the largest |v| with weight. */
static inline void reference_attend(const struct made_kv *kv, const float *q, uint32_t first,
                                    uint32_t last, double scale, double soft_cap, double *m,
                                    double *l, double *out)
{
    const uint32_t head_dim = kv->head_dim;
    double *score = malloc((last - first + 1) * sizeof(*score)), query[512];
    reference_query(kv->type, head_dim, q, query);
    *m = -INFINITY;
    *l = 0;
    for (uint32_t t = first; t < last; t++) {
        double sum = 0;
        for (uint32_t d = 0; d < head_dim; d++)
            sum += query[d] * (double)kv->k[(size_t)t * head_dim + d];
        sum *= scale;
        if (soft_cap > 0)
            sum = soft_cap * tanh(sum / soft_cap);
        score[t - first] = sum;
        *m = sum > *m ? sum : *m;
    }
    for (uint32_t d = 0; d < head_dim; d++)
        out[d] = 0;
    for (uint32_t t = first; t < last; t++) {
        const double p = exp(score[t - first] - *m);
        *l += p;
        for (uint32_t d = 0; d < head_dim; d++)
            out[d] += p * (double)kv->v[(size_t)t * head_dim + d];
    }
    for (uint32_t d = 0; d<head_dim && * l> 0; d++)
        out[d] /= *l;
    free(score);
}

#endif
