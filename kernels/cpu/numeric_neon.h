/* kernels/cpu/numeric_neon.h - exp_f32 of four values; the bits are those of kernels/numeric.h.
 *
 * For 64-bit ARM only. */
#ifndef LONGSPAN_KERNELS_CPU_NUMERIC_NEON_H
#define LONGSPAN_KERNELS_CPU_NUMERIC_NEON_H

#include "kernels/numeric.h"

#include <arm_neon.h>

static inline float32x4_t exp_f32_neon(float32x4_t x)
{
    x = vmaxq_f32(vdupq_n_f32(EXP_F32_LOW), x); /* NaN passes */
    x = vminq_f32(vdupq_n_f32(EXP_F32_HIGH), x);
    const float32x4_t magic = vdupq_n_f32(EXP_F32_MAGIC), one = vdupq_n_f32(1.0f);
    const float32x4_t shifted = vfmaq_f32(magic, x, vdupq_n_f32(EXP_F32_LOG2E));
    const float32x4_t n = vsubq_f32(shifted, magic);
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(EXP_F32_LN2_HIGH));
    r = vfmsq_f32(r, n, vdupq_n_f32(EXP_F32_LN2_LOW));
    float32x4_t p = vdupq_n_f32(EXP_F32_C6);
    p = vfmaq_f32(vdupq_n_f32(EXP_F32_C5), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_F32_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_F32_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_F32_C2), p, r);
    p = vfmaq_f32(one, p, r);
    p = vfmaq_f32(one, p, r);
    const int32x4_t exponent =
        vsubq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(EXP_F32_MAGIC_BIT));
    const int32x4_t half = vshrq_n_s32(exponent, 1), bias = vdupq_n_s32(127);
    const int32x4_t first = vshlq_n_s32(vaddq_s32(half, bias), 23);
    const int32x4_t second = vshlq_n_s32(vaddq_s32(vsubq_s32(exponent, half), bias), 23);
    return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(first)), vreinterpretq_f32_s32(second));
}

#endif
