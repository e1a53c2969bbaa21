/* variant_avx512.c - for AVX-512 with VNNI. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_avx512.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/vector_avx512.h"

#define vec_exp exp_f32_avx512
#include "kernels/cpu/gates_simd.h"

#define EXACT_PRODUCTS                                                                             \
    [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_avx512, product_float_avx512, pack_float},                   \
    [CPU_QUANT] = {PRODUCT_QUANT_ROWS_avx512, product_quant_avx512, pack_quant}

const struct cpu_variant cpu_variant_avx512 = {
    .name = "avx512",
    .products = {EXACT_PRODUCTS},
    ELEMENTWISE,
};

const struct cpu_variant cpu_variant_bf16 = {
    .name = "bf16",
    .products = {EXACT_PRODUCTS, [CPU_PAIRS] = {PRODUCT_PAIRS_ROWS_bf16, product_pairs_bf16,
                                                pack_pairs_bf16}},
    ELEMENTWISE,
};
