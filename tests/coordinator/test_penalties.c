/* test_penalties.c - what was said, and the client's biases, change exactly the logits that they
 * should. */
#include "coordinator/penalties.h"

#include "tests/cmocka.h"

#include <math.h>
#include <string.h>

enum { VOCAB = 8 };
static const float row[VOCAB] = {1, -1, 2, -2, 3, -INFINITY, 0.5f, 0};

static void apply(const struct penalties_settings *settings, const int32_t *prompt, size_t n_prompt,
                  const int32_t *answer, size_t n_answer, float out[VOCAB])
{
    struct penalties *p = NULL;
    assert_int_equal(penalties_create(&p, settings, VOCAB, prompt, n_prompt, NULL), STATUS_OK);
    for (size_t i = 0; i < n_answer; i++)
        penalties_count(p, answer[i]);
    memcpy(out, row, sizeof(row));
    penalties_apply(p, out);
    penalties_destroy(p);
}

static void check(const float *out, const float *expected)
{
    for (int i = 0; i < VOCAB; i++)
        if (isinf(expected[i]))
            assert_true(out[i] == expected[i]);
        else
            assert_true(fabsf(out[i] - expected[i]) < 1e-6f);
}

/* OpenAI: mu - c * frequency - (c > 0) * presence, of the answer alone. */
static void test_presence_and_frequency_are_of_the_answer(void **state)
{
    const int32_t prompt[] = {0, 0, 4}, answer[] = {2, 3, 2};
    const struct penalties_settings settings = {.presence = 0.5f, .frequency = 0.25f};
    float out[VOCAB];
    apply(&settings, prompt, 3, answer, 3, out);
    const float expected[] = {1, -1, 2 - 0.5f - 0.5f, -2 - 0.5f - 0.25f, 3, -INFINITY, 0.5f, 0};
    check(out, expected);
}

/* Divides what is above zero and multiplies what is below: both become less likely. */
static void test_repetition_is_of_prompt_and_answer(void **state)
{
    const int32_t prompt[] = {0, 1, 5}, answer[] = {2, 1};
    const struct penalties_settings settings = {.repetition = 2.0f};
    float out[VOCAB];
    apply(&settings, prompt, 3, answer, 2, out);
    const float expected[] = {0.5f, -2, 1, -2, 3, -INFINITY, 0.5f, 0};
    check(out, expected);
}

static void test_biases_come_last(void **state)
{
    const struct penalties_bias biases[] = {{2, -100}, {6, 10}, {7, -3}};
    const struct penalties_settings settings = {
        .repetition = 0.5f, .presence = -1, .biases = biases, .n_biases = 3};
    const int32_t answer[] = {2};
    float out[VOCAB];
    apply(&settings, NULL, 0, answer, 1, out);
    const float expected[] = {1, -1, 4 + 1 - 100, -2, 3, -INFINITY, 10.5f, -3};
    check(out, expected);
}

static void test_nothing_to_change_is_known(void **state)
{
    const struct penalties_bias bias = {0, 0};
    const struct penalties_settings none = {0}, one = {.repetition = 1.0f},
                                    presence = {.presence = -0.1f},
                                    biased = {.biases = &bias, .n_biases = 1};
    assert_false(penalties_needed(&none));
    assert_false(penalties_needed(&one));
    assert_true(penalties_needed(&presence));
    assert_true(penalties_needed(&biased));
}

static void test_bad_settings_are_refused(void **state)
{
    const struct penalties_bias outside = {VOCAB, 0}, negative = {-1, 0}, nan_bias = {0, NAN};
    const struct penalties_settings bad[] = {
        {.presence = NAN},
        {.frequency = INFINITY},
        {.presence = 101},
        {.repetition = -1},
        {.repetition = 1e-3f},
        {.repetition = NAN},
        {.biases = &outside, .n_biases = 1},
        {.biases = &negative, .n_biases = 1},
        {.biases = &nan_bias, .n_biases = 1},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(penalties_check(&bad[i], VOCAB, NULL), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presence_and_frequency_are_of_the_answer),
        cmocka_unit_test(test_repetition_is_of_prompt_and_answer),
        cmocka_unit_test(test_biases_come_last),
        cmocka_unit_test(test_nothing_to_change_is_known),
        cmocka_unit_test(test_bad_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
