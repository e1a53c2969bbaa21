/* test_load_result.c - quantiles are values that were measured, failures are counted by their
 * words. */
#include "cluster/load_result.h"

#include "tests/cmocka.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_quantiles_by_the_nearest_rank(void **state)
{
    struct load_result result = {0};
    for (uint32_t i = 100; i > 0; i--) { /* gaps of 1 to 100, backwards */
        double gap = i;
        const struct load_stream stream = {.first_us = 2000000, .gaps_s = &gap, .n_gaps = 1};
        load_result_good(&result, &stream, 1000000, 1000000 + i * UINT64_C(1000000));
    }
    assert_true(load_values_quantile(&result.gap_s, 0.5) == 50.0);
    assert_true(load_values_quantile(&result.gap_s, 0.9) == 90.0);
    assert_true(load_values_quantile(&result.gap_s, 0.99) == 99.0);
    assert_true(load_values_quantile(&result.gap_s, 1.0) == 100.0);
    assert_true(load_values_quantile(&result.gap_s, 1e-9) == 1.0);
    assert_true(load_values_quantile(&result.first_s, 0.99) == 1.0);
    assert_true(load_values_quantile(&result.whole_s, 0.5) == 50.0);
    assert_int_equal(result.output_tokens, 200); /* without usage: the pieces */
    struct load_values none = {0};
    assert_true(isnan(load_values_quantile(&none, 0.5)));
    load_result_free(&result);
}

static void test_failures_are_counted_by_their_words(void **state)
{
    struct load_result result = {.n_requests = 110, .seconds = 2.0};
    char why[32];
    for (int i = 0; i < 100; i++) {
        snprintf(why, sizeof(why), "reason %d", i % 50);
        load_result_bad(&result, why);
    }
    for (int i = 0; i < 10; i++)
        load_result_bad(&result, "reason 0");
    assert_int_equal(result.n_failures, LOAD_RESULT_FAILURES);
    assert_string_equal(result.failures[0].text, "reason 0");
    assert_int_equal(result.failures[0].n, 12);
    assert_string_equal(result.failures[LOAD_RESULT_FAILURES - 1].text, "others");
    uint32_t sum = 0;
    for (uint32_t i = 0; i < result.n_failures; i++)
        sum += result.failures[i].n;
    assert_int_equal(sum, 110);
    load_result_free(&result);
}

static void test_a_run_without_an_answer_can_be_told(void **state)
{
    struct load_result result = {.rate = 3.0, .n_requests = 1, .seconds = 0.5};
    struct table *table = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    load_result_bad(&result, "429 queue_full: full");
    FILE *out = open_memstream(&text, &n_bytes);
    load_result_print(&result, out);
    fclose(out);
    assert_non_null(strstr(text, "3 requests/s: 1 requests, 1 errors"));
    assert_non_null(strstr(text, "1 x 429 queue_full: full"));
    free(text);
    assert_int_equal(table_create(&table, "serve", load_result_columns, NULL, NULL), STATUS_OK);
    load_result_row(&result, table);
    out = open_memstream(&text, &n_bytes);
    table_print_json(table, out);
    fclose(out);
    assert_non_null(strstr(text, "\"ttft_p99_ms\": null"));
    free(text);
    table_destroy(table);
    load_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles_by_the_nearest_rank),
        cmocka_unit_test(test_failures_are_counted_by_their_words),
        cmocka_unit_test(test_a_run_without_an_answer_can_be_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
