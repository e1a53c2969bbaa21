/* test_kernels.c - the choice of a table by name, by machine and by environment. */
#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_auto_takes_the_fastest_usable(void **state)
{
    (void)state;
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
    (void)state;
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
    (void)state;
    const struct kernels *chosen = NULL;
    struct error error;
    assert_int_equal(kernels_choose(&chosen, "cuda", &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "cuda"));
    assert_non_null(strstr(error.text, "auto, scalar"));
    assert_null(chosen);
}

static void test_the_environment_decides_for_auto_only(void **state)
{
    (void)state;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_takes_the_fastest_usable),
        cmocka_unit_test(test_every_table_is_found_or_refused_by_name),
        cmocka_unit_test(test_unknown_names_list_the_known),
        cmocka_unit_test(test_the_environment_decides_for_auto_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
