/* test_block32_quantize.c - the reference quantizers' bytes, bounds of the error, hostile
 * floats. */
#include "kernels/quant/block32.h"

#include "tests/kernels/quant/quant_tests.h"

static const enum weight_type types[] = {WEIGHT_Q4_0, WEIGHT_Q4_1, WEIGHT_Q5_0, WEIGHT_Q5_1,
                                         WEIGHT_Q8_0};
enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

/* Random blocks of many sizes, some of one sign, some with zeros and outliers. */
static void fill(float x[BLOCK32_ELEMENTS], uint64_t *seed)
{
    const float size = ldexpf(1.0f, (int)(random_u32(seed) % 20) - 14);
    const uint32_t kind = random_u32(seed) % 4;
    for (int i = 0; i < BLOCK32_ELEMENTS; i++) {
        x[i] = size * random_weight(seed) + (kind == 1 ? 4.0f * size : 0.0f);
        if (kind == 2 && i % 5 == 0)
            x[i] = 0.0f;
    }
    if (kind == 3)
        x[random_u32(seed) % 32] *= 20.0f;
}

/* The hashes were computed from the same floats by gguf.quants.quantize of the Python package gguf
 * 0.19.0. */
static void test_the_reference_quantizers_bytes(void **state)
{
    static const uint64_t expected[N_TYPES] = {0x7641dc2cc9197893, 0x22de1fd56f8e9b21,
                                               0xf51c6e8d57765d01, 0x3311a87646c0ab38,
                                               0xa49ac0ac2bf87e5a};
    for (int t = 0; t < N_TYPES; t++) {
        uint64_t seed = 5;
        static uint8_t blocks[1000 * 34];
        const size_t block_bytes = weight_traits(types[t])->block_bytes;
        for (int b = 0; b < 1000; b++) {
            float x[BLOCK32_ELEMENTS];
            fill(x, &seed);
            block32_quantize(blocks + (size_t)b * block_bytes, types[t], x);
        }
        assert_true(hash_of(blocks, 1000 * block_bytes) == expected[t]);
    }
}

/* Steps from one end of the range to the other, and how far a weight may be from its integer: half
 * a step, but in Q4_0 and Q5_0 a whole one at the short end, where the integer is cut. */
static void bounds_of(enum weight_type type, float *steps, float *most)
{
    *steps = type == WEIGHT_Q8_0   ? 127.0f
             : type == WEIGHT_Q4_0 ? 8.0f
             : type == WEIGHT_Q5_0 ? 16.0f
             : type == WEIGHT_Q4_1 ? 15.0f
                                   : 31.0f;
    *most = type == WEIGHT_Q4_0 || type == WEIGHT_Q5_0 ? 1.0f : 0.5f;
}

static void test_errors_are_within_a_step(void **state)
{
    uint64_t seed = 6;
    for (int round = 0; round < 4000; round++) {
        float x[BLOCK32_ELEMENTS], back[BLOCK32_ELEMENTS];
        fill(x, &seed);
        for (int t = 0; t < N_TYPES; t++) {
            const bool minimum = types[t] == WEIGHT_Q4_1 || types[t] == WEIGHT_Q5_1;
            uint8_t bytes[34];
            float least = x[0], greatest = x[0], steps, most;
            for (int i = 0; i < BLOCK32_ELEMENTS; i++) {
                least = fminf(least, x[i]);
                greatest = fmaxf(greatest, x[i]);
            }
            const float largest = fmaxf(-least, greatest);
            bounds_of(types[t], &steps, &most);
            const double step = (double)(minimum ? greatest - least : largest) / (double)steps;
            /* d and m are rounded to half: relative 2^-11, or 2^-25 where they are subnormal; the
             * f32 arithmetic adds less than a ten thousandth of a step */
            const double tolerance = ((double)most + 1e-4) * step +
                                     (double)steps * fmax(step * 0x1p-11, 0x1p-25) +
                                     (minimum ? fmax((double)largest * 0x1p-11, 0x1p-25) : 0);
            block32_quantize(bytes, types[t], x);
            block32_dequantize(back, types[t], bytes);
            for (int i = 0; i < BLOCK32_ELEMENTS; i++)
                assert_true(fabs((double)x[i] - (double)back[i]) <= tolerance);
        }
    }
}

