/* test_link.c - a rank that leaves a job does not wait for the coordinator, which is gone. */
#include "tests/proto/wire_fixture.h"
#include "worker/link.h"

/* Less than the two seconds that a closed link's messages may take. */
enum { AT_ONCE_US = 1500000 };

struct pair {
    struct wire_socket *coordinator;
    struct link *link;
};

static struct pair open_pair(struct wire_fixture *f, struct wire_context *wire)
{
    struct pair pair;
    pair.coordinator = open_socket(
        f->context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc});
    assert_int_equal(link_open(&pair.link, wire, f->ipc, 1, 0, NULL), STATUS_OK);
    assert_int_equal(link_await(pair.link, soon(PATIENCE_US), NULL), STATUS_OK);
    return pair;
}

static Longspan__Control *receive(struct wire_socket *coordinator)
{
    struct frames in;
    frames_init(&in);
    assert_received(coordinator, &in);
    Longspan__Control *control =
        longspan__control__unpack(NULL, frames_size(&in, 0), frames_data(&in, 0));
    frames_clear(&in);
    assert_non_null(control);
    return control;
}

/* Messages keep their order: what was sent last shows what was not sent before it. */
static void test_who_left_pings_no_more(void **state)
{
    struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->context);
    Longspan__Ping last = LONGSPAN__PING__INIT;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_PING;
    message.ping = &last;
    last.job = 77;

    link_leave(pair.link);
    link_ping(pair.link);
    assert_int_equal(link_send(pair.link, &message, NULL, 0, NULL), STATUS_OK);
    Longspan__Control *got = receive(pair.coordinator);
    assert_int_equal(got->body_case, LONGSPAN__CONTROL__BODY_PING);
    assert_int_equal(got->ping->job, 77);
    longspan__control__free_unpacked(got, NULL);
    link_close(pair.link);
    wire_socket_close(pair.coordinator);
}

static void test_who_left_waits_for_nobody(void **state)
{
    struct wire_fixture *f = *state;
    const struct wire_context_options options = {0};
    struct wire_context *wire = NULL;
    assert_int_equal(wire_context_create(&wire, &options, NULL), STATUS_OK);
    struct pair pair = open_pair(f, wire);
    wire_socket_close(pair.coordinator);
    /* Until the link has noticed: from then on what it sends waits for somebody to come. */
    assert_int_equal(link_await(pair.link, soon(SHORT_US), NULL), STATUS_UNREACHABLE);
    link_ping(pair.link);
    link_leave(pair.link);

    const uint64_t begin = clock_us();
    link_close(pair.link);
    wire_context_destroy(wire); /* waits until messages are sent or given up */
    assert_true(clock_us() - begin < AT_ONCE_US);
}

static void test_a_link_that_was_never_opened_is_left(void **state)
{
    link_leave(NULL);
    link_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_left_pings_no_more, wire_fixture_make,
                                        wire_fixture_remove),
        cmocka_unit_test_setup_teardown(test_who_left_waits_for_nobody, wire_fixture_make,
                                        wire_fixture_remove),
        cmocka_unit_test(test_a_link_that_was_never_opened_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
