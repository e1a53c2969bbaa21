/* test_load_shape.c - means, spreads and arrivals are what was asked for; same seed, same load. */
#include "cluster/load_shape.h"

#include "tests/cmocka.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MANY = 200000 };

static void test_presets_and_pairs_are_read(void **state)
{
    struct load_shape shape = {.spread = LOAD_UNIFORM};
    assert_int_equal(load_shape_read(&shape, "kimi-conv", NULL), STATUS_OK);
    assert_true(shape.prompt == 12035.1 && shape.output == 342.6);
    assert_int_equal(load_shape_read(&shape, "1000:20.5", NULL), STATUS_OK);
    assert_true(shape.prompt == 1000.0 && shape.output == 20.5);
    assert_int_equal(shape.spread, LOAD_UNIFORM);
    static const char *const bad[] = {"",        "kimi",
                                      "1000",    "1000:",
                                      ":20",     "0:20",
                                      "20:0",    "-1:20",
                                      "1e30:20", "nan:2",
                                      "1:2:3",   "1000;20",
                                      "a:b",     "12345678901234567890123456789012:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error error = {0};
        assert_int_equal(load_shape_read(&shape, bad[i], &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "--prompts"));
    }
    assert_true(shape.prompt == 1000.0); /* untouched */
    for (const char *at = load_shape_presets(); *at != '\0'; at = strchr(at, '\n') + 1) {
        char name[32];
        assert_int_equal(sscanf(at, "%31s", name), 1);
        assert_int_equal(load_shape_read(&shape, name, NULL), STATUS_OK);
    }
}

static void test_lengths_have_their_mean_and_their_bounds(void **state)
{
    const double mean = 100.0;
    for (int spread = LOAD_EXPONENTIAL; spread <= LOAD_FIXED; spread++) {
        struct random_state random;
        double sum = 0.0, squares = 0.0;
        random_seed(&random, 5);
        for (int i = 0; i < MANY; i++) {
            const uint32_t n = load_shape_draw((enum load_spread)spread, mean, &random);
            assert_true(n >= 1 && n <= LOAD_SHAPE_MOST_MEANS * mean);
            assert_true(spread != LOAD_UNIFORM || (n >= 50 && n <= 150));
            sum += n;
            squares += (double)n * n;
        }
        /* 200,000 values with a deviation of 100 have a mean within 0.22 of theirs, three times
         * that here; the cut at 8 means takes 0.04% away. */
        assert_true(fabs(sum / MANY - mean) < 0.7);
        const double deviation = sqrt(squares / MANY - (sum / MANY) * (sum / MANY));
        const double expected[] = {100.0, 28.9,
                                   0.0}; /* exponential, uniform over 100, one length */
        assert_true(fabs(deviation - expected[spread]) < 1.5);
    }
    struct random_state random;
    random_seed(&random, 1);
    assert_int_equal(load_shape_draw(LOAD_FIXED, 0.2, &random), 1);
}

static void test_arrivals_are_a_poisson_process(void **state)
{
    struct random_state random;
    double sum = 0.0;
    uint32_t n_long = 0;
    random_seed(&random, 9);
    for (int i = 0; i < MANY; i++) {
        const double gap = load_shape_gap(4.0, &random);
        assert_true(gap >= 0.0);
        sum += gap;
        n_long += gap > 0.25; /* the mean: e^-1 of all gaps are longer */
    }
    assert_true(fabs(sum / MANY - 0.25) < 0.003);
    assert_true(fabs((double)n_long / MANY - exp(-1.0)) < 0.006);
    assert_true(load_shape_gap(0.0, &random) == 0.0);
}

static void test_prompts_share_what_is_common_and_nothing_else(void **state)
{
    enum { N = 400, COMMON = 100, POOL = 50 };
    int32_t pool[POOL], a[N], b[N], again[N];
    for (int i = 0; i < POOL; i++)
        pool[i] = 1000 + i;
    struct random_state random;
    random_seed(&random, 1);
    load_shape_prompt(a, N, COMMON, pool, POOL, 7, &random);
    random_seed(&random, 2);
    load_shape_prompt(b, N, COMMON, pool, POOL, 7, &random);
    random_seed(&random, 1);
    load_shape_prompt(again, N, COMMON, pool, POOL, 7, &random);
    assert_memory_equal(a, again, sizeof(a));
    assert_memory_equal(a, b, COMMON * sizeof(*a));
    uint32_t n_equal = 0;
    for (int i = COMMON; i < N; i++) {
        assert_true(a[i] >= 1000 && a[i] < 1000 + POOL);
        n_equal += a[i] == b[i];
    }
    assert_true(n_equal < 30); /* 300 pairs of 1 in 50: 6, give or take 2.4 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets_and_pairs_are_read),
        cmocka_unit_test(test_lengths_have_their_mean_and_their_bounds),
        cmocka_unit_test(test_arrivals_are_a_poisson_process),
        cmocka_unit_test(test_prompts_share_what_is_common_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