static void test_known_blocks(void **state)
{
    float x[BLOCK32_ELEMENTS] = {0};
    uint8_t block[34];
    struct block32 read;
    x[0] = 127.0f, x[1] = -127.0f, x[2] = 2.5f, x[3] = -2.5f, x[4] = 0.49f, x[31] = 1.0f;
    x[5] = nextafterf(0.5f, 0.0f);
    block32_quantize(block, WEIGHT_Q8_0, x);
    const int8_t want[] = {127, -127, 3, -3, 0, 0}; /* halves go away from zero */
    assert_int_equal(block[0] | block[1] << 8, 0x3c00);
    assert_memory_equal(block + 2, want, sizeof(want));
    assert_int_equal(block[33], 1);

    block32_quantize(block, WEIGHT_Q4_0, x); /* the first of the two largest is -8 */
    block32_read(&read, WEIGHT_Q4_0, block);
    assert_int_equal(read.d, half_from_float(127.0f / -8.0f));
    assert_int_equal(read.q[0], -8);
    assert_int_equal(read.q[1], 7); /* 8 is cut */

    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        x[i] = 3.0f + (float)(i % 16);
    block32_quantize(block, WEIGHT_Q4_1, x);
    block32_read(&read, WEIGHT_Q4_1, block);
    assert_int_equal(read.d, 0x3c00);
    assert_int_equal(read.m, half_from_float(3.0f));
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        assert_int_equal(read.q[i], i % 16);
}

static void test_zeros_constants_and_huge_values(void **state)
{
    for (int t = 0; t < N_TYPES; t++) {
        float x[BLOCK32_ELEMENTS] = {0}, back[BLOCK32_ELEMENTS];
        uint8_t block[34];
        block32_quantize(block, types[t], x);
        block32_dequantize(back, types[t], block);
        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            assert_true(back[i] == 0.0f);

        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            x[i] = i % 2 ? 0x1p-149f : -0x1p-140f; /* no scale is that small */
        block32_quantize(block, types[t], x);
        block32_dequantize(back, types[t], block);
        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            assert_true(back[i] == 0.0f);

        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            x[i] = -1.5f;
        block32_quantize(block, types[t], x);
        block32_dequantize(back, types[t], block);
        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            assert_true(fabsf(back[i] + 1.5f) <= 1.5f * 0x1p-11f);

        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            x[i] = i % 2 ? 3e38f : -3e38f; /* their difference is beyond f32 */
        block32_quantize(block, types[t], x);
        block32_dequantize(back, types[t], block);
        for (int i = 0; i < BLOCK32_ELEMENTS; i++) /* the farthest that the block can hold */
            assert_true(isfinite(back[i]) && fabsf(back[i]) >= 65504.0f &&
                        (back[i] > 0) == (x[i] > 0));
    }
}

/* One is enough: it has no scale, and no place among 32 integers. */
static void test_what_is_no_number_is_not_hidden(void **state)
{
    const float hostile[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int t = 0; t < N_TYPES; t++)
        for (int h = 0; h < 4; h++)
            for (int at = 0; at < BLOCK32_ELEMENTS; at++) {
                float x[BLOCK32_ELEMENTS], back[BLOCK32_ELEMENTS];
                uint8_t block[34];
                for (int i = 0; i < BLOCK32_ELEMENTS; i++)
                    x[i] = (float)i;
                x[at] = hostile[h];
                block32_quantize(block, types[t], x);
                block32_dequantize(back, types[t], block);
                for (int i = 0; i < BLOCK32_ELEMENTS; i++)
                    assert_true(isnan(back[i]));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_reference_quantizers_bytes),
        cmocka_unit_test(test_errors_are_within_a_step),
        cmocka_unit_test(test_known_blocks),
        cmocka_unit_test(test_zeros_constants_and_huge_values),
        cmocka_unit_test(test_what_is_no_number_is_not_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
