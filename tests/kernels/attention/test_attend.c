/* test_attend.c - attend_cases.h in host memory. */
#include "tests/cmocka.h"
#include "tests/kernels/attention/attend_cases.h"

static void test_impossible_shapes_are_refused(void **state)
{
    struct thread_pool *pool = pool_of(1);
    struct attend *attend = NULL;
    const struct attend_shape good = {KV_F16, 64, 4, 1.0f, 0.0f};
    struct attend_shape bad[5] = {good, good, good, good, good};
    struct error error = {0};
    bad[0].head_dim = 12;
    bad[1].head_dim = 520;
    bad[2].group = 65;
    bad[3].type = (enum kv_type)9;
    bad[4].type = KV_Q8_0;
    bad[4].head_dim = 72;
    for (int i = 0; i < 5; i++)
        assert_int_equal(attend_create(&attend, kernels_all[0], NULL, pool, &bad[i], &error),
                         STATUS_UNSUPPORTED);
    assert_non_null(strstr(error.text, "head_dim 72"));
    assert_non_null(strstr(error.text, "q8_0"));
    assert_non_null(strstr(error.text, "multiple of 32"));
    assert_null(attend);
    attend_destroy(NULL);
    thread_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ATTEND_CASES,
        cmocka_unit_test(test_impossible_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
