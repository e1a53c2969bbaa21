/* limits_neon.c - two units, four cycles each; the widest processors have four: sixteen chains keep
 * them busy. */
#include "kernels/cpu/limits_loops.h"
#include "kernels/cpu/limits_read.h"

#include <arm_neon.h>

enum { CHAINS = 16 };

static float f32_loop(uint64_t rounds)
{
    float32x4_t sums[CHAINS];
    const float32x4_t x = vdupq_n_f32(0.5f), y = vdupq_n_f32(0.25f);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = vdupq_n_f32((float)i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            sums[i] = vfmaq_f32(sums[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        sums[0] = vaddq_f32(sums[0], sums[i]);
    return vaddvq_f32(sums[0]);
}

/* Without sdot a dot product is four instructions. */
static float int8_loop(uint64_t rounds)
{
    int32x4_t sums[CHAINS];
    int8x16_t x = vdupq_n_s8((int8_t)(rounds & 1));
    const int8x16_t y = vdupq_n_s8(3);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = vdupq_n_s32(i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) {
            __asm__("" : "+w"(x)); /* or the products are taken out of the loop */
            const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y));
            sums[i] = vpadalq_s16(sums[i], vpaddq_s16(low, vmull_high_s8(x, y)));
        }
    for (int i = 1; i < CHAINS; i++)
        sums[0] = vaddq_s32(sums[0], sums[i]);
    return (float)vaddvq_s32(sums[0]);
}

const struct limits_loops limits_loops_neon = {
    .f32 = {f32_loop, (uint64_t)CHAINS * 4 * 2},
    .int8 = {int8_loop, (uint64_t)CHAINS * 16 * 2},
    .read = LIMITS_READ_PATTERNS,
};
