/* product_float_avx512.c - V * R is 24: two fused multiply-adds per cycle need 8 to 10 in flight, and 24
 * leave room for the weights and a broadcast in 32 registers. */
#include "kernels/cpu/vector_avx512.h"

#define FLOAT_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 4)                                                                                        \
    X(3, 4)                                                                                        \
    X(4, 4)                                                                                        \
    X(5, 4)                                                                                        \
    X(6, 4)                                                                                        \
    X(7, 2)                                                                                        \
    X(8, 2)                                                                                        \
    X(9, 2)                                                                                        \
    X(10, 2)                                                                                       \
    X(11, 2)                                                                                       \
    X(12, 2)

#include "kernels/cpu/product_float_simd.h"

void product_float_avx512(const struct cpu_product *product)
{
    product_float(product);
}

void widen_avx512(float *out, enum weight_type type, const uint8_t *weights, size_t n)
{
    widen(out, type, weights, n);
}
