/* product_bf16_avx512.c - products of weights and activations that are rounded to bf16, two columns
 * at a time (CPU_PAIRS in variant.h), with AVX512_BF16.
 *
 * A product does two multiply-adds where f32 does one; but two columns of a panel must first be
 * rounded and interleaved, which takes as long as several products. So tiles are tall: 24 sums, a
 * vector of weights, and activations broadcast from memory fill the 32 registers. */
#include "kernels/cpu/vector_avx512.h"

#include "kernels/cpu/product_simd.h"

enum { MAX_SUMS = 24 };

/* Columns k and k + 1 of sixteen outputs, an output's two side by side. */
INLINE __m512bh load_pairs(const uint8_t *w, const enum weight_type type)
{
    const __m512i side_by_side =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    __m512i columns;
    if (type == WEIGHT_BF16)
        columns = int_load(w);
    else if (type == WEIGHT_F16)
        columns = (__m512i)_mm512_cvtne2ps_pbh(vec_load_f16(w + 32), vec_load_f16(w));
    else
        columns = (__m512i)_mm512_cvtne2ps_pbh(vec_load(w + 64), vec_load(w));
    return (__m512bh)_mm512_permutexvar_epi16(side_by_side, columns);
}

/* Panels [first, first + V) with the R rows of the tile. */
INLINE void pairs_tile(const struct cpu_product *p, uint32_t first, const enum weight_type type,
                       const int V, const int R)
{
    const size_t step = panel_offset(type, 2);
    const uint8_t *w = p->weights + first * p->panel_bytes;
    const uint32_t *x = p->x, *next_x = p->next_x;
    VEC sum[MAX_SUMS];

#pragma GCC unroll 32
    for (int i = 0; i < V * R; i++)
        sum[i] = vec_zero();
    for (uint32_t k = 0; k < p->n; k += 2, w += step, x += R, next_x += R) {
        __m512bh weight[4];
        _mm_prefetch((const char *)next_x, _MM_HINT_T1);
#pragma GCC unroll 4
        for (int i = 0; i < V; i++) {
            weight[i] = load_pairs(w + (size_t)i * p->panel_bytes, type);
            prefetch(w + (size_t)i * p->panel_bytes, R);
        }
#pragma GCC unroll 32
        for (int r = 0; r < R; r++) {
            const __m512bh value = (__m512bh)int_set1((int32_t)x[r]);
#pragma GCC unroll 4
            for (int i = 0; i < V; i++)
                sum[i * R + r] = _mm512_dpbf16_ps(sum[i * R + r], weight[i], value);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < V; i++)
#pragma GCC unroll 32
        for (int r = 0; r < R; r++)
            store(p, first + (uint32_t)i, (uint32_t)r, sum[i * R + r]);
}

INLINE void pairs_tiles(const struct cpu_product *p, const enum weight_type type, const int V,
                        const int R)
{
    const uint32_t n_panels = panel_count(p->n_outputs);
    uint32_t i = 0;
    for (; i + (uint32_t)V <= n_panels; i += (uint32_t)V)
        pairs_tile(p, i, type, V, R);
    if (V > 1) /* else there is none, and its code would be compiled for nothing */
        for (; i < n_panels; i++)
            pairs_tile(p, i, type, 1, R);
}

/* Few rows need several panels to hide the latency of a product. */
#define PAIRS_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 4)                                                                                        \
    X(3, 4)                                                                                        \
    X(4, 2)                                                                                        \
    X(5, 2)                                                                                        \
    X(6, 2)                                                                                        \
    X(7, 2)                                                                                        \
    X(8, 2)                                                                                        \
    X(9, 1)                                                                                        \
    X(10, 1)                                                                                       \
    X(11, 1)                                                                                       \
    X(12, 1)                                                                                       \
    X(13, 1)                                                                                       \
    X(14, 1)                                                                                       \
    X(15, 1) X(16, 1) X(17, 1) X(18, 1) X(19, 1) X(20, 1) X(21, 1) X(22, 1) X(23, 1) X(24, 1)
#define PAIRS_CASE(R, V)                                                                           \
    case R:                                                                                        \
        pairs_tiles(p, type, V, R);                                                                \
        break;
INLINE void pairs_heights(const struct cpu_product *p, const enum weight_type type)
{
    switch (p->n_rows) {
        PAIRS_ROWS(PAIRS_CASE)
    }
}

void product_pairs_bf16(const struct cpu_product *product)
{
    if (product->type == WEIGHT_F32)
        pairs_heights(product, WEIGHT_F32);
    else if (product->type == WEIGHT_F16)
        pairs_heights(product, WEIGHT_F16);
    else
        pairs_heights(product, WEIGHT_BF16);
}

void pack_pairs_bf16(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n)
{
    uint32_t *out = tile;
    for (size_t k = 0; k < n; k += 32) /* a piece stays in the first-level cache while rows pass */
        for (uint32_t row = 0; row < n_rows; row++) {
            const size_t left = n - k < 32 ? n - k : 32, second = left > 16 ? left - 16 : 0;
            const float *from = x + row * x_stride + k;
            const __m512i pairs = (__m512i)_mm512_cvtne2ps_pbh(
                second > 0 ? vec_load_some(from + 16, (uint32_t)second) : vec_zero(),
                vec_load_some(from, (uint32_t)left));
            uint32_t words[16];
            _mm512_storeu_si512(words, pairs);
            for (size_t i = 0; i < left / 2; i++)
                out[(k / 2 + i) * n_rows + row] = words[i];
        }
}
