/* test_address.c - what an endpoint is, and which one needs a key. */
#include "proto/address.h"

#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

static void test_endpoints_are_classified(void **state)
{
    static const struct {
        const char *endpoint, *host;
        uint16_t port;
        bool is_local, is_any, is_ipv6;
    } cases[] = {
        {"tcp://127.0.0.1:5600", "127.0.0.1", 5600, true, false, false},
        {"tcp://127.9.8.7:1", "127.9.8.7", 1, true, false, false},
        {"tcp://localhost:65535", "localhost", 65535, true, false, false},
        {"tcp://[::1]:5600", "::1", 5600, true, false, true},
        {"tcp://[::ffff:127.0.0.1]:5600", "::ffff:127.0.0.1", 5600, true, false, true},
        {"tcp://127.0.0.1:*", "127.0.0.1", 0, true, false, false},
        {"tcp://127.0.0.1:0", "127.0.0.1", 0, true, false, false},
        {"tcp://10.0.0.5:5600", "10.0.0.5", 5600, false, false, false},
        {"tcp://head:5600", "head", 5600, false, false, false},
        {"tcp://localhost.evil.org:5600", "localhost.evil.org", 5600, false, false, false},
        {"tcp://127.1:5600", "127.1", 5600, false, false, false},
        {"tcp://[fe80::1%eth0]:5600", "fe80::1%eth0", 5600, false, false, true},
        {"tcp://*:5600", "*", 5600, false, true, false},
        {"tcp://0.0.0.0:*", "0.0.0.0", 0, false, true, false},
        {"tcp://[::]:5600", "::", 5600, false, true, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;
        struct error error = {0};
        if (address_parse(cases[i].endpoint, &address, &error) != STATUS_OK)
            fail_msg("%s", error.text);
        assert_int_equal(address.kind, ADDRESS_TCP);
        assert_string_equal(address.host, cases[i].host);
        assert_int_equal(address.port, cases[i].port);
        assert_int_equal(address.is_local, cases[i].is_local);
        assert_int_equal(address.is_any, cases[i].is_any);
        assert_int_equal(address.is_ipv6, cases[i].is_ipv6);
    }
}

static void test_ipc_paths_fit_a_socket(void **state)
{
    struct address address;
    struct error error;
    assert_int_equal(address_parse("ipc:///tmp/x.sock", &address, NULL), STATUS_OK);
    assert_true(address.kind == ADDRESS_IPC && address.is_local);
    assert_string_equal(address.path, "/tmp/x.sock");

    char endpoint[130];
    memcpy(endpoint, "ipc://", 6);
    memset(endpoint + 6, 'a', sizeof(endpoint) - 7);
    endpoint[6 + 107] = '\0';
    assert_int_equal(address_parse(endpoint, &address, NULL), STATUS_OK);
    endpoint[6 + 107] = 'a';
    endpoint[6 + 108] = '\0';
    assert_int_equal(address_parse(endpoint, &address, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "107"));
    assert_non_null(strstr(error.text, "TMPDIR"));
}

static void test_who_finds_nobody_is_told_that_a_name_means_nothing(void **state)
{
    char advice[ADDRESS_ADVICE_BYTES];
    static const char *const good[] = {"tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///x",
                                       "nonsense"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_string_equal(address_advice(good[i], advice),
                            "is it running, and is the address right?");
    /* A label has 63 letters at most: no resolver need be asked. */
    static const char unknown[] =
        "tcp://a234567890123456789012345678901234567890123456789012345678901234:5600";
    assert_non_null(
        strstr(address_advice(unknown, advice),
               "the name a234567890123456789012345678901234567890123456789012345678901234 "
               "has no address here ("));
    assert_non_null(strstr(advice, "/etc/hosts"));
}

static void test_everything_else_is_refused(void **state)
{
    static const char *const invalid[] = {
        "",
        "head:5600",
        "tcp://",
        "tcp://:5600",
        "tcp://head",
        "tcp://head:",
        "tcp://head:65536",
        "tcp://head:-1",
        "tcp://head:56x",
        "tcp://head: 1",
        "tcp://eth0;head:5600",
        "tcp://he ad:5600",
        "tcp://he/ad:5600",
        "tcp://::1:5600",
        "tcp://[::1]",
        "tcp://[::1:5600",
        "tcp://[::1]x:5600",
        "tcp://[head]:5600",
        "tcp://[127.0.0.1]:5600",
        "tcp://[]:5600",
        "ipc://",
        "ipc://*",
        "ipc://@abstract",
    };
    static const char *const unsupported[] = {"udp://head:1",         "inproc://x",
                                              "pgm://eth0;1.2.3.4:5", "http://head:80",
                                              "TCP://head:1",         "://"};
    struct address address = {.port = 42};
    struct error error;
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
        if (address_parse(invalid[i], &address, &error) != STATUS_INVALID)
            fail_msg("%s is accepted", invalid[i]);
    for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
        assert_int_equal(address_parse(unsupported[i], &address, &error), STATUS_UNSUPPORTED);
        assert_non_null(strstr(error.text, "transport"));
    }
    char longer[600];
    snprintf(longer, sizeof(longer), "tcp://%0500d:1", 1);
    assert_int_equal(address_parse(longer, &address, &error), STATUS_INVALID);
    assert_int_equal(address.port, 42);
}

static void test_other_hosts_need_a_key_or_the_users_word(void **state)
{
    static const char *const open[] = {"tcp://10.0.0.5:5600", "tcp://*:5600", "tcp://head:5600",
                                       "tcp://[2001:db8::1]:5600"};
    static const char *const local[] = {"tcp://127.0.0.1:5600", "tcp://[::1]:1", "ipc:///tmp/x",
                                        "tcp://localhost:5600"};
    struct error error;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(address_check(open[i], false, false, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "--cluster-key"));
        assert_non_null(strstr(error.text, "--insecure-network"));
        assert_int_equal(address_check(open[i], true, false, NULL), STATUS_OK);
        assert_int_equal(address_check(open[i], false, true, NULL), STATUS_OK);
        assert_int_equal(address_check(local[i], false, false, NULL), STATUS_OK);
    }
    assert_int_equal(address_check("udp://head:1", true, true, NULL), STATUS_UNSUPPORTED);
}

