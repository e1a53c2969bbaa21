/* product_float_avx512.c - a fused multiply-add takes four cycles and one can begin in each: from
 * four rows on a single panel has enough of them, and is read as one stream. */
#include "kernels/cpu/vector_avx512.h"

#define FLOAT_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 4) X(3, 4) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)

#include "kernels/cpu/product_float_simd.h"

void product_float_avx512(const struct cpu_product *product)
{
    product_float(product);
}
