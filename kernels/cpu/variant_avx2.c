/* variant_avx2.c - for AVX2 with FMA and F16C. */
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/numeric_avx2.h"
#include "kernels/cpu/product.h"

#include <immintrin.h>

static void swiglu(float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 g = _mm256_loadu_ps(gate + i);
        const __m256 e = exp_f32_avx2(_mm256_xor_ps(g, sign));
        const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, e));
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(silu, _mm256_loadu_ps(up + i)));
    }
    for (; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

const struct cpu_variant cpu_variant_avx2 = {
    .name = "avx2",
    .products =
        {
            [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_avx2, product_float_avx2, pack_float},
            [CPU_QUANT] = {PRODUCT_QUANT_ROWS_avx2, product_quant_avx2, pack_quant},
        },
    .rms_norm = rms_norm_row,
    .rotate = rotate_row,
    .swiglu = swiglu,
    .add = add_vectors,
    .combine = combine_piece,
};
