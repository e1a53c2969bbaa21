/* Names of GGUF files cut words as the published expressions say. The expected words were worked
 * out from these; tests/oracles compares with Hugging Face's `tokenizers`. */
#include "model/tokenizer/pretokenizer_rules.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const gpt2_names[] = {"gpt-2", "gpt2", NULL};
static const char *const llama3_names[] = {"llama-bpe", "llama3", "llama-v3", NULL};

static enum status join_word(void *context, const char *word, size_t n_bytes, struct error *error)
{
    char *joined = context;
    assert_true(n_bytes > 0);
    strcat(joined, joined[0] == '\0' ? "" : "|");
    strncat(joined, word, n_bytes);
    return STATUS_OK;
}

/* `words` joined by "|" (no text here contains one). */
static void expect_words(const char *const *names, const char *text, const char *words)
{
    for (; *names != NULL; names++) {
        const struct pretokenizer_rule *rule = pretokenizer_rule_find(*names);
        struct pretokenizer *p = NULL;
        struct pretokenizer_scratch *scratch = NULL;
        char joined[256] = "";
        assert_non_null(rule);
        assert_int_equal(pretokenizer_create(&p, NULL), STATUS_OK);
        assert_int_equal(pretokenizer_rule_apply(rule, p, NULL), STATUS_OK);
        assert_int_equal(pretokenizer_scratch_create(&scratch, NULL), STATUS_OK);
        assert_int_equal(pretokenizer_cut(p, scratch, text, strlen(text),
                                          (struct pretokenizer_place){true, true}, join_word,
                                          joined, NULL),
                         STATUS_OK);
        if (strcmp(joined, words) != 0)
            fail_msg("%s: '%s', expected '%s'", *names, joined, words);
        pretokenizer_scratch_destroy(scratch);
        pretokenizer_destroy(p);
    }
}

