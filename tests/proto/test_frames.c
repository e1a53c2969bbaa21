/* test_frames.c - whole messages, in order, within bounds and deadlines; to peers that exist. */
#include "proto/longspan.pb-c.h"
#include "tests/proto/wire_fixture.h"

#include <stdatomic.h>

enum { LIMIT = 1 << 20 };

struct pair {
    struct wire_socket *router, *dealer;
};

static struct pair open_pair(const struct wire_fixture *f, const char *endpoint)
{
    struct pair pair;
    pair.router = open_socket(f->context, (struct wire_socket_options){.kind = WIRE_ROUTER,
                                                                       .listen = true,
                                                                       .endpoint = endpoint,
                                                                       .max_message_bytes = LIMIT});
    pair.dealer = open_socket(
        f->context, (struct wire_socket_options){.kind = WIRE_DEALER,
                                                 .endpoint = wire_socket_endpoint(pair.router),
                                                 .name = "the router",
                                                 .identity = "worker 1",
                                                 .max_message_bytes = 4 * LIMIT});
    return pair;
}

static void close_pair(struct pair *pair)
{
    wire_socket_close(pair->dealer);
    wire_socket_close(pair->router);
}

static void exchange(const struct wire_fixture *f, const char *endpoint)
{
    struct pair pair = open_pair(f, endpoint);
    struct frames request = {0}, reply = {0};
    static const size_t sizes[] = {0, 1, 30, 33, 34, 100, 4095, 4096, 8192, 100001, 900000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *data = NULL;
        put_text(&request, "header");
        assert_int_equal(frames_add(&request, sizes[i], &data, NULL), STATUS_OK);
        memset(data, (int)i + 1, sizes[i]);
        assert_int_equal(frames_add_copy(&request, "tail", 4, NULL), STATUS_OK);
        assert_sent(pair.dealer, &request);

        assert_received(pair.router, &request);
        assert_int_equal(request.n, 3);
        assert_text(&request, 0, "header");
        assert_int_equal(frames_size(&request, 1), sizes[i]);
        const uint8_t *bytes = frames_data(&request, 1);
        assert_int_equal((uintptr_t)bytes % 8, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            if (bytes[j] != i + 1)
                fail_msg("byte %zu of %zu differs", j, sizes[i]);
        assert_text(&request, 2, "tail");
        assert_int_equal(request.peer.n, 8);
        assert_memory_equal(request.peer.bytes, "worker 1", 8);

        put_text(&reply, "answer");
        frames_reply_to(&reply, &request);
        assert_sent(pair.router, &reply);
        assert_received(pair.dealer, &reply);
        assert_int_equal(reply.n, 1);
        assert_text(&reply, 0, "answer");
        frames_clear(&request);
        frames_clear(&reply);
    }
    close_pair(&pair);
}

static void test_messages_arrive_whole_over_ipc(void **state)
{
    const struct wire_fixture *f = *state;
    exchange(f, f->ipc);
}

static void test_messages_arrive_whole_over_tcp(void **state)
{
    exchange(*state, "tcp://127.0.0.1:*");
}

static void test_a_message_is_packed_into_one_frame(void **state)
{
    const struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->ipc);
    struct frames frames = {0};
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    char name[] = "worker";
    ping.name = name;
    control.body_case = LONGSPAN__CONTROL__BODY_PING;
    control.ping = &ping;
    assert_int_equal(frames_send_message(pair.dealer, &control.base, soon(PATIENCE_US), NULL),
                     STATUS_OK);
    assert_received(pair.router, &frames);
    assert_int_equal(frames.n, 1);
    Longspan__Control *heard =
        longspan__control__unpack(NULL, frames_size(&frames, 0), frames_data(&frames, 0));
    assert_non_null(heard);
    assert_int_equal(heard->body_case, LONGSPAN__CONTROL__BODY_PING);
    assert_string_equal(heard->ping->name, "worker");
    longspan__control__free_unpacked(heard, NULL);
    frames_clear(&frames);
    close_pair(&pair);
}

static void test_small_frames_are_aligned(void **state)
{
    const struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->ipc);
    struct frames frames = {0};
    for (int i = 0; i < 200; i++) { /* packed in one buffer at odd places */
        put_text(&frames, "odd");
        assert_int_equal(frames_add_copy(&frames, "0123456789012345678901234567890123456789",
                                         40 - (size_t)i % 7, NULL),
                         STATUS_OK);
        assert_sent(pair.dealer, &frames);
    }
    for (int i = 0; i < 200; i++) {
        assert_received(pair.router, &frames);
        assert_int_equal((uintptr_t)frames_data(&frames, 1) % 8, 0);
        assert_memory_equal(frames_data(&frames, 1), "0123456789012345678901234567890123456789",
                            40 - (size_t)i % 7);
    }
    frames_clear(&frames);
    close_pair(&pair);
}

