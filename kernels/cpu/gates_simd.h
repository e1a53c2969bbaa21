/* kernels/cpu/gates_simd.h - gates and soft caps over vectors of any length. Included after
 * elementwise.h, a vector_....h, and a definition of vec_exp.
 *
 * Each follows its function of one number (elementwise.h) step by step, so that bits do not depend
 * on where a value lies in a vector, or behind the last whole one. */
#ifndef LONGSPAN_KERNELS_CPU_GATES_SIMD_H
#define LONGSPAN_KERNELS_CPU_GATES_SIMD_H

static void swiglu(float *gate, const float *up, size_t n)
{
    const VEC one = vec_set1(1.0f), sign = vec_set1(-0.0f);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const VEC g = vec_load(gate + i);
        const VEC silu = vec_div(g, vec_add(one, vec_exp(vec_xor(g, sign))));
        vec_store(gate + i, vec_mul(silu, vec_load(up + i)));
    }
    for (; i < n; i++)
        gate[i] = swiglu_one(gate[i], up[i]);
}

static void geglu(float *gate, const float *up, size_t n)
{
    const VEC one = vec_set1(1.0f), c1 = vec_set1(GELU_F32_C1), c3 = vec_set1(GELU_F32_C3);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const VEC g = vec_load(gate + i);
        const VEC a = vec_mul(g, vec_fma(vec_mul(g, g), c3, c1));
        const VEC gelu = vec_div(g, vec_add(one, vec_exp(a)));
        vec_store(gate + i, vec_mul(gelu, vec_load(up + i)));
    }
    for (; i < n; i++)
        gate[i] = geglu_one(gate[i], up[i]);
}

static void soft_cap(float *x, float cap, size_t n)
{
    const VEC one = vec_set1(1.0f), minus_two = vec_set1(-2.0f), sign = vec_set1(-0.0f),
              caps = vec_set1(cap);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const VEC y = vec_div(vec_load(x + i), caps);
        const VEC e = vec_exp(vec_mul(minus_two, vec_andnot(sign, y)));
        const VEC tanh = vec_div(vec_sub(one, e), vec_add(one, e));
        vec_store(x + i, vec_mul(caps, vec_or(tanh, vec_and(sign, y))));
    }
    for (; i < n; i++)
        x[i] = soft_cap_one(x[i], cap);
}

#endif
