/* tests/kernels/numbers.h - floats as bits, and random numbers, the same in every run. */
#ifndef LONGSPAN_TESTS_KERNELS_NUMBERS_H
#define LONGSPAN_TESTS_KERNELS_NUMBERS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint32_t random_u32(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 32);
}

static inline uint32_t random_below(uint64_t *state, uint32_t n)
{
    return (random_u32(state) >> 1) % n;
}

#endif
