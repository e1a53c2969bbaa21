/* kernels/cpu/limits_loops.h - the inner loops of limits.c, one table for each instruction set.
 *
 * `read` holds the patterns of limits_read.h. An arithmetic loop does `rounds` rounds of operations
 * on registers, enough of them independent to fill the pipelines; what it returns depends on all of
 * them, so that none is left out. NULL: the set has no such instruction. */
#ifndef LONGSPAN_KERNELS_CPU_LIMITS_LOOPS_H
#define LONGSPAN_KERNELS_CPU_LIMITS_LOOPS_H

#include "kernels/cpu/limits.h"

#include <stddef.h>
#include <stdint.h>

struct limits_loop {
    float (*run)(uint64_t rounds);
    uint64_t operations; /* of a round */
};

struct limits_loops {
    struct limits_loop f32, int8, bf16;
    void (*read[LIMITS_PATTERNS])(const uint64_t *words, size_t n, uint64_t sum[8]);
};

extern const struct limits_loops limits_loops_avx2;
extern const struct limits_loops limits_loops_avx512; /* bf16: only where usable, limits.c */
extern const struct limits_loops limits_loops_neon;
extern const struct limits_loop limits_int8_dotprod;

#endif
