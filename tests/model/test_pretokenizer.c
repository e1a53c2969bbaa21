/* Words are cut as GPT-2 and Llama 3 cut them. The expected words were worked out from the
 * published expressions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char *const gpt2_names[] = {"gpt-2", "gpt2", NULL};
static const char *const llama3_names[] = {"llama-bpe", "llama3", "llama-v3", NULL};

/* `words` joined by "|" (no text here contains one). */
static void expect_words(const char *const *names, const char *text, const char *words)
{
    for (; *names != NULL; names++) {
        struct pretokenizer *p = NULL;
        struct pretokenizer_scratch *scratch = NULL;
        char joined[256] = "";
        const size_t n = strlen(text);
        assert_int_equal(pretokenizer_create(&p, *names, NULL), STATUS_OK);
        assert_int_equal(pretokenizer_scratch_create(&scratch, p, NULL), STATUS_OK);
        for (size_t begin = 0, end; begin < n; begin = end) {
            assert_int_equal(pretokenizer_next(p, scratch, text, n, begin, &end, NULL), STATUS_OK);
            assert_true(end > begin && end <= n);
            strcat(joined, begin == 0 ? "" : "|");
            strncat(joined, text + begin, end - begin);
        }
        assert_string_equal(joined, words);
        pretokenizer_scratch_destroy(scratch);
        pretokenizer_destroy(p);
    }
}

static void test_gpt_2(void **state)
{
    (void)state;
    expect_words(gpt2_names, "Hello, world!", "Hello|,| world|!");
    expect_words(gpt2_names, "I'll I'LL we've", "I|'ll| I|'|LL| we|'ve");
    expect_words(gpt2_names, "1234567 89", "1234567| 89");
    expect_words(gpt2_names, "foo   bar", "foo|  | bar");
    expect_words(gpt2_names, "a\n\n b", "a|\n\n| b");
    expect_words(gpt2_names, "a\n\nb", "a|\n|\n|b");
    expect_words(gpt2_names, "x?!\n", "x|?!|\n");
    expect_words(gpt2_names, "_name caf\xc3\xa9 \xd0\xb4\xd0\xb0",
                 "_|name| caf\xc3\xa9| \xd0\xb4\xd0\xb0");
    expect_words(gpt2_names, "  ", "  ");
}

static void test_llama_3(void **state)
{
    (void)state;
    expect_words(llama3_names, "Hello, world!", "Hello|,| world|!");
    expect_words(llama3_names, "I'll I'LL we've", "I|'ll| I|'LL| we|'ve");
    expect_words(llama3_names, "1234567 89", "123|456|7| |89");
    expect_words(llama3_names, "foo   bar", "foo|  | bar");
    expect_words(llama3_names, "a\n\n b", "a|\n\n| b");
    expect_words(llama3_names, "a\n\nb", "a|\n\n|b");
    expect_words(llama3_names, "a \r\n  \n  b", "a| \r\n  \n| | b");
    expect_words(llama3_names, "x?!\n\ny", "x|?!\n\n|y");
    expect_words(llama3_names, "_name caf\xc3\xa9 \tx", "_name| caf\xc3\xa9| |\tx");
    expect_words(llama3_names, "  ", "  ");
}

/* U+0085 and U+3000 are white space in Unicode, U+180E is not (since 6.3). */
static void test_white_space_is_unicodes(void **state)
{
    (void)state;
    expect_words(gpt2_names,
                 "\xc2\x85\xc2\x85"
                 "b",
                 "\xc2\x85|\xc2\x85|b");
    expect_words(gpt2_names,
                 "\xe3\x80\x80\xe3\x80\x80"
                 "b",
                 "\xe3\x80\x80|\xe3\x80\x80|b");
    expect_words(gpt2_names,
                 "\xe1\xa0\x8e\xe1\xa0\x8e"
                 "b",
                 "\xe1\xa0\x8e\xe1\xa0\x8e|b");
    expect_words(llama3_names,
                 "\xe1\xa0\x8e\xe1\xa0\x8e"
                 "b",
                 "\xe1\xa0\x8e\xe1\xa0\x8e|b");
}

static void test_unknown_names_are_refused(void **state)
{
    struct pretokenizer *p = NULL;
    struct error error = {0};
    (void)state;
    assert_int_equal(pretokenizer_create(&p, "qwen2", &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "qwen2"));
    assert_non_null(strstr(error.text, pretokenizer_names()));
    assert_null(p);
    pretokenizer_destroy(NULL);
    pretokenizer_scratch_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt_2),
        cmocka_unit_test(test_llama_3),
        cmocka_unit_test(test_white_space_is_unicodes),
        cmocka_unit_test(test_unknown_names_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
