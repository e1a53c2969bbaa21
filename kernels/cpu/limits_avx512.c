/* limits_avx512.c - two units, four to six cycles each: sixteen chains keep both busy. */
#include "kernels/cpu/limits_loops.h"
#include "kernels/cpu/limits_read.h"

#include <immintrin.h>

enum { CHAINS = 16 };

static float f32_loop(uint64_t rounds)
{
    __m512 sums[CHAINS];
    const __m512 x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_set1_ps((float)i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm512_fmadd_ps(sums[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        sums[0] = _mm512_add_ps(sums[0], sums[i]);
    return _mm512_reduce_add_ps(sums[0]);
}

static float int8_loop(uint64_t rounds)
{
    __m512i sums[CHAINS];
    const __m512i x = _mm512_set1_epi8((char)(rounds & 1)), y = _mm512_set1_epi8(3);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_set1_epi32(i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm512_dpbusd_epi32(sums[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        sums[0] = _mm512_add_epi32(sums[0], sums[i]);
    return (float)_mm512_reduce_add_epi32(sums[0]);
}

__attribute__((target("avx512bf16"))) static float bf16_loop(uint64_t rounds)
{
    __m512 sums[CHAINS];
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f00), y = (__m512bh)_mm512_set1_epi16(0x3e80);
    for (int i = 0; i < CHAINS; i++)
        sums[i] = _mm512_set1_ps((float)i);
    for (uint64_t round = 0; round < rounds; round++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            sums[i] = _mm512_dpbf16_ps(sums[i], x, y);
    for (int i = 1; i < CHAINS; i++)
        sums[0] = _mm512_add_ps(sums[0], sums[i]);
    return _mm512_reduce_add_ps(sums[0]);
}

const struct limits_loops limits_loops_avx512 = {
    .f32 = {f32_loop, (uint64_t)CHAINS * 16 * 2},
    .int8 = {int8_loop, (uint64_t)CHAINS * 64 * 2},
    .bf16 = {bf16_loop, (uint64_t)CHAINS * 32 * 2},
    .read = LIMITS_READ_PATTERNS,
};
