/* Of names that begin leftmost the longest is taken, whatever their flags leave of it; compared
 * with a search that tries every name at every place. Time grows with the text. */
#include "model/tokenizer/added_tokens.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct added_tokens *new_tokens(void)
{
    struct added_tokens *t = NULL;
    assert_int_equal(added_tokens_create(&t, NULL), STATUS_OK);
    assert_true(added_tokens_is_empty(t));
    return t;
}

static void add(struct added_tokens *t, const char *name, struct added_token token)
{
    assert_int_equal(added_tokens_add(t, name, strlen(name), token, NULL), STATUS_OK);
}

/* Fragments as text: raw ones as they are, tokens as {id}, "|" between. */
static void expect(const struct added_tokens *t, const char *text, const char *expected)
{
    struct added_token_fragments list = {0};
    char shown[512] = "";
    assert_int_equal(added_tokens_cut(t, text, strlen(text), &list, NULL), STATUS_OK);
    for (size_t i = 0; i < list.n; i++) {
        const struct added_token_fragment *f = &list.items[i];
        char piece[128];
        if (f->id >= 0)
            snprintf(piece, sizeof(piece), "{%d}", f->id);
        else
            snprintf(piece, sizeof(piece), "%.*s", (int)f->n_bytes, text + f->begin);
        strcat(shown, i == 0 ? "" : "|");
        strcat(shown, piece);
    }
    if (strcmp(shown, expected) != 0)
        fail_msg("'%s': %s, expected %s", text, shown, expected);
    added_token_fragments_free(&list);
}

static void test_leftmost_then_longest(void **state)
{
    struct added_tokens *t = new_tokens();
    add(t, "ab", (struct added_token){.id = 1});
    add(t, "bcd", (struct added_token){.id = 2});
    add(t, "abx", (struct added_token){.id = 3});
    add(t, "b", (struct added_token){.id = 4});
    add(t, "ab", (struct added_token){.id = 9}); /* the first stays */
    add(t, "", (struct added_token){.id = 8});   /* no name */
    assert_int_equal(added_tokens_finish(t, NULL), STATUS_OK);
    assert_false(added_tokens_is_empty(t));
    expect(t, "abcd", "{1}|cd");
    expect(t, "bcd", "{2}");
    expect(t, "abx", "{3}");
    expect(t, "aabxb", "a|{3}|{4}");
    expect(t, "xyz", "xyz");
    expect(t, "", "");
    added_tokens_destroy(t);
    added_tokens_destroy(NULL);
}

static void test_flags(void **state)
{
    struct added_tokens *t = new_tokens();
    add(t, "<l>", (struct added_token){.id = 1, .lstrip = true});
    add(t, "<r>", (struct added_token){.id = 2, .rstrip = true});
    add(t, "word", (struct added_token){.id = 3, .single_word = true});
    assert_int_equal(added_tokens_finish(t, NULL), STATUS_OK);
    expect(t, "a \n<l> b", "a|{1}| b");
    expect(t, " <l>", "{1}");
    expect(t, "a<r>\xe3\x80\x80 b", "a|{2}|b");
    expect(t, "<r>  ", "{2}");
    expect(t, "<r> <l>", "{2}|{1}"); /* the space goes once */
    expect(t, "a word.", "a |{3}|.");
    expect(t, "sword words word", "sword words |{3}");
    expect(t, "\xc3\xa9word word\xe2\x80\x8d", "\xc3\xa9word word\xe2\x80\x8d"); /* letters too */
    added_tokens_destroy(t);
}

static void test_any_bytes(void **state)
{
    static const char text[] = {'\0', (char)0xff, 'a', '\0', (char)0xff};
    struct added_token_fragments list = {0};
    struct added_tokens *t = new_tokens();
    assert_int_equal(added_tokens_add(t, text, 2, (struct added_token){.id = 5}, NULL), STATUS_OK);
    assert_int_equal(added_tokens_finish(t, NULL), STATUS_OK);
    assert_int_equal(added_tokens_cut(t, text, sizeof(text), &list, NULL), STATUS_OK);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.items[0].id, 5);
    assert_int_equal(list.items[1].id, -1);
    assert_int_equal(list.items[2].begin, 3);
    added_token_fragments_free(&list);
    added_tokens_destroy(t);
}

