/* test_topology.c - what the process may use is what its affinity mask says. */
#include "sys/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_pinning_narrows_the_processors(void **state)
{
    (void)state;
    struct topology_mask allowed, one, other;
    topology_allowed(&allowed);
    const uint32_t n = topology_processors();
    assert_true(n >= 1);
    assert_int_equal(topology_pin(&allowed, 0, NULL), STATUS_OK);
    assert_int_equal(topology_processors(), 1);
    topology_allowed(&one);
    assert_int_equal(topology_pin(&allowed, n - 1, NULL), STATUS_OK);
    topology_allowed(&other);
    if (n > 1)
        assert_memory_not_equal(&one, &other, sizeof(one));
    assert_int_equal(topology_pin(&allowed, n, NULL), STATUS_OK); /* modulo n: the first again */
    topology_allowed(&other);
    assert_memory_equal(&one, &other, sizeof(one));

    const struct topology_mask none = {{0}};
    assert_int_equal(topology_pin(&none, 0, NULL), STATUS_INVALID);
}

static void test_host_has_a_name(void **state)
{
    (void)state;
    char name[256] = "", tiny[2] = "x";
    topology_host_name(name, sizeof(name));
    assert_true(strlen(name) > 0);
    topology_host_name(tiny, sizeof(tiny));
    assert_int_equal(tiny[1], '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinning_narrows_the_processors),
        cmocka_unit_test(test_host_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
