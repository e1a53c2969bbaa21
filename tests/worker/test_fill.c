/* test_fill.c - seeded keys and values: the same wherever they are made, and of a natural scale. */
#include "worker/fill.h"

#include "tests/cmocka.h"

#include <math.h>
#include <string.h>

enum { HEADS = 4, DIM = 64, ROWS = 300, VALUES = ROWS * HEADS * DIM };

/* Positions [first, first + n) of one sequence, as a step that fills. */
static void fill(uint64_t seed, uint32_t first, uint32_t n, const struct fill_shape *shape,
                 uint32_t lanes, float *k, float *v)
{
    struct thread_pool *pool;
    uint32_t positions[ROWS];
    struct step_segment segment = {.row = 0, .n_tokens = n, .fill_seed = seed};
    const struct step step = {
        .fill = true, .n_segments = 1, .segments = &segment, .n_rows = n, .positions = positions};
    for (uint32_t i = 0; i < n; i++)
        positions[i] = first + i;
    assert_int_equal(thread_pool_create(&pool, lanes, NULL), STATUS_OK);
    fill_rows(pool, &step, shape, k, v);
    thread_pool_destroy(pool);
}

static void test_values_do_not_depend_on_cuts(void **state)
{
    static float k[VALUES], v[VALUES], part_k[VALUES], part_v[VALUES];
    const struct fill_shape whole = {.layer = 5, .n_kv_heads = HEADS, .head_dim = DIM};
    struct fill_shape shard = {.layer = 5, .first_kv_head = 2, .n_kv_heads = 1, .head_dim = DIM};
    fill(9, 1000, ROWS, &whole, 1, k, v);
    fill(9, 1100, 50, &shard, 3, part_k, part_v); /* one head, later tokens, other lanes */
    for (size_t row = 0; row < 50; row++) {
        const size_t at = ((100 + row) * HEADS + 2) * DIM;
        assert_memory_equal(k + at, part_k + row * DIM, DIM * sizeof(*k));
        assert_memory_equal(v + at, part_v + row * DIM, DIM * sizeof(*v));
    }
    shard.layer = 6;
    fill(9, 1100, 50, &shard, 1, part_k, part_v);
    assert_memory_not_equal(k + (100 * HEADS + 2) * DIM, part_k, DIM * sizeof(*k));
    fill(8, 1000, ROWS, &whole, 1, part_k, part_v);
    assert_memory_not_equal(k, part_k, DIM * sizeof(*k));
    assert_memory_not_equal(k, v, DIM * sizeof(*k));
}

/* 76,800 values: the mean's deviation is 0.0036, the variance's about as much. */
static void test_values_have_mean_0_and_variance_1(void **state)
{
    static float k[VALUES], v[VALUES];
    const struct fill_shape shape = {.n_kv_heads = HEADS, .head_dim = DIM};
    fill(1, 0, ROWS, &shape, 1, k, v);
    const float *both[] = {k, v};
    for (int i = 0; i < 2; i++) {
        double sum = 0, squares = 0, most = 0;
        for (size_t j = 0; j < VALUES; j++) {
            sum += both[i][j];
            squares += (double)both[i][j] * both[i][j];
            most = fabs(both[i][j]) > most ? fabs(both[i][j]) : most;
        }
        assert_true(fabs(sum / VALUES) < 0.02);
        assert_true(fabs(squares / VALUES - 1) < 0.02);
        assert_true(most < 2.5);
    }
}

static void test_a_failed_segment_is_left_alone(void **state)
{
    static float k[2 * DIM], v[2 * DIM];
    struct thread_pool *pool;
    uint32_t positions[2] = {0, 0};
    struct step_segment segments[2] = {{.error = {.status = STATUS_PROTOCOL}, .n_tokens = 7},
                                       {.row = 1, .n_tokens = 1}};
    const struct step step = {
        .fill = true, .n_segments = 2, .segments = segments, .n_rows = 2, .positions = positions};
    const struct fill_shape shape = {.n_kv_heads = 1, .head_dim = DIM};
    assert_int_equal(thread_pool_create(&pool, 1, NULL), STATUS_OK);
    fill_rows(pool, &step, &shape, k, v);
    thread_pool_destroy(pool);
    assert_true(k[0] == 0 && k[DIM - 1] == 0);
    assert_true(k[DIM] != 0 && v[DIM] != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_do_not_depend_on_cuts),
        cmocka_unit_test(test_values_have_mean_0_and_variance_1),
        cmocka_unit_test(test_a_failed_segment_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
