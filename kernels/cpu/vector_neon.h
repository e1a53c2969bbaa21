/* kernels/cpu/vector_neon.h - vectors for product_float_simd.h, product_quant_simd.h and
 * gates_simd.h: four outputs, a quarter of a panel, in one register. Every 64-bit ARM processor has
 * them.
 *
 * Dot products: weights without a sign have at most 6 bits, so that they are right as signed bytes
 * too. With the instruction sdot (a source compiled for dotprod) four products are added to a
 * 32-bit sum. Without it products are summed in 16 bits, which wrap, and must not: activations are
 * within [-127, 127], and at the end pairs are added in 16 bits once more, so that weights of 4, 5
 * or 6 bits fit with 8, 4 or 2 vectors:
 *     8 * 2 * 15 * 127 = 30480,  4 * 2 * 31 * 127 = 31496,  2 * 2 * 63 * 127 = 32004  < 32768,
 * and Q8_0's with one: 2 * 128 * 127 = 32512. */
#ifndef LONGSPAN_KERNELS_CPU_VECTOR_NEON_H
#define LONGSPAN_KERNELS_CPU_VECTOR_NEON_H

#include "kernels/cpu/panel.h"

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define VEC    float32x4_t
#define VECI   int32x4_t

enum { LANES = 4, BYTE_ZERO = 0 }; /* BYTE_ZERO: what flip_bytes adds to Q8_0's weights */

INLINE VEC vec_zero(void)
{
    return vdupq_n_f32(0.0f);
}

INLINE VEC vec_load(const void *from)
{
    return vld1q_f32(from);
}

INLINE void vec_store(float *to, VEC v)
{
    vst1q_f32(to, v);
}

/* The first n values, n at least 1; all from LANES on. */
INLINE VEC vec_load_some(const float *from, uint32_t n)
{
    float values[LANES] = {0};
    if (n >= LANES)
        return vld1q_f32(from);
    memcpy(values, from, n * sizeof(*from));
    return vld1q_f32(values);
}

INLINE void vec_store_some(float *to, VEC v, uint32_t n)
{
    float values[LANES];
    if (n >= LANES) {
        vst1q_f32(to, v);
    } else {
        vst1q_f32(values, v);
        memcpy(to, values, n * sizeof(*to));
    }
}

INLINE VEC vec_load_f16(const void *from)
{
    return vcvt_f32_f16((float16x4_t)vld1_u16(from));
}

INLINE VEC vec_load_bf16(const void *from)
{
    return (VEC)vshll_n_u16(vld1_u16(from), 16);
}

INLINE VEC vec_set1(float x)
{
    return vdupq_n_f32(x);
}

INLINE VEC vec_add(VEC a, VEC b)
{
    return vaddq_f32(a, b);
}

INLINE VEC vec_mul(VEC a, VEC b)
{
    return vmulq_f32(a, b);
}

INLINE VEC vec_sub(VEC a, VEC b)
{
    return vsubq_f32(a, b);
}

INLINE VEC vec_div(VEC a, VEC b)
{
    return vdivq_f32(a, b);
}

INLINE VEC vec_xor(VEC a, VEC b)
{
    return (VEC)veorq_u32((uint32x4_t)a, (uint32x4_t)b);
}

INLINE VEC vec_and(VEC a, VEC b)
{
    return (VEC)vandq_u32((uint32x4_t)a, (uint32x4_t)b);
}

INLINE VEC vec_or(VEC a, VEC b)
{
    return (VEC)vorrq_u32((uint32x4_t)a, (uint32x4_t)b);
}

/* b without the bits of a. */
INLINE VEC vec_andnot(VEC a, VEC b)
{
    return (VEC)vbicq_u32((uint32x4_t)b, (uint32x4_t)a);
}

INLINE VEC vec_fma(VEC a, VEC b, VEC c)
{
    return vfmaq_f32(c, a, b);
}

INLINE VEC vec_from_int(VECI v)
{
    return vcvtq_f32_s32(v);
}

/* The same bits. */
INLINE VEC vec_from_bits(VECI v)
{
    return (VEC)v;
}

INLINE VECI int_zero(void)
{
    return vdupq_n_s32(0);
}

INLINE VECI int_load(const void *from)
{
    return (VECI)vld1q_u8(from);
}

INLINE VECI int_set1(int32_t x)
{
    return vdupq_n_s32(x);
}

INLINE VECI int_and(VECI a, VECI b)
{
    return vandq_s32(a, b);
}

INLINE VECI int_or(VECI a, VECI b)
{
    return vorrq_s32(a, b);
}

/* By n bits within 32, to the left, or to the right where n is negative. */
INLINE VECI int_shift(VECI v, int n)
{
    return n >= 0 ? v << n : (VECI)((uint32x4_t)v >> -n);
}

INLINE VECI int_shift_right_signed(VECI v, int n)
{
    return v >> n;
}

/* Q8_0's weights as they are multiplied: with their sign. */
INLINE VECI flip_bytes(VECI v)
{
    return v;
}

/* A dot product is made in parts of dot_groups vectors of weights. */
#ifdef __ARM_FEATURE_DOTPROD
#define PART int32x4_t /* the sum so far */

INLINE int dot_groups(enum weight_type type)
{
    (void)type;
    return 8;
}

INLINE PART dot_begin(VECI sum)
{
    return sum;
}

INLINE PART dot_add(PART part, VECI weights, VECI x, enum weight_type type)
{
    (void)type;
    return vdotq_s32(part, (int8x16_t)weights, (int8x16_t)x);
}

INLINE VECI dot_end(VECI sum, PART part)
{
    (void)sum;
    return part;
}
#else
struct part {
    int16x8_t low, high; /* products of the first and the last eight bytes */
};
#define PART struct part

INLINE int dot_groups(enum weight_type type)
{
    const struct panel_format f = panel_format(type);
    return f.low_bits == 8 ? 1 : 8 >> f.high_bits;
}

INLINE PART dot_begin(VECI sum)
{
    (void)sum;
    return (PART){vdupq_n_s16(0), vdupq_n_s16(0)};
}

INLINE PART dot_add(PART part, VECI weights, VECI x, enum weight_type type)
{
    const int8x16_t w = (int8x16_t)weights, v = (int8x16_t)x;
    (void)type;
    return (PART){vmlal_s8(part.low, vget_low_s8(w), vget_low_s8(v)),
                  vmlal_high_s8(part.high, w, v)};
}

INLINE VECI dot_end(VECI sum, PART part)
{
    return vpadalq_s16(sum, vpaddq_s16(part.low, part.high));
}
#endif

#endif
