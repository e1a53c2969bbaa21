/* test_block32.c - values against golden blocks, the format's text, and its corners. */
#include "kernels/quant/block32.h"

#include "tests/kernels/quant/golden.h"
#include "tests/kernels/quant/quant_tests.h"

static const enum weight_type types[] = {WEIGHT_Q4_0, WEIGHT_Q4_1, WEIGHT_Q5_0, WEIGHT_Q5_1,
                                         WEIGHT_Q8_0};
enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

static bool has_minimum(enum weight_type type)
{
    return type == WEIGHT_Q4_1 || type == WEIGHT_Q5_1;
}

static bool has_fifth(enum weight_type type)
{
    return type == WEIGHT_Q5_0 || type == WEIGHT_Q5_1;
}

static void test_golden_blocks(void **state)
{
    int n_found = 0;
    for (size_t g = 0; g < sizeof(golden_blocks) / sizeof(golden_blocks[0]); g++) {
        const struct golden *golden = &golden_blocks[g];
        float values[BLOCK32_ELEMENTS];
        if (!block32_holds(golden->type))
            continue;
        n_found++;
        block32_dequantize(values, golden->type, golden->bytes);
        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            assert_int_equal(bits_of(values[i]), golden->values[i]);
    }
    assert_int_equal(n_found, N_TYPES);
}

/* Which weight a bit of the integers belongs to, and what it is worth: as the format says it. */
static void place_of(enum weight_type type, int byte, int bit, int *weight, int *worth)
{
    const int halves = has_minimum(type) ? 4 : 2, low = halves + (has_fifth(type) ? 4 : 0);
    if (type == WEIGHT_Q8_0) {
        *weight = byte - 2;
        *worth = bit == 7 ? -128 : 1 << bit;
    } else if (byte < low) {
        *weight = 8 * (byte - halves) + bit;
        *worth = 16;
    } else {
        *weight = byte - low + (bit < 4 ? 0 : 16);
        *worth = 1 << bit % 4;
    }
}

static void test_every_bit_is_in_its_place(void **state)
{
    for (int t = 0; t < N_TYPES; t++) {
        const int n_bytes = (int)weight_traits(types[t])->block_bytes;
        const int halves = has_minimum(types[t]) ? 4 : 2;
        const float base = types[t] == WEIGHT_Q4_0 ? -8.0f : types[t] == WEIGHT_Q5_0 ? -16.0f : 0;
        for (int byte = halves; byte < n_bytes; byte++)
            for (int bit = 0; bit < 8; bit++) {
                uint8_t bytes[34] = {0};
                float values[BLOCK32_ELEMENTS];
                int weight, worth;
                put_half(bytes, 0x3c00); /* 1 */
                bytes[byte] = (uint8_t)(1 << bit);
                place_of(types[t], byte, bit, &weight, &worth);
                block32_dequantize(values, types[t], bytes);
                for (int i = 0; i < BLOCK32_ELEMENTS; i++)
                    assert_true(values[i] == base + (i == weight ? (float)worth : 0.0f));
            }
    }
}

/* What the integers 0 and all ones are, by hand. */
static void test_extreme_scales(void **state)
{
    static const struct {
        enum weight_type type;
        uint16_t d, m;
        uint8_t fill;
        float value;
    } cases[] = {
        {WEIGHT_Q4_0, 0x0001, 0, 0x00, -0x8p-24f}, /* the least subnormal half: 2^-24 */
        {WEIGHT_Q4_0, 0x0001, 0, 0xff, 0x7p-24f},
        {WEIGHT_Q4_0, 0x7bff, 0, 0x00, -524032.0f}, /* the greatest: 65504 */
        {WEIGHT_Q4_0, 0x8000, 0, 0x88, -0.0f},      /* q is 0: the sign is that of d */
        {WEIGHT_Q4_0, 0x0000, 0, 0x00, -0.0f},      /* 0 times -8 */
        {WEIGHT_Q4_0, 0xbc00, 0, 0x88, -0.0f},
        {WEIGHT_Q4_0, 0x7c00, 0, 0x00, -INFINITY},
        {WEIGHT_Q4_0, 0x7c00, 0, 0x88, NAN}, /* infinity times 0 */
        {WEIGHT_Q4_0, 0x7e00, 0, 0x00, NAN},
        {WEIGHT_Q4_1, 0x03ff, 0x8001, 0xff, 15 * 1023 * 0x1p-24f - 0x1p-24f},
        {WEIGHT_Q4_1, 0x8000, 0x8000, 0x00, -0.0f},     /* -0 + -0 */
        {WEIGHT_Q4_1, 0x8000, 0x0000, 0x00, 0.0f},      /* -0 + 0 */
        {WEIGHT_Q4_1, 0x7bff, 0x0001, 0xff, 982560.0f}, /* 2^-24 is lost in rounding */
        {WEIGHT_Q4_1, 0x7c00, 0xfc00, 0xff, NAN},
        {WEIGHT_Q5_0, 0x0001, 0, 0x00, -0x10p-24f},
        {WEIGHT_Q5_0, 0x0001, 0, 0xff, 0xfp-24f},
        {WEIGHT_Q5_0, 0xfbff, 0, 0x00, 1048064.0f},
        {WEIGHT_Q5_1, 0x7bff, 0xfbff, 0xff, 30 * 65504.0f},
        {WEIGHT_Q5_1, 0x0001, 0x0000, 0xff, 0x1fp-24f},
        {WEIGHT_Q8_0, 0x0001, 0, 0x80, -0x80p-24f}, /* -128 in a file is legal */
        {WEIGHT_Q8_0, 0x7bff, 0, 0x7f, 8319008.0f},
        {WEIGHT_Q8_0, 0x8000, 0, 0xff, 0.0f}, /* -0 times -1 */
        {WEIGHT_Q8_0, 0x0000, 0, 0xff, -0.0f},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        uint8_t bytes[34];
        float values[BLOCK32_ELEMENTS];
        memset(bytes, cases[c].fill, sizeof(bytes));
        put_half(bytes, cases[c].d);
        if (has_minimum(cases[c].type))
            put_half(bytes + 2, cases[c].m);
        block32_dequantize(values, cases[c].type, bytes);
        for (int i = 0; i < BLOCK32_ELEMENTS; i++)
            assert_true(same_value(values[i], cases[c].value));
    }
}

static void test_blocks_are_written_as_they_were_read(void **state)
{
    uint64_t seed = 3;
    for (int round = 0; round < 2000; round++)
        for (int t = 0; t < N_TYPES; t++) {
            uint8_t bytes[34], again[34];
            struct block32 block;
            for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t)random_u32(&seed);
            memset(again, 0xaa, sizeof(again));
            block32_read(&block, types[t], bytes);
            block32_write(again, types[t], &block);
            assert_memory_equal(again, bytes, weight_traits(types[t])->block_bytes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_blocks),
        cmocka_unit_test(test_every_bit_is_in_its_place),
        cmocka_unit_test(test_extreme_scales),
        cmocka_unit_test(test_blocks_are_written_as_they_were_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
