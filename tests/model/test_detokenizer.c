/* A stream never shows half a character, wherever the tokens cut it, and loses nothing. */
#include "model/detokenizer.h"
#include "model/utf8.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

#define FFFD  "\xef\xbf\xbd"
#define SPACE "\xe2\x96\x81"

static bool whole_characters(const char *text, size_t n)
{
    for (size_t at = 0; at < n;) {
        const size_t k = utf8_char_bytes(text + at, n - at);
        if (k == 0)
            return false;
        at += k;
    }
    return true;
}

/* Pushes the ids, checks each piece, and gives the whole text, NUL-terminated. */
static const char *stream(const struct tokenizer *t, unsigned flags, const int32_t *ids, size_t n)
{
    static char all[4096];
    size_t n_all = 0, n_piece;
    const char *piece;
    struct detokenizer *d = NULL;
    struct error error = {0};
    check_ok(detokenizer_create(&d, t, flags, &error), &error);
    for (size_t i = 0; i <= n; i++) {
        if (i < n)
            check_ok(detokenizer_push(d, ids[i], &piece, &n_piece, &error), &error);
        else
            detokenizer_flush(d, &piece, &n_piece);
        if ((flags & DETOKENIZER_RAW) == 0)
            assert_true(whole_characters(piece, n_piece));
        memcpy(all + n_all, piece, n_piece);
        n_all += n_piece;
    }
    detokenizer_destroy(d);
    all[n_all] = '\0';
    return all;
}

static struct tokenizer *bytes_vocabulary(void)
{
    static struct vocabulary v;
    bpe_vocabulary(&v, NULL);
    return good_vocabulary(&v);
}

static const char *const characters[] = {
    "a", "\xc3\xa9", "\xe2\x82\xac", "\xed\x9f\xbf", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf"};

static void test_characters_come_out_whole_at_their_last_byte(void **state)
{
    struct tokenizer *t = bytes_vocabulary();
    for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++) {
        const size_t n = strlen(characters[i]);
        struct detokenizer *d = NULL;
        struct error error = {0};
        check_ok(detokenizer_create(&d, t, 0, &error), &error);
        for (size_t k = 0; k < n; k++) {
            const char *piece;
            size_t n_piece;
            const int32_t id = (uint8_t)characters[i][k];
            check_ok(detokenizer_push(d, id, &piece, &n_piece, &error), &error);
            assert_int_equal(n_piece, k + 1 == n ? n : 0);
            if (k + 1 == n)
                assert_memory_equal(piece, characters[i], n);
        }
        detokenizer_destroy(d);
    }
    tokenizer_close(t);
}

/* Tokens that are pieces of "a" + character + "z", cut at every pair of places. */
static void test_every_split_of_a_character(void **state)
{
    static struct vocabulary v;
    for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++) {
        char text[8], names[3][32];
        snprintf(text, sizeof(text), "a%sz", characters[i]);
        const size_t n = strlen(text);
        for (size_t x = 1; x < n; x++) {
            for (size_t y = x; y < n; y++) {
                const size_t cuts[4] = {0, x, y, n};
                int32_t ids[3];
                bpe_vocabulary(&v, NULL);
                for (size_t k = 0; k < 3; k++) {
                    size_t at = 0;
                    for (size_t b = cuts[k]; b < cuts[k + 1]; b++) { /* in GPT-2's alphabet */
                        const struct model_string name = v.tokens[(uint8_t)text[b]];
                        memcpy(names[k] + at, name.data, name.n_bytes);
                        at += name.n_bytes;
                    }
                    names[k][at] = '\0';
                    ids[k] = add_token(&v, names[k], 0, TOKENIZER_TYPE_NORMAL);
                }
                struct tokenizer *t = good_vocabulary(&v);
                assert_string_equal(stream(t, 0, ids, 3), text);
                tokenizer_close(t);
            }
        }
    }
}

static void expect_bytes(const struct tokenizer *t, const char *bytes, const char *expected)
{
    int32_t ids[64];
    const size_t n = strlen(bytes);
    for (size_t i = 0; i < n; i++)
        ids[i] = (uint8_t)bytes[i];
    assert_string_equal(stream(t, 0, ids, n), expected);
    assert_string_equal(stream(t, DETOKENIZER_RAW, ids, n), bytes);
}

