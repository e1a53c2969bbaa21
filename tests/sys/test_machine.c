/* test_machine.c - what the system says is cut to what there is room for. */
#include "sys/machine.h"

#include "tests/cmocka.h"

#include <string.h>

static void test_the_description_is_cut_to_its_room(void **state)
{
    char whole[512], cut[24];
    machine_describe(whole, sizeof(whole));
    machine_describe(cut, sizeof(cut));
    assert_non_null(strstr(whole, " processors"));
    assert_int_equal(strlen(cut), sizeof(cut) - 1);
    assert_memory_equal(cut, whole, sizeof(cut) - 1);
}

static void test_the_last_cache_is_none_or_as_large_as_caches_are(void **state)
{
    const uint64_t bytes = machine_last_cache_bytes();
    assert_true(bytes == 0 || (bytes >= 1u << 12 && bytes < UINT64_C(1) << 40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_description_is_cut_to_its_room),
        cmocka_unit_test(test_the_last_cache_is_none_or_as_large_as_caches_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
