/* test_control.c - a client whose queue is full learns how its request ended once it reads again. */
#include "coordinator/control.h"

#include "proto/wire_context.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_US = 20000000, LOOK_US = 10000, TENSOR_BYTES = 1 << 16, FIRST = 7 };

struct pair {
    char directory[FILE_PATH_BYTES], endpoint[FILE_PATH_BYTES + 32];
    struct wire_context *wire;
    struct wire_socket *router, *dealer;
    struct control control;
    struct frames in;
    struct frames_peer peer; /* the dealer */
};

static int open_pair(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    assert_int_equal(file_make_temporary(p->directory, NULL), STATUS_OK);
    snprintf(p->endpoint, sizeof(p->endpoint), "ipc://%s/c", p->directory);
    assert_int_equal(wire_context_create(&p->wire, &(struct wire_context_options){0}, NULL),
                     STATUS_OK);
    const struct wire_socket_options listening = {
        .kind = WIRE_ROUTER, .listen = true, .endpoint = p->endpoint, .queue_messages = 4};
    const struct wire_socket_options connecting = {
        .kind = WIRE_DEALER, .endpoint = p->endpoint, .queue_messages = 4};
    assert_int_equal(wire_socket_open(&p->router, p->wire, &listening, NULL), STATUS_OK);
    assert_int_equal(wire_socket_open(&p->dealer, p->wire, &connecting, NULL), STATUS_OK);
    control_open(&p->control, p->router);
    frames_init(&p->in);
    *state = p;

    assert_int_equal(frames_add_copy(&p->in, "x", 1, NULL), STATUS_OK);
    assert_int_equal(frames_send(p->dealer, &p->in, clock_us() + PATIENCE_US, NULL), STATUS_OK);
    assert_int_equal(frames_receive(p->router, &p->in, clock_us() + PATIENCE_US, NULL), STATUS_OK);
    p->peer = p->in.peer;
    return 0;
}

static int close_pair(void **state)
{
    struct pair *p = *state;
    control_close(&p->control);
    frames_clear(&p->in);
    wire_socket_close(p->dealer);
    wire_socket_close(p->router);
    wire_context_destroy(p->wire);
    assert_int_equal(file_remove_temporary(p->directory), STATUS_OK);
    free(p);
    return 0;
}

/* Until nothing more goes; the kernel may still take some of what is queued. */
static void fill(struct pair *p)
{
    static const char tensor[TENSOR_BYTES];
    Longspan__Pong pong = LONGSPAN__PONG__INIT;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_PONG;
    message.pong = &pong;
    const uint64_t deadline = clock_us() + PATIENCE_US;
    for (int n_full = 0; n_full < 3;) {
        struct error error;
        const enum status status =
            control_send(&p->control, &p->peer, &message, tensor, sizeof(tensor), &error);
        assert_true(status == STATUS_OK || status == STATUS_EXHAUSTED);
        assert_true(clock_us() < deadline);
        n_full = status == STATUS_OK ? 0 : n_full + 1;
        if (status == STATUS_EXHAUSTED)
            clock_sleep_us(LOOK_US);
    }
}

static void fail_requests(struct pair *p, uint64_t n)
{
    for (uint64_t number = FIRST; number < FIRST + n; number++)
        control_send_event_failure(&p->control, &p->peer, number, STATUS_TIMEOUT, "too late");
}

/* How many failures the client reads, which are in order, until nothing is owed and nothing comes; it
 * waits for `least`. */
static uint64_t read_failures(struct pair *p, uint64_t least)
{
    const uint64_t deadline = clock_us() + PATIENCE_US;
    uint64_t n = 0;
    for (;;) {
        assert_true(clock_us() < deadline);
        control_send_owed(&p->control);
        if (frames_receive(p->dealer, &p->in, clock_us() + LOOK_US, NULL) != STATUS_OK) {
            if (n >= least && p->control.owed == NULL)
                return n;
            continue;
        }
        Longspan__Control *message =
            longspan__control__unpack(NULL, frames_size(&p->in, 0), frames_data(&p->in, 0));
        assert_non_null(message);
        if (message->body_case == LONGSPAN__CONTROL__BODY_RUN_EVENT) {
            assert_true(message->run_event->request == FIRST + n++);
            assert_string_equal(message->run_event->failure->text, "too late");
        }
        longspan__control__free_unpacked(message, NULL);
    }
}

static void test_what_a_full_queue_kept_from_a_client_comes_later(void **state)
{
    struct pair *p = *state;
    fill(p);
    fail_requests(p, 2);
    assert_true(read_failures(p, 2) == 2);
}

static void test_what_is_owed_is_bounded(void **state)
{
    struct pair *p = *state;
    fill(p);
    fail_requests(p, 2 * CONTROL_MOST_OWED);
    assert_true(read_failures(p, CONTROL_MOST_OWED) < 2 * CONTROL_MOST_OWED);
}

static void test_those_who_are_gone_are_owed_nothing(void **state)
{
    struct pair *p = *state;
    fill(p);
    fail_requests(p, 2);
    assert_non_null(p->control.owed);
    wire_socket_close(p->dealer);
    p->dealer = NULL;
    const uint64_t deadline = clock_us() + PATIENCE_US;
    while (p->control.owed != NULL) {
        assert_true(clock_us() < deadline);
        control_send_owed(&p->control);
        /* As the loop does: ZeroMQ ends a connection where it is received from. */
        (void)frames_receive(p->router, &p->in, clock_us() + LOOK_US, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_full_queue_kept_from_a_client_comes_later,
                                        open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_what_is_owed_is_bounded, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(test_those_who_are_gone_are_owed_nothing, open_pair,
                                        close_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
