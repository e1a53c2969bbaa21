/* test_half.c - every half, every bfloat16, and rounding. */
#include "kernels/quant/half.h"

#include "tests/cmocka.h"
#include "tests/kernels/numbers.h"

#include <math.h>
#include <string.h>

/* By its definition (IEEE 754-2008, 3.4), in double. */
static double half_value(uint16_t half)
{
    const int exponent = half >> 10 & 0x1f, mantissa = half & 0x3ff;
    const double magnitude =
        exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static void test_every_half_goes_to_float_and_back(void **state)
{
    for (uint32_t half = 0; half < 65536; half++) {
        const float value = half_to_float((uint16_t)half);
        if ((half & 0x7c00) == 0x7c00) {
            if ((half & 0x3ff) != 0) {
                assert_true(isnan(value));
                const uint16_t back = half_from_float(value);
                assert_int_equal(back, half | 0x200); /* quiet, its payload kept */
            } else {
                assert_true(isinf(value) && (signbit(value) != 0) == (half >> 15 != 0));
                assert_int_equal(half_from_float(value), half);
            }
        } else {
            assert_true((double)value == half_value((uint16_t)half));
            assert_true((signbit(value) != 0) == (half >> 15 != 0));
            assert_int_equal(half_from_float(value), half);
        }
    }
}

/* The nearest half of the two around `value`, the even one in a tie; found by searching. */
static uint16_t nearest_half(float value)
{
    const double magnitude = fabs((double)value);
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    uint16_t low = 0, high = 0x7c00; /* infinity stands for 65536 here */
    while (high - low > 1) {
        const uint16_t middle = (uint16_t)((low + high) / 2);
        if (half_value(middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    const double up = half_value(high) - magnitude, down = magnitude - half_value(low);
    return sign | (up < down || (up == down && (low & 1)) ? high : low);
}

static void test_float_to_half_rounds_to_nearest_even(void **state)
{
    uint64_t seed = 1;
    for (int i = 0; i < 300000; i++) {
        uint32_t bits = random_u32(&seed);
        if (i % 3 != 0) /* where halves are: exponents 2^-27 to 2^16 */
            bits = (bits & 0x807fffff) | (100 + random_u32(&seed) % 44) << 23;
        const float value = float_of(bits);
        if (isnan(value))
            assert_true(isnan(half_to_float(half_from_float(value))));
        else if (isinf(value))
            assert_int_equal(half_from_float(value), signbit(value) ? 0xfc00 : 0x7c00);
        else
            assert_int_equal(half_from_float(value), nearest_half(value));
    }
    for (uint16_t half = 0; half < 0x7bff; half++) { /* every tie, and its two neighbours */
        const double tie = (half_value(half) + half_value(half + 1)) / 2;
        const float middle = (float)tie;
        assert_true((double)middle == tie);
        assert_int_equal(half_from_float(middle), half & 1 ? half + 1 : half);
        assert_int_equal(half_from_float(nextafterf(middle, INFINITY)), half + 1);
        assert_int_equal(half_from_float(nextafterf(middle, 0.0f)), half);
    }
    assert_int_equal(half_from_float(65519.996f), 0x7bff);
    assert_int_equal(half_from_float(65520.0f), 0x7c00);
    assert_int_equal(half_from_float(0x1p-25f), 0);
    assert_int_equal(half_from_float(nextafterf(0x1p-25f, 1.0f)), 1);
    assert_int_equal(half_from_float(-0x1p-149f), 0x8000);
}

/* Of the two bfloat16 around `value`; by arithmetic in double, not on bits. */
static void test_float_to_bfloat16_rounds_to_nearest_even(void **state)
{
    for (uint32_t upper = 0; upper < 65536; upper++) {
        const float value = float_of(upper << 16);
        const uint16_t back = bfloat16_from_float(bfloat16_to_float((uint16_t)upper));
        uint32_t bits;
        const float same = bfloat16_to_float((uint16_t)upper);
        memcpy(&bits, &same, sizeof(bits));
        assert_int_equal(bits, upper << 16); /* exact, and NaNs keep their bits */
        assert_int_equal(back, isnan(value) ? upper | 0x40 : upper);
        if (isnan(value) || isinf(value))
            continue;
        const float next = float_of((upper + 1) << 16); /* away from zero; may be infinity */
        const uint32_t tie = upper << 16 | 0x8000;
        const double middle =
            isinf(next) ? (double)float_of(tie) : ((double)value + (double)next) / 2;
        assert_true((double)float_of(tie) == middle);
        assert_int_equal(bfloat16_from_float(float_of(tie)), upper & 1 ? upper + 1 : upper);
        assert_int_equal(bfloat16_from_float(float_of(tie + 1)), upper + 1);
        assert_int_equal(bfloat16_from_float(float_of(tie - 1)), upper);
    }
    assert_int_equal(bfloat16_from_float(float_of(0x7f800001)), 0x7fc0); /* not infinity */
    assert_int_equal(bfloat16_from_float(float_of(0xffffffff)), 0xffff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_goes_to_float_and_back),
        cmocka_unit_test(test_float_to_half_rounds_to_nearest_even),
        cmocka_unit_test(test_float_to_bfloat16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
