/* test_candidates.c - a GPU's candidates are the host's, and its log-sum-exp is, up to rounding. */
#include "kernels/candidates.h"

#include "tests/kernels/cpu/each_table.h"

#include <math.h>

/* kind 0: spread; 1: few different values, many ties; 2: mostly -inf, one row of nothing else; 3:
 * huge */
static float *random_rows(size_t n_rows, size_t n, int kind, uint64_t seed)
{
    float *rows = malloc(n_rows * n * sizeof(*rows));
    assert_non_null(rows);
    for (size_t i = 0; i < n_rows * n; i++) {
        rows[i] = random_float(&seed) * (kind == 3 ? 1e30f : 20.0f);
        if (kind == 1)
            rows[i] = truncf(rows[i]); /* -0 and 0 among them */
        if (kind == 2 && (i < n || random_u32(&seed) % 4 != 0))
            rows[i] = -INFINITY;
    }
    return rows;
}

/* Row i wants the i-th of these, at most k. */
static uint32_t wanted(uint32_t row, uint32_t k)
{
    return row % 3 == 0 ? k : row % 3 == 1 ? k / 2 : 0;
}

static void check(const struct lent_device *d, uint32_t n_rows, uint32_t n, int kind, uint32_t k)
{
    const struct kernels *kernels = d->kernels;
    float *rows = random_rows(n_rows, n, kind, 7 * n + k);
    float *there = device_floats(d, rows, (size_t)n_rows * n);
    uint32_t *ks = calloc(n_rows, sizeof(*ks));
    struct candidates_sum *judge = calloc(n_rows, sizeof(*judge)),
                          *sums = calloc(n_rows, sizeof(*sums));
    struct candidate *judge_best = calloc((size_t)n_rows * k + 1, sizeof(*judge_best)),
                     *best = calloc((size_t)n_rows * k + 1, sizeof(*best));
    for (uint32_t i = 0; i < n_rows; i++)
        ks[i] = wanted(i, k);
    candidates_find(d->pool, judge, judge_best, k, rows, n_rows, n, 1000, ks);
    memset(best, 0xff, n_rows * k * sizeof(*best));
    kernels->candidates(d->device, sums, best, k, there, n_rows, n, 1000, ks);
    device_finish(d);
    assert_memory_equal(best, judge_best, n_rows * k * sizeof(*best));
    for (uint32_t i = 0; i < n_rows; i++) {
        assert_int_equal(sums[i].count, judge[i].count);
        assert_int_equal(sums[i].bad, 0);
        assert_true(sums[i].largest == judge[i].largest);
        const double a = candidates_log_sum_exp(&sums[i]), b = candidates_log_sum_exp(&judge[i]);
        /* exponentials are off by 3e-7 on either side, and differences below 87 by half a float's
         * unit */
        assert_true(a == b || fabs(a - b) < 8e-6 + 1e-15 * fabs(b));
    }
    device_give(d, there);
    free(rows);
    free(ks);
    free(judge);
    free(sums);
    free(judge_best);
    free(best);
}

static void test_they_are_those_of_the_host(void **state)
{
    const struct kernels *k = each_table_usable(state);
    static const uint32_t sizes[] = {1, 2, 7, 4095, 4096, 4097, 20000, 128256};
    static const uint32_t ks[] = {0, 1, 40, 300, 1024};
    struct lent_device d = device_lend(k, 1, 1, 64);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t j = 0; j < sizeof(ks) / sizeof(ks[0]); j++)
            for (int kind = 0; kind < 4; kind++)
                check(&d, sizes[i] > 20000 ? 2 : 4, sizes[i], kind, ks[j]);
    check(&d, 1, 1 << 20, 1, 1024); /* lists are joined more than once */
    check(&d, 70, 5000, 0, 64);
    device_return(&d);
}

static void test_a_row_that_is_no_distribution_is_told(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { N = 9000, ROWS = 3 };
    static const uint32_t ks[ROWS] = {4, 4, 4};
    struct lent_device d = device_lend(k, 1, 1, 64);
    float *rows = calloc(ROWS * N, sizeof(*rows));
    assert_non_null(rows);
    rows[8999] = NAN;
    rows[N + 1] = rows[N + 5000] = INFINITY;
    float *there = device_floats(&d, rows, ROWS * N);
    struct candidates_sum sums[ROWS];
    struct candidate best[ROWS * 4];
    k->candidates(d.device, sums, best, 4, there, ROWS, N, 0, ks);
    device_finish(&d);
    assert_int_equal(sums[0].bad, 1);
    assert_int_equal(sums[1].bad, 2);
    assert_int_equal(sums[2].bad, 0);
    assert_true(sums[2].sum == N);
    for (int i = 0; i < 4; i++)
        assert_int_equal(best[2 * 4 + i].id, i);
    device_give(&d, there);
    free(rows);
    device_return(&d);
}

int main(void)
{
    const struct each_table_test tests[] = {
        {"candidates_are_those_of_the_host", test_they_are_those_of_the_host, false},
        {"a_row_that_is_no_distribution_is_told", test_a_row_that_is_no_distribution_is_told,
         false},
    };
    return each_table_run(tests, sizeof(tests) / sizeof(tests[0]));
}
