/* Bytes and the characters that show them are one to one. */
#include "model/tokenizer/byte_alphabet.h"
#include "tests/cmocka.h"

#include <string.h>

/* As the release of GPT-2 makes it: printable bytes as themselves, the rest from U+0100 on. */
static void test_the_alphabet(void **state)
{
    uint32_t next = 0x100;
    int shown = 0;
    for (unsigned i = 0; i < 256; i++) {
        const int itself = (i >= '!' && i <= '~') || (i >= 0xa1 && i <= 0xac) || i >= 0xae;
        assert_int_equal(byte_alphabet_shown((uint8_t)i), itself ? i : next++);
        assert_int_equal(byte_alphabet_byte(byte_alphabet_shown((uint8_t)i)), i);
    }
    assert_int_equal(next, 0x144);
    for (uint32_t c = 0; c < 0x110000; c++)
        shown += byte_alphabet_byte(c) >= 0;
    assert_int_equal(shown, 256);
}

static void test_texts_there_and_back(void **state)
{
    char bytes[256], out[512], back[512];
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (char)i;
    const size_t n = byte_alphabet_show(out, bytes, 256);
    assert_int_equal(byte_alphabet_read(back, out, n), 256);
    assert_memory_equal(back, bytes, 256);
    /* what is outside of the alphabet stands for itself, also what is no character */
    assert_int_equal(byte_alphabet_read(back, "\xe4\xb8\xad\xff \xc4\xa0", 7), 6);
    assert_memory_equal(back, "\xe4\xb8\xad\xff  ", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_alphabet),
        cmocka_unit_test(test_texts_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
