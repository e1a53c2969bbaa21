/* dense_avx512.c - inner loops for AVX-512 with VNNI: a panel's sixteen outputs are one register.
 *
 * Products are register tiles of P panels times R rows. Sums stay in registers for a whole span;
 * per column each weight vector is loaded once for R rows, each activation is broadcast once for P
 * panels. P * R is 24 for floats: two fused multiply-adds per cycle need 8 to 10 in flight, and 24
 * leave room for P weights and a broadcast in 32 registers. It is 12 for Q8_0, which needs an
 * integer and a float sum for each output. The loops are written once with P and R as constants,
 * and every height of a tile gets its own copy: decode with one row is the same code as prefill.
 *
 * Q8_0: vpdpbusd multiplies unsigned by signed bytes and does not saturate. Weights become unsigned
 * by flipping their top bit (+128), for which the sum starts at -128 times the sum of the
 * activations; -128 in a file is 0 then, not a special case. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_avx512.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/variant.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
enum { FLOAT_TILE_ROWS = 12, Q8_TILE_ROWS = 6, MAX_PANELS = 4 };

/* The processor's own prefetcher stops at pages and loses its way where a span ends; one row reads
 * as fast as memory gives, taller tiles take longer per byte and so can look further ahead.
 * Measured on Zen 5 (make bench: matmul): 16 rows of F16 from memory 1.6 times as fast. Beyond the
 * end of the weights a prefetch does nothing. */
INLINE void prefetch(const uint8_t *w, const int R)
{
    _mm_prefetch((const char *)((uintptr_t)w + (R < 4 ? 2048 : 4096)), _MM_HINT_T0);
}

INLINE void store(const struct cpu_product *p, uint32_t panel, uint32_t row, __m512 sum)
{
    const uint32_t begin = panel * PANEL_ROWS, n = p->n_outputs - begin;
    const __mmask16 mask = n >= PANEL_ROWS ? 0xffff : (__mmask16)((1u << n) - 1);
    float *y = p->y + row * p->y_stride + begin;
    if (p->add)
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum);
    _mm512_mask_storeu_ps(y, mask, sum);
}

INLINE __m512 load_weights(const uint8_t *w, bool half)
{
    return half ? _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)w)) : _mm512_load_ps(w);
}

