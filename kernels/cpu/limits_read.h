/* kernels/cpu/limits_read.h - ways to read memory, plain loops compiled once per instruction set.
 *
 * Which one is fastest depends on the prefetchers and on where the host has placed us, so each is
 * tried: one stream; the same with prefetches a page ahead; four streams, as products read several
 * panels. `sum` has 8 independent words, so that the compiler makes vectors of them. */
#ifndef LONGSPAN_KERNELS_CPU_LIMITS_READ_H
#define LONGSPAN_KERNELS_CPU_LIMITS_READ_H

#include <stddef.h>
#include <stdint.h>

enum { LIMITS_PAGE_WORDS = 512 };

#define LIMITS_READ_PATTERNS                                                                       \
    {                                                                                              \
        limits_read_one, limits_read_ahead, limits_read_four                                       \
    }

static void limits_read_one(const uint64_t *words, size_t n, uint64_t sum[restrict 8])
{
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] ^= words[i + j];
}

static void limits_read_ahead(const uint64_t *words, size_t n, uint64_t sum[restrict 8])
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        __builtin_prefetch(words + i + LIMITS_PAGE_WORDS);
        for (size_t j = 0; j < 8; j++)
            sum[j] ^= words[i + j];
    }
}

static void limits_read_four(const uint64_t *words, size_t n, uint64_t sum[restrict 8])
{
    const size_t quarter = n / 32 * 8;
    for (size_t i = 0; i + 8 <= quarter; i += 8)
        for (size_t stream = 0; stream < 4; stream++) {
            const uint64_t *from = words + stream * quarter + i;
            __builtin_prefetch(from + LIMITS_PAGE_WORDS);
            for (size_t j = 0; j < 8; j++)
                sum[j] ^= from[j];
        }
}

#endif
