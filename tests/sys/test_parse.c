/* test_parse.c - numbers are read whole or refused, and the message says by which name. */
#include "sys/parse.h"

#include "tests/cmocka.h"

#include <string.h>

static void test_whole_numbers(void **state)
{
    uint32_t small = 0;
    uint64_t large = 0;
    assert_int_equal(parse_u32("--n", "0", 0, 10, &small, NULL), STATUS_OK);
    assert_int_equal(small, 0);
    assert_int_equal(parse_u32("--n", "4294967295", 0, UINT32_MAX, &small, NULL), STATUS_OK);
    assert_true(small == UINT32_MAX);
    assert_int_equal(parse_u64("--n", "18446744073709551615", 0, UINT64_MAX, &large, NULL),
                     STATUS_OK);
    assert_true(large == UINT64_MAX);
    assert_int_equal(parse_u64("--n", "007", 7, 7, &large, NULL), STATUS_OK);
    assert_true(large == 7);
}

static void test_everything_else_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x10",
                                      "1e3",
                                      "1.0",
                                      "many",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    uint64_t large = 42;
    uint32_t small = 42;
    struct error error;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse_u64("--seed", bad[i], 0, UINT64_MAX, &large, &error),
                         STATUS_INVALID);
        assert_int_equal(parse_u32("--seed", bad[i], 0, UINT32_MAX, &small, &error),
                         STATUS_INVALID);
        assert_non_null(strstr(error.text, "--seed"));
        assert_non_null(strstr(error.text, bad[i]));
    }
    assert_int_equal(parse_u32("--seed", "4294967296", 0, UINT32_MAX, &small, &error),
                     STATUS_INVALID);
    assert_int_equal(parse_u32("--threads", "0", 1, 64, &small, &error), STATUS_INVALID);
    assert_int_equal(parse_u32("--threads", "65", 1, 64, &small, &error), STATUS_INVALID);
    assert_string_equal(error.text, "--threads is \"65\": give a whole number from 1 to 64");
    assert_true(large == 42 && small == 42);
}

static void test_fractions(void **state)
{
    static const struct {
        const char *text;
        float value;
    } good[] = {{"0", 0}, {"-1", -1}, {"0.95", 0.95f}, {"1e-3", 1e-3f}, {".5", 0.5f}, {"2.", 2}};
    float value = 42;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(parse_f32("--temp", good[i].text, -10, 10, &value, NULL), STATUS_OK);
        assert_true(value == good[i].value);
    }
    static const char *const bad[] = {"",   "nan", "inf", "-inf", "0x1p3", "1,5", " 1",
                                      "1 ", "e5",  "-",   ".",    "1e99",  "11",  "1e"};
    value = 42;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse_f32("--temp", bad[i], -10, 10, &value, NULL), STATUS_INVALID);
    assert_true(value == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_numbers),
        cmocka_unit_test(test_everything_else_is_refused),
        cmocka_unit_test(test_fractions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
