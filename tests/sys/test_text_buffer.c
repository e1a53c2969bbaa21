/* test_text_buffer.c - text that grows: what it holds, and what does not fit. */
#include "sys/text_buffer.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static void test_pieces_stand_one_behind_the_other_with_a_nul(void **state)
{
    struct text_buffer text = {0};
    char expected[4001] = "";
    for (size_t i = 0; i < 1000; i++) {
        assert_true(text_buffer_add(&text, "abcd", 1 + i % 4));
        memcpy(expected + text.n - 1 - i % 4, "abcd", 1 + i % 4);
        assert_string_equal(text.bytes, expected);
        assert_int_equal(text.n, strlen(expected));
    }
    free(text.bytes);
}

static void test_an_empty_text_is_a_string(void **state)
{
    struct text_buffer text = {0};
    assert_true(text_buffer_add(&text, NULL, 0));
    assert_string_equal(text.bytes, "");
    assert_int_equal(text.n, 0);
    free(text.bytes);
}

static void test_reserved_bytes_can_be_written_and_counted(void **state)
{
    struct text_buffer text = {0};
    assert_true(text_buffer_add(&text, "page ", 5));
    assert_true(text_buffer_reserve(&text, 1000));
    memset(text.bytes + text.n, '7', 1000);
    text.n += 1000;
    assert_true(text_buffer_add(&text, ".", 1));
    assert_memory_equal(text.bytes, "page 777", 8);
    assert_string_equal(text.bytes + 1004, "7.");
    free(text.bytes);
}

static void test_what_there_can_be_no_memory_for_changes_nothing(void **state)
{
    struct text_buffer text = {0};
    assert_true(text_buffer_add(&text, "kept", 4));
    assert_false(text_buffer_reserve(&text, SIZE_MAX));     /* the sum overflows */
    assert_false(text_buffer_reserve(&text, SIZE_MAX - 4)); /* with the NUL */
    assert_string_equal(text.bytes, "kept");
    assert_int_equal(text.n, 4);
    free(text.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_stand_one_behind_the_other_with_a_nul),
        cmocka_unit_test(test_an_empty_text_is_a_string),
        cmocka_unit_test(test_reserved_bytes_can_be_written_and_counted),
        cmocka_unit_test(test_what_there_can_be_no_memory_for_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
