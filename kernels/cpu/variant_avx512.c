/* variant_avx512.c - for AVX-512 with VNNI. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_avx512.h"
#include "kernels/cpu/product.h"

#include <immintrin.h>

static void swiglu(float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 g = _mm512_loadu_ps(gate + i);
        const __m512 e = exp_f32_avx512(_mm512_xor_ps(g, sign));
        const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, e));
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(silu, _mm512_loadu_ps(up + i)));
    }
    for (; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

#define EXACT_PRODUCTS                                                                             \
    [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_avx512, product_float_avx512, pack_float},                   \
    [CPU_QUANT] = {PRODUCT_QUANT_ROWS_avx512, product_quant_avx512, pack_quant}
#define ELEMENTWISE                                                                                \
    .rms_norm = rms_norm_row, .rotate = rotate_row, .swiglu = swiglu, .add = add_vectors,          \
    .combine = combine_piece

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
