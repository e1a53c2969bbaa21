/* kernels/quant/half.h - numbers of 16 bits: IEEE half precision and bfloat16.
 *
 * The same on every machine, and the same as the processors' own conversions, which the kernels
 * use. Round to nearest even; subnormals are kept; NaN stays NaN. */
#ifndef LONGSPAN_KERNELS_QUANT_HALF_H
#define LONGSPAN_KERNELS_QUANT_HALF_H

#include <stdint.h>
#include <string.h>

/* Without branches, as the next: loops over halves become vector code where there is no instruction
 * for it. */
static inline uint16_t half_from_float(float value)
{
    uint32_t bits, small_bits;
    memcpy(&bits, &value, sizeof(bits));
    const uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    /* Subnormal: the addition rounds to a multiple of 2^-24, the last bit of 1/2. */
    float magnitude;
    memcpy(&magnitude, &bits, sizeof(magnitude));
    const float small = magnitude + 0.5f;
    memcpy(&small_bits, &small, sizeof(small_bits));
    /* Normal: half a unit less one, and one if odd; a carry into the exponent is right. */
    const uint32_t normal = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
    uint32_t half = bits < 0x38800000 ? small_bits - 0x3f000000 : normal;
    half = bits >= 0x477ff000 ? 0x7c00 : half; /* 65520, half way to 2^16, rounds to infinity */
    /* NaN: quiet, and keep what fits of its payload, as processors do */
    half = bits > 0x7f800000 ? (0x7e00 | (bits >> 13 & 0x1ff)) : half;
    return (uint16_t)(sign | half);
}

/* Exact. */
static inline float half_to_float(uint16_t half)
{
    const uint32_t small = (uint32_t)(half & 0x7fff) << 13; /* the value times 2^-112 */
    uint32_t bits;
    float value;
    memcpy(&value, &small, sizeof(value));
    value *= 0x1p112f; /* subnormals too, exactly */
    memcpy(&bits, &value, sizeof(bits));
    bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u; /* infinity and NaN */
    bits |= (half & 0x7fff) > 0x7c00 ? 0x400000u : 0u;    /* NaN, made quiet */
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* The upper 16 bits of an f32. A NaN is made quiet and keeps what fits of its payload. */
static inline uint16_t bfloat16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Exact, signalling NaNs included: no arithmetic touches the bits. */
static inline float bfloat16_to_float(uint16_t bfloat16)
{
    const uint32_t bits = (uint32_t)bfloat16 << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
