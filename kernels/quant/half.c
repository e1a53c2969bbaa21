/* half.c - rounding is done on the integer: what is cut off is compared with half a unit. */
#include "kernels/quant/half.h"

uint16_t half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) /* NaN: quiet, and keep what fits of its payload, as processors do */
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x1ff));
    if (bits >= 0x477ff000) /* 65520, half way to 2^16, rounds to infinity */
        return (uint16_t)(sign | 0x7c00);
    uint32_t half, rest, tie; /* the result before rounding, what is cut off, half a unit of it */
    if (bits >= 0x38800000) { /* 2^-14: normal */
        half = (bits - 0x38000000) >> 13;
        rest = bits & 0x1fff;
        tie = 0x1000;
    } else if (bits > 0x33000000) { /* above 2^-25, half the least subnormal */
        const uint32_t mantissa = (bits & 0x7fffff) | 0x800000, shift = 126 - (bits >> 23);
        half = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1);
        tie = 1u << (shift - 1);
    } else {
        return sign;
    }
    half += rest > tie || (rest == tie && (half & 1)); /* a carry into the exponent is right */
    return (uint16_t)(sign | half);
}
