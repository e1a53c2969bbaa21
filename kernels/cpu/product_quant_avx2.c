/* product_quant_avx2.c - sixteen registers: V * R is 4. */
#include "kernels/cpu/vector_avx2.h"

#include <stdbool.h>

/* One to three rows come nearer to the read rate when they fetch (bench/matmul --rows 1); taller
 * tiles of bytes do not (--rows 4). */
INLINE bool fetches_ahead(const int R, const int low_bits)
{
    return R < 4 || low_bits < 8;
}

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
