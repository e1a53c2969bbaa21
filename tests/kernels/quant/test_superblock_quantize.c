/* test_superblock_quantize.c - how near the search comes, the same bytes everywhere, hostile
 * floats. */
#include "kernels/quant/superblock.h"

#include "tests/kernels/quant/quant_tests.h"

static const enum weight_type types[] = {WEIGHT_Q4_K, WEIGHT_Q5_K, WEIGHT_Q6_K};
enum { N_TYPES = sizeof(types) / sizeof(types[0]), MOST_BYTES = 210, N_BLOCKS = 200 };

/* Sub-blocks of one size, of sizes that differ, and with outliers. */
static void fill(float x[SUPERBLOCK_ELEMENTS], int kind, uint64_t *seed)
{
    float size = 0.02f;
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
        if (kind == 1 && i % 32 == 0)
            size = 0.005f * (float)(1 + random_u32(seed) % 16);
        x[i] = size * random_weight(seed);
        if (kind == 2 && random_u32(seed) % 64 == 0)
            x[i] *= 5.0f;
    }
}

/* Squared errors after quantizing x, and the squares of x. */
static void add_error(enum weight_type type, const float x[SUPERBLOCK_ELEMENTS], double *error,
                      double *all)
{
    float back[SUPERBLOCK_ELEMENTS];
    uint8_t bytes[MOST_BYTES];
    superblock_quantize(bytes, type, x);
    superblock_dequantize(back, type, bytes);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
        *error += ((double)x[i] - (double)back[i]) * ((double)x[i] - (double)back[i]);
        *all += (double)x[i] * (double)x[i];
    }
}

/* `reference`: the root of the mean squared error over that of the weights which the quantizer that
 * people use for these formats, llama.cpp's of February 2025 without an importance matrix, leaves
 * on the same weights. */
static void test_as_near_as_the_reference_quantizer(void **state)
{
    static const double reference[N_TYPES][3] = {
        {0.06981, 0.07110, 0.08531}, {0.03707, 0.03953, 0.04943}, {0.01721, 0.01722, 0.02271}};
    for (int t = 0; t < N_TYPES; t++)
        for (int kind = 0; kind < 3; kind++) {
            uint64_t seed = 7;
            double error = 0, all = 0;
            for (int b = 0; b < N_BLOCKS; b++) {
                float x[SUPERBLOCK_ELEMENTS];
                fill(x, kind, &seed);
                add_error(types[t], x, &error, &all);
            }
            if (sqrt(error / all) > reference[t][kind])
                fail_msg("%s, weights %d: %.5f, reference %.5f", weight_traits(types[t])->name,
                         kind, sqrt(error / all), reference[t][kind]);
        }
}

/* Compilers, optimisation and vector widths must not matter. */
static void test_the_same_bytes_everywhere(void **state)
{
    static const uint64_t expected[N_TYPES] = {0x468a8e18c2aee48f, 0xe851c6d9ad464aa0,
                                               0x4e6a4817a160d871};
    for (int t = 0; t < N_TYPES; t++) {
        uint64_t seed = 8;
        static uint8_t blocks[N_BLOCKS * MOST_BYTES];
        const size_t block_bytes = weight_traits(types[t])->block_bytes;
        for (int b = 0; b < N_BLOCKS; b++) {
            float x[SUPERBLOCK_ELEMENTS];
            fill(x, b % 3, &seed);
            superblock_quantize(blocks + (size_t)b * block_bytes, types[t], x);
        }
        assert_int_equal(hash_of(blocks, N_BLOCKS * block_bytes), expected[t]);
    }
}

/* Weights that a block of the type can hold exactly come back nearly so, whatever their size: what
 * is left is far below what other weights lose (0.07, 0.035, 0.017), unless d has two bits only. */
