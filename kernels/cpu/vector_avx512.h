/* kernels/cpu/vector_avx512.h - vectors for product_float_simd.h, product_quant_simd.h and
 * gates_simd.h: sixteen outputs, a whole panel, in one register.
 *
 * Dot products: vpdpbusd multiplies unsigned by signed bytes, adds four products to a 32-bit sum
 * and does not saturate. Q8_0's weights become unsigned by flipping their top bit (+128), so that
 * the start takes off 128 times the sum of the activations; -128 in a file is 0 then, not a special
 * case. */
#ifndef LONGSPAN_KERNELS_CPU_VECTOR_AVX512_H
#define LONGSPAN_KERNELS_CPU_VECTOR_AVX512_H

#include "kernels/quant/types.h"

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define VEC    __m512
#define VECI   __m512i
#define PART   __m512i /* of a dot product: the sum so far */

enum { LANES = 16, BYTE_ZERO = 128 }; /* BYTE_ZERO: what flip_bytes adds to Q8_0's weights */

INLINE VEC vec_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE VEC vec_load(const void *from)
{
    return _mm512_loadu_ps(from);
}

INLINE void vec_store(float *to, VEC v)
{
    _mm512_storeu_ps(to, v);
}

/* The first n values, n at least 1; all from LANES on. */
INLINE VEC vec_load_some(const float *from, uint32_t n)
{
    return _mm512_maskz_loadu_ps(n >= LANES ? 0xffff : (__mmask16)((1u << n) - 1), from);
}

INLINE void vec_store_some(float *to, VEC v, uint32_t n)
{
    _mm512_mask_storeu_ps(to, n >= LANES ? 0xffff : (__mmask16)((1u << n) - 1), v);
}

INLINE VEC vec_load_f16(const void *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(from));
}

INLINE VEC vec_load_bf16(const void *from)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from)), 16));
}

INLINE VEC vec_set1(float x)
{
    return _mm512_set1_ps(x);
}

INLINE VEC vec_add(VEC a, VEC b)
{
    return _mm512_add_ps(a, b);
}

INLINE VEC vec_mul(VEC a, VEC b)
{
    return _mm512_mul_ps(a, b);
}

INLINE VEC vec_sub(VEC a, VEC b)
{
    return _mm512_sub_ps(a, b);
}

INLINE VEC vec_div(VEC a, VEC b)
{
    return _mm512_div_ps(a, b);
}

INLINE VEC vec_xor(VEC a, VEC b)
{
    return _mm512_xor_ps(a, b);
}

INLINE VEC vec_and(VEC a, VEC b)
{
    return _mm512_and_ps(a, b);
}

INLINE VEC vec_or(VEC a, VEC b)
{
    return _mm512_or_ps(a, b);
}

/* b without the bits of a. */
INLINE VEC vec_andnot(VEC a, VEC b)
{
    return _mm512_andnot_ps(a, b);
}

INLINE VEC vec_fma(VEC a, VEC b, VEC c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE VEC vec_from_int(VECI v)
{
    return _mm512_cvtepi32_ps(v);
}

/* The same bits. */
INLINE VEC vec_from_bits(VECI v)
{
    return _mm512_castsi512_ps(v);
}

INLINE VECI int_zero(void)
{
    return _mm512_setzero_si512();
}

INLINE VECI int_load(const void *from)
{
    return _mm512_loadu_si512(from);
}

INLINE VECI int_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE VECI int_and(VECI a, VECI b)
{
    return _mm512_and_si512(a, b);
}

INLINE VECI int_or(VECI a, VECI b)
{
    return _mm512_or_si512(a, b);
}

/* By n bits within 32, to the left, or to the right where n is negative. */
INLINE VECI int_shift(VECI v, int n)
{
    return n >= 0 ? _mm512_slli_epi32(v, (unsigned)n) : _mm512_srli_epi32(v, (unsigned)-n);
}

INLINE VECI int_shift_right_signed(VECI v, int n)
{
    return _mm512_srai_epi32(v, (unsigned)n);
}

/* Q8_0's weights as they are multiplied. */
INLINE VECI flip_bytes(VECI v)
{
    return _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80));
}

/* A dot product is made in parts of dot_groups vectors of weights. */
INLINE int dot_groups(enum weight_type type)
{
    (void)type;
    return 8;
}

INLINE VECI dot_begin(VECI sum)
{
    return sum;
}

INLINE VECI dot_add(VECI part, VECI weights, VECI x, enum weight_type type)
{
    (void)type;
    return _mm512_dpbusd_epi32(part, weights, x);
}

INLINE VECI dot_end(VECI sum, VECI part)
{
    (void)sum;
    return part;
}

#endif
