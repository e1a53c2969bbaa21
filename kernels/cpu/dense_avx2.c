/* dense_avx2.c - inner loops for AVX2 with FMA and F16C: a panel's sixteen outputs are two
 * registers.
 *
 * Register tiles as in dense_avx512.c, in halves of a panel (H of them, eight outputs each) times R
 * rows, with 16 registers: H * R is 12 for floats, and 4 for Q8_0.
 *
 * Q8_0: vpmaddubsw multiplies unsigned by signed bytes and adds pairs with saturation. The weights'
 * signs go to the activations: |w| <= 128 is right as an unsigned byte even for -128, activations
 * are within [-127, 127] so that their sign can be turned, and 2 * 128 * 127 < 2^15 cannot
 * saturate. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_avx2.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/variant.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { FLOAT_TILE_ROWS = 6, Q8_TILE_ROWS = 4, HALF_ROWS = 8, MAX_HALVES = 8 };

/* The processor's own prefetcher stops at pages and loses its way where a span ends; one row reads
 * as fast as memory gives, taller tiles take longer per byte and so can look further ahead.
 * Measured on Zen 5 (make bench: matmul): 16 rows of F16 from memory 1.6 times as fast. Beyond the
 * end of the weights a prefetch does nothing. */
INLINE void prefetch(const uint8_t *w, const int R)
{
    _mm_prefetch((const char *)((uintptr_t)w + (R < 4 ? 2048 : 4096)), _MM_HINT_T0);
}

INLINE void store(const struct cpu_product *p, uint32_t half, uint32_t row, __m256 sum)
{
    const uint32_t begin = half * HALF_ROWS;
    float *y = p->y + row * p->y_stride + begin;
    if (begin + HALF_ROWS <= p->n_outputs) {
        _mm256_storeu_ps(y, p->add ? _mm256_add_ps(_mm256_loadu_ps(y), sum) : sum);
    } else if (begin < p->n_outputs) {
        float sums[HALF_ROWS];
        _mm256_storeu_ps(sums, sum);
        for (uint32_t j = 0; begin + j < p->n_outputs; j++)
            y[j] = p->add ? y[j] + sums[j] : sums[j];
    }
}

/* Where half `half` of the call's panels begins, when eight weights take `bytes` bytes. */
INLINE size_t half_offset(const struct cpu_product *p, uint32_t half, size_t bytes)
{
    return half / 2 * p->panel_bytes + half % 2 * bytes;
}

INLINE __m256 load_weights(const uint8_t *w, bool f16)
{
    return f16 ? _mm256_cvtph_ps(_mm_load_si128((const __m128i *)w))
               : _mm256_load_ps((const float *)w);
}

