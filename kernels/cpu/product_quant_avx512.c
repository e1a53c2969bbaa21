/* product_quant_avx512.c - an integer and a float sum for each output in 32 registers: at most 12. From
 * two rows on one panel has chains enough, and is read as one stream; a single row needs several
 * panels to hide the latency of the multiplications. */
#include "kernels/cpu/vector_avx512.h"

#define QUANT_ROWS(X)                                                                              \
    X(1, 4)                                                                                        \
    X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_avx512(const struct cpu_product *product)
{
    product_quant(product);
}
