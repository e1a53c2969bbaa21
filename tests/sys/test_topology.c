/* test_topology.c - what the process may use is what its affinity mask says. */
#include "sys/topology.h"

#include "tests/cmocka.h"

#include <string.h>

static void test_confining_narrows_the_processors(void **state)
{
    struct topology_mask allowed, one = {{0}};
    topology_allowed(&allowed);
    assert_int_equal(topology_count(&allowed), topology_processors());
    for (uint32_t i = 0; i < 8192 && topology_count(&one) == 0; i++)
        one.bits[i / 64] = allowed.bits[i / 64] & UINT64_C(1) << (i % 64);
    assert_int_equal(topology_confine(&one), STATUS_OK);
    assert_int_equal(topology_processors(), 1);
    assert_int_equal(topology_confine(&allowed), STATUS_OK);
    assert_int_equal(topology_processors(), topology_count(&allowed));
    const struct topology_mask none = {{0}};
    assert_int_equal(topology_confine(&none), STATUS_IO);
}

static void test_masks_as_text(void **state)
{
    char text[32], tiny[4];
    struct topology_mask mask = {{0}};
    topology_text(&mask, text, sizeof(text));
    assert_string_equal(text, "");
    mask.bits[0] = 0x1f | UINT64_C(1) << 63;
    mask.bits[1] = 1;
    mask.bits[127] = UINT64_C(1) << 63;
    topology_text(&mask, text, sizeof(text));
    assert_string_equal(text, "0-4,63-64,8191");
    topology_text(&mask, tiny, sizeof(tiny));
    assert_string_equal(tiny, "0-4");
}

static void test_host_has_a_name(void **state)
{
    char name[256] = "", tiny[2] = "x";
    topology_host_name(name, sizeof(name));
    assert_true(strlen(name) > 0);
    topology_host_name(tiny, sizeof(tiny));
    assert_int_equal(tiny[1], '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_confining_narrows_the_processors),
        cmocka_unit_test(test_masks_as_text),
        cmocka_unit_test(test_host_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