/* One U+FFFD per maximal subpart: the examples of Unicode 15, tables 3-8 to 3-11. */
static void test_broken_bytes_are_replaced(void **state)
{
    struct tokenizer *t = bytes_vocabulary();
    expect_bytes(t, "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41",
                 FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A");
    expect_bytes(t, "\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41",
                 FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A");
    expect_bytes(t, "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42",
                 FFFD FFFD FFFD FFFD FFFD "A" FFFD FFFD "B");
    expect_bytes(t, "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", FFFD FFFD FFFD FFFD "A");
    expect_bytes(t, "a\xf0\x9f\x98", "a" FFFD); /* held to the end, then given up */
    expect_bytes(t, "\xe2\x82", FFFD);
    expect_bytes(t, "\xc3", FFFD);
    tokenizer_close(t);
}

static void test_flush_begins_anew(void **state)
{
    struct tokenizer *t = bytes_vocabulary();
    struct detokenizer *d = NULL;
    struct error error = {0};
    const char *piece;
    size_t n;
    check_ok(detokenizer_create(&d, t, 0, &error), &error);
    check_ok(detokenizer_push(d, 0xc3, &piece, &n, &error), &error);
    assert_int_equal(n, 0);
    assert_int_equal(detokenizer_push(d, -1, &piece, &n, &error), STATUS_INVALID);
    assert_int_equal(detokenizer_push(d, 256, &piece, &n, &error), STATUS_INVALID);
    check_ok(detokenizer_push(d, 0xa9, &piece, &n, &error), &error); /* undisturbed */
    assert_int_equal(n, 2);
    check_ok(detokenizer_push(d, 0xc3, &piece, &n, &error), &error);
    detokenizer_flush(d, &piece, &n);
    assert_int_equal(n, 3);
    detokenizer_flush(d, &piece, &n);
    assert_int_equal(n, 0);
    check_ok(detokenizer_push(d, 'x', &piece, &n, &error), &error);
    assert_int_equal(n, 1);
    detokenizer_destroy(d);
    detokenizer_destroy(NULL);
    tokenizer_close(t);
}

static void test_leading_space_of_a_llama_text(void **state)
{
    static struct vocabulary v;
    spm_vocabulary(&v);
    const int32_t hi = add_token(&v, SPACE "hi", -1, 1), space = add_token(&v, SPACE, -2, 1);
    const int32_t user = add_token(&v, "<u>", 0, TOKENIZER_TYPE_USER_DEFINED);
    struct tokenizer *t = good_vocabulary(&v);
    const int32_t text[] = {1, hi, hi, 2, hi}, raw[] = {space, 3 + 'x'}, with_user[] = {user, hi};
    assert_string_equal(stream(t, DETOKENIZER_TEXT_START, text, 5), "hi hihi");
    assert_string_equal(stream(t, DETOKENIZER_TEXT_START | DETOKENIZER_SHOW_SPECIAL, text, 5),
                        "<s>hi hi</s>hi");
    assert_string_equal(stream(t, 0, text + 1, 2), " hi hi"); /* generation goes on in a text */
    assert_string_equal(stream(t, DETOKENIZER_TEXT_START, raw, 2), "x");
    assert_string_equal(stream(t, 0, raw, 2), " x");
    assert_string_equal(stream(t, DETOKENIZER_TEXT_START, with_user, 2), "<u>hi");
    tokenizer_close(t);
    v.add_space_prefix = 0;
    t = good_vocabulary(&v);
    assert_string_equal(stream(t, DETOKENIZER_TEXT_START, text, 5), " hi hi hi");
    tokenizer_close(t);
}

static void test_special_tokens_come_back_in_their_places(void **state)
{
    static const char text[] = "hi<s> hi</s></s><u>hi <u> hi";
    static struct vocabulary v;
    int32_t *ids;
    size_t n_ids, n_back;
    char *back;
    struct error error = {0};
    spm_vocabulary(&v);
    add_token(&v, SPACE "hi", -1, 1);
    add_token(&v, SPACE, -2, 1);
    add_token(&v, "<u>", 0, TOKENIZER_TYPE_USER_DEFINED);
    struct tokenizer *t = good_vocabulary(&v);
    check_ok(tokenizer_encode(t, text, strlen(text), TOKENIZER_PARSE_SPECIAL, &ids, &n_ids, &error),
             &error);
    check_ok(detokenizer_text(t, ids, n_ids, DETOKENIZER_TEXT_START | DETOKENIZER_SHOW_SPECIAL,
                              &back, &n_back, &error),
             &error);
    assert_string_equal(back, text);
    assert_int_equal(n_back, strlen(text));
    free(ids);
    free(back);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_come_out_whole_at_their_last_byte),
        cmocka_unit_test(test_every_split_of_a_character),
        cmocka_unit_test(test_broken_bytes_are_replaced),
        cmocka_unit_test(test_flush_begins_anew),
        cmocka_unit_test(test_leading_space_of_a_llama_text),
        cmocka_unit_test(test_special_tokens_come_back_in_their_places),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
