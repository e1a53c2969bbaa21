/* kernels/attention/cuda/attend_fixed.cuh - weights times V's scales of q8_0, as tensor cores multiply them: fixed-point
 * numbers.
 *
 * The largest scale that a row sees in a tile decides the unit, so that a number has 32 bits: four digits of base 256,
 * side by side with those of the tokens beside it. Rows 0 to 7 of an operand are a row block's first digits and rows 8
 * to 15 its second ones, or the third and the fourth. Sums of digits times int8 are exact. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_FIXED_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_FIXED_CUH

#include "kernels/attention/cuda/attend_query.cuh"

/* A weight, at most 1, times 2^WEIGHT_BITS, times V's scale brought below 4. */
enum { WEIGHT_BITS = 30 };

/* ---- V's scales ---- */

/* Of a block of 32 dimensions: of the tokens 8 c to 8 c + 7 of the tile's i-th 32. */
template <class Shape>
static __device__ __forceinline__ uint4 v_scales(const char *const (&piece)[2], uint32_t block,
                                                 int i, uint32_t c)
{
    return *(const uint4 *)((i < 2 ? piece[0] : piece[1]) + Shape::VALUE_BYTES +
                            ((i % 2 * (Shape::DIMS / 32) + block) * 32 + 8 * c) * 2);
}

static __device__ __forceinline__ __half2 largest_of(__half2 x, uint4 scale)
{
    return __hmax2_nan(x, __hmax2_nan(__hmax2_nan(halves(scale.x), halves(scale.y)),
                                      __hmax2_nan(halves(scale.z), halves(scale.w))));
}

/* A power of two, as two f16, that brings scales, of which the two largest of the row's lanes are these, below 4.
 * unit: what 1 in fixed point is of weights times scales; NaN where the largest is no number or infinite. */
static __device__ __forceinline__ void power_for_scales(__half2 largest, uint32_t *power,
                                                        float *unit)
{
    const uint32_t two = bits_of(largest), bits = largest_of_row(max(two & 0xffff, two >> 16));
    const uint32_t exponent = max(bits >> 10, 1u);
    *power = ((31 - exponent) << 10) * 0x10001;
    *unit = bits >= 0x7c00 ? __int_as_float(0x7fc00000)
                           : __int_as_float((int)((127 - WEIGHT_BITS - 16 + exponent) << 23));
}

static __device__ __forceinline__ uint32_t two_scaled_by(uint32_t scales, uint32_t power)
{
    return bits_of(__hmul2(halves(scales), halves(power)));
}

static __device__ __forceinline__ uint4 scaled_by(uint4 scale, uint32_t power)
{
    return make_uint4(two_scaled_by(scale.x, power), two_scaled_by(scale.y, power),
                      two_scaled_by(scale.z, power), two_scaled_by(scale.w, power));
}

/* ---- digits ---- */

/* Of four numbers their lowest bytes, side by side, and so on: base 256, digit by digit. */
static __device__ __forceinline__ void digits_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                                                 uint32_t (&digit)[4])
{
    const uint32_t ab = __byte_perm(a, b, 0x5140), cd = __byte_perm(c, d, 0x5140),
                   above_ab = __byte_perm(a, b, 0x7362), above_cd = __byte_perm(c, d, 0x7362);
    digit[0] = __byte_perm(ab, cd, 0x5410);
    digit[1] = __byte_perm(ab, cd, 0x7632);
    digit[2] = __byte_perm(above_ab, above_cd, 0x5410);
    digit[3] = __byte_perm(above_ab, above_cd, 0x7632);
}

static __device__ __forceinline__ uint32_t fixed_weight(float p, float scale)
{
    return __float2uint_rn(__fmul_rn(p, scale));
}

/* Weights of the lane's 8 tokens times their scales: digits 0 and 1, and digits 2 and 3, as operands. */
static __device__ __forceinline__ void fixed_weights(float4 p, float4 p_2, uint4 scale,
                                                     uint32_t (&low)[4], uint32_t (&high)[4])
{
    const float2 s[4] = {__half22float2(halves(scale.x)), __half22float2(halves(scale.y)),
                         __half22float2(halves(scale.z)), __half22float2(halves(scale.w))};
    uint32_t d[4], e[4];
    digits_of(fixed_weight(p.x, s[0].x), fixed_weight(p.y, s[0].y), fixed_weight(p.z, s[1].x),
              fixed_weight(p.w, s[1].y), d);
    digits_of(fixed_weight(p_2.x, s[2].x), fixed_weight(p_2.y, s[2].y), fixed_weight(p_2.z, s[3].x),
              fixed_weight(p_2.w, s[3].y), e);
    low[0] = d[0];
    low[1] = d[1];
    low[2] = e[0];
    low[3] = e[1];
    high[0] = d[2];
    high[1] = d[3];
    high[2] = e[2];
    high[3] = e[3];
}

/* What the sums of digits are: of a row's (i) and of its second digits (i + 2). */
static __device__ __forceinline__ float fixed_value(const int (&low)[4], const int (&high)[4],
                                                    int i, float unit)
{
    const float below = (float)(low[i] + low[i + 2] * 256);
    const float above = (float)(high[i] + high[i + 2] * 256);
    return __fmaf_rn(above, __fmul_rn(unit, 65536.0f), __fmul_rn(below, unit));
}

#endif
