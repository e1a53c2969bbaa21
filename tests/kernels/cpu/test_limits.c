/* test_limits.c - limits are numbers that a machine can have; how large they are is its own affair.
 */
#include "kernels/cpu/limits.h"

#include "kernels/kernels.h"
#include "tests/cmocka.h"

static struct thread_pool *pool;

static int open_pool(void **state)
{
    return thread_pool_create(&pool, 2, NULL) == STATUS_OK ? 0 : -1;
}

static int close_pool(void **state)
{
    thread_pool_destroy(pool);
    return 0;
}

static void test_every_processor_reads_and_multiplies(void **state)
{
    const double read = limits_read(pool, (size_t)4 << 20, 0), f32 = limits_f32(pool);
    assert_true(read > 1e6 && read < 1e14);
    assert_true(f32 > 1e5 && f32 < 1e14);
}

static void test_what_the_processor_lacks_has_no_limit(void **state)
{
    const double int8 = limits_int8(pool), bf16 = limits_bf16(pool);
    bool has_vectors = false;
    for (size_t i = 1; kernels_all[i] != NULL; i++)
        has_vectors |= kernels_all[i]->usable();
    assert_int_equal(int8 > 0, has_vectors);
    assert_true(bf16 >= 0 && bf16 < 1e14);
}

static void test_a_reader_is_asked_again_and_again(void **state)
{
    struct limits_reader *reader;
    assert_int_equal(limits_reader_create(&reader, pool, (size_t)4 << 20, NULL), STATUS_OK);
    static const size_t pieces[] = {(size_t)1 << 20, (size_t)3 << 20, 1, (size_t)5 << 20};
    for (size_t i = 0; i < 4 * sizeof(pieces) / sizeof(pieces[0]); i++) {
        double rates[LIMITS_PATTERNS];
        limits_reader_rates(reader, pieces[i % 4], rates);
        for (int way = 0; way < LIMITS_PATTERNS; way++)
            assert_true(rates[way] > 1e6 && rates[way] < 1e14);
    }
    limits_reader_destroy(reader);
    limits_reader_destroy(NULL);
}

static void test_less_memory_than_a_page_is_no_measurement(void **state)
{
    struct limits_reader *reader;
    assert_true(limits_read(pool, 100, 1) == 0);
    assert_int_equal(limits_reader_create(&reader, pool, 100, NULL), STATUS_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_processor_reads_and_multiplies),
        cmocka_unit_test(test_what_the_processor_lacks_has_no_limit),
        cmocka_unit_test(test_a_reader_is_asked_again_and_again),
        cmocka_unit_test(test_less_memory_than_a_page_is_no_measurement),
    };
    return cmocka_run_group_tests(tests, open_pool, close_pool);
}
