/* limits_avx2.c - two units, four to five cycles each: twelve chains fit into the registers. */
#include "kernels/cpu/limits_loops.h"
#include "kernels/cpu/limits_read.h"

#include <immintrin.h>

enum { CHAINS = 12 };

static float f32_loop(uint64_t rounds)
{
    __m256 sums[CHAINS];
    const __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm256_set1_ps((float)i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm256_fmadd_ps(sums[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        sums[0] = _mm256_add_ps(sums[0], sums[i]);
    float values[8], sum = 0;
    _mm256_storeu_ps(values, sums[0]);
    for (int i = 0; i < 8; i++)
        sum += values[i];
    return sum;
}

/* Without VNNI a dot product is three instructions. */
static float int8_loop(uint64_t rounds)
{
    __m256i sums[CHAINS];
    __m256i x = _mm256_set1_epi8((char)(rounds & 1));
    const __m256i y = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm256_set1_epi32(i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            __asm__("" : "+x"(x)); /* or the products are taken out of the loop */
            const __m256i pairs = _mm256_maddubs_epi16(x, y);
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
        }
    for (int i = 1; i < CHAINS; i++)
        sums[0] = _mm256_add_epi32(sums[0], sums[i]);
    return (float)_mm256_extract_epi32(sums[0], 0);
}

const struct limits_loops limits_loops_avx2 = {
    .f32 = {f32_loop, (uint64_t)CHAINS * 8 * 2},
    .int8 = {int8_loop, (uint64_t)CHAINS * 32 * 2},
    .read = LIMITS_READ_PATTERNS,
};
