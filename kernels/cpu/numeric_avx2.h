/* kernels/cpu/numeric_avx2.h - exp_f32 of eight values; the bits are those of kernels/numeric.h.
 *
 * For sources compiled with AVX2 and FMA only. */
#ifndef LONGSPAN_KERNELS_CPU_NUMERIC_AVX2_H
#define LONGSPAN_KERNELS_CPU_NUMERIC_AVX2_H

#include "kernels/numeric.h"

#include <immintrin.h>

static inline __m256 exp_f32_avx2(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(EXP_F32_LOW), x); /* the second operand is kept for NaN */
    x = _mm256_min_ps(_mm256_set1_ps(EXP_F32_HIGH), x);
    const __m256 magic = _mm256_set1_ps(EXP_F32_MAGIC), one = _mm256_set1_ps(1.0f);
    const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(EXP_F32_LOG2E), magic);
    const __m256 n = _mm256_sub_ps(shifted, magic);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_F32_LN2_HIGH), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(EXP_F32_LN2_LOW), r);
    __m256 p = _mm256_set1_ps(EXP_F32_C6);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_F32_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_F32_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_F32_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_F32_C2));
    p = _mm256_fmadd_ps(p, r, one);
    p = _mm256_fmadd_ps(p, r, one);
    const __m256i exponent =
        _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(EXP_F32_MAGIC_BIT));
    const __m256i half = _mm256_srai_epi32(exponent, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i second =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(exponent, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

#endif
