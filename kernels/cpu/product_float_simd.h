/* kernels/cpu/product_float_simd.h - products with F32, F16 and BF16 weights over vectors of any
 * length; the body of product_float_avx2.c and its siblings, which include a vector_....h before
 * and define FLOAT_ROWS(X): X(R, V) for every height R of a tile, with the number of vectors V that
 * go together.
 *
 * Products are register tiles of V vectors of outputs times R rows. Sums stay in registers for a
 * whole span; per column each weight vector is loaded once for R rows, each activation is broadcast
 * once for V vectors. The loops are written once with V and R as constants, and every height of a
 * tile gets its own copy: decode with one row is the same code as prefill. */
#include "kernels/cpu/product_simd.h"

enum {
    FLOAT_MAX_SUMS = 32,
    PREFILL_ROWS = 4, /* lower tiles are decode: nothing comes after them */
};

INLINE VEC load_weights(const uint8_t *w, const enum weight_type type)
{
    return type == WEIGHT_F32   ? vec_load(w)
           : type == WEIGHT_F16 ? vec_load_f16(w)
                                : vec_load_bf16(w);
}

/* Vectors [first, first + V) with the R rows of the tile. */
INLINE void float_tile(const struct cpu_product *p, uint32_t first, const enum weight_type type,
                       const int V, const int R)
{
    const size_t step = panel_offset(type, 1), part = step * LANES / PANEL_ROWS;
    const uint8_t *w = p->weights + vector_offset(p, first, part);
    const float *x = p->x, *next_x = p->next_x;
    VEC sum[FLOAT_MAX_SUMS], weight[FLOAT_MAX_SUMS];

#pragma GCC unroll 32
    for (int i = 0; i < V * R; i++)
        sum[i] = vec_zero();
    for (uint32_t k = 0; k < p->n; k++, w += step, x += R, next_x += R) {
        if (R >= PREFILL_ROWS)
            __builtin_prefetch(next_x, 0, 2); /* into the second level */
#pragma GCC unroll 32
        for (int i = 0; i < V; i++) {
            const uint8_t *from = w + vector_offset(p, (uint32_t)i, part);
            weight[i] = load_weights(from, type);
            if (i % PANEL_VECTORS == 0)
                prefetch(from, R);
        }
#pragma GCC unroll 32
        for (int r = 0; r < R; r++) {
            const VEC value = vec_set1(x[r]);
#pragma GCC unroll 32
            for (int i = 0; i < V; i++)
                sum[i * R + r] = vec_fma(weight[i], value, sum[i * R + r]);
        }
    }
#pragma GCC unroll 32
    for (int i = 0; i < V; i++)
#pragma GCC unroll 32
        for (int r = 0; r < R; r++)
            store(p, first + (uint32_t)i, (uint32_t)r, sum[i * R + r]);
}

/* All vectors of the call, V at a time, the rest panel by panel. */
INLINE void float_tiles(const struct cpu_product *p, const enum weight_type type, const int V,
                        const int R)
{
    const uint32_t n_vectors = panel_count(p->n_outputs) * PANEL_VECTORS;
    uint32_t i = 0;
    for (; i + (uint32_t)V <= n_vectors; i += (uint32_t)V)
        float_tile(p, i, type, V, R);
    if (PANEL_VECTORS % V != 0) /* else there is none, and its code would be compiled for nothing */
        for (; i < n_vectors; i += PANEL_VECTORS)
            float_tile(p, i, type, PANEL_VECTORS, R);
}

#define FLOAT_CASE(R, V)                                                                           \
    case R:                                                                                        \
        float_tiles(p, type, V, R);                                                                \
        break;
INLINE void float_heights(const struct cpu_product *p, const enum weight_type type)
{
    switch (p->n_rows) {
        FLOAT_ROWS(FLOAT_CASE)
    }
}
#undef FLOAT_CASE

static void product_float(const struct cpu_product *p)
{
    if (p->type == WEIGHT_F32)
        float_heights(p, WEIGHT_F32);
    else if (p->type == WEIGHT_F16)
        float_heights(p, WEIGHT_F16);
    else
        float_heights(p, WEIGHT_BF16);
}
