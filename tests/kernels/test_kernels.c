/* test_kernels.c - the choice of a table by name, by machine and by environment. */
#include "kernels/kernels.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static void test_auto_takes_the_fastest_usable(void **state)
{
    const struct kernels *last = NULL, *chosen = NULL;
    for (size_t i = 0; kernels_all[i] != NULL; i++)
        if (kernels_all[i]->usable())
            last = kernels_all[i];
    unsetenv("LONGSPAN_KERNELS");
    static const char *const names[] = {NULL, "", "auto"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kernels_choose(&chosen, names[i], NULL), STATUS_OK);
        assert_ptr_equal(chosen, last);
    }
}

static void test_every_table_is_found_or_refused_by_name(void **state)
{
    for (size_t i = 0; kernels_all[i] != NULL; i++) {
        const struct kernels *chosen = NULL;
        struct error error;
        const enum status status = kernels_choose(&chosen, kernels_all[i]->name, &error);
        assert_string_equal(kernels_all[i]->device, "cpu");
        if (kernels_all[i]->usable()) {
            assert_int_equal(status, STATUS_OK);
            assert_ptr_equal(chosen, kernels_all[i]);
        } else {
            assert_int_equal(status, STATUS_UNSUPPORTED);
            assert_non_null(strstr(error.text, kernels_all[i]->name));
        }
    }
}

static void test_unknown_names_list_the_known(void **state)
{
    const struct kernels *chosen = NULL;
    struct error error;
    assert_int_equal(kernels_choose(&chosen, "cuda", &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "cuda"));
    assert_non_null(strstr(error.text, "auto, scalar"));
    assert_null(chosen);
}

static void test_the_environment_decides_for_auto_only(void **state)
{
    const struct kernels *chosen = NULL;
    struct error error;
    setenv("LONGSPAN_KERNELS", "scalar", 1);
    assert_int_equal(kernels_choose(&chosen, "auto", &error), STATUS_OK);
    assert_ptr_equal(chosen, &kernels_cpu_scalar);
    setenv("LONGSPAN_KERNELS", "sse9", 1);
    assert_int_equal(kernels_choose(&chosen, NULL, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "LONGSPAN_KERNELS=sse9"));
    assert_int_equal(kernels_choose(&chosen, "scalar", &error), STATUS_OK);
    setenv("LONGSPAN_KERNELS", "auto", 1);
    assert_int_equal(kernels_choose(&chosen, NULL, &error), STATUS_OK);
    unsetenv("LONGSPAN_KERNELS");
}

/* ---- devices ---- */

static void test_a_device_has_its_own_table(void **state)
{
    const struct kernels *chosen = NULL;
    struct error error;
    static const char *const cpu[] = {NULL, "", "cpu"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(kernels_choose_device(&chosen, cpu[i], "scalar", NULL), STATUS_OK);
        assert_ptr_equal(chosen, &kernels_cpu_scalar);
    }
    chosen = NULL;
    static const char *const unknown[] = {
        "tpu", "cud", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda1", "cuda:4294967296", "cpu:0"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(kernels_choose_device(&chosen, unknown[i], NULL, &error),
                         STATUS_NOT_FOUND);
        assert_non_null(strstr(error.text, unknown[i]));
    }
    assert_int_equal(kernels_choose_device(&chosen, "cuda", "avx2", &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "avx2"));
    assert_null(chosen);
}

static void test_a_variant_suits_the_devices_that_have_it(void **state)
{
    for (const char *const *name = kernels_names; *name != NULL; name++) {
        const bool any = strcmp(*name, "auto") == 0, gpu = strcmp(*name, "cuda-blas") == 0;
        assert_int_equal(kernels_suit_device(*name, NULL), any || !gpu);
        assert_int_equal(kernels_suit_device(*name, "cpu"), any || !gpu);
        assert_int_equal(kernels_suit_device(*name, "cuda:1"), any || gpu);
    }
}

/* With a GPU it is chosen, without one the text says what is missing: build, driver or GPU. */
static void test_cuda_is_chosen_or_says_why_not(void **state)
{
    const struct kernels *chosen = NULL;
    struct error error, why;
    setenv("LONGSPAN_KERNELS", "scalar", 1); /* is for CPUs */
    const enum status status = kernels_choose_device(&chosen, "cuda:0", "auto", &error);
    unsetenv("LONGSPAN_KERNELS");
    if (kernels_cuda.count(&why) > 0) {
        assert_int_equal(status, STATUS_OK);
        assert_ptr_equal(chosen, &kernels_cuda);
    } else {
        assert_int_equal(status, STATUS_UNSUPPORTED);
        assert_true(why.text[0] != '\0');
        assert_non_null(strstr(error.text, why.text));
        struct device *device = NULL;
        assert_int_equal(kernels_cuda.open(&device, NULL, 0, &error), STATUS_UNSUPPORTED);
        assert_null(device);
    }
}

static uint32_t three(struct error *error)
{
    return 3;
}

static void test_devices_go_round_unless_one_is_named(void **state)
{
    const struct kernels several = {.device = "cuda", .count = three};
    uint32_t index;
    struct error error;
    for (uint32_t turn = 0; turn < 7; turn++) {
        assert_int_equal(kernels_device_index(&index, &several, "cuda", turn, NULL), STATUS_OK);
        assert_int_equal(index, turn % 3);
        assert_int_equal(kernels_device_index(&index, &several, "cuda:1", turn, NULL), STATUS_OK);
        assert_int_equal(index, 1);
    }
    index = 77;
    assert_int_equal(kernels_device_index(&index, &several, "cuda:3", 0, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "cuda:3"));
    assert_int_equal(index, 77);
    assert_int_equal(kernels_device_index(&index, &kernels_cpu_scalar, NULL, 5, NULL), STATUS_OK);
    assert_int_equal(index, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_takes_the_fastest_usable),
        cmocka_unit_test(test_every_table_is_found_or_refused_by_name),
        cmocka_unit_test(test_unknown_names_list_the_known),
        cmocka_unit_test(test_the_environment_decides_for_auto_only),
        cmocka_unit_test(test_a_device_has_its_own_table),
        cmocka_unit_test(test_a_variant_suits_the_devices_that_have_it),
        cmocka_unit_test(test_cuda_is_chosen_or_says_why_not),
        cmocka_unit_test(test_devices_go_round_unless_one_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
