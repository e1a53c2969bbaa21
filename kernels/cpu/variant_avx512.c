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

static void geglu(float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), c1 = _mm512_set1_ps(GELU_F32_C1),
                 c3 = _mm512_set1_ps(GELU_F32_C3);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 g = _mm512_loadu_ps(gate + i);
        const __m512 a = _mm512_mul_ps(g, _mm512_fmadd_ps(_mm512_mul_ps(g, g), c3, c1));
        const __m512 gelu = _mm512_div_ps(g, _mm512_add_ps(one, exp_f32_avx512(a)));
        _mm512_storeu_ps(gate + i, _mm512_mul_ps(gelu, _mm512_loadu_ps(up + i)));
    }
    for (; i < n; i++)
        gate[i] = geglu_one(gate[i], up[i]);
}

static void soft_cap(float *x, float cap, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), minus_two = _mm512_set1_ps(-2.0f),
                 sign = _mm512_set1_ps(-0.0f), caps = _mm512_set1_ps(cap);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 y = _mm512_div_ps(_mm512_loadu_ps(x + i), caps);
        const __m512 e = exp_f32_avx512(_mm512_mul_ps(minus_two, _mm512_andnot_ps(sign, y)));
        const __m512 tanh = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
        _mm512_storeu_ps(x + i, _mm512_mul_ps(caps, _mm512_or_ps(tanh, _mm512_and_ps(sign, y))));
    }
    for (; i < n; i++)
        x[i] = soft_cap_one(x[i], cap);
}

#define EXACT_PRODUCTS                                                                             \
    [CPU_FLOAT] = {PRODUCT_FLOAT_ROWS_avx512, product_float_avx512, pack_float},                   \
    [CPU_QUANT] = {PRODUCT_QUANT_ROWS_avx512, product_quant_avx512, pack_quant}
#define ELEMENTWISE                                                                                \
    .rms_norm = rms_norm_row, .rotate = rotate_row, .swiglu = swiglu, .geglu = geglu,              \
    .add = add_vectors, .scale = scale_vector, .soft_cap = soft_cap, .combine = combine_piece

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