static void test_another_port(void **state)
{
    struct address address;
    char endpoint[ADDRESS_BYTES];
    assert_int_equal(address_parse("tcp://mem01:*", &address, NULL), STATUS_OK);
    assert_int_equal(address_with_port(&address, 40123, endpoint, NULL), STATUS_OK);
    assert_string_equal(endpoint, "tcp://mem01:40123");
    assert_int_equal(address_parse("tcp://[::1]:1", &address, NULL), STATUS_OK);
    assert_int_equal(address_with_port(&address, 2, endpoint, NULL), STATUS_OK);
    assert_string_equal(endpoint, "tcp://[::1]:2");
    assert_int_equal(address_parse("ipc:///tmp/x", &address, NULL), STATUS_OK);
    assert_int_equal(address_with_port(&address, 2, endpoint, NULL), STATUS_INVALID);
}

static void test_http_that_others_reach_needs_keys(void **state)
{
    static const char *const local[] = {"127.0.0.1:8080", "localhost:0", "[::1]:80"};
    static const char *const open[] = {"*:8080", "0.0.0.0:80", "[::]:0", "head:8080", "10.0.0.5:1"};
    static const char *const none[] = {"", "8080", "*", ":80", "[::1]", "head:many", "a b:80"};
    struct address address;
    struct error error;
    for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
        assert_int_equal(address_check_http(local[i], false, &address, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        assert_int_equal(address_check_http(open[i], false, &address, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "--api-key-file"));
        assert_int_equal(address_check_http(open[i], true, &address, NULL), STATUS_OK);
    }
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(address_check_http(none[i], true, &address, NULL), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoints_are_classified),
        cmocka_unit_test(test_ipc_paths_fit_a_socket),
        cmocka_unit_test(test_who_finds_nobody_is_told_that_a_name_means_nothing),
        cmocka_unit_test(test_everything_else_is_refused),
        cmocka_unit_test(test_other_hosts_need_a_key_or_the_users_word),
        cmocka_unit_test(test_another_port),
        cmocka_unit_test(test_http_that_others_reach_needs_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
