/* test_types.c - names, sizes, and rows of every type. */
#include "kernels/quant/types.h"

#include "tests/kernels/quant/quant_tests.h"

static void test_plain_types_and_names(void **state)
{
    const float x[4] = {1.0f, -2.0f, 65504.0f, 0x1p-24f};
    float back[4];
    uint16_t halves[4];
    weight_quantize(WEIGHT_F16, halves, x, 4);
    weight_dequantize(WEIGHT_F16, back, halves, 4);
    assert_memory_equal(x, back, sizeof(x));
    weight_quantize(WEIGHT_F32, back, x, 4);
    assert_memory_equal(x, back, sizeof(x));

    weight_quantize(WEIGHT_BF16, halves, x, 2);
    assert_int_equal(halves[0], 0x3f80);
    assert_int_equal(halves[1], 0xc000);
    weight_dequantize(WEIGHT_BF16, back, halves, 2);
    assert_memory_equal(x, back, 2 * sizeof(*x));

    assert_string_equal(weight_traits(WEIGHT_Q8_0)->name, "Q8_0");
    assert_null(weight_traits((enum weight_type)4));
    assert_true(weight_row_bytes(WEIGHT_Q8_0, 4096) == 4352);
    assert_true(weight_row_bytes(WEIGHT_F32, 1u << 31) == (size_t)1 << 33);
}

/* The numbers and sizes are GGUF's. */
static void test_traits_of_every_type(void **state)
{
    static const struct {
        int number;
        const char *name;
        uint32_t block_elements, block_bytes;
    } expected[WEIGHT_TYPES] = {
        {0, "F32", 1, 4},       {1, "F16", 1, 2},       {30, "BF16", 1, 2},     {8, "Q8_0", 32, 34},
        {2, "Q4_0", 32, 18},    {3, "Q4_1", 32, 20},    {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},
        {12, "Q4_K", 256, 144}, {13, "Q5_K", 256, 176}, {14, "Q6_K", 256, 210},
    };
    int n_known = 0;
    for (int number = -1; number < 64; number++)
        n_known += weight_traits((enum weight_type)number) != NULL;
    assert_int_equal(n_known, WEIGHT_TYPES);
    for (int i = 0; i < WEIGHT_TYPES; i++) {
        const struct weight_traits *traits = weight_traits(weight_types[i]);
        assert_int_equal(weight_types[i], expected[i].number);
        assert_string_equal(traits->name, expected[i].name);
        assert_int_equal(traits->block_elements, expected[i].block_elements);
        assert_int_equal(traits->block_bytes, expected[i].block_bytes);
        assert_true(WEIGHT_MAX_BLOCK_ELEMENTS % traits->block_elements == 0);
    }
}

/* A row of several blocks is its blocks, one after the other, and nothing beyond is touched. */
static void test_rows_are_their_blocks(void **state)
{
    uint64_t seed = 1;
    enum { N = 3 * WEIGHT_MAX_BLOCK_ELEMENTS };
    float x[N], row_values[N + 1], block_values[WEIGHT_MAX_BLOCK_ELEMENTS];
    uint8_t row[N * 4 + 1], block[WEIGHT_MAX_BLOCK_ELEMENTS * 4];
    for (int i = 0; i < N; i++)
        x[i] = random_weight(&seed) * (float)(1 + i / 100);
    for (int t = 0; t < WEIGHT_TYPES; t++) {
        const uint32_t n = weight_traits(weight_types[t])->block_elements;
        const size_t bytes = weight_row_bytes(weight_types[t], N),
                     block_bytes = weight_row_bytes(weight_types[t], n);
        row[bytes] = 0xaa;
        row_values[N] = -7.0f;
        weight_quantize(weight_types[t], row, x, N);
        weight_dequantize(weight_types[t], row_values, row, N);
        for (uint32_t b = 0; b < N / n; b++) {
            weight_quantize(weight_types[t], block, x + b * n, n);
            assert_memory_equal(block, row + b * block_bytes, block_bytes);
            weight_dequantize(weight_types[t], block_values, block, n);
            assert_memory_equal(block_values, row_values + b * n, n * sizeof(float));
        }
        assert_int_equal(row[bytes], 0xaa);
        assert_true(row_values[N] == -7.0f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_traits_of_every_type),
        cmocka_unit_test(test_rows_are_their_blocks),
        cmocka_unit_test(test_plain_types_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
