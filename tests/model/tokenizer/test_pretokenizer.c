/* Behaviours of separators, spaces in front, and steps that follow each other, as Hugging Face's
 * `tokenizers` has them (its documentation's example, and tests/oracles). */
#include "model/tokenizer/pretokenizer.h"
#include "tests/cmocka.h"

#include <string.h>

#define SPACE "\xe2\x96\x81" /* U+2581 */

static struct pretokenizer *new_pretokenizer(void)
{
    struct pretokenizer *p = NULL;
    assert_int_equal(pretokenizer_create(&p, NULL), STATUS_OK);
    assert_int_equal(pretokenizer_steps(p), 0);
    return p;
}

static void add_split(struct pretokenizer *p, const char *pattern,
                      enum pretokenizer_behavior behavior, bool inverted)
{
    struct expression *e = NULL;
    assert_int_equal(expression_create(&e, pattern, NULL), STATUS_OK);
    assert_int_equal(pretokenizer_add_split(p, e, behavior, inverted, NULL), STATUS_OK);
}

static enum status join_word(void *context, const char *word, size_t n_bytes, struct error *error)
{
    char *joined = context;
    assert_true(n_bytes > 0);
    strcat(joined, joined[0] == '\0' ? "" : "|");
    strncat(joined, word, n_bytes);
    return STATUS_OK;
}

static void expect_at(const struct pretokenizer *p, struct pretokenizer_place place,
                      const char *text, const char *words)
{
    struct pretokenizer_scratch *scratch = NULL;
    char joined[256] = "";
    assert_int_equal(pretokenizer_scratch_create(&scratch, NULL), STATUS_OK);
    assert_int_equal(
        pretokenizer_cut(p, scratch, text, strlen(text), place, join_word, joined, NULL),
        STATUS_OK);
    if (strcmp(joined, words) != 0)
        fail_msg("'%s': '%s', expected '%s'", text, joined, words);
    pretokenizer_scratch_destroy(scratch);
}

static void expect(const struct pretokenizer *p, const char *text, const char *words)
{
    expect_at(p, (struct pretokenizer_place){true, true}, text, words);
}