static void test_a_receive_ends_at_its_deadline(void **state)
{
    const struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->ipc);
    struct frames frames = {0};
    struct error error;
    put_text(&frames, "old"); /* receive clears what is there */
    const uint64_t begin = clock_us();
    assert_int_equal(frames_receive(pair.dealer, &frames, soon(SHORT_US), &error), STATUS_TIMEOUT);
    const uint64_t waited = clock_us() - begin;
    assert_true(waited >= SHORT_US && waited < PATIENCE_US);
    assert_non_null(strstr(error.text, "the router"));
    assert_int_equal(frames.n, 0);
    assert_int_equal(frames_receive(pair.router, &frames, 0, &error), STATUS_TIMEOUT);
    close_pair(&pair);
}

static void test_an_oversized_message_is_refused_and_gone(void **state)
{
    const struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->ipc);
    struct frames frames = {0};
    struct error error;
    void *data;
    for (int i = 0; i < 2; i++) /* one byte more than LIMIT, in two frames; and in one */
        for (int n_frames = 1; n_frames <= 2; n_frames++) {
            size_t left = LIMIT + 1;
            if (n_frames == 2) {
                assert_int_equal(frames_add(&frames, LIMIT / 2, &data, NULL), STATUS_OK);
                memset(data, 0, LIMIT / 2);
                left -= LIMIT / 2;
            }
            assert_int_equal(frames_add(&frames, left, &data, NULL), STATUS_OK);
            memset(data, 0, left);
            assert_sent(pair.dealer, &frames);
            put_text(&frames, "next");
            assert_sent(pair.dealer, &frames);

            assert_int_equal(frames_receive(pair.router, &frames, soon(PATIENCE_US), &error),
                             STATUS_PROTOCOL);
            assert_non_null(strstr(error.text, "1048577 bytes"));
            assert_int_equal(frames.n, 0);
            assert_int_equal(frames.peer.n, 8); /* it can be told */
            assert_received(pair.router, &frames);
            assert_text(&frames, 0, "next");
            frames_clear(&frames);
        }
    close_pair(&pair);
}

static void test_too_many_frames_are_refused_and_gone(void **state)
{
    const struct wire_fixture *f = *state;
    struct wire_socket *router = open_socket(
        f->context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc});
    void *zmq = zmq_ctx_new(), *raw = zmq_socket(zmq, ZMQ_DEALER); /* a peer without our rules */
    assert_int_equal(zmq_connect(raw, f->ipc), 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(zmq_send(raw, "x", 1, i < 39 ? ZMQ_SNDMORE : 0), 1);
    assert_int_equal(zmq_send(raw, "next", 4, 0), 4);

    struct frames frames = {0};
    struct error error;
    assert_int_equal(frames_receive(router, &frames, soon(PATIENCE_US), &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "40 frames"));
    assert_received(router, &frames);
    assert_text(&frames, 0, "next");
    frames_clear(&frames);
    zmq_close(raw);
    zmq_ctx_term(zmq);
    wire_socket_close(router);

    for (int i = 0; i < FRAMES_MAX; i++)
        assert_int_equal(frames_add_copy(&frames, "x", 1, NULL), STATUS_OK);
    assert_int_equal(frames_add_copy(&frames, "x", 1, NULL), STATUS_EXHAUSTED);
    frames_clear(&frames);
}

static void test_an_unknown_peer_is_unreachable(void **state)
{
    const struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->ipc);
    struct frames frames = {0};
    struct error error;
    put_text(&frames, "hello");
    frames_set_peer(&frames, "nobody", 6);
    assert_int_equal(frames_send(pair.router, &frames, soon(PATIENCE_US), &error),
                     STATUS_UNREACHABLE);
    assert_int_equal(frames.n, 0);

    /* and one that was there, and went */
    put_text(&frames, "hello");
    assert_sent(pair.dealer, &frames);
    assert_received(pair.router, &frames);
    wire_socket_close(pair.dealer);
    pair.dealer = NULL;
    const uint64_t deadline = soon(PATIENCE_US);
    struct wire_event event = {.kind = WIRE_READY};
    while (event.kind != WIRE_LOST) {
        struct wire_poll_item item = {.socket = pair.router};
        wire_poll(&item, 1, 0, soon(1000), NULL);
        if (wire_socket_event(pair.router, &event))
            assert_true(event.kind == WIRE_READY || event.kind == WIRE_LOST);
        assert_true(clock_us() < deadline);
    }
    enum status status;
    do { /* the loss and the end of its queue are two messages inside ZeroMQ */
        put_text(&frames, "answer");
        frames_set_peer(&frames, "worker 1", 8);
        status = frames_send(pair.router, &frames, soon(SHORT_US), &error);
    } while (status != STATUS_UNREACHABLE && clock_us() < deadline);
    assert_int_equal(status, STATUS_UNREACHABLE);
    close_pair(&pair);
}

