/* tile_avx2.c - the tile kernel on vectors of 8: 16 registers hold 6 rows x 2 vectors. */
#include "kernels/cpu/numeric_avx2.h"

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VEC   __m256
#define VECI  __m256i
#define LANES 8

enum { MAX_ROWS = 6, BLOCK_ROWS = 6, N_REGISTERS = 16 };
#define EACH_ROWS(half)                                                                            \
    ROWS_OF(1, half)                                                                               \
    ROWS_OF(2, half) ROWS_OF(3, half) ROWS_OF(4, half) ROWS_OF(5, half) ROWS_OF(6, half)

static inline VEC vec_zero(void)
{
    return _mm256_setzero_ps();
}

static inline VEC vec_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline VEC vec_load(const float *x)
{
    return _mm256_loadu_ps(x);
}

static inline __m256i first_lanes(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

/* The first n values, up to 8; zeros behind. */
static inline VEC vec_load_first(const float *x, size_t n)
{
    return _mm256_maskload_ps(x, first_lanes(n));
}

/* The first n values, up to 8. */
static inline void vec_store_first(float *x, VEC a, size_t n)
{
    _mm256_maskstore_ps(x, first_lanes(n), a);
}

/* Whether any value is x. */
static inline bool vec_any_is(VEC a, float x)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_set1_ps(x), _CMP_EQ_OQ)) != 0;
}

static inline void vec_store(float *x, VEC a)
{
    _mm256_storeu_ps(x, a);
}

/* 8 elements as f32. */
static inline VEC vec_widen_half(const void *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)x));
}

static inline VEC vec_widen_bfloat16(const void *x)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline VEC vec_widen_int8(const void *x)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)x)));
}

/* Integers: 8 sums of 32 bits. */
static inline VECI veci_load(const void *x)
{
    return _mm256_loadu_si256((const __m256i *)x);
}

/* The same 4 bytes everywhere. */
static inline VECI veci_set1_bytes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm256_set1_epi32(four);
}

/* What a block of q8_0 begins with, whose offset is -128 times the sum of its q: 0, since k gets its
 * sign back. */
static inline VECI veci_dot_start(int32_t offset)
{
    (void)offset;
    return _mm256_setzero_si256();
}

/* K's bytes, which lie as k + 128, as veci_dot takes them: k. */
static inline VECI veci_column(const void *x)
{
    return _mm256_xor_si256(veci_load(x), _mm256_set1_epi8(-128));
}

/* sum + 4 products of a column's bytes and q's. k's sign goes to q, so that no pair of products
 * leaves 16 bits: |k| is at most 128 and |q| at most 127, and 2 * 128 * 127 = 32512. */
static inline VECI veci_dot(VECI sum, VECI column, VECI q)
{
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(column), _mm256_sign_epi8(q, column));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline VEC vec_from_int(VECI x)
{
    return _mm256_cvtepi32_ps(x);
}

static inline VEC vec_fma(VEC a, VEC b, VEC c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline VEC vec_mul(VEC a, VEC b)
{
    return _mm256_mul_ps(a, b);
}

static inline VEC vec_add(VEC a, VEC b)
{
    return _mm256_add_ps(a, b);
}

static inline VEC vec_sub(VEC a, VEC b)
{
    return _mm256_sub_ps(a, b);
}

static inline VEC vec_div(VEC a, VEC b)
{
    return _mm256_div_ps(a, b);
}

static inline VEC vec_max(VEC a, VEC b)
{
    return _mm256_max_ps(a, b);
}

static inline VEC vec_abs(VEC a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline VEC vec_copysign(VEC a, VEC sign)
{
    return _mm256_or_ps(vec_abs(a), _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}

static inline VEC vec_exp(VEC a)
{
    return exp_f32_avx2(a);
}

static inline float vec_largest(VEC a)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* 16 lanes, two vectors: i and i + 8, i and i + 4, i and i + 2, i and i + 1. */
static inline float vec_lane_sum(const VEC *lane)
{
    const __m256 eight = _mm256_add_ps(lane[0], lane[1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline __attribute__((always_inline)) int scores_tokens(const int rows)
{
    return rows == 1 ? 8 : rows <= 3 ? 4 : 2;
}

static inline __attribute__((always_inline)) int q8_scores_tokens(const int rows)
{
    return rows == 1 ? 4 : rows == 2 ? 2 : 1;
}

static inline __attribute__((always_inline)) int values_dims(const int rows)
{
    return rows == 1 ? 8 : rows <= 3 ? 4 : 2;
}

#include "kernels/attention/tile_simd.h"

const struct tile_kernels tile_kernels_avx2 = {
    .name = "avx2",
    .attend = simd_attend,
    .merge = simd_merge,
    .merge_four = simd_merge_four,
};