/* Panels [panel, panel + P) with the R rows of the tile. */
INLINE void float_tile(const struct cpu_product *p, uint32_t panel, bool half, const int P,
                       const int R)
{
    const size_t step = half ? 2 * PANEL_ROWS : 4 * PANEL_ROWS, stride = p->panel_bytes;
    const uint8_t *w = p->weights + panel * stride;
    const float *x = p->x;
    __m512 sum[MAX_PANELS][FLOAT_TILE_ROWS], weight[MAX_PANELS];

#pragma GCC unroll 16
    for (int i = 0; i < P; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[i][r] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < p->n; k++, w += step, x += R) {
#pragma GCC unroll 16
        for (int i = 0; i < P; i++) {
            weight[i] = load_weights(w + (size_t)i * stride, half);
            prefetch(w + (size_t)i * stride, R);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const __m512 value = _mm512_set1_ps(x[r]);
#pragma GCC unroll 16
            for (int i = 0; i < P; i++)
                sum[i][r] = _mm512_fmadd_ps(weight[i], value, sum[i][r]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < P; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            store(p, panel + (uint32_t)i, (uint32_t)r, sum[i][r]);
}

INLINE void q8_0_tile(const struct cpu_product *p, uint32_t panel, const int P, const int R)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    const size_t stride = p->panel_bytes;
    const uint8_t *w = p->weights + panel * stride, *scales = p->scales + panel * stride;
    const int32_t *x = p->x; /* four values, or one of the block's other numbers */
    __m512 sum[MAX_PANELS][Q8_TILE_ROWS];
    __m512i dot[MAX_PANELS][Q8_TILE_ROWS], weight[MAX_PANELS];

#pragma GCC unroll 16
    for (int i = 0; i < P; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[i][r] = _mm512_setzero_ps();
    for (uint32_t b = 0; b < p->n; b++, x += 10 * R, scales += 2 * PANEL_ROWS) {
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 16
            for (int i = 0; i < P; i++)
                dot[i][r] = _mm512_set1_epi32(x[9 * R + r]);
#pragma GCC unroll 8
        for (int e = 0; e < 8; e++, w += 4 * PANEL_ROWS) {
#pragma GCC unroll 16
            for (int i = 0; i < P; i++) {
                weight[i] = _mm512_xor_si512(_mm512_load_si512(w + (size_t)i * stride), flip);
                prefetch(w + (size_t)i * stride, R);
            }
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const __m512i value = _mm512_set1_epi32(x[e * R + r]);
#pragma GCC unroll 16
                for (int i = 0; i < P; i++)
                    dot[i][r] = _mm512_dpbusd_epi32(dot[i][r], weight[i], value);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < P; i++) {
            const __m512 weight_scale =
                _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(scales + (size_t)i * stride)));
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const __m512 x_scale = _mm512_castsi512_ps(_mm512_set1_epi32(x[8 * R + r]));
                sum[i][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[i][r]),
                                            _mm512_mul_ps(weight_scale, x_scale), sum[i][r]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < P; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            store(p, panel + (uint32_t)i, (uint32_t)r, sum[i][r]);
}

/* All panels of the call, P at a time, the rest one by one. */
INLINE void float_panels(const struct cpu_product *p, bool half, const int P, const int R)
{
    const uint32_t n_panels = panel_count(p->n_outputs);
    uint32_t panel = 0;
    for (; panel + (uint32_t)P <= n_panels; panel += (uint32_t)P)
        float_tile(p, panel, half, P, R);
    for (; panel < n_panels; panel++)
        float_tile(p, panel, half, 1, R);
}

INLINE void q8_0_panels(const struct cpu_product *p, const int P, const int R)
{
    const uint32_t n_panels = panel_count(p->n_outputs);
    uint32_t panel = 0;
    for (; panel + (uint32_t)P <= n_panels; panel += (uint32_t)P)
        q8_0_tile(p, panel, P, R);
    for (; panel < n_panels; panel++)
        q8_0_tile(p, panel, 1, R);
}

#define ROWS(R, P)                                                                                 \
    case R:                                                                                        \
        float_panels(p, half, P, R);                                                               \
        break
INLINE void product_float(const struct cpu_product *p, bool half)
{
    switch (p->n_rows) {
        ROWS(1, 4);
        ROWS(2, 4);
        ROWS(3, 4);
        ROWS(4, 4);
        ROWS(5, 4);
        ROWS(6, 4);
        ROWS(7, 2);
        ROWS(8, 2);
        ROWS(9, 2);
        ROWS(10, 2);
        ROWS(11, 2);
        ROWS(12, 2);
    }
}
#undef ROWS

static void product_f32(const struct cpu_product *p)
{
    product_float(p, false);
}

static void product_f16(const struct cpu_product *p)
{
    product_float(p, true);
}

#define ROWS(R, P)                                                                                 \
    case R:                                                                                        \
        q8_0_panels(p, P, R);                                                                      \
        break
static void product_q8_0(const struct cpu_product *p)
{
    switch (p->n_rows) {
        ROWS(1, 4);
        ROWS(2, 4);
        ROWS(3, 4);
        ROWS(4, 2);
        ROWS(5, 2);
        ROWS(6, 2);
    }
}
#undef ROWS

static void swiglu(float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 g = _mm512_loadu_ps(gate + i);
        const __m512 e = exp_f32_avx512(_mm512_xor_ps(g, sign));
        const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, e));
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(silu, _mm512_loadu_ps(up + i)));
    }
    for (; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

const struct cpu_variant cpu_variant_avx512 = {
    .name = "avx512",
    .float_tile_rows = FLOAT_TILE_ROWS,
    .q8_tile_rows = Q8_TILE_ROWS,
    .product_f32 = product_f32,
    .product_f16 = product_f16,
    .product_q8_0 = product_q8_0,
    .pack_float = pack_float,
    .pack_q8_0 = pack_q8_0,
    .rms_norm = rms_norm_row,
    .rotate = rotate_row,
    .swiglu = swiglu,
    .add = add_vectors,
};
