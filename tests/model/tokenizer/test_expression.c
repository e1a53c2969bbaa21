/* Expressions mean what they mean in tokenizer.json, what has no equal is refused by name, and no
 * search runs for long. */
#include "model/tokenizer/expression.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* All matches in `text`, each in brackets. */
static void expect_matches(const char *pattern, const char *text, const char *expected)
{
    struct expression *e = NULL;
    struct expression_scratch *scratch = NULL;
    struct error error = {0};
    char found[256] = "";
    const size_t n = strlen(text);
    if (expression_create(&e, pattern, &error) != STATUS_OK)
        fail_msg("%s: %s", pattern, error.text);
    assert_int_equal(expression_scratch_create(&scratch, NULL), STATUS_OK);
    for (size_t from = 0, begin, end; from <= n; from = end > begin ? end : n + 1) {
        if (expression_find(e, scratch, text, n, from, &begin, &end, NULL) != STATUS_OK)
            break;
        assert_true(begin >= from && end >= begin && end <= n);
        strcat(found, "[");
        strncat(found, text + begin, end - begin);
        strcat(found, "]");
    }
    if (strcmp(found, expected) != 0)
        fail_msg("%s in '%s': %s, expected %s", pattern, text, found, expected);
    expression_scratch_destroy(scratch);
    expression_destroy(e);
}

static void refused(const char *pattern, enum status expected, const char *word)
{
    struct expression *e = NULL;
    struct error error = {0};
    const enum status status = expression_create(&e, pattern, &error);
    if (status != expected || strstr(error.text, word) == NULL)
        fail_msg("%s: expected %s with '%s', got %s: %s", pattern, status_name(expected), word,
                 status_name(status), error.text);
    assert_null(e);
}

static void test_classes_are_unicodes(void **state)
{
    expect_matches("\\s", "a\xc2\x85\xe1\xa0\x8e\xe3\x80\x80", "[\xc2\x85][\xe3\x80\x80]");
    expect_matches("[^\\S]", "a \xe1\xa0\x8e", "[ ]"); /* U+180E is no space */
    expect_matches("\\d+", "1\xd9\xa3\xc2\xbd", "[1\xd9\xa3]");
    expect_matches("\\w+", "e\xcc\x81_1-\xe2\x80\xbf", "[e\xcc\x81_1][\xe2\x80\xbf]");
    expect_matches("[\\w-]+", "a-b c", "[a-b][c]");
    expect_matches("\\W", "a-b", "[-]");
    expect_matches("\\h+", "xfF0g", "[fF0]");
    expect_matches("a\\b", "a ab a", "[a][a]");
    expect_matches("a\\B", "a ab", "[a]");
    expect_matches("\\p{Han}+", "a\xe6\x88\x91\xe3\x80\x81", "[\xe6\x88\x91]"); /* the script */
    expect_matches("\\p{^L}+", "a1b", "[1]");
    expect_matches("(?i:'s)", "'S'\xc5\xbf", "['S]['\xc5\xbf]");
}

static void test_syntax_is_oniguruma_s(void **state)
{
    expect_matches("[a[bc]d]+", "abcd[e]", "[abcd]");
    expect_matches("[\\]-a[x-z]]+", "^]y-b", "[^]y]");
    expect_matches(" ?[^(\\s|[.,]x)]+", "ab, (c", "[ab][c]");
    expect_matches("[^(\\s|[.,])]+", "ab, (c", "[ab][c]");
    expect_matches("a{,2}b", "aaab", "[aab]");
    expect_matches("a{2,}", "aaa a", "[aaa]");
    expect_matches("\\u4e2d\\x{6587}", "\xe4\xb8\xad\xe6\x96\x87", "[\xe4\xb8\xad\xe6\x96\x87]");
    expect_matches("b$", "b\nb", "[b][b]"); /* of each line */
    expect_matches("^b", "b\nb", "[b][b]");
    expect_matches("\\v", "\x0b\n", "[\x0b]");
    expect_matches("a++b", "aab", "[aab]");
    expect_matches("\\s+$", "a  b  ", "[  ]");
    expect_matches("\\[\\]\\{\\}\\-", "[]{}-", "[[]{}-]");
    expect_matches(".", "\n\xe4\xb8\xad", "[\xe4\xb8\xad]");
}

