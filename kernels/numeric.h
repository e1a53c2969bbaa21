/* kernels/numeric.h - exp, tanh, gelu, sin and cos of our own, so that every host gives the same
 * bits.
 *
 * The C library's functions differ between versions and processors in their last bits. These use
 * only IEEE operations that round once (multiply, add, fused multiply-add), in one written order;
 * the vector twins in kernels/cpu (numeric_avx2.h and its siblings) follow the same order and
 * give the same bits for every input (tests/kernels/test_numeric.c). The fma functions are
 * correctly rounded in the C library too, so a build without the instruction is slower, not
 * different. Rounding to nearest and no flush to zero are assumed, as at the start of every thread.
 */
#ifndef LONGSPAN_KERNELS_NUMERIC_H
#define LONGSPAN_KERNELS_NUMERIC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__ /* GPUs run the same code: their operations round alike */
#define NUMERIC_INLINE static __host__ __device__ inline
#else
#define NUMERIC_INLINE static inline
#endif

/* e^r = 1 + r + r^2 q(r) on |r| <= ln(2)/2, relative error 3.1e-9 before rounding (Remez; the
 * free coefficients are those of r^2 to r^6). ln(2) is cut in two parts: x - n * high is exact. */
#define EXP_F32_LOW       (-104.0f) /* below: 0, half of the least subnormal or less */
#define EXP_F32_HIGH      89.0f     /* above: infinity */
#define EXP_F32_LOG2E     0x1.715476p+0f
#define EXP_F32_MAGIC     12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */
#define EXP_F32_MAGIC_BIT 0x4b400000  /* its bit pattern */
#define EXP_F32_LN2_HIGH  0x1.62e43p-1f
#define EXP_F32_LN2_LOW   (-0x1.05c61p-29f)
#define EXP_F32_C2        0x1.fffffcp-2f
#define EXP_F32_C3        0x1.555492p-3f
#define EXP_F32_C4        0x1.5558f2p-5f
#define EXP_F32_C5        0x1.1239e2p-7f
#define EXP_F32_C6        0x1.6a2434p-10f

/* 2^exponent for -126 <= exponent <= 127 */
NUMERIC_INLINE float exp_f32_power(int32_t exponent)
{
    const uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* e^x; relative error under 1.0e-7 where the result is normal, under one unit in the last place
 * where it is subnormal. exp_f32(0) is exactly 1, of -infinity 0, of 89 and above infinity; NaN
 * stays NaN. */
NUMERIC_INLINE float exp_f32(float x)
{
    x = x < EXP_F32_LOW ? EXP_F32_LOW : x; /* written so that NaN passes */
    x = x > EXP_F32_HIGH ? EXP_F32_HIGH : x;
    const float shifted = fmaf(x, EXP_F32_LOG2E, EXP_F32_MAGIC);
    const float n = shifted - EXP_F32_MAGIC;
    float r = fmaf(-n, EXP_F32_LN2_HIGH, x);
    r = fmaf(-n, EXP_F32_LN2_LOW, r);
    float p = EXP_F32_C6;
    p = fmaf(p, r, EXP_F32_C5);
    p = fmaf(p, r, EXP_F32_C4);
    p = fmaf(p, r, EXP_F32_C3);
    p = fmaf(p, r, EXP_F32_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    if (p != p)
        return p; /* n is no number either */
    int32_t exponent;
    memcpy(&exponent, &shifted, sizeof(exponent));
    exponent -= EXP_F32_MAGIC_BIT; /* -150 to 128: two factors, so that only the last one rounds */
    const int32_t half = (exponent + 256) / 2 - 128;
    return p * exp_f32_power(half) * exp_f32_power(exponent - half);
}

/* tanh(x), by (1 - e) / (1 + e), e = e^(-2|x|): absolute error under 2e-7; NaN stays NaN. */
NUMERIC_INLINE float tanh_f32(float x)
{
    const float e = exp_f32(-2.0f * fabsf(x));
    return copysignf((1.0f - e) / (1.0f + e), x);
}

/* What e is raised to in gelu(x) = x / (1 + e^a) (kernels.h, geglu): -2 sqrt(2 / pi) (x + 0.044715
 * x^3), as x (C1 + C3 x^2). Beyond f32's range a is an infinity of the right sign. */
#define GELU_F32_C1 (-0x1.988454p+0f)
#define GELU_F32_C3 (-0x1.2444f2p-4f)
NUMERIC_INLINE float gelu_exponent_f32(float x)
{
    return x * fmaf(x * x, GELU_F32_C3, GELU_F32_C1);
}

/* sin and cos of x radians, absolute error under 2.5e-16 for |x| up to 2^30 (a position of 2^30 at
 * one radian per token); up to 2^50 under 1e-15; NaN beyond, and for NaN.
 *
 * x - n * pi/2 in two parts (Cody and Waite 1980): the first fma is exact, because its result is a
 * multiple of 2^-53 below 1; the second part of pi/2 is rounded at 2^-107, times n. Then the Taylor
 * series, whose next term is under 5e-17 on |r| <= pi/4. */
NUMERIC_INLINE void sincos_f64(double x, double *sine, double *cosine)
{
    if (!(fabs(x) <= 0x1p50)) {
        *sine = *cosine = (double)NAN;
        return;
    }
    const double magic = 0x1.8p52; /* adding it rounds to an integer, quadrant in the low bits */
    const double shifted = fma(x, 0x1.45f306dc9c883p-1, magic);
    const double n = shifted - magic;
    double r = fma(-n, 0x1.921fb54442d18p+0, x);
    r = fma(-n, 0x1.1a62633145c07p-54, r);

    const double z = r * r;
    double s = -1.0 / 1307674368000.0; /* 15! */
    s = fma(s, z, 1.0 / 6227020800.0);
    s = fma(s, z, -1.0 / 39916800.0);
    s = fma(s, z, 1.0 / 362880.0);
    s = fma(s, z, -1.0 / 5040.0);
    s = fma(s, z, 1.0 / 120.0);
    s = fma(s, z, -1.0 / 6.0);
    s = fma(s * z, r, r);
    double c = 1.0 / 20922789888000.0; /* 16! */
    c = fma(c, z, -1.0 / 87178291200.0);
    c = fma(c, z, 1.0 / 479001600.0);
    c = fma(c, z, -1.0 / 3628800.0);
    c = fma(c, z, 1.0 / 40320.0);
    c = fma(c, z, -1.0 / 720.0);
    c = fma(c, z, 1.0 / 24.0);
    c = fma(c, z, -0.5);
    c = fma(c, z, 1.0);

    uint64_t quadrant;
    memcpy(&quadrant, &shifted, sizeof(quadrant));
    const double a = quadrant & 1 ? c : s, b = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -a : a;
    *cosine = (quadrant + 1) & 2 ? -b : b;
}

#endif
