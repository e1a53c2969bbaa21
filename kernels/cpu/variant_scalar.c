/* variant_scalar.c - the portable variant: the fallback everywhere, and the reference for bits. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/product.h"

static void swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

static void geglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = geglu_one(gate[i], up[i]);
}

static void soft_cap(float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = soft_cap_one(x[i], cap);
}

const struct cpu_variant cpu_variant_scalar = {
    .name = "scalar",
    .products =
        {
            [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_scalar, product_float_scalar, pack_float},
            [CPU_QUANT] = {PRODUCT_QUANT_ROWS_scalar, product_quant_scalar, pack_quant},
        },
    ELEMENTWISE,
};