static void test_behaviors(void **state)
{
    static const struct {
        enum pretokenizer_behavior behavior;
        const char *words;
    } cases[] = {
        {PRETOKENIZER_REMOVED, "the|final|countdown"},
        {PRETOKENIZER_ISOLATED, "the|-|final|-|-|countdown"},
        {PRETOKENIZER_MERGED_WITH_PREVIOUS, "the-|final-|-|countdown"},
        {PRETOKENIZER_MERGED_WITH_NEXT, "the|-final|-|-countdown"},
        {PRETOKENIZER_CONTIGUOUS, "the|-|final|--|countdown"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct pretokenizer *p = new_pretokenizer();
        add_split(p, "-", cases[i].behavior, false);
        expect(p, "the-final--countdown", cases[i].words);
        expect(p, "", "");
        pretokenizer_destroy(p);
        p = new_pretokenizer(); /* what lies between letters are separators too */
        add_split(p, "[a-z]+", cases[i].behavior, true);
        if (cases[i].behavior == PRETOKENIZER_REMOVED)
            expect(p, "the-final-countdown", "the|final|countdown");
        pretokenizer_destroy(p);
    }
    struct pretokenizer *p = new_pretokenizer();
    add_split(p, "-", PRETOKENIZER_MERGED_WITH_PREVIOUS, false);
    expect(p, "-a-", "-|a-");
    pretokenizer_destroy(p);
    p = new_pretokenizer();
    add_split(p, "-", PRETOKENIZER_MERGED_WITH_NEXT, false);
    expect(p, "-a--", "-a|-|-");
    pretokenizer_destroy(p);
}

static void test_empty_matches_cut(void **state)
{
    struct pretokenizer *p = new_pretokenizer();
    add_split(p, "(?=\xc3\xa9)", PRETOKENIZER_ISOLATED, false);
    expect(p,
           "a\xc3\xa9\xc3\xa9"
           "b",
           "a|\xc3\xa9|\xc3\xa9"
           "b");
    pretokenizer_destroy(p);
}

/* Each step sees only its piece: what stands behind the piece is not behind it. */
static void test_steps_follow_each_other(void **state)
{
    struct pretokenizer *p = new_pretokenizer();
    expect(p, "a b", "a b"); /* no steps: one word */
    add_split(p, "[0-9]", PRETOKENIZER_ISOLATED, false);
    add_split(p, " +(?!\\S)", PRETOKENIZER_ISOLATED, false);
    expect(p, "a  1b  c", "a|  |1|b| | c");
    assert_int_equal(pretokenizer_steps(p), 2);
    for (size_t i = 2; i < 16; i++)
        add_split(p, "x", PRETOKENIZER_ISOLATED, false);
    struct expression *e = NULL;
    assert_int_equal(expression_create(&e, "x", NULL), STATUS_OK);
    assert_int_equal(pretokenizer_add_split(p, e, PRETOKENIZER_ISOLATED, false, NULL),
                     STATUS_INVALID);
    pretokenizer_destroy(p);
    pretokenizer_destroy(NULL);
}

static void test_spaces_in_front(void **state)
{
    struct pretokenizer *p = new_pretokenizer();
    add_split(p, "-", PRETOKENIZER_REMOVED, false);
    assert_int_equal(pretokenizer_add_prefix_space(p, NULL), STATUS_OK);
    expect(p, "a- b-c", " a| b| c");
    expect_at(p, (struct pretokenizer_place){false, false}, "a-b", "a| b");
    pretokenizer_destroy(p);
    p = new_pretokenizer();
    assert_int_equal(pretokenizer_add_show_bytes(p, NULL), STATUS_OK);
    assert_true(pretokenizer_shows_bytes(p));
    expect(p, " \xc3\xa9\n", "\xc4\xa0\xc3\x83\xc2\xa9\xc4\x8a");
    pretokenizer_destroy(p);
}

static void test_metaspace(void **state)
{
    static const struct {
        enum pretokenizer_prepend prepend;
        const char *first, *behind, *spaced;
    } cases[] = {
        {PRETOKENIZER_NEVER, "a" SPACE "b", "a", SPACE "a"},
        {PRETOKENIZER_FIRST, SPACE "a" SPACE "b", "a", SPACE "a"},
        {PRETOKENIZER_ALWAYS, SPACE "a" SPACE "b", SPACE "a", SPACE "a"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct pretokenizer *p = new_pretokenizer();
        assert_int_equal(pretokenizer_add_metaspace(p, SPACE, cases[i].prepend, NULL), STATUS_OK);
        expect(p, "a b", cases[i].first);
        expect_at(p, (struct pretokenizer_place){true, false}, "a", cases[i].behind);
        expect_at(p, (struct pretokenizer_place){false, false}, "a", "a");
        expect(p, " a", cases[i].spaced);
        expect(p, SPACE "a", cases[i].spaced);
        pretokenizer_destroy(p);
    }
    struct pretokenizer *p = new_pretokenizer();
    assert_int_equal(pretokenizer_add_metaspace(p, "", PRETOKENIZER_NEVER, NULL), STATUS_INVALID);
    assert_int_equal(pretokenizer_add_metaspace(p, "ab", PRETOKENIZER_NEVER, NULL), STATUS_INVALID);
    pretokenizer_destroy(p);
}

static void test_pieces_end_before_spaces(void **state)
{
    struct pretokenizer *p = new_pretokenizer();
    assert_int_equal(pretokenizer_add_before_spaces(p, NULL), STATUS_OK);
    expect(p, "a", "a");
    expect(p, SPACE "a" SPACE SPACE "b" SPACE, SPACE "a|" SPACE SPACE "b|" SPACE);
    expect(p, "a\xe2\x82\xac" SPACE "b", "a\xe2\x82\xac|" SPACE "b"); /* led by the same byte */
    pretokenizer_destroy(p);
}

static enum status refuse_word(void *context, const char *word, size_t n_bytes, struct error *error)
{
    int *calls = context;
    return ++*calls == 2 ? error_set(error, STATUS_EXHAUSTED, "enough") : STATUS_OK;
}

static void test_a_word_that_fails_ends_the_cutting(void **state)
{
    struct pretokenizer_scratch *scratch = NULL;
    struct error error = {0};
    int calls = 0;
    struct pretokenizer *p = new_pretokenizer();
    add_split(p, "-", PRETOKENIZER_REMOVED, false);
    assert_int_equal(pretokenizer_scratch_create(&scratch, NULL), STATUS_OK);
    assert_int_equal(pretokenizer_cut(p, scratch, "a-b-c", 5,
                                      (struct pretokenizer_place){true, true}, refuse_word, &calls,
                                      &error),
                     STATUS_EXHAUSTED);
    assert_string_equal(error.text, "enough");
    assert_int_equal(calls, 2);
    pretokenizer_scratch_destroy(scratch);
    pretokenizer_scratch_destroy(NULL);
    pretokenizer_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behaviors),
        cmocka_unit_test(test_empty_matches_cut),
        cmocka_unit_test(test_steps_follow_each_other),
        cmocka_unit_test(test_spaces_in_front),
        cmocka_unit_test(test_metaspace),
        cmocka_unit_test(test_pieces_end_before_spaces),
        cmocka_unit_test(test_a_word_that_fails_ends_the_cutting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