static void test_gpt_2(void **state)
{
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

#define EXPECT_WORDS(name, text, words)                                                            \
    do {                                                                                           \
        static const char *const names_[] = {name, NULL};                                          \
        expect_words(names_, text, words);                                                         \
    } while (0)

static void test_rules_of_several_steps(void **state)
{
    EXPECT_WORDS("starcoder", "a1 23  b", "a|1| |2|3| | b");
    EXPECT_WORDS("deepseek-coder", "x y\nz12,\xe6\x88\x91", "x| y|\n|z|1|2|,|\xe6\x88\x91");
    EXPECT_WORDS("deepseek-llm", "it  is  ", "it| | is|  ");
    EXPECT_WORDS("deepseek-v3", "a1234.b", "a|123|4|.b");
    EXPECT_WORDS("default", "a+1234 b", "a|+|123|4| b");
    EXPECT_WORDS("viking", "one 12, two", "one| |1|2|,| two");
}

/* Behind ByteLevel expressions see bytes as characters: the last byte of U+00F2 is shown as U+00B2,
 * a digit. */
static void test_falcon_cuts_bytes(void **state)
{
    EXPECT_WORDS("falcon", "12345 a",
                 "123|45|\xc4\xa0"
                 "a");
    EXPECT_WORDS("falcon", "\xc3\xb2", "\xc3\x83|\xc2\xb2");
    EXPECT_WORDS("falcon", "a?!b", "a|?!|b");
}

static void test_words_that_end_where_case_changes(void **state)
{
    EXPECT_WORDS("gpt-4o", "camelCase HTTPServer isn't", "camel|Case| HTTPServer| isn't");
    EXPECT_WORDS("tekken", "isn't 12", "isn|'t| |1|2");
}

static void test_every_name_is_a_rule_that_compiles(void **state)
{
    char names[1024], *rest = names;
    size_t n = 0;
    pretokenizer_rule_names(names, sizeof(names));
    assert_true(strlen(names) < sizeof(names) - 20); /* none was left out */
    for (char *name; (name = strtok_r(rest, ", ", &rest)) != NULL; n++) {
        struct pretokenizer *p = NULL;
        assert_int_equal(pretokenizer_create(&p, NULL), STATUS_OK);
        assert_non_null(pretokenizer_rule_find(name));
        assert_int_equal(pretokenizer_rule_apply(pretokenizer_rule_find(name), p, NULL), STATUS_OK);
        pretokenizer_destroy(p);
    }
    assert_true(n > 50);
    assert_null(pretokenizer_rule_find("qwen"));
    assert_null(pretokenizer_rule_find(""));
    pretokenizer_rule_names(names, 12);
    assert_string_equal(names, "gpt-2, gpt2"); /* no half names */
}

static enum status count_word(void *context, const char *word, size_t n_bytes, struct error *error)
{
    *(size_t *)context += n_bytes;
    return STATUS_OK;
}

static double cut_seconds(const struct pretokenizer *p, const char *name, const char *text,
                          size_t n)
{
    struct pretokenizer_scratch *scratch = NULL;
    struct error error = {0};
    size_t n_cut = 0;
    assert_int_equal(pretokenizer_scratch_create(&scratch, NULL), STATUS_OK);
    const clock_t start = clock();
    if (pretokenizer_cut(p, scratch, text, n, (struct pretokenizer_place){true, true}, count_word,
                         &n_cut, &error) != STATUS_OK)
        fail_msg("%s: %s", name, error.text);
    const double taken = (double)(clock() - start) / CLOCKS_PER_SEC;
    assert_true(n_cut >= n); /* all of it; more where bytes are shown as characters */
    pretokenizer_scratch_destroy(scratch);
    return taken;
}

/* Runs that one alternative after the other reads to their ends, and gives up. A quadratic rule
 * takes 64 times as long for 8 times the text. */
static void test_time_grows_with_the_text(void **state)
{
    static const char *const units[] = {"a",
                                        "A",
                                        "1",
                                        " ",
                                        "\n",
                                        "!",
                                        "'",
                                        "\xe6\x88\x91",
                                        "aB",
                                        " \n",
                                        "  a",
                                        "\xcc\x81",
                                        "A\xe6\x88\x91",
                                        "1 ",
                                        "a1",
                                        "\xc2\xb2",
                                        "'s",
                                        "IMG",
                                        "<"};
    enum { SMALL = 12000, LARGE = 8 * SMALL };
    const struct pretokenizer_rule *last = NULL;
    char *text = malloc(LARGE), names[1024], *rest = names;
    pretokenizer_rule_names(names, sizeof(names));
    for (char *name; (name = strtok_r(rest, ", ", &rest)) != NULL;) {
        struct pretokenizer *p = NULL;
        if (pretokenizer_rule_find(name) == last)
            continue; /* another name of the same rule */
        last = pretokenizer_rule_find(name);
        assert_int_equal(pretokenizer_create(&p, NULL), STATUS_OK);
        assert_int_equal(pretokenizer_rule_apply(last, p, NULL), STATUS_OK);
        for (size_t k = 0; k < sizeof(units) / sizeof(units[0]); k++) {
            const size_t n = strlen(units[k]);
            for (size_t at = 0; at < LARGE; at++)
                text[at] = units[k][at % n];
            double small = 1, large = 1;
            for (int turn = 0; turn < 2; turn++) { /* the best: the machine is shared */
                const double s = cut_seconds(p, name, text, SMALL),
                             l = cut_seconds(p, name, text, LARGE);
                small = s < small ? s : small;
                large = l < large ? l : large;
            }
            if (large > 30 * small + 0.02)
                fail_msg("%s, '%s': %g s for %d bytes, %g s for %d", name, units[k], small, SMALL,
                         large, LARGE);
        }
        pretokenizer_destroy(p);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt_2),
        cmocka_unit_test(test_llama_3),
        cmocka_unit_test(test_white_space_is_unicodes),
        cmocka_unit_test(test_rules_of_several_steps),
        cmocka_unit_test(test_falcon_cuts_bytes),
        cmocka_unit_test(test_words_that_end_where_case_changes),
        cmocka_unit_test(test_every_name_is_a_rule_that_compiles),
        cmocka_unit_test(test_time_grows_with_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
