/* Steps change a text as Hugging Face's `tokenizers` and SentencePiece change it, in order; marks
 * in a row take no quadratic time. */
#include "model/tokenizer/normalizer.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct normalizer_place whole = {true, true};

static struct normalizer *new_normalizer(void)
{
    struct normalizer *n = NULL;
    assert_int_equal(normalizer_create(&n, NULL), STATUS_OK);
    return n;
}

static void expect_at(const struct normalizer *n, struct normalizer_place place, const char *text,
                      const char *expected)
{
    struct normalizer_scratch *scratch = NULL;
    const char *out = NULL;
    size_t n_out = 0;
    assert_int_equal(normalizer_scratch_create(&scratch, NULL), STATUS_OK);
    assert_int_equal(normalizer_run(n, scratch, text, strlen(text), place, &out, &n_out, NULL),
                     STATUS_OK);
    if (n_out != strlen(expected) || memcmp(out, expected, n_out) != 0)
        fail_msg("'%s': '%.*s', expected '%s'", text, (int)n_out, out, expected);
    normalizer_scratch_destroy(scratch);
}

static void expect(const struct normalizer *n, const char *text, const char *expected)
{
    expect_at(n, whole, text, expected);
}

static void test_forms(void **state)
{
    struct normalizer *n = new_normalizer();
    expect(n, "e\xcc\x81", "e\xcc\x81"); /* no steps */
    assert_int_equal(normalizer_add_form(n, NORMALIZER_NFC, NULL), STATUS_OK);
    expect(n, "", "");
    expect(n, "plain text, and more of it", "plain text, and more of it");
    expect(n, "e\xcc\x81", "\xc3\xa9");
    expect(n,
           "ae\xcc\x81"
           "b e\xcc\x81",
           "a\xc3\xa9"
           "b \xc3\xa9");
    expect(n, "\xcc\x81", "\xcc\x81");                      /* a mark without a letter */
    expect(n, "\xe2\x84\xab", "\xc3\x85");                  /* the angstrom sign */
    expect(n, "a\xcc\x81\xcc\xa3", "\xe1\xba\xa1\xcc\x81"); /* marks in the order of classes */
    expect(n, "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81");
    expect(n, "\xef\xac\x81", "\xef\xac\x81"); /* a ligature stays */
    normalizer_destroy(n);
    n = new_normalizer();
    assert_int_equal(normalizer_add_form(n, NORMALIZER_NFKC, NULL), STATUS_OK);
    expect(n, "\xef\xac\x81\xef\xbc\xa1", "fiA");
    normalizer_destroy(n);
    n = new_normalizer();
    assert_int_equal(normalizer_add_form(n, NORMALIZER_NFD, NULL), STATUS_OK);
    assert_int_equal(normalizer_add_strip_accents(n, NULL), STATUS_OK);
    expect(n, "\xc3\xa9t\xc3\xa9 \xe0\xa4\xb9\xe0\xa4\xbf", "ete \xe0\xa4\xb9");
    normalizer_destroy(n);
    normalizer_destroy(NULL);
}

static void test_lower_case_and_stripping(void **state)
{
    struct normalizer *n = new_normalizer();
    assert_int_equal(normalizer_add_lowercase(n, NULL), STATUS_OK);
    expect(n, "ABC \xc3\x89 \xce\xa3", "abc \xc3\xa9 \xcf\x83");
    expect(n, "\xc4\xb0", "i\xcc\x87"); /* the one that becomes two */
    normalizer_destroy(n);
    n = new_normalizer();
    assert_int_equal(normalizer_add_strip(n, true, true, NULL), STATUS_OK);
    expect(n, " \n a b\xe3\x80\x80 ", "a b");
    expect(n, "  \n", "");
    expect_at(n, (struct normalizer_place){false, true}, " a ", " a");
    expect_at(n, (struct normalizer_place){true, false}, " a ", "a ");
    normalizer_destroy(n);
    n = new_normalizer();
    assert_int_equal(normalizer_add_strip(n, false, true, NULL), STATUS_OK);
    expect(n, " a ", " a");
    normalizer_destroy(n);
}

