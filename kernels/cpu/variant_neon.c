/* variant_neon.c - for every 64-bit ARM processor; dotprod is the same with other products of
 * weights in blocks. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_neon.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/vector_neon.h"

#define vec_exp exp_f32_neon
#include "kernels/cpu/gates_simd.h"

const struct cpu_variant cpu_variant_neon = {
    .name = "neon",
    .products =
        {
            [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_neon, product_float_neon, pack_float},
            [CPU_QUANT] = {PRODUCT_QUANT_ROWS_neon, product_quant_neon, pack_quant},
        },
    ELEMENTWISE,
};

const struct cpu_variant cpu_variant_dotprod = {
    .name = "dotprod",
    .products =
        {
            [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_neon, product_float_neon, pack_float},
            [CPU_QUANT] = {PRODUCT_QUANT_ROWS_dotprod, product_quant_dotprod, pack_quant},
        },
    ELEMENTWISE,
};
