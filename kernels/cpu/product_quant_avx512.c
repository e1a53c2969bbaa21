/* product_quant_avx512.c - V * R is 12: an integer and a float sum for each output in 32 registers.
 */
#include "kernels/cpu/vector_avx512.h"

#define QUANT_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 4)                                                                                        \
    X(3, 4)                                                                                        \
    X(4, 2)                                                                                        \
    X(5, 2)                                                                                        \
    X(6, 2)                                                                                        \
    X(7, 1)                                                                                        \
    X(8, 1)                                                                                        \
    X(9, 1)                                                                                        \
    X(10, 1)                                                                                       \
    X(11, 1)                                                                                       \
    X(12, 1)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_avx512(const struct cpu_product *product)
{
    product_quant(product);
}
