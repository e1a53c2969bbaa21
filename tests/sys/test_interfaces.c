/* test_interfaces.c - lists of networks, and this host's addresses in them. */
#include "sys/interfaces.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static void test_lists_are_checked(void **state)
{
    static const char *const good[] = {"eth0",           "eth0,ib0", "10.0.0.0/24",
                                       "fd00::/64,eth0", "br-1.2",   "0.0.0.0/0"};
    static const char *const bad[] = {"",
                                      ",",
                                      "eth0,",
                                      "-x",
                                      "a b",
                                      "10.0.0/24",
                                      "10.0.0.0/33",
                                      "10.0.0.0/",
                                      "10.0.0.0/x",
                                      "fd00::/129",
                                      "/24",
                                      "an-interface-name-too-long",
                                      "eth0;x",
                                      "10.0.0.0/4294967300"};
    struct error error;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (interfaces_check(good[i], "x", &error) != STATUS_OK)
            fail_msg("%s: %s", good[i], error.text);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (interfaces_check(bad[i], "the place", &error) != STATUS_INVALID)
            fail_msg("accepted: %s", bad[i]);
        assert_non_null(strstr(error.text, "the place: interface: "));
    }
}

static void test_the_first_network_that_is_here_counts(void **state)
{
    char address[INTERFACES_ADDRESS_BYTES];
    static const char *const lists[] = {"lo", "127.0.0.0/8", "127.0.0.1/32", "nowhere0,lo",
                                        "203.0.113.0/24,127.0.0.0/9"};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        assert_int_equal(interfaces_address(lists[i], address, NULL), STATUS_OK);
        assert_string_equal(address, "127.0.0.1");
    }
    struct error error;
    assert_int_equal(interfaces_address("nowhere0", address, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "'nowhere0'"));
    assert_non_null(strstr(error.text, "lo 127.0.0.1"));
    assert_int_equal(interfaces_address("127.128.0.0/9", address, NULL), STATUS_NOT_FOUND);
    assert_int_equal(interfaces_address("a b", address, NULL), STATUS_INVALID);
}

static void test_own_addresses_are_of_networks(void **state)
{
    char(*list)[INTERFACES_ADDRESS_BYTES] = NULL;
    uint32_t n = 0;
    assert_int_equal(interfaces_own(&list, &n, NULL), STATUS_OK);
    for (uint32_t i = 0; i < n; i++) {
        assert_non_null(strchr(list[i], '/'));
        assert_int_equal(interfaces_check(list[i], "x", NULL), STATUS_OK);
        assert_true(strncmp(list[i], "127.", 4) != 0);
    }
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_are_checked),
        cmocka_unit_test(test_the_first_network_that_is_here_counts),
        cmocka_unit_test(test_own_addresses_are_of_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
