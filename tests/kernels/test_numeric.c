/* test_numeric.c - exp, sin and cos against long double libm, and the vector twins bit for bit. */
#include "kernels/numeric.h"

#include "tests/cmocka.h"
#include "tests/kernels/numbers.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h> /* first, or its functions take the targets below */
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#include "kernels/cpu/numeric_avx2.h"
static void exp_avx2(float *out, const float *x)
{
    for (int i = 0; i < 16; i += 8)
        _mm256_storeu_ps(out + i, exp_f32_avx2(_mm256_loadu_ps(x + i)));
}
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f")
#include "kernels/cpu/numeric_avx512.h"
static void exp_avx512(float *out, const float *x)
{
    _mm512_storeu_ps(out, exp_f32_avx512(_mm512_loadu_ps(x)));
}
#pragma GCC pop_options
#elif defined(__aarch64__)
#include "kernels/cpu/numeric_neon.h"
static void exp_neon(float *out, const float *x)
{
    for (int i = 0; i < 16; i += 4)
        vst1q_f32(out + i, exp_f32_neon(vld1q_f32(x + i)));
}
#endif

/* Of sixteen values. */
struct twin {
    const char *name;
    bool usable;
    void (*exp)(float *out, const float *x);
};

/* Those of this build, from [0] to one without a name. */
static void list_twins(struct twin twins[3])
{
    memset(twins, 0, 3 * sizeof(*twins));
#if defined(__x86_64__)
    twins[0] = (struct twin){
        "avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), exp_avx2};
    twins[1] = (struct twin){"avx512", __builtin_cpu_supports("avx512f"), exp_avx512};
#elif defined(__aarch64__)
    twins[0] = (struct twin){"neon", true, exp_neon};
#endif
}

/* All signs and exponents, with mantissas spread by an odd stride: about 1.4 million values. */
#define STRIDE 3079u
static const uint32_t edges[] = {0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x7f800000,
                                 0xff800000, 0x7fc00000, 0xffc00000, 0x42b17217, 0x42b17218,
                                 0xc2aeac50, 0xc2aeac51, 0xc2cff1b5, 0xc2d00000, 0xc2d00001,
                                 0x42b20000, 0x42b20001, 0x7f7fffff, 0xff7fffff, 0x3eb17218};

static void test_exp_special_values(void **state)
{
    assert_true(exp_f32(0.0f) == 1.0f);
    assert_true(exp_f32(-0.0f) == 1.0f);
    assert_true(exp_f32(-INFINITY) == 0.0f);
    assert_true(exp_f32(-1e30f) == 0.0f);
    assert_true(exp_f32(-104.0f) == 0.0f);
    assert_true(exp_f32(INFINITY) == INFINITY);
    assert_true(exp_f32(89.0f) == INFINITY);
    assert_true(isnan(exp_f32(NAN)));
}

static void test_exp_is_accurate(void **state)
{
    double worst = 0.0;
    float previous = 0.0f;
    for (float x = -104.5f; x < 88.72f; x += 0.0002137f) {
        const double got = exp_f32(x), want = exp((double)x);
        if (want >= 0x1p-126) {
            const double error = fabs(got - want) / want;
            worst = error > worst ? error : worst;
        } else {
            assert_true(fabs(got - want) < 0x1p-149); /* subnormal: one unit in the last place */
        }
        assert_true((float)got >= previous); /* at this step, no bend downwards */
        previous = (float)got;
    }
    print_message("# exp_f32: largest relative error %.3g\n", worst);
    assert_true(worst < 1.0e-7); /* half a unit from the last fma, a quarter from its input */
}

static void test_exp_vectors_have_the_same_bits(void **state)
{
    const size_t n_edges = sizeof(edges) / sizeof(edges[0]);
    struct twin twins[3];
    float x[16], want[16], got[16];
    size_t n = 0;
    list_twins(twins);
    if (twins[0].name == NULL)
        skip();
    for (uint64_t bits = 0; bits < 1ull << 32; n++) {
        for (size_t i = 0; i < 16; i++, bits += STRIDE) {
            x[i] = n * 16 + i < n_edges ? float_of(edges[n * 16 + i]) : float_of((uint32_t)bits);
            want[i] = exp_f32(x[i]);
        }
        for (const struct twin *twin = twins; twin->name != NULL; twin++) {
            if (!twin->usable)
                continue;
            twin->exp(got, x);
            for (size_t i = 0; i < 16; i++) {
                if (isnan(want[i]) ? isnan(got[i]) : bits_of(want[i]) == bits_of(got[i]))
                    continue;
                fail_msg("%s: exp(%a) is %a, the scalar says %a", twin->name, (double)x[i],
                         (double)got[i], (double)want[i]);
            }
        }
    }
    /* and densely where results are not all 0, 1 or infinity */
    for (float base = -105.0f; base < 90.0f; base += 0.00321f) {
        for (size_t i = 0; i < 16; i++) {
            x[i] = base + (float)i * 0.0002f;
            want[i] = exp_f32(x[i]);
        }
        for (const struct twin *twin = twins; twin->name != NULL; twin++) {
            if (!twin->usable)
                continue;
            twin->exp(got, x);
            assert_memory_equal(got, want, sizeof(want));
        }
    }
    for (const struct twin *twin = twins; twin->name != NULL; twin++)
        if (!twin->usable)
            print_message("# this processor has no %s: not compared\n", twin->name);
}

static void check_sincos(double x, double tolerance)
{
    double s, c;
    sincos_f64(x, &s, &c);
    const long double es = fabsl((long double)s - sinl((long double)x)),
                      ec = fabsl((long double)c - cosl((long double)x));
    if (!(es <= (long double)tolerance && ec <= (long double)tolerance))
        fail_msg("sincos(%.17g): errors %Lg, %Lg", x, es, ec);
}

static void test_sincos_up_to_a_million_tokens(void **state)
{
    /* A position times 1 radian is the hardest angle of RoPE: exact, and largest. */
    for (uint32_t position = 0; position < 1u << 21; position += 7)
        check_sincos(position, 2.5e-16);
    for (uint32_t position = 0; position < 1u << 21; position += 1013)
        for (int i = 0; i < 64; i++)
            check_sincos(position * pow(10000.0, -i / 64.0), 2.5e-16);
}

static void test_sincos_beyond_and_near_quadrants(void **state)
{
    double s, c;
    for (double x = 0x1p21; x < 0x1p30; x *= 1.0001371)
        check_sincos(x, 2.5e-16);
    /* sinl reduces by a 66-bit pi: it is no judge far beyond 2^30, so identities are used there */
    for (double x = 0x1p30; x < 0x1p50; x *= 1.00371) {
        sincos_f64(x, &s, &c);
        assert_true(fabs(s * s + c * c - 1.0) < 2e-15);
    }
    for (int k = -4096; k <= 4096; k++) {
        check_sincos(k * 1.5707963267948966, 2.5e-16);
        check_sincos(k * 0.78539816339744831, 2.5e-16);
    }
    sincos_f64(0.0, &s, &c);
    assert_true(s == 0.0 && c == 1.0);
    sincos_f64(INFINITY, &s, &c);
    assert_true(isnan(s) && isnan(c));
    sincos_f64((double)NAN, &s, &c);
    assert_true(isnan(s) && isnan(c));
    sincos_f64(-0x1p51, &s, &c);
    assert_true(isnan(s) && isnan(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_special_values),
        cmocka_unit_test(test_exp_is_accurate),
        cmocka_unit_test(test_exp_vectors_have_the_same_bits),
        cmocka_unit_test(test_sincos_up_to_a_million_tokens),
        cmocka_unit_test(test_sincos_beyond_and_near_quadrants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
