/* test_status.c - a failure keeps its words, whoever passes it on. */
#include "sys/status.h"
#include "tests/cmocka.h"

#include <string.h>

static void test_a_text_may_quote_the_one_before(void **state)
{
    struct error error;
    error_set(&error, STATUS_NOT_FOUND, "there is no %s, only %s", "eth7", "lo");
    assert_int_equal(error_set(&error, STATUS_INVALID, "--interface: %s (%s)", error.text, "0"),
                     STATUS_INVALID);
    assert_int_equal(error.status, STATUS_INVALID);
    assert_string_equal(error.text, "--interface: there is no eth7, only lo (0)");
}

static void test_a_long_text_is_cut_and_ends(void **state)
{
    struct error error;
    char text[2 * sizeof(error.text)];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&error, STATUS_IO, "%s", text);
    assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
    assert_int_equal(error_set(NULL, STATUS_IO, "%s", text), STATUS_IO); /* nobody wants to know */
}

/* Another version of the other side may know more ways to fail; success is none of them. */
static void test_what_a_peer_reports_is_a_failure(void **state)
{
    assert_int_equal(status_received(STATUS_EXHAUSTED), STATUS_EXHAUSTED);
    assert_int_equal(status_received(STATUS_OK), STATUS_FAILED);
    assert_int_equal(status_received(STATUS_COUNT), STATUS_FAILED);
    assert_int_equal(status_received(UINT32_MAX), STATUS_FAILED);
}

/* README and --help promise these numbers to scripts. */
static void test_exit_codes(void **state)
{
    assert_int_equal(status_exit_code(STATUS_OK), 0);
    assert_int_equal(status_exit_code(STATUS_INVALID), 2);
    assert_int_equal(status_exit_code(STATUS_UNREACHABLE), 3);
    for (int status = STATUS_INVALID; status < STATUS_COUNT; status++) {
        const int code = status_exit_code((enum status)status);
        assert_true(code >= 2 && code <= 4);
        assert_string_not_equal(status_name((enum status)status), "unknown status");
    }
    assert_string_equal(status_name(STATUS_COUNT), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_text_may_quote_the_one_before),
        cmocka_unit_test(test_a_long_text_is_cut_and_ends),
        cmocka_unit_test(test_what_a_peer_reports_is_a_failure),
        cmocka_unit_test(test_exit_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
