/* test_bench_probe.c - processors have limits; a device that is not there is told. */
#include "cluster/bench_probe.h"

#include "tests/cmocka.h"

#include <math.h>

static void test_processors_read_and_count(void **state)
{
    struct bench_probe probe = {0};
    const struct place_options place = {.device = "cpu"};
    assert_int_equal(bench_probe_open(&probe, &place, 1, NULL), STATUS_OK);
    bench_probe_read(&probe);
    const double limits[] = {probe.machine.read_bytes_per_s, probe.machine.f32_per_s,
                             probe.machine.int8_per_s, probe.machine.floats_per_s};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        assert_true(limits[i] > 0 && isfinite(limits[i]));
    bench_probe_close(&probe);
    assert_null(probe.pool);
    bench_probe_close(&probe);
}

static void test_a_device_that_is_not_there_is_told(void **state)
{
    struct bench_probe probe = {0};
    struct error error = {.status = STATUS_OK};
    const struct place_options place = {.device = "cuda:4096"};
    assert_int_not_equal(bench_probe_open(&probe, &place, 1, &error), STATUS_OK);
    assert_true(error.text[0] != '\0');
    bench_probe_close(&probe);
}

/* Only memory counts where arithmetic is not probed. */
static void test_a_gpus_limit_is_its_memory(void **state)
{
    uint32_t depth = 1000;
    const struct bench_limit_model model = {.weights = {.read_bytes = 1000000,
                                                        .rows = {.f32 = 1e9, .int8 = 1e9},
                                                        .predicted = {.f32 = 1e9}},
                                            .attend_operations = 1e6,
                                            .kv_token_bytes = 1000};
    const struct step_limit_machine machine = {1e9, INFINITY, INFINITY, INFINITY};
    const struct bench_case step = {.n_sequences = 1, .depths = &depth, .n_tokens = 1};
    const struct bench_limit limit = bench_limit_of(&model, &machine, &step);
    assert_false(limit.arithmetic);
    assert_true(fabs(limit.seconds - 2e-3) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_processors_read_and_count),
        cmocka_unit_test(test_a_device_that_is_not_there_is_told),
        cmocka_unit_test(test_a_gpus_limit_is_its_memory),
    };
    return cmocka_run_group_tests_name("cluster/bench_probe", tests, NULL, NULL);
}
