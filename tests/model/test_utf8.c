/* Exactly the characters of Unicode are well-formed: all of them are tried, and all short sequences
 * that are none. */
#include "model/utf8.h"
#include "tests/cmocka.h"

static void test_every_code_point(void **state)
{
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[4];
        bool cut_off;
        const size_t n = utf8_encode(text, c);
        const bool surrogate = c >= 0xd800 && c < 0xe000;
        assert_true(n == (c < 0x80 ? 1u : c < 0x800 ? 2u : c < 0x10000 ? 3u : 4u));
        if (utf8_char_bytes(text, n) != (surrogate ? 0 : n))
            fail_msg("U+%04X", c);
        if (surrogate)
            continue;
        assert_int_equal(utf8_decode(text, n), c);
        for (size_t k = 1; k < n; k++) { /* every beginning of it may still become it */
            assert_int_equal(utf8_char_bytes(text, k), 0);
            assert_int_equal(utf8_broken_bytes(text, k, &cut_off), k);
            assert_true(cut_off);
        }
    }
}

/* The well-formed sequences of up to three bytes are as many as there are such code points. */
static void test_nothing_else(void **state)
{
    size_t n[4] = {0};
    for (uint32_t i = 0; i < 1u << 24; i++) {
        const char text[3] = {(char)(i >> 16), (char)(i >> 8), (char)i};
        n[utf8_char_bytes(text, 3)]++;
    }
    assert_int_equal(n[1], 0x80 * 65536);
    assert_int_equal(n[2], (0x800 - 0x80) * 256);
    assert_int_equal(n[3], 0x10000 - 0x800 - 0x800);
    assert_int_equal(utf8_char_bytes("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
