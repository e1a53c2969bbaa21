/* test_kv_type.c - names, sizes and rounding of the KV types. */
#include "kernels/quant/kv_type.h"

#include "tests/cmocka.h"

#include <string.h>

static void test_names_go_both_ways(void **state)
{
    enum kv_type type;
    size_t n = 0;
    for (; kv_type_choices[n] != NULL; n++) {
        assert_true(kv_type_parse(&type, kv_type_choices[n]));
        assert_string_equal(kv_type_name(type), kv_type_choices[n]);
    }
    assert_int_equal(n, KV_TYPES);
    assert_false(kv_type_parse(&type, "q4"));
    assert_false(kv_type_parse(&type, "F16"));
    assert_null(kv_type_name((enum kv_type)KV_TYPES));
    assert_null(kv_type_name((enum kv_type) - 1));
}

static void test_numbers_on_the_wire_stay(void **state)
{
    assert_int_equal(KV_F32, 0);
    assert_int_equal(KV_F16, 1);
    assert_int_equal(KV_BF16, 2);
    assert_int_equal(KV_Q8_0, 3);
}

static void test_rows_have_the_bytes_of_their_blocks(void **state)
{
    static const size_t bytes[KV_TYPES] = {
        [KV_F32] = 384, [KV_F16] = 192, [KV_BF16] = 192, [KV_Q8_0] = 102};
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++) {
        assert_true(kv_row_bytes(type, 96) == bytes[type]);
        assert_int_equal(kv_type_block(type), type == KV_Q8_0 ? KV_MAX_BLOCK : 1);
    }
}

/* What was rounded once is not changed by rounding it again: a worker and its holders agree. */
static void test_rounding_twice_is_rounding_once(void **state)
{
    float x[96], once[96], twice[96];
    unsigned char row[384], again[384];
    for (int i = 0; i < 96; i++)
        x[i] = (float)(i * 37 % 101 - 50) * 0.037f;
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++) {
        kv_round(type, row, x, 96);
        kv_widen(type, once, row, 96);
        kv_round(type, again, once, 96);
        kv_widen(type, twice, again, 96);
        for (int i = 0; i < 96; i++) {
            const float step = type == KV_F32 ? 0.0f : 0.01f;
            assert_true(once[i] - x[i] <= step && x[i] - once[i] <= step);
        }
        if (type != KV_Q8_0) /* its scale is rounded once more */
            assert_memory_equal(once, twice, sizeof(once));
    }
    assert_true(once[0] != x[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_go_both_ways),
        cmocka_unit_test(test_numbers_on_the_wire_stay),
        cmocka_unit_test(test_rows_have_the_bytes_of_their_blocks),
        cmocka_unit_test(test_rounding_twice_is_rounding_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
