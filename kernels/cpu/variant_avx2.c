/* variant_avx2.c - for AVX2 with FMA and F16C. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_avx2.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/vector_avx2.h"

#define vec_exp exp_f32_avx2
#include "kernels/cpu/gates_simd.h"

const struct cpu_variant cpu_variant_avx2 = {
    .name = "avx2",
    .products =
        {
            [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_avx2, product_float_avx2, pack_float},
            [CPU_QUANT] = {PRODUCT_QUANT_ROWS_avx2, product_quant_avx2, pack_quant},
        },
    ELEMENTWISE,
};
