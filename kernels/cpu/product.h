/* kernels/cpu/product.h - the inner loops of products, one set per instruction set; what they do is
 * in variant.h. Inside kernels/cpu only. */
#ifndef LONGSPAN_KERNELS_CPU_PRODUCT_H
#define LONGSPAN_KERNELS_CPU_PRODUCT_H

#include "kernels/cpu/variant.h"

/* The tallest tiles. */
enum {
    PRODUCT_FLOAT_ROWS_scalar = 4,
    PRODUCT_QUANT_ROWS_scalar = 4,
    PRODUCT_FLOAT_ROWS_avx2 = 6,
    PRODUCT_QUANT_ROWS_avx2 = 4,
    PRODUCT_FLOAT_ROWS_avx512 = 12,
    PRODUCT_QUANT_ROWS_avx512 = 12,
    PRODUCT_PAIRS_ROWS_bf16 = 24,
    PRODUCT_FLOAT_ROWS_neon = 6,
    PRODUCT_QUANT_ROWS_neon = 6,
    PRODUCT_QUANT_ROWS_dotprod = 6,
};

#define PRODUCTS(isa)                                                                              \
    void product_float_##isa(const struct cpu_product *product);                                   \
    void product_quant_##isa(const struct cpu_product *product);
PRODUCTS(scalar)
PRODUCTS(avx2)
PRODUCTS(avx512)
PRODUCTS(neon)
#undef PRODUCTS
void product_quant_dotprod(const struct cpu_product *product);
void product_pairs_bf16(const struct cpu_product *product);
void pack_pairs_bf16(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n);

#endif
