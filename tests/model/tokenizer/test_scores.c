/* Joins follow the scores, leftmost first; what is no token becomes bytes; control tokens never
 * come from plain text. */
#include "model/detokenizer.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

#define SPACE   "\xe2\x96\x81"
#define BYTE(b) (3 + (b))

enum { SP = 259, H, E, L, O, HE, LL, HELL, HELLO, SP_HELLO, SPSP };

static void small(struct vocabulary *v)
{
    spm_vocabulary(v);
    assert_int_equal(add_token(v, SPACE, -20, 1), SP);
    add_token(v, "h", -21, 1);
    add_token(v, "e", -22, 1);
    add_token(v, "l", -23, 1);
    add_token(v, "o", -24, 1);
    add_token(v, "he", -1, 1);
    add_token(v, "ll", -2, 1);
    add_token(v, "hell", -3, 1);
    add_token(v, "hello", -4, 1);
    add_token(v, SPACE "hello", -5, 1);
    assert_int_equal(add_token(v, SPACE SPACE, -6, 1), SPSP);
}

static void test_joins_by_score(void **state)
{
    static struct vocabulary v;
    small(&v);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hello", 0, SP_HELLO);
    EXPECT_IDS(t, "hello hello", 0, SP_HELLO, SP_HELLO);
    EXPECT_IDS(t, "hell", 0, SP, HELL);
    EXPECT_IDS(t, "lll", 0, SP, LL, L); /* equal scores: the left pair first */
    EXPECT_IDS(t, "  hello", 0, SPSP, SP_HELLO);
    EXPECT_IDS(t, "h\xc3\xa9", 0, SP, H, BYTE(0xc3), BYTE(0xa9));
    EXPECT_IDS(t, "hx", 0, SP, H, BYTE('x'));
    EXPECT_IDS(t, " ", 0, SPSP);
    EXPECT_IDS(t, "hello", TOKENIZER_ADD_SPECIAL, 1, SP_HELLO);
    EXPECT_IDS(t, "", TOKENIZER_ADD_SPECIAL, 1);
    expect_ids(t, "", 0, 0, NULL, 0);
    tokenizer_close(t);
}

static void test_invalid_utf8_becomes_its_bytes(void **state)
{
    static struct vocabulary v;
    small(&v);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "\xff", 0, SP, BYTE(0xff));
    EXPECT_IDS(t, "\xe2he", 0, SP, BYTE(0xe2), HE); /* a lead byte takes nothing with it */
    EXPECT_IDS(t, "he\xf0\x9f\x98", 0, SP, HE, BYTE(0xf0), BYTE(0x9f), BYTE(0x98));
    EXPECT_IDS(t, "\xc0\x80", 0, SP, BYTE(0xc0), BYTE(0x80));
    EXPECT_IDS(t, "h\0h", 0, SP, H, BYTE(0), H);
    tokenizer_close(t);
}

static void test_switches_of_the_file(void **state)
{
    static struct vocabulary v;
    small(&v);
    v.add_space_prefix = 0;
    v.add_bos = 0;
    v.add_eos = 1;
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hello", TOKENIZER_ADD_SPECIAL, HELLO, 2);
    EXPECT_IDS(t, "hello hello", 0, HELLO, SP_HELLO);
    tokenizer_close(t);
}

/* A token with a space inside forbids cutting the text at spaces. */
static void test_tokens_may_cross_a_space(void **state)
{
    static struct vocabulary v;
    small(&v);
    const int32_t crossing = add_token(&v, "o" SPACE, -0.5f, 1);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hello hello", 0, SP, HELL, crossing, HELLO);
    tokenizer_close(t);
}

static void test_control_tokens_only_where_asked(void **state)
{
    static struct vocabulary v;
    small(&v);
    /* two parts that would join to the control token, which has the best score */
    const int32_t left = add_token(&v, "</", -1, 1), right = add_token(&v, "s>", -1, 1);
    const int32_t user = add_token(&v, "<tool>", 0, TOKENIZER_TYPE_USER_DEFINED);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "</s>", 0, SP, left, right);
    EXPECT_IDS(t, "<0x41>", 0, SP, BYTE('<'), BYTE('0'), BYTE('x'), BYTE('4'), BYTE('1'),
               BYTE('>'));
    EXPECT_IDS(t, "</s>hello", TOKENIZER_PARSE_SPECIAL, 2, SP_HELLO);
    EXPECT_IDS(t, "hello<s>hello", TOKENIZER_PARSE_SPECIAL, SP_HELLO, 1, SP_HELLO);
    EXPECT_IDS(t, "hello<tool>hello", 0, SP_HELLO, user, SP_HELLO);
    tokenizer_close(t);
}

static void test_unknown_stands_for_what_has_no_bytes(void **state)
{
    static struct vocabulary v;
    struct error error = {0};
    struct tokenizer *t = NULL;
    spm_vocabulary(&v);
    v.n = 3; /* no byte tokens */
    const int32_t sp = add_token(&v, SPACE, -1, 1), a = add_token(&v, "a", -2, 1);
    t = good_vocabulary(&v);
    EXPECT_IDS(t,
               "a\xc3\xa9"
               "a",
               0, sp, a, 0, a); /* one for the character */
    tokenizer_close(t);
    v.types[0] =
        TOKENIZER_TYPE_NORMAL; /* types say nothing about the unknown id: still the default */
    check_ok(open_vocabulary(&t, &v, &error), &error);
    tokenizer_close(t);
}

static void test_equal_names_encode_to_the_lower_id(void **state)
{
    static struct vocabulary v;
    small(&v);
    const int32_t again = add_token(&v, "hello", 0, 1);
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hello", 0, SP_HELLO);
    assert_int_equal(tokenizer_find(t, "hello", 5), HELLO);
    assert_true(model_string_equals(tokenizer_token_bytes(t, again), "hello"));
    tokenizer_close(t);
}

static void test_without_types_byte_tokens_are_known_by_name(void **state)
{
    static struct vocabulary v;
    small(&v);
    v.no_types = true;
    struct tokenizer *t = good_vocabulary(&v);
    EXPECT_IDS(t, "hx", 0, SP, H, BYTE('x'));
    assert_true(model_string_equals(tokenizer_token_bytes(t, BYTE('x')), "x"));
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins_by_score),
        cmocka_unit_test(test_invalid_utf8_becomes_its_bytes),
        cmocka_unit_test(test_switches_of_the_file),
        cmocka_unit_test(test_tokens_may_cross_a_space),
        cmocka_unit_test(test_control_tokens_only_where_asked),
        cmocka_unit_test(test_unknown_stands_for_what_has_no_bytes),
        cmocka_unit_test(test_equal_names_encode_to_the_lower_id),
        cmocka_unit_test(test_without_types_byte_tokens_are_known_by_name),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