static void test_spaces_of_sentencepiece(void **state)
{
    struct expression *space = NULL;
    struct normalizer *n = new_normalizer();
    assert_int_equal(normalizer_add_single_spaces(n, NULL), STATUS_OK);
    expect(n, "  a  b c   ", "a b c");
    expect(n, "   ", "");
    expect(n, "a\t b", "a\t b");
    expect_at(n, (struct normalizer_place){false, false}, "  a  ", " a ");
    expect_at(n, (struct normalizer_place){false, false}, "   ", " ");
    assert_int_equal(normalizer_add_prepend(n, "_", NULL), STATUS_OK);
    assert_int_equal(expression_create_literal(&space, " ", NULL), STATUS_OK);
    assert_int_equal(normalizer_add_replace(n, space, "_", NULL), STATUS_OK);
    expect(n, " a b", "_a_b");
    expect(n, "", "");                                             /* nothing in front of nothing */
    expect_at(n, (struct normalizer_place){true, false}, "", "_"); /* but of what comes */
    expect_at(n, (struct normalizer_place){false, true}, "a", "a");
    normalizer_destroy(n);
}

static void test_replacing(void **state)
{
    struct expression *runs = NULL, *nothing = NULL, *more = NULL;
    struct normalizer *n = new_normalizer();
    assert_int_equal(expression_create(&runs, " {2,}", NULL), STATUS_OK);
    assert_int_equal(normalizer_add_replace(n, runs, "-", NULL), STATUS_OK);
    expect(n, "a  b c    ", "a-b c-");
    normalizer_destroy(n);
    n = new_normalizer();
    assert_int_equal(expression_create(&nothing, "x*", NULL), STATUS_OK);
    assert_int_equal(normalizer_add_replace(n, nothing, ".", NULL), STATUS_OK);
    expect(n, "\xc3\xa9x", ".\xc3\xa9."); /* ends, and cuts no character */
    for (int i = 1; i < 32; i++)
        assert_int_equal(normalizer_add_lowercase(n, NULL), STATUS_OK);
    assert_int_equal(expression_create(&more, "x", NULL), STATUS_OK);
    assert_int_equal(normalizer_add_replace(n, more, "", NULL), STATUS_INVALID); /* and takes it */
    normalizer_destroy(n);
}

static double seconds(const struct normalizer *n, const char *text, size_t n_bytes)
{
    struct normalizer_scratch *scratch = NULL;
    const char *out;
    size_t n_out;
    assert_int_equal(normalizer_scratch_create(&scratch, NULL), STATUS_OK);
    const clock_t start = clock();
    assert_int_equal(normalizer_run(n, scratch, text, n_bytes, whole, &out, &n_out, NULL),
                     STATUS_OK);
    const double taken = (double)(clock() - start) / CLOCKS_PER_SEC;
    normalizer_scratch_destroy(scratch);
    return taken;
}

/* Each mark would have to pass half of those before it. */
static void test_marks_in_the_wrong_order(void **state)
{
    enum { SMALL = 100000, LARGE = 8 * SMALL };
    char *text = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i += 2)
        memcpy(text + i, i % 4 == 0 ? "\xcc\x81" : "\xcc\xa3", 2);
    struct normalizer *n = new_normalizer();
    assert_int_equal(normalizer_add_form(n, NORMALIZER_NFC, NULL), STATUS_OK);
    const double small = seconds(n, text, SMALL), large = seconds(n, text, LARGE);
    if (large > 30 * small + 0.05)
        fail_msg("%g s for %d bytes, %g s for %d", small, SMALL, large, LARGE);
    normalizer_destroy(n);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_lower_case_and_stripping),
        cmocka_unit_test(test_spaces_of_sentencepiece),
        cmocka_unit_test(test_replacing),
        cmocka_unit_test(test_marks_in_the_wrong_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
