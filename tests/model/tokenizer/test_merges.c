/* Merges follow their ranks inside words; a vocabulary of bytes alone works; any bytes are kept. */
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

#define SP "\xc4\xa0" /* U+0120: a space in GPT-2's alphabet */

enum { LL = 256, HE, HELL, HELLO, SP_HELLO, BANG };

static void small(struct vocabulary *v, const char *pre)
{
    bpe_vocabulary(v, pre);
    add_token(v, "ll", 0, 1);
    add_token(v, "he", 0, 1);
    add_token(v, "hell", 0, 1);
    add_token(v, "hello", 0, 1);
    add_token(v, SP "hello", 0, 1);
    assert_int_equal(add_token(v, "!!", 0, 1), BANG);
    add_merge(v, "l l");
    add_merge(v, "h e");
    add_merge(v, "he ll");
    add_merge(v, "hell o");
    add_merge(v, SP " hello");
    add_merge(v, "! !");
}

static void test_merges_by_rank(void **state)
{
    static struct vocabulary v;
    small(&v, "gpt-2");
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hello", 0, HELLO);
    EXPECT_IDS(t, " hello hello", 0, SP_HELLO, SP_HELLO);
    EXPECT_IDS(t, "helll", 0, HELL, 'l');
    EXPECT_IDS(t, "llll", 0, LL, LL);
    EXPECT_IDS(t, "lll", 0, LL, 'l');
    EXPECT_IDS(t, "!!!", 0, BANG, '!');
    EXPECT_IDS(t, "! !", 0, '!', ' ', '!'); /* words do not merge */
    EXPECT_IDS(t, "\xc3\xa9", 0, 0xc3, 0xa9);
    expect_ids(t, "", 0, TOKENIZER_ADD_SPECIAL, NULL, 0);
    tokenizer_close(t);
}

static void test_invalid_utf8_keeps_its_bytes(void **state)
{
    static struct vocabulary v;
    small(&v, "gpt-2");
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "he\xffhe", 0, HE, 0xff, HE);
    EXPECT_IDS(t, "\x80\xbf", 0, 0x80, 0xbf);
    EXPECT_IDS(t, "l\xe2\x82", 0, 'l', 0xe2, 0x82);
    EXPECT_IDS(t, "l\0l", 0, 'l', 0, 'l');
    tokenizer_close(t);
}

/* 256 bytes and BOS, no merges, no `pre`: each byte is its own id, spaces and controls too. */
static void test_a_vocabulary_of_bytes(void **state)
{
    static const char *const pres[] = {NULL, "default", "gpt-2", "llama-bpe"};
    static struct vocabulary v;
    char text[256];
    int32_t expected[257] = {256};
    for (int i = 0; i < 256; i++) {
        text[i] = (char)i;
        expected[i + 1] = i;
    }
    for (size_t i = 0; i < 4; i++) {
        bpe_vocabulary(&v, pres[i]);
        v.bos = add_token(&v, "<s>", 0, TOKENIZER_TYPE_CONTROL);
        v.add_bos = 1;
        struct tokenizer *t = good_vocabulary(&v);
        expect_ids(t, text, 256, TOKENIZER_ADD_SPECIAL, expected, 257);
        expect_ids(t, text, 256, 0, expected + 1, 256);
        EXPECT_IDS(t, "<s>", TOKENIZER_PARSE_SPECIAL, 256);
        EXPECT_IDS(t, "<s>", 0, '<', 's', '>');
        tokenizer_close(t);
    }
}

static void test_llama_3_takes_whole_words(void **state)
{
    static struct vocabulary v;
    small(&v, "llama-bpe");
    const int32_t word = add_token(&v, "leo", 0, 1); /* no merge leads to it */
    v.bos = add_token(&v, "<|begin_of_text|>", 0, TOKENIZER_TYPE_CONTROL);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "leo", 0, word);
    EXPECT_IDS(t, "leon", 0, 'l', 'e', 'o', 'n');
    EXPECT_IDS(t, "hello", TOKENIZER_ADD_SPECIAL, v.bos, HELLO); /* BOS is the default here */
    EXPECT_IDS(t, "!hello", 0, '!', HELLO);
    tokenizer_close(t);
    small(&v, "gpt-2");
    add_token(&v, "leo", 0, 1);
    t = good_vocabulary(&v);
    EXPECT_IDS(t, "leo", 0, 'l', 'e', 'o');
    tokenizer_close(t);
}

static void test_special_tokens_in_text(void **state)
{
    static struct vocabulary v;
    small(&v, "gpt-2");
    const int32_t end = add_token(&v, "<|end|>", 0, TOKENIZER_TYPE_CONTROL);
    const int32_t shorter = add_token(&v, "<|end", 0, TOKENIZER_TYPE_CONTROL);
    const int32_t user = add_token(&v, "@@", 0, TOKENIZER_TYPE_USER_DEFINED);
    const int32_t ab = add_token(&v, "#a", 0, TOKENIZER_TYPE_CONTROL);
    const int32_t longer = add_token(&v, "abcd", 0, TOKENIZER_TYPE_CONTROL);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hello<|end|>hello", TOKENIZER_PARSE_SPECIAL, HELLO, end, HELLO);
    EXPECT_IDS(t, "<|end<|end|>", TOKENIZER_PARSE_SPECIAL, shorter, end);
    EXPECT_IDS(t, "<|en", TOKENIZER_PARSE_SPECIAL, '<', '|', 'e', 'n');
    EXPECT_IDS(t, "@@@", TOKENIZER_PARSE_SPECIAL, user, '@');
    EXPECT_IDS(t, "@@@", 0, user, '@'); /* user-defined: either way */
    EXPECT_IDS(t, "#abcd", TOKENIZER_PARSE_SPECIAL, ab, 'b', 'c', 'd'); /* the leftmost */
    EXPECT_IDS(t, "abcd#a", TOKENIZER_PARSE_SPECIAL, longer, ab);
    EXPECT_IDS(t, "#abc", TOKENIZER_PARSE_SPECIAL, ab, 'b', 'c');
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_by_rank),
        cmocka_unit_test(test_invalid_utf8_keeps_its_bytes),
        cmocka_unit_test(test_a_vocabulary_of_bytes),
        cmocka_unit_test(test_llama_3_takes_whole_words),
        cmocka_unit_test(test_special_tokens_in_text),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
