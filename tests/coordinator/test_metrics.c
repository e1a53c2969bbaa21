/* test_metrics.c - counts and buckets, and names as Prometheus wants them. */
#include "coordinator/metrics.h"

#include "tests/cmocka.h"

#include <math.h>
#include <string.h>

static void test_a_value_falls_into_the_first_bucket_that_holds_it(void **state)
{
    struct metrics metrics = {0};
    size_t n;
    const double *bounds = metrics_histogram_bounds(METRICS_STEP, &n);
    assert_true(n > 2 && n <= METRICS_MOST_BOUNDS);
    metrics_observe(&metrics, METRICS_STEP, 0.0);
    metrics_observe(&metrics, METRICS_STEP, bounds[0]); /* a bound belongs to its bucket */
    metrics_observe(&metrics, METRICS_STEP, nextafter(bounds[0], 1.0));
    metrics_observe(&metrics, METRICS_STEP, 2.0 * bounds[n - 1]);
    const struct metrics_distribution *step = &metrics.histograms[METRICS_STEP];
    assert_int_equal(step->counts[0], 2);
    assert_int_equal(step->counts[1], 1);
    assert_int_equal(step->counts[n], 1);
    assert_int_equal(step->count, 4);
    assert_true(step->sum > 2.0 * bounds[n - 1] && step->sum < 2.0 * bounds[n - 1] + 0.01);
    assert_int_equal(metrics.histograms[METRICS_BATCH].count, 0);
}

static void test_what_is_no_time_is_not_counted(void **state)
{
    struct metrics metrics = {0};
    metrics_observe(&metrics, METRICS_STEP, -1e-9);
    metrics_observe(&metrics, METRICS_STEP, NAN);
    assert_int_equal(metrics.histograms[METRICS_STEP].count, 0);
    assert_true(metrics.histograms[METRICS_STEP].sum == 0.0);
}

static void test_counters_add_up(void **state)
{
    struct metrics metrics = {0};
    metrics_count(&metrics, METRICS_DECODE_TOKENS, 3);
    metrics_count(&metrics, METRICS_DECODE_TOKENS, 4);
    assert_int_equal(metrics.counters[METRICS_DECODE_TOKENS], 7);
    assert_int_equal(metrics.counters[METRICS_PREFILL_TOKENS], 0);
}

static void check_name(const char *name, const char *help)
{
    assert_non_null(name);
    assert_true(strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name));
    assert_true(help != NULL && help[0] != '\0' && help[strlen(help) - 1] == '.');
}

static void test_every_one_has_a_name_a_meaning_and_rising_bounds(void **state)
{
    for (int i = 0; i < METRICS_N_COUNTERS; i++) {
        const char *name = metrics_counter_name((enum metrics_counter)i);
        check_name(name, metrics_counter_help((enum metrics_counter)i));
        assert_string_equal(name + strlen(name) - strlen("_total"), "_total");
    }
    for (int i = 0; i < METRICS_N_HISTOGRAMS; i++) {
        size_t n;
        const double *bounds = metrics_histogram_bounds((enum metrics_histogram)i, &n);
        check_name(metrics_histogram_name((enum metrics_histogram)i),
                   metrics_histogram_help((enum metrics_histogram)i));
        for (size_t j = 1; j < n; j++)
            assert_true(bounds[j] > bounds[j - 1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_value_falls_into_the_first_bucket_that_holds_it),
        cmocka_unit_test(test_what_is_no_time_is_not_counted),
        cmocka_unit_test(test_counters_add_up),
        cmocka_unit_test(test_every_one_has_a_name_a_meaning_and_rising_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