static void test_what_has_no_equal_is_refused_by_name(void **state)
{
    char *long_one = malloc((size_t)70 << 10);
    refused("[a&&b]", STATUS_UNSUPPORTED, "intersection");
    refused("[a[^b]]", STATUS_UNSUPPORTED, "negated class in a class");
    refused("[a-[b]]", STATUS_UNSUPPORTED, "hyphen");
    refused("[[a]-b]", STATUS_UNSUPPORTED, "hyphen");
    refused("[a[-b]]", STATUS_UNSUPPORTED, "hyphen");
    refused("[[a-]b]", STATUS_UNSUPPORTED, "hyphen");
    refused("[[:alpha:]]", STATUS_UNSUPPORTED, "POSIX");
    refused("(a)\\1", STATUS_UNSUPPORTED, "escape of this letter");
    refused("\\Ka", STATUS_UNSUPPORTED, "escape of this letter");
    refused("\\X", STATUS_UNSUPPORTED, "escape of this letter");
    refused("(*FAIL)", STATUS_UNSUPPORTED, "call-out");
    refused("(?C1)a", STATUS_UNSUPPORTED, "group of this kind");
    refused("(?R)", STATUS_UNSUPPORTED, "group of this kind");
    refused("(?<n>a)", STATUS_UNSUPPORTED, "group of this kind");
    refused("[\\W]", STATUS_UNSUPPORTED, "\\W or \\H in a class");
    refused("[\\b]", STATUS_UNSUPPORTED, "\\b or \\B in a class");
    refused("a{2}+", STATUS_UNSUPPORTED, "quantifier behind an interval");
    refused("a{x", STATUS_UNSUPPORTED, "brace");
    refused("[a", STATUS_UNSUPPORTED, "class without an end");
    refused("[]a]", STATUS_UNSUPPORTED, "empty or begins with ]");
    refused("a\\", STATUS_UNSUPPORTED, "backslash at the end");
    refused("\\p{L", STATUS_UNSUPPORTED, "property");
    refused("\\pL", STATUS_UNSUPPORTED, "property");
    refused("\\x{110000}", STATUS_INVALID, "x{110000}");
    refused("\\p{Nonsense}", STATUS_INVALID, "Nonsense");
    refused("(a", STATUS_INVALID, "parenthes");
    refused("a**", STATUS_INVALID, "quantifier");
    memset(long_one, 'a', (size_t)70 << 10);
    long_one[((size_t)70 << 10) - 1] = '\0';
    refused(long_one, STATUS_INVALID, "bytes");
    free(long_one);
}

static void test_literals_are_taken_as_they_are(void **state)
{
    static const char text[] = "a.b*c[d]\\e(f){g}^$|?+-#\xe2\x96\x81";
    struct expression *e = NULL;
    struct expression_scratch *scratch = NULL;
    size_t begin, end;
    assert_int_equal(expression_create_literal(&e, text, NULL), STATUS_OK);
    assert_int_equal(expression_scratch_create(&scratch, NULL), STATUS_OK);
    assert_int_equal(expression_find(e, scratch, text, sizeof(text) - 1, 0, &begin, &end, NULL),
                     STATUS_OK);
    assert_int_equal(begin, 0);
    assert_int_equal(end, sizeof(text) - 1);
    assert_int_equal(expression_find(e, scratch, "a-b", 3, 0, &begin, &end, NULL),
                     STATUS_NOT_FOUND);
    expression_scratch_destroy(scratch);
    expression_destroy(e);
    expression_destroy(NULL);
    expression_scratch_destroy(NULL);
}

/* Its nested repetition takes a time that doubles with each character of a text that does not
 * match. */
static void test_a_search_gives_up(void **state)
{
    static const char pattern[] = "(?:a|a|aa)+\\z";
    static char text[4000];
    struct expression *e = NULL;
    struct expression_scratch *scratch = NULL;
    struct error error = {0};
    size_t begin, end;
    const clock_t start = clock();
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 'c';
    assert_int_equal(expression_create(&e, pattern, NULL), STATUS_OK);
    assert_int_equal(expression_scratch_create(&scratch, NULL), STATUS_OK);
    assert_int_equal(expression_find(e, scratch, text, sizeof(text), 0, &begin, &end, &error),
                     STATUS_FAILED);
    assert_non_null(strstr(error.text, "gives up"));
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10);
    expression_scratch_destroy(scratch);
    expression_destroy(e);
}

/* More than the machine code's stack holds: the interpreter goes on. */
static void test_long_matches_of_groups(void **state)
{
    const size_t n = 300000;
    char *text = malloc(n);
    struct expression *e = NULL;
    struct expression_scratch *scratch = NULL;
    struct error error = {0};
    size_t begin = 1, end = 0;
    memset(text, 'a', n);
    assert_int_equal(expression_create(&e, "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+", NULL),
                     STATUS_OK);
    assert_int_equal(expression_scratch_create(&scratch, NULL), STATUS_OK);
    if (expression_find(e, scratch, text, n, 0, &begin, &end, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(begin, 0);
    assert_int_equal(end, n);
    expression_scratch_destroy(scratch);
    expression_destroy(e);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_are_unicodes),
        cmocka_unit_test(test_syntax_is_oniguruma_s),
        cmocka_unit_test(test_what_has_no_equal_is_refused_by_name),
        cmocka_unit_test(test_literals_are_taken_as_they_are),
        cmocka_unit_test(test_a_search_gives_up),
        cmocka_unit_test(test_long_matches_of_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
