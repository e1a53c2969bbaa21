/* product_quant_neon.c - an integer and a float sum for each output, and two registers of sums of
 * 16 bits: V * R is 4 to 6 of 32 registers. */
#include "kernels/cpu/vector_neon.h"

#include <stdbool.h>

/* As on AVX-512: not measured here. */
INLINE bool fetches_ahead(const int R, const int low_bits)
{
    return R >= 4 && low_bits < 8;
}

#define QUANT_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 2)                                                                                        \
    X(3, 2)                                                                                        \
    X(4, 1)                                                                                        \
    X(5, 1)                                                                                        \
    X(6, 1)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_neon(const struct cpu_product *product)
{
    product_quant(product);
}