static void test_the_queue_is_bounded_in_bytes(void **state)
{
    const struct wire_fixture *f = *state;
    /* Nobody listens yet: what is sent stays in the queue. */
    struct wire_socket *dealer =
        open_socket(f->context, (struct wire_socket_options){.kind = WIRE_DEALER,
                                                             .endpoint = f->ipc,
                                                             .max_message_bytes = 8 * LIMIT,
                                                             .queue_bytes = 3 * LIMIT});
    struct frames frames = {0};
    struct error error;
    void *data = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(frames_add(&frames, LIMIT, &data, NULL), STATUS_OK);
        memset(data, i, LIMIT);
        assert_int_equal(frames_send(dealer, &frames, 0, &error), STATUS_OK);
    }
    assert_int_equal(frames_add(&frames, LIMIT, &data, NULL), STATUS_OK);
    memset(data, 3, LIMIT);
    const uint64_t begin = clock_us();
    assert_int_equal(frames_send(dealer, &frames, soon(SHORT_US), &error), STATUS_TIMEOUT);
    assert_true(clock_us() - begin >= SHORT_US);
    assert_int_equal(frames.n, 1); /* kept, to be sent again */

    /* The peer comes, the queue empties, and the message goes. */
    struct wire_socket *router = open_socket(
        f->context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc});
    assert_sent(dealer, &frames);
    for (uint8_t i = 0; i < 4; i++) {
        assert_received(router, &frames);
        assert_int_equal(frames_size(&frames, 0), LIMIT);
        assert_int_equal(*(uint8_t *)frames_data(&frames, 0), i);
    }
    /* A message larger than the queue may go alone; one larger than the limit never. */
    frames_clear(&frames);
    assert_int_equal(frames_add(&frames, 4 * LIMIT, &data, NULL), STATUS_OK);
    memset(data, 9, 4 * LIMIT);
    assert_sent(dealer, &frames);
    assert_received(router, &frames);
    assert_int_equal(frames_size(&frames, 0), 4 * LIMIT);
    frames_clear(&frames);
    assert_int_equal(frames_add(&frames, 8 * LIMIT + 1, &data, NULL), STATUS_OK);
    assert_int_equal(frames_send(dealer, &frames, soon(PATIENCE_US), &error), STATUS_EXHAUSTED);
    assert_int_equal(frames.n, 0);
    wire_socket_close(dealer);
    wire_socket_close(router);
}

static void test_peers_are_told_apart_by_all_of_their_bytes(void **state)
{
    struct frames one = {0}, other = {0};
    frames_set_peer(&one, "rank 1", 6);
    frames_set_peer(&other, "rank 12", 7); /* its first bytes are the one's */
    assert_false(frames_same_peer(&one.peer, &other.peer));
    assert_false(frames_same_peer(&other.peer, &one.peer));
    frames_reply_to(&other, &one);
    assert_true(frames_same_peer(&one.peer, &other.peer)); /* whatever stood behind */
    frames_set_peer(&other, "rank 2", 6);
    assert_false(frames_same_peer(&one.peer, &other.peer));
    frames_clear(&other);
    assert_false(frames_same_peer(&one.peer, &other.peer));
}

static void count_release(void *data, void *hint)
{
    atomic_fetch_add((atomic_int *)hint, 1);
}

/* Sends messages of LIMIT bytes to a peer until its queue is full. */
static void fill_queue(struct wire_socket *router, const char *peer)
{
    struct frames frames = {0};
    enum status status = STATUS_OK;
    for (unsigned n = 0; status == STATUS_OK && n < 10000; n++) {
        void *data = NULL;
        frames_clear(&frames);
        assert_int_equal(frames_add(&frames, LIMIT, &data, NULL), STATUS_OK);
        memset(data, 0, LIMIT);
        frames_set_peer(&frames, peer, strlen(peer));
        status = frames_send(router, &frames, soon(SHORT_US), NULL);
    }
    assert_int_equal(status, STATUS_TIMEOUT);
    frames_clear(&frames);
}

