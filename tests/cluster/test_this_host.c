/* test_this_host.c - names and addresses of this machine, and those that only look like them. */
#include "cluster/this_host.h"

#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

static void test_this_machine_is_known_by_its_names_and_addresses(void **state)
{
    static const char *const others[] = {"127.example", "localhost.evil.example",
                                         "192.0.2.1"}; /* nobody's: RFC 5737 */
    static const char *const always[] = {"localhost", "127.0.0.1", "127.1.2.3", "::1"};
    struct this_host host;
    char other[300];
    this_host_read(&host);
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        assert_true(this_host_is(&host, always[i]));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_false(this_host_is(&host, others[i]));
    assert_true(this_host_is(&host, host.name));
    snprintf(other, sizeof(other), "not-%s", host.name);
    assert_false(this_host_is(&host, other));
    for (uint32_t i = 0; i < host.n_addresses; i++) {
        snprintf(other, sizeof(other), "%s", host.addresses[i]);
        other[strcspn(other, "/")] = '\0';
        assert_true(this_host_is(&host, other));
    }
    this_host_free(&host);
}

static void test_long_and_short_names(void **state)
{
    struct this_host host = {.name = "head.lab.example"};
    assert_true(this_host_is(&host, "head"));
    assert_true(this_host_is(&host, "head.lab.example"));
    assert_false(this_host_is(&host, "head.other.example"));
    assert_false(this_host_is(&host, "head2"));
    strcpy(host.name, "head");
    assert_true(this_host_is(&host, "head.lab.example"));
    assert_false(this_host_is(&host, "hea"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_this_machine_is_known_by_its_names_and_addresses),
        cmocka_unit_test(test_long_and_short_names),
    };
    return cmocka_run_group_tests_name("cluster/this_host", tests, NULL, NULL);
}