static void test_values_of_the_format_come_back(void **state)
{
    static const struct {
        uint16_t d;
        double most;
    } cases[] = {{0x0003, 0.025}, {0x0100, 0.01}, {0x1400, 0.01}, {0x3c00, 0.01}, {0x7000, 0.01}};
    uint64_t seed = 9;
    for (int t = 0; t < N_TYPES; t++)
        for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
            double error = 0, all = 0;
            for (int round = 0; round < 50; round++) {
                float x[SUPERBLOCK_ELEMENTS];
                uint8_t bytes[MOST_BYTES];
                for (int i = 0; i < MOST_BYTES; i++)
                    bytes[i] = (uint8_t)random_u32(&seed);
                put_half(bytes + (types[t] == WEIGHT_Q6_K ? 208 : 0), cases[c].d);
                if (types[t] != WEIGHT_Q6_K)
                    put_half(bytes + 2, cases[c].d);
                superblock_dequantize(x, types[t], bytes);
                add_error(types[t], x, &error, &all);
            }
            if (sqrt(error / all) > cases[c].most)
                fail_msg("%s, d %04x: %.5f", weight_traits(types[t])->name, cases[c].d,
                         sqrt(error / all));
        }
}

static void test_zeros_constants_and_huge_values(void **state)
{
    for (int t = 0; t < N_TYPES; t++) {
        float x[SUPERBLOCK_ELEMENTS] = {0}, back[SUPERBLOCK_ELEMENTS];
        uint8_t bytes[MOST_BYTES];
        superblock_quantize(bytes, types[t], x);
        superblock_dequantize(back, types[t], bytes);
        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            assert_true(back[i] == 0.0f);

        const float constants[] = {1.5f, -1.5f, 0x1p-24f, 1e-6f, 60000.0f};
        for (int c = 0; c < 5; c++) {
            for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
                x[i] = constants[c];
            superblock_quantize(bytes, types[t], x);
            superblock_dequantize(back, types[t], bytes);
            for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) /* d is a half; the least one is 2^-24 */
                assert_true(fabsf(back[i] - x[i]) <= fabsf(x[i]) * 0x1p-10f + 0x1p-24f);
        }

        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            x[i] = i % 2 ? 0x1p-149f : -0x1p-130f; /* no scale is that small */
        superblock_quantize(bytes, types[t], x);
        superblock_dequantize(back, types[t], bytes);
        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            assert_true(back[i] == 0.0f);

        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            x[i] = i % 2 ? 3e38f : -3e38f;
        superblock_quantize(bytes, types[t], x);
        superblock_dequantize(back, types[t], bytes);
        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) /* the farthest that the block can hold */
            assert_true(isfinite(back[i]) && fabsf(back[i]) >= 65504.0f &&
                        (back[i] > 0) == (x[i] > 0));
    }
}

/* A sub-block that is all zeros beside others stays all zeros; a negative scale of Q6_K is fine. */
static void test_a_sub_block_of_zeros(void **state)
{
    uint64_t seed = 10;
    for (int t = 0; t < N_TYPES; t++) {
        float x[SUPERBLOCK_ELEMENTS], back[SUPERBLOCK_ELEMENTS];
        uint8_t bytes[MOST_BYTES];
        fill(x, 0, &seed);
        memset(x + 64, 0, 32 * sizeof(*x));
        superblock_quantize(bytes, types[t], x);
        superblock_dequantize(back, types[t], bytes);
        for (int i = 64; i < 96; i++)
            assert_true(back[i] == 0.0f);
    }
}

static void test_what_is_no_number_is_not_hidden(void **state)
{
    const float hostile[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int t = 0; t < N_TYPES; t++)
        for (int h = 0; h < 4; h++)
            for (int at = 0; at < SUPERBLOCK_ELEMENTS; at += 17) {
                float x[SUPERBLOCK_ELEMENTS], back[SUPERBLOCK_ELEMENTS];
                uint8_t bytes[MOST_BYTES];
                for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
                    x[i] = (float)i;
                x[at] = hostile[h];
                superblock_quantize(bytes, types[t], x);
                superblock_dequantize(back, types[t], bytes);
                for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
                    assert_true(isnan(back[i]));
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_near_as_the_reference_quantizer),
        cmocka_unit_test(test_the_same_bytes_everywhere),
        cmocka_unit_test(test_values_of_the_format_come_back),
        cmocka_unit_test(test_zeros_constants_and_huge_values),
        cmocka_unit_test(test_a_sub_block_of_zeros),
        cmocka_unit_test(test_what_is_no_number_is_not_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
