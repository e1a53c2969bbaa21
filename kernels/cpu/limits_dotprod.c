/* limits_dotprod.c - products of bytes by sdot; all else is limits_neon.c's. */
#include "kernels/cpu/limits_loops.h"

#include <arm_neon.h>

enum { CHAINS = 16 };

static float int8_loop(uint64_t rounds)
{
    int32x4_t sums[CHAINS];
    const int8x16_t x = vdupq_n_s8((int8_t)(rounds & 1)), y = vdupq_n_s8(3);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = vdupq_n_s32(i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            sums[i] = vdotq_s32(sums[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        sums[0] = vaddq_s32(sums[0], sums[i]);
    return (float)vaddvq_s32(sums[0]);
}

const struct limits_loop limits_int8_dotprod = {int8_loop, (uint64_t)CHAINS * 16 * 2};
