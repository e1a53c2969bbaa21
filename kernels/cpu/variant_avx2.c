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

static void geglu(float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), c1 = _mm256_set1_ps(GELU_F32_C1),
                 c3 = _mm256_set1_ps(GELU_F32_C3);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 g = _mm256_loadu_ps(gate + i);
        const __m256 a = _mm256_mul_ps(g, _mm256_fmadd_ps(_mm256_mul_ps(g, g), c3, c1));
        const __m256 gelu = _mm256_div_ps(g, _mm256_add_ps(one, exp_f32_avx2(a)));
        _mm256_storeu_ps(gate + i, _mm256_mul_ps(gelu, _mm256_loadu_ps(up + i)));
    }
    for (; i < n; i++)
        gate[i] = geglu_one(gate[i], up[i]);
}

static void soft_cap(float *x, float cap, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), minus_two = _mm256_set1_ps(-2.0f),
                 sign = _mm256_set1_ps(-0.0f), caps = _mm256_set1_ps(cap);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 y = _mm256_div_ps(_mm256_loadu_ps(x + i), caps);
        const __m256 e = exp_f32_avx2(_mm256_mul_ps(minus_two, _mm256_andnot_ps(sign, y)));
        const __m256 tanh = _mm256_div_ps(_mm256_sub_ps(one, e), _mm256_add_ps(one, e));
        _mm256_storeu_ps(x + i, _mm256_mul_ps(caps, _mm256_or_ps(tanh, _mm256_and_ps(sign, y))));
    }
    for (; i < n; i++)
        x[i] = soft_cap_one(x[i], cap);
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
    .geglu = geglu,
    .add = add_vectors,
    .scale = scale_vector,
    .soft_cap = soft_cap,
    .combine = combine_piece,
};