/* A client that stops reading must take neither other clients' answers nor the workers' steps along. */
static void test_a_peer_that_does_not_read_keeps_nothing_from_others(void **state)
{
    const struct wire_fixture *f = *state;
    static const char *const names[] = {"reads", "sleeps"};
    struct wire_socket *dealers[2];
    struct wire_socket *router =
        open_socket(f->context, (struct wire_socket_options){.kind = WIRE_ROUTER,
                                                             .listen = true,
                                                             .endpoint = f->ipc,
                                                             .max_message_bytes = 8 * LIMIT,
                                                             .queue_bytes = 3 * LIMIT});
    struct frames frames = {0};
    struct error error;
    for (int i = 0; i < 2; i++) {
        dealers[i] =
            open_socket(f->context, (struct wire_socket_options){.kind = WIRE_DEALER,
                                                                 .endpoint = f->ipc,
                                                                 .identity = names[i],
                                                                 .max_message_bytes = 8 * LIMIT});
        put_text(&frames, "hello");
        assert_sent(dealers[i], &frames);
        assert_received(router, &frames);
    }
    fill_queue(router, "sleeps");
    for (uint8_t i = 0; i < 10; i++) {
        void *data = NULL;
        frames_clear(&frames);
        assert_int_equal(frames_add(&frames, LIMIT, &data, NULL), STATUS_OK);
        memset(data, i, LIMIT);
        frames_set_peer(&frames, "reads", 5);
        assert_int_equal(frames_send(router, &frames, 0, &error), STATUS_OK);
        assert_received(dealers[0], &frames);
        assert_int_equal(*(uint8_t *)frames_data(&frames, 0), i);
    }
    frames_clear(&frames);
    for (int i = 0; i < 2; i++)
        wire_socket_close(dealers[i]);
    wire_socket_close(router);
}

/* A node whose workers all stop reading must not hold a queue for each; the one that reads is served. */
static void test_all_queues_together_are_bounded(void **state)
{
    const struct wire_fixture *f = *state;
    enum { ALL = 4, SLEEPERS = 3 };
    static const char *const names[] = {"sleeps 1", "sleeps 2", "sleeps 3", "reads"};
    static char memory[LIMIT];
    atomic_int n_released = 0;
    int n_sent = 0;
    struct wire_socket *dealers[SLEEPERS + 1];
    struct wire_socket *router =
        open_socket(f->context, (struct wire_socket_options){.kind = WIRE_ROUTER,
                                                             .listen = true,
                                                             .endpoint = f->ipc,
                                                             .queue_bytes = 3 * LIMIT,
                                                             .all_queues_bytes = ALL * LIMIT});
    struct frames frames = {0};
    for (int i = 0; i <= SLEEPERS; i++) {
        dealers[i] = open_socket(f->context, (struct wire_socket_options){.kind = WIRE_DEALER,
                                                                          .endpoint = f->ipc,
                                                                          .identity = names[i],
                                                                          .queue_messages = 1});
        put_text(&frames, "hello");
        assert_sent(dealers[i], &frames);
        assert_received(router, &frames);
    }
    for (int n_before = -1; n_before != n_sent && n_sent < 10000;) { /* until nobody takes more */
        n_before = n_sent;
        for (int i = 0; i < SLEEPERS; i++) {
            frames_clear(&frames);
            assert_int_equal(
                frames_add_borrowed(&frames, memory, LIMIT, count_release, &n_released, NULL),
                STATUS_OK);
            frames_set_peer(&frames, names[i], strlen(names[i]));
            const enum status status = frames_send(router, &frames, soon(SHORT_US), NULL);
            if (status == STATUS_OK)
                n_sent++;
            else
                assert_int_equal(status, STATUS_TIMEOUT);
            frames_clear(&frames);
            if (status != STATUS_OK)
                atomic_fetch_sub(&n_released, 1); /* it was not sent */
        }
    }
    assert_in_range(n_sent - atomic_load(&n_released), 1, ALL + SLEEPERS);
    for (uint8_t i = 0; i < 10; i++) {
        void *data = NULL;
        frames_clear(&frames);
        assert_int_equal(frames_add(&frames, LIMIT, &data, NULL), STATUS_OK);
        memset(data, i, LIMIT);
        frames_set_peer(&frames, "reads", 5);
        assert_sent(router, &frames);
        assert_received(dealers[SLEEPERS], &frames);
        assert_int_equal(*(uint8_t *)frames_data(&frames, 0), i);
    }
    put_text(&frames, "small ones are not counted");
    frames_set_peer(&frames, names[0], strlen(names[0]));
    assert_sent(router, &frames);
    frames_clear(&frames);
    for (int i = 0; i <= SLEEPERS; i++)
        wire_socket_close(dealers[i]);
    wire_socket_close(router);
    const uint64_t deadline = soon(PATIENCE_US);
    while (atomic_load(&n_released) < n_sent) /* by ZeroMQ's threads, which count here */
        assert_true(clock_us() < deadline);
}

