/* kernels/cpu/product_simd.h - what product_float_simd.h and product_quant_simd.h share. Included
 * after a vector_....h. */
#ifndef LONGSPAN_KERNELS_CPU_PRODUCT_SIMD_H
#define LONGSPAN_KERNELS_CPU_PRODUCT_SIMD_H

#include "kernels/cpu/panel.h"
#include "kernels/cpu/product.h"

enum { PANEL_VECTORS = PANEL_ROWS / LANES };

/* The processor's own prefetcher stops at pages and loses its way where a span ends; one row reads
 * as fast as memory gives, taller tiles take longer per byte and so can look further ahead.
 * bench/matmul is the judge of both distances. Beyond the end of the weights a prefetch does
 * nothing. */
INLINE void prefetch(const uint8_t *w, const int R)
{
    __builtin_prefetch((const char *)((uintptr_t)w + (R < 4 ? 2048 : 4096)), 0, 3);
}

/* From the start of the call's panels to vector `vector` of outputs, for numbers of which a vector
 * takes `bytes` bytes. Relative to a whole panel it holds for the vectors after it, too. */
INLINE size_t vector_offset(const struct cpu_product *p, uint32_t vector, size_t bytes)
{
    return vector / PANEL_VECTORS * p->panel_bytes + vector % PANEL_VECTORS * bytes;
}

INLINE void store(const struct cpu_product *p, uint32_t vector, uint32_t row, VEC sum)
{
    const uint32_t begin = vector * LANES;
    if (begin >= p->n_outputs)
        return;
    if (p->before != NULL)
        sum = vec_add(
            vec_load_some(p->before + row * p->before_stride + begin, p->n_outputs - begin), sum);
    vec_store_some(p->y + row * p->y_stride + begin, sum, p->n_outputs - begin);
}

#endif
