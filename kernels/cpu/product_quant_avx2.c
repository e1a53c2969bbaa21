/* product_quant_avx2.c - sixteen registers: V * R is 4. */
#include "kernels/cpu/vector_avx2.h"

#define QUANT_ROWS(X)                                                                              \
    X(1, 2)                                                                                        \
    X(2, 2)                                                                                        \
    X(3, 1)                                                                                        \
    X(4, 1)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_avx2(const struct cpu_product *product)
{
    product_quant(product);
}