/* Halves [half, half + H) with the R rows of the tile; `half` is even. */
INLINE void float_tile(const struct cpu_product *p, uint32_t half, bool f16, const int H,
                       const int R)
{
    const size_t step = f16 ? 2 * PANEL_ROWS : 4 * PANEL_ROWS;
    const uint8_t *w = p->weights + half_offset(p, half, step / 2);
    const float *x = p->x;
    __m256 sum[MAX_HALVES][FLOAT_TILE_ROWS], weight[MAX_HALVES];

#pragma GCC unroll 16
    for (int i = 0; i < H; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[i][r] = _mm256_setzero_ps();
    for (uint32_t k = 0; k < p->n; k++, w += step, x += R) {
#pragma GCC unroll 16
        for (int i = 0; i < H; i++) {
            const uint8_t *from = w + half_offset(p, (uint32_t)i, step / 2);
            weight[i] = load_weights(from, f16);
            if (i % 2 == 0)
                prefetch(from, R);
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const __m256 value = _mm256_broadcast_ss(&x[r]);
#pragma GCC unroll 16
            for (int i = 0; i < H; i++)
                sum[i][r] = _mm256_fmadd_ps(weight[i], value, sum[i][r]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < H; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            store(p, half + (uint32_t)i, (uint32_t)r, sum[i][r]);
}

/* Four products in each 32-bit lane, exact. `size` is |weight|. */
INLINE __m256i dot_4(__m256i dot, __m256i weight, __m256i size, __m256i x)
{
    const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, weight));
    return _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Halves [half, half + H); half is a multiple of H, and H is 1, 2 or 4. */
INLINE void q8_0_tile(const struct cpu_product *p, uint32_t half, const int H, const int R)
{
    const uint8_t *w = p->weights + half_offset(p, half, 4 * HALF_ROWS);
    const uint8_t *scales = p->scales + half_offset(p, half, 2 * HALF_ROWS);
    const int32_t *x = p->x; /* four values, or one of the block's other numbers */
    __m256 sum[MAX_HALVES][Q8_TILE_ROWS];
    __m256i dot[MAX_HALVES][Q8_TILE_ROWS];

#pragma GCC unroll 16
    for (int i = 0; i < H; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            sum[i][r] = _mm256_setzero_ps();
    for (uint32_t b = 0; b < p->n; b++, x += 10 * R, scales += 2 * PANEL_ROWS) {
#pragma GCC unroll 16
        for (int i = 0; i < H; i++)
#pragma GCC unroll 16
            for (int r = 0; r < R; r++)
                dot[i][r] = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int e = 0; e < 8; e++, w += 4 * PANEL_ROWS)
#pragma GCC unroll 16
            for (int i = 0; i < H; i++) {
                const uint8_t *from = w + half_offset(p, (uint32_t)i, 4 * HALF_ROWS);
                const __m256i weight = _mm256_load_si256((const __m256i *)from);
                if (i % 2 == 0)
                    prefetch(from, R);
                const __m256i size = _mm256_abs_epi8(weight);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++)
                    dot[i][r] = dot_4(dot[i][r], weight, size, _mm256_set1_epi32(x[e * R + r]));
            }
#pragma GCC unroll 16
        for (int i = 0; i < H; i++) {
            const __m256 weight_scale = _mm256_cvtph_ps(_mm_load_si128(
                (const __m128i *)(scales + half_offset(p, (uint32_t)i, 2 * HALF_ROWS))));
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const __m256 x_scale = _mm256_castsi256_ps(_mm256_set1_epi32(x[8 * R + r]));
                sum[i][r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[i][r]),
                                            _mm256_mul_ps(weight_scale, x_scale), sum[i][r]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < H; i++)
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            store(p, half + (uint32_t)i, (uint32_t)r, sum[i][r]);
}

/* All panels of the call, H halves at a time, the rest panel by panel. */
INLINE void float_panels(const struct cpu_product *p, bool f16, const int H, const int R)
{
    const uint32_t n_halves = 2 * panel_count(p->n_outputs);
    uint32_t half = 0;
    for (; half + (uint32_t)H <= n_halves; half += (uint32_t)H)
        float_tile(p, half, f16, H, R);
    for (; half < n_halves; half += 2)
        float_tile(p, half, f16, 2, R);
}

INLINE void q8_0_panels(const struct cpu_product *p, const int H, const int R)
{
    const uint32_t n_halves = 2 * panel_count(p->n_outputs);
    uint32_t half = 0;
    for (; half + (uint32_t)H <= n_halves; half += (uint32_t)H)
        q8_0_tile(p, half, H, R);
    for (; half < n_halves; half++)
        q8_0_tile(p, half, 1, R);
}

#define ROWS(R, H)                                                                                 \
    case R:                                                                                        \
        float_panels(p, f16, H, R);                                                                \
        break
INLINE void product_float(const struct cpu_product *p, bool f16)
{
    switch (p->n_rows) {
        ROWS(1, 8);
        ROWS(2, 4);
        ROWS(3, 4);
        ROWS(4, 2);
        ROWS(5, 2);
        ROWS(6, 2);
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

#define ROWS(R, H)                                                                                 \
    case R:                                                                                        \
        q8_0_panels(p, H, R);                                                                      \
        break
static void product_q8_0(const struct cpu_product *p)
{
    switch (p->n_rows) {
        ROWS(1, 4);
        ROWS(2, 2);
        ROWS(3, 1);
        ROWS(4, 1);
    }
}
#undef ROWS

static void swiglu(float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 g = _mm256_loadu_ps(gate + i);
        const __m256 e = exp_f32_avx2(_mm256_xor_ps(g, sign));
        const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, e));
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
    for (; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

const struct cpu_variant cpu_variant_avx2 = {
    .name = "avx2",
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
