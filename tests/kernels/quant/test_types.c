/* test_types.c - number formats: every half, rounding, and the Q8_0 quantizer. */
#include "kernels/quant/types.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_u32(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

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
    (void)state;
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
    (void)state;
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

static void test_q8_0_is_within_half_a_step(void **state)
{
    (void)state;
    uint64_t seed = 2;
    float x[96], back[96];
    uint8_t blocks[3 * 34];
    for (int round = 0; round < 2000; round++) {
        const float size = ldexpf(1.0f, (int)(random_u32(&seed) % 26) - 13);
        for (int i = 0; i < 96; i++)
            x[i] = size * ((float)random_u32(&seed) * 0x1p-31f - 1.0f);
        weight_quantize(WEIGHT_Q8_0, blocks, x, 96);
        weight_dequantize(WEIGHT_Q8_0, back, blocks, 96);
        for (int b = 0; b < 3; b++) {
            float largest = 0.0f;
            for (int i = 32 * b; i < 32 * b + 32; i++)
                largest = fmaxf(largest, fabsf(x[i]));
            /* half a step of the integer; 127 half-units of the scale's rounding, relative 2^-11
             * or, where the scale is a subnormal half, 2^-25 absolute; and f32 roundings */
            const double step = (double)largest / 127.0;
            const double tolerance = 0.5001 * step + 127.0 * fmax(step * 0x1p-11, 0x1p-25);
            for (int i = 32 * b; i < 32 * b + 32; i++)
                assert_true(fabs((double)x[i] - (double)back[i]) <= tolerance);
        }
    }
}

static void test_q8_0_known_blocks(void **state)
{
    (void)state;
    float x[32] = {0}, back[32];
    uint8_t block[34];
    weight_quantize(WEIGHT_Q8_0, block, x, 32);
    for (int i = 0; i < 34; i++)
        assert_int_equal(block[i], 0);

    x[0] = 127.0f, x[1] = -127.0f, x[2] = 2.5f, x[3] = -2.5f, x[4] = 0.49f, x[31] = 1.0f;
    weight_quantize(WEIGHT_Q8_0, block, x, 32);
    const int8_t want[] = {127, -127, 3, -3, 0}; /* halves go away from zero */
    assert_int_equal(block[0] | block[1] << 8, 0x3c00);
    assert_memory_equal(block + 2, want, sizeof(want));
    assert_int_equal(block[33], 1);

    /* hostile floats: no undefined conversion (seen by test-ubsan), no crash */
    for (int i = 0; i < 32; i++)
        x[i] = i % 3 == 0 ? INFINITY : i % 3 == 1 ? NAN : -1.0f;
    weight_quantize(WEIGHT_Q8_0, block, x, 32);
    for (int i = 0; i < 32; i++)
        x[i] = 0x1p-149f;
    weight_quantize(WEIGHT_Q8_0, block, x, 32);
    weight_dequantize(WEIGHT_Q8_0, back, block, 32);
    assert_true(back[7] == 0.0f);
    memset(block, 0x80, sizeof(block)); /* -128 in a file is legal */
    weight_dequantize(WEIGHT_Q8_0, back, block, 32);
    assert_true(back[0] == -128.0f * half_to_float(0x8080));
}

static void test_plain_types_and_names(void **state)
{
    (void)state;
    const float x[4] = {1.0f, -2.0f, 65504.0f, 0x1p-24f};
    float back[4];
    uint16_t halves[4];
    weight_quantize(WEIGHT_F16, halves, x, 4);
    weight_dequantize(WEIGHT_F16, back, halves, 4);
    assert_memory_equal(x, back, sizeof(x));
    weight_quantize(WEIGHT_F32, back, x, 4);
    assert_memory_equal(x, back, sizeof(x));

    assert_string_equal(weight_traits(WEIGHT_Q8_0)->name, "Q8_0");
    assert_null(weight_traits((enum weight_type)4));
    assert_true(weight_row_bytes(WEIGHT_Q8_0, 4096) == 4352);
    assert_true(weight_row_bytes(WEIGHT_F32, 1u << 31) == (size_t)1 << 33);
    enum kv_type type;
    assert_true(kv_type_parse(&type, "f16") && type == KV_F16 && kv_type_bytes(type) == 2);
    assert_true(kv_type_parse(&type, "f32") && type == KV_F32 && kv_type_bytes(type) == 4);
    assert_false(kv_type_parse(&type, "q4"));
    assert_null(kv_type_name((enum kv_type)7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half_goes_to_float_and_back),
        cmocka_unit_test(test_float_to_half_rounds_to_nearest_even),
        cmocka_unit_test(test_q8_0_is_within_half_a_step),
        cmocka_unit_test(test_q8_0_known_blocks),
        cmocka_unit_test(test_plain_types_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
