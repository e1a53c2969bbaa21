/* product_float_neon.c - 32 registers: V * R is 16 to 24, four vectors are one panel. */
#include "kernels/cpu/vector_neon.h"

#define FLOAT_ROWS(X)                                                                              \
    X(1, 16)                                                                                       \
    X(2, 8)                                                                                        \
    X(3, 8)                                                                                        \
    X(4, 4)                                                                                        \
    X(5, 4)                                                                                        \
    X(6, 4)

#include "kernels/cpu/product_float_simd.h"

void product_float_neon(const struct cpu_product *product)
{
    product_float(product);
}
