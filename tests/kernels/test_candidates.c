/* test_candidates.c - the best K of a row, and its log-sum-exp, whole and in parts. */
#include "kernels/candidates.h"

#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int better_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* The judge: sorts the row. */
static struct candidate *sorted(const float *logits, size_t n, int32_t first)
{
    struct candidate *all = malloc(n * sizeof(*all));
    assert_non_null(all);
    for (size_t i = 0; i < n; i++)
        all[i] = (struct candidate){logits[i], first + (int32_t)i};
    qsort(all, n, sizeof(*all), better_first);
    return all;
}

static long double log_sum_exp(const float *logits, size_t n)
{
    long double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        largest = (long double)logits[i] > largest ? (long double)logits[i] : largest;
    if (!(largest > (long double)-INFINITY))
        return largest;
    for (size_t i = 0; i < n; i++)
        sum += expl((long double)logits[i] - largest);
    return largest + logl(sum);
}

/* kind 0: spread; 1: few different values, many ties; 2: mostly -inf; 3: huge range */
static float *random_row(struct random_state *random, size_t n, int kind)
{
    float *row = malloc(n * sizeof(*row));
    assert_non_null(row);
    for (size_t i = 0; i < n; i++) {
        row[i] = random_normal(random) * (kind == 3 ? 1e4f : 4.0f);
        if (kind == 1)
            row[i] = (float)(int)row[i];
        if (kind == 2 && random_below(random, 4) != 0)
            row[i] = -INFINITY;
    }
    return row;
}

static void check_row(const float *row, size_t n, int32_t first, uint32_t k,
                      const struct candidates_sum *sum, const struct candidate *best)
{
    struct candidate *all = sorted(row, n, first);
    assert_int_equal(sum->count, k < n ? k : n);
    assert_int_equal(sum->bad, 0);
    for (uint32_t i = 0; i < sum->count; i++) {
        assert_int_equal(best[i].id, all[i].id);
        assert_true(best[i].logit == all[i].logit);
    }
    const long double expected = log_sum_exp(row, n);
    const double found = candidates_log_sum_exp(sum);
    if (isinf(expected))
        assert_true(found == (double)expected);
    else /* 3e-7 relative in each exponential, half a float's unit in each difference below 87 */
        assert_true(fabsl((long double)found - expected) < 4e-6L);
    free(all);
}

static void test_the_best_are_those_of_a_sort(void **state)
{
    struct thread_pool *pool = *state;
    struct random_state random;
    random_seed(&random, 3);
    const size_t sizes[] = {1, 2, 7, 100, 4099};
    const uint32_t ks[] = {0, 1, 2, 40, 100, 5000};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++)
            for (int kind = 0; kind < 4; kind++) {
                float *row = random_row(&random, sizes[s], kind);
                struct candidate *best = calloc(ks[i] + 1, sizeof(*best));
                struct candidates_sum sum;
                candidates_find(pool, &sum, best, ks[i], row, 1, sizes[s], 500, &ks[i]);
                check_row(row, sizes[s], 500, ks[i], &sum, best);
                free(best);
                free(row);
            }
}

static void test_rows_of_a_batch_are_as_alone(void **state)
{
    struct thread_pool *pool = *state;
    enum { ROWS = 5, N = 300, STRIDE = 64 };
    const uint32_t ks[ROWS] = {1, 64, 0, 7, 40};
    struct random_state random;
    random_seed(&random, 4);
    float *rows = random_row(&random, ROWS * N, 0);
    struct candidate best[ROWS * STRIDE], alone[STRIDE];
    struct candidates_sum sums[ROWS], sum;
    candidates_find(pool, sums, best, STRIDE, rows, ROWS, N, 0, ks);
    for (int i = 0; i < ROWS; i++) {
        candidates_find(pool, &sum, alone, STRIDE, rows + i * N, 1, N, 0, &ks[i]);
        assert_int_equal(sums[i].count, sum.count);
        assert_true(sums[i].sum == sum.sum && sums[i].largest == sum.largest);
        assert_memory_equal(best + i * STRIDE, alone, sum.count * sizeof(alone[0]));
    }
    free(rows);
}

/* Parts of any size, one of a single token, merged: the best of the whole. */
static void test_parts_merge_to_the_whole(void **state)
{
    struct thread_pool *pool = *state;
    enum { N = 1000, PARTS = 4, STRIDE = 64 };
    const size_t cuts[PARTS + 1] = {0, 300, 301, 900, N};
    const uint32_t ks[] = {0, 1, 5, 64};
    struct random_state random;
    random_seed(&random, 5);
    for (int kind = 0; kind < 4; kind++)
        for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++) {
            float *row = random_row(&random, N, kind);
            struct candidate best[PARTS * STRIDE], merged[STRIDE];
            struct candidates_sum sums[PARTS];
            for (int p = 0; p < PARTS; p++)
                candidates_find(pool, &sums[p], best + p * STRIDE, STRIDE, row + cuts[p], 1,
                                cuts[p + 1] - cuts[p], (int32_t)cuts[p], &ks[i]);
            const struct candidates_sum sum =
                candidates_merge(merged, ks[i], sums, 1, best, STRIDE, PARTS);
            check_row(row, N, 0, ks[i], &sum, merged);
            free(row);
        }
}

static void test_a_row_that_is_no_distribution_is_told(void **state)
{
    struct thread_pool *pool = *state;
    const float bad[2] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        float row[16] = {0};
        row[9] = bad[i];
        const uint32_t k = 4;
        struct candidate best[2 * 4], merged[4];
        struct candidates_sum sums[2];
        candidates_find(pool, &sums[0], best, 4, row, 1, 8, 0, &k);
        candidates_find(pool, &sums[1], best + 4, 4, row + 8, 1, 8, 8, &k);
        assert_int_equal(sums[0].bad, 0);
        assert_int_equal(sums[1].bad, 1);
        assert_int_equal(candidates_merge(merged, k, sums, 1, best, 4, 2).bad, 1);
    }
}

static void test_log_is_the_logarithm(void **state)
{
    struct random_state random;
    random_seed(&random, 6);
    assert_true(candidates_log(1.0) == 0.0);
    for (int i = 0; i < 100000; i++) {
        const double x = ldexp(1 + random_f64(&random), (int)random_below(&random, 400) - 200);
        const long double exact = logl((long double)x);
        assert_true(fabsl((long double)candidates_log(x) - exact) <=
                    fabsl(exact) * 1e-14L + 1e-19L);
    }
    for (int i = -1000; i <= 1000; i++) { /* close to 1, where it is small */
        const double x = 1 + i * 1e-6;
        const long double exact = logl((long double)x);
        assert_true(fabsl((long double)candidates_log(x) - exact) <= fabsl(exact) * 1e-14L);
    }
}

static int open_pool(void **state)
{
    return thread_pool_create((struct thread_pool **)state, 2, NULL) == STATUS_OK ? 0 : -1;
}

static int close_pool(void **state)
{
    thread_pool_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_best_are_those_of_a_sort),
        cmocka_unit_test(test_rows_of_a_batch_are_as_alone),
        cmocka_unit_test(test_parts_merge_to_the_whole),
        cmocka_unit_test(test_a_row_that_is_no_distribution_is_told),
        cmocka_unit_test(test_log_is_the_logarithm),
    };
    return cmocka_run_group_tests_name("kernels/candidates", tests, open_pool, close_pool);
}
