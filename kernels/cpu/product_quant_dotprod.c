/* product_quant_dotprod.c - with sdot, an integer and a float sum for each output: V * R is 4 to 12
 * of 32 registers. */
#include "kernels/cpu/vector_neon.h"

#include <stdbool.h>

/* As on AVX-512: not measured here. */
INLINE bool fetches_ahead(const int R, const int low_bits)
{
    return R >= 4 && low_bits < 8;
}

#define QUANT_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 4)                                                                                        \
    X(3, 4)                                                                                        \
    X(4, 2)                                                                                        \
    X(5, 2)                                                                                        \
    X(6, 2)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_dotprod(const struct cpu_product *product)
{
    product_quant(product);
}
