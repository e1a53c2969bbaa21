/* test_reach.c - who can be reached, and what is said of who cannot. */
#include "cluster/reach.h"

#include "tests/cmocka.h"

#include <string.h>
#include <unistd.h>

static void test_a_listener_is_reached_until_it_is_closed(void **state)
{
    int listener = -1;
    uint16_t port = 0;
    struct error error;
    assert_int_equal(reach_listen(&listener, "127.0.0.1", &port, NULL), STATUS_OK);
    assert_true(port > 0);
    assert_int_equal(reach_connect("127.0.0.1", port, NULL), STATUS_OK);
    assert_int_equal(reach_connect("localhost", port, NULL), STATUS_OK);
    int second = -1;
    uint16_t same = port;
    assert_int_equal(reach_listen(&second, "127.0.0.1", &same, &error), STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "in use"));
    close(listener);
    assert_int_equal(reach_connect("127.0.0.1", port, &error), STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "refused"));
    assert_int_equal(reach_listen(&listener, "127.0.0.1", &same, NULL),
                     STATUS_OK); /* at once again */
    close(listener);
}

static void test_what_cannot_be_looked_up_is_said(void **state)
{
    int listener = -1;
    uint16_t port = 0;
    struct error error;
    assert_int_equal(reach_connect("no-such-host.invalid", 1, &error), STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "/etc/hosts"));
    assert_int_equal(reach_listen(&listener, "203.0.113.1", &port, &error), STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "cannot listen at 203.0.113.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_listener_is_reached_until_it_is_closed),
        cmocka_unit_test(test_what_cannot_be_looked_up_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
