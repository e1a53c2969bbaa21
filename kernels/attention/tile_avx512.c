/* tile_avx512.c - the tile kernel on vectors of 16: 32 registers hold 6 rows x 4 vectors. */
#include "kernels/cpu/numeric_avx512.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VEC   __m512
#define VECI  __m512i
#define LANES 16

enum { MAX_ROWS = 8, BLOCK_ROWS = 6, N_REGISTERS = 32 };
#define EACH_ROWS(half)                                                                            \
    ROWS_OF(1, half)                                                                               \
    ROWS_OF(2, half)                                                                               \
    ROWS_OF(3, half)                                                                               \
    ROWS_OF(4, half) ROWS_OF(5, half) ROWS_OF(6, half) ROWS_OF(7, half) ROWS_OF(8, half)

static inline VEC vec_zero(void)
{
    return _mm512_setzero_ps();
}

static inline VEC vec_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline VEC vec_load(const float *x)
{
    return _mm512_loadu_ps(x);
}

/* The first n values, up to 16; zeros behind. */
static inline VEC vec_load_first(const float *x, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), x);
}

static inline void vec_store(float *x, VEC a)
{
    _mm512_storeu_ps(x, a);
}

/* The first n values, up to 16. */
static inline void vec_store_first(float *x, VEC a, size_t n)
{
    _mm512_mask_storeu_ps(x, (__mmask16)((1u << n) - 1), a);
}

/* Whether any value is x. */
static inline bool vec_any_is(VEC a, float x)
{
    return _mm512_cmp_ps_mask(a, _mm512_set1_ps(x), _CMP_EQ_OQ) != 0;
}

/* 16 elements as f32. */
static inline VEC vec_widen_half(const void *x)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)x));
}

static inline VEC vec_widen_bfloat16(const void *x)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline VEC vec_widen_int8(const void *x)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)x)));
}

/* Integers: 16 sums of 32 bits. */
static inline VECI veci_load(const void *x)
{
    return _mm512_loadu_si512(x);
}

/* What a block of q8_0 begins with, whose offset is -128 times the sum of its q: the offset, since
 * K's bytes are multiplied as they lie, as k + 128. */
static inline VECI veci_dot_start(int32_t offset)
{
    return _mm512_set1_epi32(offset);
}

/* K's bytes as veci_dot takes them. */
static inline VECI veci_column(const void *x)
{
    return veci_load(x);
}

/* The same 4 bytes everywhere. */
static inline VECI veci_set1_bytes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
}

/* sum + 4 products of a column's bytes and q's. */
static inline VECI veci_dot(VECI sum, VECI column, VECI q)
{
    return _mm512_dpbusd_epi32(sum, column, q);
}

static inline VEC vec_from_int(VECI x)
{
    return _mm512_cvtepi32_ps(x);
}

static inline VEC vec_fma(VEC a, VEC b, VEC c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline VEC vec_mul(VEC a, VEC b)
{
    return _mm512_mul_ps(a, b);
}

static inline VEC vec_add(VEC a, VEC b)
{
    return _mm512_add_ps(a, b);
}

static inline VEC vec_sub(VEC a, VEC b)
{
    return _mm512_sub_ps(a, b);
}

static inline VEC vec_div(VEC a, VEC b)
{
    return _mm512_div_ps(a, b);
}

static inline VEC vec_max(VEC a, VEC b)
{
    return _mm512_max_ps(a, b);
}

static inline VEC vec_abs(VEC a)
{
    return _mm512_abs_ps(a);
}

static inline VEC vec_copysign(VEC a, VEC sign)
{
    return _mm512_or_ps(_mm512_abs_ps(a), _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}

static inline VEC vec_exp(VEC a)
{
    return exp_f32_avx512(a);
}

static inline float vec_largest(VEC a)
{
    return _mm512_reduce_max_ps(a);
}

/* 16 lanes, one vector: i and i + 8, i and i + 4, i and i + 2, i and i + 1. */
static inline float vec_lane_sum(const VEC *lane)
{
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(lane[0]), _mm512_extractf32x8_ps(lane[0], 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline __attribute__((always_inline)) int scores_tokens(const int rows)
{
    return rows <= 2 ? 8 : rows <= 6 ? 4 : 2;
}

static inline __attribute__((always_inline)) int q8_scores_tokens(const int rows)
{
    return rows == 1 ? 8 : rows <= 3 ? 4 : rows <= 6 ? 2 : 1;
}

static inline __attribute__((always_inline)) int values_dims(const int rows)
{
    return rows <= 2 ? 8 : rows <= 6 ? 4 : 2;
}

#include "kernels/attention/tile_simd.h"

const struct tile_kernels tile_kernels_avx512 = {
    .name = "avx512",
    .attend = simd_attend,
    .merge = simd_merge,
    .merge_four = simd_merge_four,
};
