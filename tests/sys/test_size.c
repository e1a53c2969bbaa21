/* test_size.c - sizes as people write them, and as we print them. */
#include "sys/size.h"

#include "tests/cmocka.h"

#include <string.h>

static void test_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"64GiB", UINT64_C(64) << 30},
        {"512MiB", UINT64_C(512) << 20},
        {"1g", UINT64_C(1) << 30},
        {"1 KiB", 1024},
        {"7B", 7},
        {"3kb", 3000},
        {"2TB", UINT64_C(2000000000000)},
        {"5P", UINT64_C(5) << 50},
        {"16383P", UINT64_C(16383) << 50},
        {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint64_t bytes = 1;
        assert_int_equal(size_parse("--memory", good[i].text, &bytes, NULL), STATUS_OK);
        assert_true(bytes == good[i].bytes);
    }
}

static void test_garbage_and_overflow_are_refused(void **state)
{
    static const char *const bad[] = {"",       "-1",
                                      "GiB",    "1.5GiB",
                                      "1GiBs",  "1 ",
                                      "1  G",   " 1G",
                                      "0x10",   "1ig",
                                      "1i",     "1x",
                                      "16384P", "18446744073709551616",
                                      "1G\n",   "+1",
                                      "many",   "99999999999999999999999G"};
    uint64_t bytes = 42;
    struct error error;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(size_parse("--memory", bad[i], &bytes, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "--memory"));
    }
    assert_true(bytes == 42);
}

static void test_printed_sizes(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.00 KiB"},
        {1536, "1.50 KiB"},
        {UINT64_C(117) << 20, "117 MiB"},
        {(UINT64_C(1) << 20) - 1, "1.00 MiB"},
        {(UINT64_C(1) << 30) * 64, "64.0 GiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    char text[SIZE_TEXT_BYTES];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(size_format(cases[i].bytes, text), cases[i].text);
}

static void test_progress_has_speed_once_there_is_one(void **state)
{
    char text[SIZE_PROGRESS_BYTES];
    const uint64_t gib = UINT64_C(1) << 30;
    assert_string_equal(size_progress(gib, 4 * gib, gib, 500000, text),
                        "1.00 GiB of 4.00 GiB, 2.00 GiB/s, 2 s left");
    assert_string_equal(size_progress(0, 4 * gib, 0, 0, text), "0 B of 4.00 GiB");
    assert_string_equal(size_progress(gib, 4 * gib, 0, 9, text), "1.00 GiB of 4.00 GiB");
    assert_string_equal(size_progress(4 * gib, gib, gib, 1000000, text),
                        "4.00 GiB of 1.00 GiB, 1.00 GiB/s, 0 s left");
    assert_true(strlen(size_progress(UINT64_MAX, UINT64_MAX, UINT64_MAX, 1, text)) <
                SIZE_PROGRESS_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_garbage_and_overflow_are_refused),
        cmocka_unit_test(test_printed_sizes),
        cmocka_unit_test(test_progress_has_speed_once_there_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