static void test_borrowed_memory_comes_back(void **state)
{
    const struct wire_fixture *f = *state;
    struct pair pair = open_pair(f, f->ipc);
    static char large[200000], small[10];
    atomic_int n_released = 0;
    struct frames frames = {0}, received = {0};
    assert_int_equal(
        frames_add_borrowed(&frames, large, sizeof(large), count_release, &n_released, NULL), 0);
    frames_clear(&frames); /* unsent */
    assert_int_equal(atomic_load(&n_released), 1);

    assert_int_equal(
        frames_add_borrowed(&frames, large, sizeof(large), count_release, &n_released, NULL), 0);
    assert_int_equal(
        frames_add_borrowed(&frames, small, sizeof(small), count_release, &n_released, NULL), 0);
    assert_sent(pair.dealer, &frames);
    assert_received(pair.router, &received);
    assert_int_equal(frames_size(&received, 0), sizeof(large));
    const uint64_t deadline = soon(PATIENCE_US);
    while (atomic_load(&n_released) < 3)
        assert_true(clock_us() < deadline);

    assert_int_equal(
        frames_add_borrowed(&frames, large, sizeof(large), count_release, &n_released, NULL), 0);
    frames_set_peer(&frames, "nobody", 6);
    assert_int_equal(frames_send(pair.router, &frames, 0, NULL), STATUS_UNREACHABLE);
    assert_int_equal(atomic_load(&n_released), 4);
    frames_clear(&received);
    close_pair(&pair);
}

/* A peer that stops reading must not make a send wait beyond its deadline. */
static void test_a_stalled_peer_ends_at_the_deadline(void **state)
{
    const struct wire_fixture *f = *state;
    struct wire_socket *router = open_socket(
        f->context,
        (struct wire_socket_options){
            .kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc, .queue_messages = 10});
    struct wire_socket *dealer = open_socket(
        f->context,
        (struct wire_socket_options){
            .kind = WIRE_DEALER, .endpoint = f->ipc, .identity = "slow", .queue_messages = 10});
    struct frames frames = {0};
    put_text(&frames, "hello");
    assert_sent(dealer, &frames);
    assert_received(router, &frames);
    enum status status = STATUS_OK;
    unsigned n_sent = 0;
    static char filler[4000];
    for (; status == STATUS_OK && n_sent < 100000; n_sent++) {
        frames_clear(&frames);
        assert_int_equal(frames_add_copy(&frames, filler, sizeof(filler), NULL), STATUS_OK);
        frames_set_peer(&frames, "slow", 4);
        status = frames_send(router, &frames, soon(SHORT_US), NULL);
    }
    assert_int_equal(status, STATUS_TIMEOUT);
    assert_true(n_sent > 10 && n_sent < 100000);
    frames_clear(&frames);
    wire_socket_close(dealer);
    wire_socket_close(router);
}

#define WIRE_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, wire_fixture_make, wire_fixture_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_TEST(test_messages_arrive_whole_over_ipc),
        WIRE_TEST(test_messages_arrive_whole_over_tcp),
        WIRE_TEST(test_a_message_is_packed_into_one_frame),
        WIRE_TEST(test_small_frames_are_aligned),
        WIRE_TEST(test_a_receive_ends_at_its_deadline),
        WIRE_TEST(test_an_oversized_message_is_refused_and_gone),
        WIRE_TEST(test_too_many_frames_are_refused_and_gone),
        WIRE_TEST(test_an_unknown_peer_is_unreachable),
        cmocka_unit_test(test_peers_are_told_apart_by_all_of_their_bytes),
        WIRE_TEST(test_the_queue_is_bounded_in_bytes),
        WIRE_TEST(test_a_peer_that_does_not_read_keeps_nothing_from_others),
        WIRE_TEST(test_all_queues_together_are_bounded),
        WIRE_TEST(test_borrowed_memory_comes_back),
        WIRE_TEST(test_a_stalled_peer_ends_at_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
