/* product_float_avx2.c - sixteen registers: V * R is 12. */
#include "kernels/cpu/vector_avx2.h"

#define FLOAT_ROWS(X)                                                                              \
    X(1, 8)                                                                                        \
    X(2, 4)                                                                                        \
    X(3, 4)                                                                                        \
    X(4, 2)                                                                                        \
    X(5, 2)                                                                                        \
    X(6, 2)

#include "kernels/cpu/product_float_simd.h"

void product_float_avx2(const struct cpu_product *product)
{
    product_float(product);
}
