/* product_quant_avx2.c - both vectors of a panel, so that they share the activations: eight integer
 * sums in sixteen registers; of the float sums, used once per block, most lie on the stack. */
#include "kernels/cpu/vector_avx2.h"

#include <stdbool.h>

/* The processor's own prefetcher does worse for any type (bench/matmul --rows 1,4). */
INLINE bool fetches_ahead(const int R, const int low_bits)
{
    (void)R;
    (void)low_bits;
    return true;
}

/* GCC must add the products of several rows where they are made: as a tree, or later, so many of
 * them wait at once that most do so on the stack. One row waits for memory either way. */
INLINE PART added_here(PART sum, const int R)
{
    if (R > 1)
        __asm__("" : "+x"(sum));
    return sum;
}
#define ADDED_HERE(sum, R) added_here(sum, R)

#define QUANT_ROWS(X)                                                                              \
    X(1, 2)                                                                                        \
    X(2, 2)                                                                                        \
    X(3, 2)                                                                                        \
    X(4, 2)

#include "kernels/cpu/product_quant_simd.h"

void product_quant_avx2(const struct cpu_product *product)
{
    product_quant(product);
}
