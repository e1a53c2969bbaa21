/* kernels/cpu/numeric_avx512.h - exp_f32 of sixteen values; the bits are those of
 * kernels/numeric.h.
 *
 * For sources compiled with AVX-512F only. */
#ifndef LONGSPAN_KERNELS_CPU_NUMERIC_AVX512_H
#define LONGSPAN_KERNELS_CPU_NUMERIC_AVX512_H

#include "kernels/numeric.h"

#include <immintrin.h>

static inline __m512 exp_f32_avx512(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(EXP_F32_LOW), x); /* the second operand is kept for NaN */
    x = _mm512_min_ps(_mm512_set1_ps(EXP_F32_HIGH), x);
    const __m512 magic = _mm512_set1_ps(EXP_F32_MAGIC), one = _mm512_set1_ps(1.0f);
    const __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(EXP_F32_LOG2E), magic), magic);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_F32_LN2_HIGH), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(EXP_F32_LN2_LOW), r);
    __m512 p = _mm512_set1_ps(EXP_F32_C6);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_F32_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_F32_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_F32_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_F32_C2));
    p = _mm512_fmadd_ps(p, r, one);
    p = _mm512_fmadd_ps(p, r, one);
    return _mm512_scalef_ps(p, n); /* rounds once, as the two factors of the scalar do */
}

#endif
