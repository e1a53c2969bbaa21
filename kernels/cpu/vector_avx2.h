/* kernels/cpu/vector_avx2.h - vectors for product_float_simd.h, product_quant_simd.h and
 * gates_simd.h: eight outputs, half a panel, in one register.
 *
 * Dot products: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits, with
 * saturation, which must not happen. Activations are within [-127, 127]. Weights without a sign
 * have up to 4, 5 or 6 bits, so that the pairs of 8, 4 or 2 vectors fit one 16-bit sum:
 *     8 * 2 * 15 * 127 = 30480,  4 * 2 * 31 * 127 = 31496,  2 * 2 * 63 * 127 = 32004  < 32768.
 * Q8_0's signs go to the activations: |w| <= 128 is right as an unsigned byte even for -128, and
 * 2 * 128 * 127 = 32512. */
#ifndef LONGSPAN_KERNELS_CPU_VECTOR_AVX2_H
#define LONGSPAN_KERNELS_CPU_VECTOR_AVX2_H

#include "kernels/cpu/panel.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define VEC    __m256
#define VECI   __m256i
#define PART   __m256i /* of a dot product: 16 sums of 16 bits */

enum { LANES = 8, BYTE_ZERO = 0 }; /* BYTE_ZERO: what flip_bytes adds to Q8_0's weights */

INLINE VEC vec_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE VEC vec_load(const void *from)
{
    return _mm256_loadu_ps(from);
}

INLINE void vec_store(float *to, VEC v)
{
    _mm256_storeu_ps(to, v);
}

/* The first n values, n at least 1; all from LANES on. */
INLINE VEC vec_load_some(const float *from, uint32_t n)
{
    float values[LANES] = {0};
    if (n >= LANES)
        return _mm256_loadu_ps(from);
    memcpy(values, from, n * sizeof(*from));
    return _mm256_loadu_ps(values);
}

INLINE void vec_store_some(float *to, VEC v, uint32_t n)
{
    float values[LANES];
    if (n >= LANES) {
        _mm256_storeu_ps(to, v);
    } else {
        _mm256_storeu_ps(values, v);
        memcpy(to, values, n * sizeof(*to));
    }
}

INLINE VEC vec_load_f16(const void *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(from));
}

INLINE VEC vec_load_bf16(const void *from)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)), 16));
}

INLINE VEC vec_set1(float x)
{
    return _mm256_set1_ps(x);
}

INLINE VEC vec_add(VEC a, VEC b)
{
    return _mm256_add_ps(a, b);
}

INLINE VEC vec_mul(VEC a, VEC b)
{
    return _mm256_mul_ps(a, b);
}

INLINE VEC vec_sub(VEC a, VEC b)
{
    return _mm256_sub_ps(a, b);
}

INLINE VEC vec_div(VEC a, VEC b)
{
    return _mm256_div_ps(a, b);
}

INLINE VEC vec_xor(VEC a, VEC b)
{
    return _mm256_xor_ps(a, b);
}

INLINE VEC vec_and(VEC a, VEC b)
{
    return _mm256_and_ps(a, b);
}

INLINE VEC vec_or(VEC a, VEC b)
{
    return _mm256_or_ps(a, b);
}

/* b without the bits of a. */
INLINE VEC vec_andnot(VEC a, VEC b)
{
    return _mm256_andnot_ps(a, b);
}

INLINE VEC vec_fma(VEC a, VEC b, VEC c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE VEC vec_from_int(VECI v)
{
    return _mm256_cvtepi32_ps(v);
}

/* The same bits. */
INLINE VEC vec_from_bits(VECI v)
{
    return _mm256_castsi256_ps(v);
}

INLINE VECI int_zero(void)
{
    return _mm256_setzero_si256();
}

INLINE VECI int_load(const void *from)
{
    return _mm256_loadu_si256(from);
}

INLINE VECI int_set1(int32_t x)
{
    return _mm256_set1_epi32(x);
}

INLINE VECI int_and(VECI a, VECI b)
{
    return _mm256_and_si256(a, b);
}

INLINE VECI int_or(VECI a, VECI b)
{
    return _mm256_or_si256(a, b);
}

/* By n bits within 32, to the left, or to the right where n is negative. */
INLINE VECI int_shift(VECI v, int n)
{
    return n >= 0 ? _mm256_slli_epi32(v, n) : _mm256_srli_epi32(v, -n);
}

INLINE VECI int_shift_right_signed(VECI v, int n)
{
    return _mm256_srai_epi32(v, n);
}

/* Q8_0's weights as they are multiplied: with their sign. */
INLINE VECI flip_bytes(VECI v)
{
    return v;
}

/* A dot product is made in parts of dot_groups vectors of weights. */
INLINE int dot_groups(enum weight_type type)
{
    const struct panel_format f = panel_format(type);
    return f.low_bits == 8 ? 1 : 8 >> f.high_bits;
}

INLINE VECI dot_begin(VECI sum)
{
    (void)sum;
    return _mm256_setzero_si256();
}

INLINE VECI dot_add(VECI part, VECI weights, VECI x, enum weight_type type)
{
    if (type == WEIGHT_Q8_0)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
    return _mm256_add_epi16(part, _mm256_maddubs_epi16(weights, x));
}

INLINE VECI dot_end(VECI sum, VECI part)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(part, _mm256_set1_epi16(1)));
}

#endif
