/* quant_tests.h - what the tests of number formats share. */
#ifndef LONGSPAN_TESTS_KERNELS_QUANT_QUANT_TESTS_H
#define LONGSPAN_TESTS_KERNELS_QUANT_QUANT_TESTS_H

#include "kernels/quant/types.h"
#include "tests/cmocka.h"
#include "tests/kernels/numbers.h"

#include <math.h>

/* Near to a normal distribution, deviation 1: the sum of four uniform numbers. */
static inline float random_weight(uint64_t *state)
{
    float sum = 0.0f;
    for (int i = 0; i < 4; i++)
        sum += (float)(random_u32(state) >> 8) * 0x1p-24f;
    return (sum - 2.0f) * 1.7320508f;
}

/* The same number with the same sign, zeros and infinities too; any NaN for a NaN. */
static inline bool same_value(float a, float b)
{
    return isnan(a) ? isnan(b) != 0 : bits_of(a) == bits_of(b);
}

static inline void put_half(uint8_t *bytes, uint16_t half)
{
    bytes[0] = (uint8_t)half;
    bytes[1] = (uint8_t)(half >> 8);
}

/* FNV-1a. */
static inline uint64_t hash_of(const uint8_t *bytes, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

#endif