enum { N_NAMES = 12, TEXT_BYTES = 60 };

/* Names and texts of two letters: they overlap wherever they can. */
static void test_random_names_as_a_plain_search(void **state)
{
    uint32_t x = 1;
    for (int turn = 0; turn < 3000; turn++) {
        char names[N_NAMES][8], text[TEXT_BYTES + 1], expected[512] = "";
        struct added_tokens *t = new_tokens();
        for (int i = 0; i < N_NAMES; i++) {
            const size_t n = 1 + (x = x * 1664525 + 1013904223) % (turn % 2 == 0 ? 3 : 7);
            for (size_t k = 0; k < n; k++)
                names[i][k] = (char)('a' + ((x = x * 1664525 + 1013904223) >> 30) % 2);
            names[i][n] = '\0';
            add(t, names[i], (struct added_token){.id = i});
        }
        for (size_t i = 0; i < TEXT_BYTES; i++)
            text[i] = (char)('a' + ((x = x * 1664525 + 1013904223) >> 30) % 3);
        text[TEXT_BYTES] = '\0';
        assert_int_equal(added_tokens_finish(t, NULL), STATUS_OK);
        bool raw = false;
        for (size_t at = 0; text[at] != '\0';) {
            int best = -1;
            for (int i = 0; i < N_NAMES; i++)
                if (strncmp(text + at, names[i], strlen(names[i])) == 0 &&
                    (best < 0 || strlen(names[i]) > strlen(names[best])))
                    best = i;
            char piece[16];
            if (best >= 0)
                snprintf(piece, sizeof(piece), "%s{%d}", at == 0 ? "" : "|", best);
            else
                snprintf(piece, sizeof(piece), "%s%c", raw || at == 0 ? "" : "|", text[at]);
            strcat(expected, piece);
            raw = best < 0;
            at += best >= 0 ? strlen(names[best]) : 1;
        }
        expect(t, text, expected);
        added_tokens_destroy(t);
    }
}

static double cut_seconds(const struct added_tokens *t, const char *text, size_t n)
{
    struct added_token_fragments list = {0};
    const clock_t start = clock();
    assert_int_equal(added_tokens_cut(t, text, n, &list, NULL), STATUS_OK);
    const double taken = (double)(clock() - start) / CLOCKS_PER_SEC;
    added_token_fragments_free(&list);
    return taken;
}

/* Reading forward would look ahead through most of the long name at every place. */
static void test_time_grows_with_the_text(void **state)
{
    enum { LONG = 40000, SMALL = 100000, LARGE = 8 * SMALL };
    char *text = malloc(LARGE), *name = malloc(LONG + 1);
    memset(text, 'a', LARGE);
    memset(name, 'a', LONG);
    name[LONG - 1] = 'b';
    name[LONG] = '\0';
    struct added_tokens *t = new_tokens();
    add(t, name, (struct added_token){.id = 1});
    add(t, "a", (struct added_token){.id = 2});
    name[LONG - 1] = 'a';
    name[0] = 'b';
    add(t, name, (struct added_token){.id = 3});
    assert_int_equal(added_tokens_finish(t, NULL), STATUS_OK);
    const double small = cut_seconds(t, text, SMALL), large = cut_seconds(t, text, LARGE);
    if (large > 30 * small + 0.05)
        fail_msg("%g s for %d bytes, %g s for %d", small, SMALL, large, LARGE);
    added_tokens_destroy(t);
    free(text);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leftmost_then_longest),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_random_names_as_a_plain_search),
        cmocka_unit_test(test_time_grows_with_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
