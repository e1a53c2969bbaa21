/* test_bench.c - what is measured, when a step has ended, and the limit beside it. */
#include "cluster/bench_cases.h"
#include "cluster/bench_limit.h"
#include "cluster/bench_steps.h"
#include "tests/cmocka.h"

#include <math.h>
#include <string.h>

static enum status cases_of(struct bench_cases *cases, struct bench_options *options, int argc,
                            const char *const *words, struct error *error)
{
    const enum status status = bench_options_read(options, argc, (char **)words, error);
    return status == STATUS_OK ? bench_cases_make(cases, options, error) : status;
}

static void test_cases_are_every_depth_then_ragged(void **state)
{
    const char *words[] = {"bench",
                           "-m",
                           "x",
                           "-d",
                           "0,4096",
                           "-b",
                           "1,3",
                           "--ragged",
                           "10+20+5",
                           "--ragged",
                           "1+2+3+4+5+6+7+8+9+10+11+12+13+14",
                           "-n",
                           "7"};
    struct bench_options options;
    struct bench_cases cases;
    struct error error = {0};
    assert_int_equal(cases_of(&cases, &options, 13, words, &error), STATUS_OK);
    assert_int_equal(cases.n, 8);
    assert_true(cases.cases[0].prefill);
    assert_int_equal(cases.cases[0].n_tokens, 512);
    assert_false(cases.cases[2].prefill);
    assert_int_equal(cases.cases[2].n_sequences, 3);
    assert_int_equal(bench_case_depth(&cases.cases[5]), 3 * 4096);
    assert_string_equal(cases.cases[5].depth, "4096");
    assert_int_equal(bench_case_depth(&cases.cases[6]), 35);
    assert_string_equal(cases.cases[6].depth, "10+20+5");
    assert_string_equal(cases.cases[7].depth, "14 from 1 to 14");
    /* one that is read, one that is predicted from it, two to warm up, five runs of seven */
    assert_int_equal(bench_case_longest(&cases.cases[6], &options), 20 + 1 + 1 + 2 + 35);
    assert_int_equal(bench_case_longest(&cases.cases[3], &options), 4096 + 512);
    bench_cases_free(&cases);
    bench_options_free(&options);
}

static void test_lists_that_are_none_are_refused(void **state)
{
    const char *const bad[][2] = {{"-d", "1,,2"},       {"-d", "1;2"},     {"-d", "-1"},
                                  {"-d", "9999999999"}, {"-b", "0"},       {"-b", ""},
                                  {"--ragged", "1+"},   {"--ragged", "x"}, {"-d", ""}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *words[] = {"bench", "-m", "x", bad[i][0], bad[i][1]};
        struct bench_options options = {0};
        struct bench_cases cases = {0};
        struct error error = {0};
        if (cases_of(&cases, &options, 5, words, &error) != STATUS_INVALID)
            fail_msg("%s \"%s\" is taken", bad[i][0], bad[i][1]);
        assert_true(error.text[0] != '\0');
        bench_options_free(&options);
    }
}

/* Tokens of two sequences that leave in turn, as micro-batches do. */
static void test_a_step_ends_with_the_last_of_its_tokens(void **state)
{
    struct bench_steps steps;
    double values[2];
    assert_int_equal(bench_steps_open(&steps, 2, 6, NULL), STATUS_OK);
    for (uint32_t k = 0; k < 7; k++) { /* one more than asked for */
        bench_steps_token(&steps, 0, 1000 * k);
        bench_steps_token(&steps, 1, 1000 * k + (k < 3 ? 400 : 900));
    }
    assert_int_equal(steps.ended_us[1], 1400);
    assert_int_equal(steps.ended_us[3], 3900);
    /* ends at 1400, 3900, 5900: 1250 and 1000 us for a step */
    const struct samples seconds = bench_steps_seconds(&steps, 1, 2, 2, values);
    assert_true(fabs(seconds.median - 1125e-6) < 1e-9);
    assert_true(fabs(seconds.min - 1000e-6) < 1e-9);
    assert_true(fabs(seconds.max - 1250e-6) < 1e-9);
    bench_steps_close(&steps);
    bench_steps_close(&steps);
}

static void test_the_limit_counts_bytes_and_operations(void **state)
{
    /* 100 bytes of weights at 10 bytes/s; 60 f32 operations a row at 20/s, 80 8-bit ones at 40/s */
    const struct bench_limit_model model = {
        .weights = {.read_bytes = 100, .rows = {.f32 = 40, .int8 = 80}, .predicted = {.f32 = 20}},
        .attend_operations = 2,
        .attend_last = 0.5,
        .kv_token_bytes = 5};
    struct step_limit_machine machine = {10, 20, 40, 20};
    uint32_t depths[2] = {4, 10};
    struct bench_case c = {.n_sequences = 2, .n_tokens = 9, .depths = depths};
    struct bench_limit limit = bench_limit_of(&model, &machine, &c);
    assert_true(fabs(limit.bytes - 170) < 1e-9);
    assert_true(fabs(limit.operations - (2 * 120 + 2 * 20 + 16 * 2)) < 1e-9);
    assert_true(fabs(limit.seconds - 17) < 1e-9); /* arithmetic: 2 (2 + 2 + 1) + 16 * 2 / 20 */
    assert_false(limit.arithmetic);
    c = (struct bench_case){.prefill = true, .n_sequences = 1, .n_tokens = 9, .depths = depths};
    limit = bench_limit_of(&model, &machine, &c);
    /* 9 rows see 9 * 4 tokens before and 45 among them; one is predicted, and sees 13 in the last layer */
    const double attend = 81 * 1.5 + 13 * 0.5;
    assert_true(fabs(limit.seconds - (9 * 4 + 1 + attend / 20)) < 1e-9);
    assert_true(limit.arithmetic);
    machine.floats_per_s = 40; /* kernels that round */
    limit = bench_limit_of(&model, &machine, &c);
    assert_true(fabs(limit.seconds - (9 * 3 + 0.5 + attend / 20)) < 1e-9);
}

/* A row of a decode step reads its own experts; many rows read nearly all of them. */
static void test_the_limit_counts_the_experts_that_are_met(void **state)
{
    const struct bench_limit_model model = {
        .weights = {.read_bytes = 100, .expert_bytes = 800, .expert_share = 0.25}};
    const struct step_limit_machine machine = {10, 20, 40, 20};
    uint32_t depths[2] = {0, 0};
    struct bench_case c = {.n_sequences = 1, .n_tokens = 200, .depths = depths};
    assert_true(fabs(bench_limit_of(&model, &machine, &c).bytes - (100 + 200)) < 1e-9);
    c.n_sequences = 2;
    assert_true(fabs(bench_limit_of(&model, &machine, &c).bytes - (100 + 350)) < 1e-9);
    c = (struct bench_case){.prefill = true, .n_sequences = 1, .n_tokens = 200, .depths = depths};
    assert_true(fabs(bench_limit_of(&model, &machine, &c).bytes - 900) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases_are_every_depth_then_ragged),
        cmocka_unit_test(test_lists_that_are_none_are_refused),
        cmocka_unit_test(test_a_step_ends_with_the_last_of_its_tokens),
        cmocka_unit_test(test_the_limit_counts_bytes_and_operations),
        cmocka_unit_test(test_the_limit_counts_the_experts_that_are_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
