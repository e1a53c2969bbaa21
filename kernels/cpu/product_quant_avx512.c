/* product_quant_avx512.c - an integer and a float sum for each output in 32 registers: twelve rows
 * of one panel. */
#include "kernels/cpu/vector_avx512.h"

#include <stdbool.h>

/* With few rows, and for bytes, the processor's own prefetcher does best (bench/matmul). */
INLINE bool fetches_ahead(const int R, const int low_bits)
{
    return R >= 4 && low_bits < 8;
}

#define QUANT_ROWS(X)                                                                              \
    X(1, 1)                                                                                        \
    X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_avx512(const struct cpu_product *product)
{
    product_quant(product);
}
