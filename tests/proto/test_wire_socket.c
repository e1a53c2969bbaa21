/* test_wire_socket.c - who gets in with which key, and what the one outside is told. */
#include "tests/proto/wire_fixture.h"

#include "proto/cluster_key.h"
#include "sys/descriptors.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct cluster_key new_key(const struct wire_fixture *f, const char *name)
{
    char path[FILE_PATH_BYTES + 32];
    struct cluster_key key;
    snprintf(path, sizeof(path), "%s/%s", f->directory, name);
    assert_int_equal(cluster_key_generate(path, NULL), STATUS_OK);
    assert_int_equal(cluster_key_read(path, &key, NULL), STATUS_OK);
    return key;
}

static struct wire_context *context_with(const struct cluster_key *key)
{
    struct wire_context *context = NULL;
    const struct wire_context_options options = {.key = key};
    assert_int_equal(wire_context_create(&context, &options, NULL), STATUS_OK);
    return context;
}

/* One process's end: its context and its socket. */
struct end {
    struct wire_context *context;
    struct wire_socket *socket;
};

static struct end listener(const struct cluster_key *key, const char *endpoint)
{
    struct end end = {.context = context_with(key)};
    end.socket = open_socket(
        end.context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = endpoint});
    return end;
}

static struct end connector(const struct cluster_key *key, const struct end *to)
{
    struct end end = {.context = context_with(key)};
    end.socket = open_socket(
        end.context, (struct wire_socket_options){.kind = WIRE_DEALER,
                                                  .endpoint = wire_socket_endpoint(to->socket),
                                                  .name = "the coordinator"});
    return end;
}

static void close_end(struct end *end)
{
    wire_socket_close(end->socket);
    wire_context_destroy(end->context);
}

static void test_the_right_key_gets_in(void **state)
{
    const struct wire_fixture *f = *state;
    const struct cluster_key key = new_key(f, "key");
    const char *const endpoints[] = {f->ipc, "tcp://127.0.0.1:*"};
    for (size_t i = 0; i < 2; i++) {
        struct end inside = listener(&key, endpoints[i]);
        struct end peer = connector(&key, &inside);
        struct frames frames = {0};
        struct error error = {0};
        if (wire_socket_await(peer.socket, soon(PATIENCE_US), &error) != STATUS_OK)
            fail_msg("%s", error.text);
        put_text(&frames, "secret words");
        assert_sent(peer.socket, &frames);
        assert_received(inside.socket, &frames);
        assert_text(&frames, 0, "secret words");
        frames_reply_to(&frames, &frames);
        assert_sent(inside.socket, &frames);
        assert_received(peer.socket, &frames);
        assert_text(&frames, 0, "secret words");
        frames_clear(&frames);
        close_end(&peer);
        close_end(&inside);
    }
}

/* The peer gets nothing in, is told why, and the listener knows too. */
static void refuse(const struct cluster_key *inside_key, const struct cluster_key *peer_key,
                   const char *endpoint)
{
    struct end inside = listener(inside_key, endpoint);
    struct end peer = connector(peer_key, &inside);
    struct frames frames = {0};
    struct error error = {0};
    put_text(&frames, "let me in");
    frames_send(peer.socket, &frames, soon(SHORT_US), NULL);
    frames_clear(&frames);
    assert_int_equal(wire_socket_await(peer.socket, soon(PATIENCE_US), &error), STATUS_UNREACHABLE);
    if (strstr(error.text, "wrong or missing --cluster-key") == NULL ||
        strstr(error.text, "the coordinator") == NULL)
        fail_msg("%s", error.text);
    assert_int_equal(frames_receive(inside.socket, &frames, soon(SHORT_US), NULL), STATUS_TIMEOUT);

    bool reported = false;
    struct wire_event event;
    char text[512];
    while (wire_socket_event(inside.socket, &event)) {
        assert_true(event.kind != WIRE_READY && event.kind != WIRE_LOST);
        reported = reported || (event.kind == WIRE_HANDSHAKE_FAILED &&
                                strstr(wire_event_text(&event, text), "--cluster-key") != NULL);
    }
    assert_true(reported);
    close_end(&peer);
    close_end(&inside);
}

/* The listener's own threads need no key, and reach the same socket as everybody else. */
static void test_threads_of_the_process_talk_inside(void **state)
{
    const struct wire_fixture *f = *state;
    const struct cluster_key key = new_key(f, "key");
    struct end end = listener(&key, f->ipc);
    struct frames frames = {0};
    const struct wire_socket_options options = {
        .kind = WIRE_DEALER, .endpoint = "inproc://threads", .inside = true};
    struct wire_socket *inside = open_socket(end.context, options);
    assert_int_equal(wire_socket_listen_inside(end.socket, "inproc://threads", NULL), STATUS_OK);
    assert_int_equal(wire_socket_listen_inside(end.socket, "inproc://threads", NULL),
                     STATUS_UNREACHABLE);
    assert_int_equal(wire_socket_listen_inside(end.socket, "ipc:///tmp/x", NULL),
                     STATUS_UNREACHABLE);
    put_text(&frames, "from a thread");
    assert_sent(inside, &frames);
    assert_received(end.socket, &frames);
    assert_text(&frames, 0, "from a thread");
    frames_reply_to(&frames, &frames);
    assert_sent(end.socket, &frames);
    assert_received(inside, &frames);
    assert_text(&frames, 0, "from a thread");
    frames_clear(&frames);
    wire_socket_close(inside);
    close_end(&end);
}

static void test_a_wrong_or_missing_key_gets_nothing_in(void **state)
{
    const struct wire_fixture *f = *state;
    const struct cluster_key key = new_key(f, "key"), other = new_key(f, "other");
    const char *const endpoints[] = {f->ipc, "tcp://127.0.0.1:*"};
    for (size_t i = 0; i < 2; i++) {
        refuse(&key, &other, endpoints[i]);
        refuse(&key, NULL, endpoints[i]);
        refuse(NULL, &key, endpoints[i]);
    }
}

/* Someone who has our public key, which is no secret in CURVE, and a pair of his own: only the
 * authenticator stands between him and us. */
static void test_another_pair_with_our_public_key_is_denied(void **state)
{
    const struct wire_fixture *f = *state;
    const struct cluster_key key = new_key(f, "key"), other = new_key(f, "other");
    struct end inside = listener(&key, f->ipc);
    void *zmq = zmq_ctx_new(), *raw = zmq_socket(zmq, ZMQ_DEALER);
    const int none = 0;
    zmq_setsockopt(raw, ZMQ_LINGER, &none, sizeof(none));
    assert_int_equal(zmq_setsockopt(raw, ZMQ_CURVE_SERVERKEY, key.public_text, 40), 0);
    assert_int_equal(zmq_setsockopt(raw, ZMQ_CURVE_PUBLICKEY, other.public_text, 40), 0);
    assert_int_equal(zmq_setsockopt(raw, ZMQ_CURVE_SECRETKEY, other.secret_text, 40), 0);
    assert_int_equal(zmq_connect(raw, f->ipc), 0);
    assert_int_equal(zmq_send(raw, "let me in", 9, 0), 9);

    struct wire_event event = {0};
    const uint64_t deadline = soon(PATIENCE_US);
    while (!wire_socket_event(inside.socket, &event))
        assert_true(clock_us() < deadline);
    assert_int_equal(event.kind, WIRE_HANDSHAKE_FAILED);
    struct frames frames = {0};
    assert_int_equal(frames_receive(inside.socket, &frames, soon(SHORT_US), NULL), STATUS_TIMEOUT);

    /* Those with the pair still come in. */
    struct end peer = connector(&key, &inside);
    assert_int_equal(wire_socket_await(peer.socket, soon(PATIENCE_US), NULL), STATUS_OK);
    close_end(&peer);
    zmq_close(raw);
    zmq_ctx_term(zmq);
    close_end(&inside);
}

static void test_nobody_there_is_said_differently(void **state)
{
    const struct wire_fixture *f = *state;
    struct wire_socket *socket = open_socket(
        f->context, (struct wire_socket_options){
                        .kind = WIRE_DEALER, .endpoint = f->ipc, .name = "the coordinator"});
    struct error error;
    const uint64_t begin = clock_us();
    assert_int_equal(wire_socket_await(socket, soon(2 * SHORT_US), &error), STATUS_UNREACHABLE);
    assert_true(clock_us() - begin >= 2 * SHORT_US);
    assert_non_null(strstr(error.text, "nobody answers"));
    assert_non_null(strstr(error.text, f->ipc));
    assert_non_null(strstr(error.text, "(the coordinator): is it running"));

    /* Who comes later is found. */
    struct wire_socket *late = open_socket(
        f->context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc});
    assert_int_equal(wire_socket_await(socket, soon(PATIENCE_US), &error), STATUS_OK);
    wire_socket_close(socket);
    wire_socket_close(late);
}

enum { PAUSE_US = 3200000, PAUSED_PATIENCE_US = 2900000 };

/* In a process of its own: 0, if somebody listens at the endpoint in time. */
static int await_there(const char *endpoint, int began)
{
    struct wire_context *context = context_with(NULL);
    struct wire_socket *socket = open_socket(
        context, (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = endpoint});
    (void)!write(began, "x", 1);
    const enum status status = wire_socket_await(socket, soon(PAUSED_PATIENCE_US), NULL);
    wire_socket_close(socket);
    wire_context_destroy(context);
    return status == STATUS_OK ? 0 : 1;
}

/* As all of a machine may be, for longer than the deadline was away. */
static void test_who_was_stopped_goes_on_waiting(void **state)
{
    const struct wire_fixture *f = *state;
    int began[2], code;
    char byte;
    assert_int_equal(pipe(began), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(await_there(f->ipc, began[1]));
    assert_int_equal(read(began[0], &byte, 1), 1);
    clock_sleep_us(6 * SHORT_US); /* it waits */
    assert_int_equal(kill(child, SIGSTOP), 0);
    clock_sleep_us(PAUSE_US);
    assert_int_equal(kill(child, SIGCONT), 0);
    clock_sleep_us(4 * SHORT_US); /* it looks at its deadline, and nobody is there yet */
    struct end late = listener(NULL, f->ipc);
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
    close_end(&late);
    close(began[0]);
    close(began[1]);
}

static void test_a_restarted_listener_is_found_again(void **state)
{
    const struct wire_fixture *f = *state;
    struct end first = listener(NULL, "tcp://127.0.0.1:*");
    char endpoint[300];
    snprintf(endpoint, sizeof(endpoint), "%s", wire_socket_endpoint(first.socket));
    assert_null(strchr(endpoint, '*'));
    struct end peer = connector(NULL, &first);
    assert_int_equal(wire_socket_await(peer.socket, soon(PATIENCE_US), NULL), STATUS_OK);
    close_end(&first);
    struct end second = listener(NULL, endpoint);
    assert_int_equal(wire_socket_await(peer.socket, soon(PATIENCE_US), NULL), STATUS_OK);
    struct frames frames = {0};
    put_text(&frames, "hello again");
    assert_sent(peer.socket, &frames);
    assert_received(second.socket, &frames);
    assert_text(&frames, 0, "hello again");
    frames_clear(&frames);
    close_end(&peer);
    close_end(&second);
    (void)f;
}

static void test_a_taken_over_identity_reaches_the_new_peer(void **state)
{
    const struct wire_fixture *f = *state;
    struct wire_socket *router = open_socket(
        f->context, (struct wire_socket_options){
                        .kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc, .handover = true});
    struct wire_socket *peers[2];
    struct frames frames = {0};
    for (int i = 0; i < 2; i++) {
        peers[i] = open_socket(f->context, (struct wire_socket_options){.kind = WIRE_DEALER,
                                                                        .endpoint = f->ipc,
                                                                        .identity = "worker"});
        put_text(&frames, "hello");
        assert_sent(peers[i], &frames);
        assert_received(router, &frames);
    }
    frames_reply_to(&frames, &frames);
    assert_sent(router, &frames);
    assert_received(peers[1], &frames);
    assert_int_equal(frames_receive(peers[0], &frames, soon(SHORT_US), NULL), STATUS_TIMEOUT);
    for (int i = 0; i < 2; i++)
        wire_socket_close(peers[i]);
    wire_socket_close(router);
}

static void refuse_open(const struct wire_fixture *f, struct wire_socket_options options,
                        enum status expected, const char *reason)
{
    struct wire_socket *socket = NULL;
    struct error error = {0};
    assert_int_equal(wire_socket_open(&socket, f->context, &options, &error), expected);
    if (strstr(error.text, reason) == NULL)
        fail_msg("%s", error.text);
    assert_null(socket);
}

static void test_what_cannot_be_opened(void **state)
{
    const struct wire_fixture *f = *state;
    const struct wire_socket_options listen = {
        .kind = WIRE_ROUTER, .listen = true, .endpoint = "tcp://127.0.0.1:*"};
    struct wire_socket_options options = listen;
    options.endpoint = "tcp://*:5600";
    refuse_open(f, options, STATUS_INVALID, "--cluster-key");
    options.endpoint = "inproc://x";
    refuse_open(f, options, STATUS_UNSUPPORTED, "inproc");

    struct wire_socket *taken = open_socket(f->context, listen);
    options.endpoint = wire_socket_endpoint(taken);
    refuse_open(f, options, STATUS_UNREACHABLE, "another port");
    wire_socket_close(taken);

    char path[FILE_PATH_BYTES + 16];
    snprintf(path, sizeof(path), "%s/socket", f->directory);
    assert_int_equal(file_write(path, "precious", 8, 0600, NULL), STATUS_OK);
    options.endpoint = f->ipc;
    refuse_open(f, options, STATUS_INVALID, "no socket");
    assert_int_equal(access(path, F_OK), 0);

    options = (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = "tcp://127.0.0.1:*"};
    refuse_open(f, options, STATUS_INVALID, "only be listened at");
    options.endpoint = f->ipc;
    options.identity = "";
    refuse_open(f, options, STATUS_INVALID, "identity");
    wire_socket_close(NULL);
    wire_context_destroy(NULL);
}

static void test_an_open_network_needs_the_users_word(void **state)
{
    struct wire_context *context = NULL;
    const struct wire_context_options options = {.insecure_network = true};
    assert_int_equal(wire_context_create(&context, &options, NULL), STATUS_OK);
    struct wire_socket *everywhere = open_socket(
        context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = "tcp://*:*"});
    char endpoint[64];
    snprintf(endpoint, sizeof(endpoint), "tcp://localhost%s",
             strrchr(wire_socket_endpoint(everywhere), ':'));
    struct wire_socket *peer = open_socket(
        context, (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = endpoint});
    assert_int_equal(wire_socket_await(peer, soon(PATIENCE_US), NULL), STATUS_OK);
    wire_socket_close(peer);
    wire_socket_close(everywhere);

    struct wire_fixture open = {.context = context};
    refuse_open(&open,
                (struct wire_socket_options){
                    .kind = WIRE_ROUTER, .listen = true, .endpoint = "tcp://no-such-host.:5600"},
                STATUS_UNREACHABLE, "this machine has no interface, and no address, of that name");
    wire_context_destroy(context);
}

static void test_poll_sees_sockets_and_descriptors(void **state)
{
    const struct wire_fixture *f = *state;
    struct wire_socket *router = open_socket(
        f->context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc});
    struct wire_socket *dealer = open_socket(
        f->context, (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = f->ipc});
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct wire_poll_item items[3] = {
        {.socket = router}, {.descriptor = ends[0]}, {.socket = dealer}};
    struct error error;
    static const uint32_t spins[] = {0, 2000};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(wire_poll(items, 3, spins[i], soon(SHORT_US), &error), STATUS_TIMEOUT);
        assert_false(items[0].readable || items[1].readable || items[2].readable);

        assert_int_equal(write(ends[1], "x", 1), 1);
        assert_int_equal(wire_poll(items, 3, spins[i], soon(PATIENCE_US), &error), STATUS_OK);
        assert_true(!items[0].readable && items[1].readable && !items[2].readable);

        struct frames frames = {0};
        put_text(&frames, "hello");
        assert_sent(dealer, &frames);
        const uint64_t deadline = soon(PATIENCE_US);
        while (!wire_socket_readable(router))
            assert_true(clock_us() < deadline);
        assert_int_equal(wire_poll(items, 3, spins[i], soon(PATIENCE_US), &error), STATUS_OK);
        assert_true(items[0].readable && items[1].readable && !items[2].readable);
        assert_received(router, &frames);
        frames_clear(&frames);
        char byte;
        assert_int_equal(read(ends[0], &byte, 1), 1);
    }
    close(ends[1]); /* a closed end can be read: its end */
    assert_int_equal(wire_poll(items, 3, 0, soon(PATIENCE_US), &error), STATUS_OK);
    assert_true(items[1].readable);
    close(ends[0]);
    assert_int_equal(wire_poll(items, WIRE_POLL_ITEMS + 1, 0, 0, &error), STATUS_INVALID);
    wire_socket_close(dealer);
    wire_socket_close(router);
}

/* A stranger: neither his noise nor his size may hurt the others. */
static void test_noise_and_huge_frames_only_end_their_connection(void **state)
{
    const struct wire_fixture *f = *state;
    enum { LIMIT = 100000 };
    struct wire_socket *router =
        open_socket(f->context, (struct wire_socket_options){.kind = WIRE_ROUTER,
                                                             .listen = true,
                                                             .endpoint = "tcp://127.0.0.1:*",
                                                             .max_message_bytes = LIMIT});
    const char *endpoint = wire_socket_endpoint(router);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)},
                                  .sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1))};
    /* No ZeroMQ; a greeting cut short; a greeting and then a frame of 2^63 bytes. */
    static const char noise[] = "GET / HTTP/1.1\r\nHost: cluster\r\nUser-Agent: a browser of some "
                                "length, for the greeting is 64 bytes\r\n\r\n";
    static const char greeting[64] = "\xff\0\0\0\0\0\0\0\x01\x7f\3\0NULL";
    static const char huge[] = "\6\x80\0\0\0\0\0\0\0";
    for (int kind = 0; kind < 3; kind++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        if (kind == 0)
            assert_true(send(fd, noise, sizeof(noise), MSG_NOSIGNAL) > 0);
        else
            assert_true(send(fd, greeting, kind == 1 ? 20 : 64, MSG_NOSIGNAL) > 0);
        if (kind == 2)
            assert_true(send(fd, huge, sizeof(huge) - 1, MSG_NOSIGNAL) > 0);
        if (kind == 2) { /* it hangs up at once; on the others after its handshake time */
            char rest[200];
            ssize_t n;
            while ((n = recv(fd, rest, sizeof(rest), 0)) > 0)
                continue;
        }
        close(fd);
    }

    struct wire_socket *large = open_socket(
        f->context, (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = endpoint});
    struct wire_socket *good = open_socket(
        f->context, (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = endpoint});
    struct frames frames = {0};
    void *data = NULL;
    assert_int_equal(frames_add(&frames, 2 * LIMIT + 1, &data, NULL), STATUS_OK);
    memset(data, 0, 2 * LIMIT + 1);
    assert_sent(large, &frames);
    struct wire_event event = {.kind = WIRE_READY};
    const uint64_t deadline = soon(PATIENCE_US);
    while (!wire_socket_event(large, &event) || event.kind != WIRE_LOST)
        assert_true(clock_us() < deadline);
    put_text(&frames, "still here");
    assert_sent(good, &frames);
    assert_received(router, &frames);
    assert_text(&frames, 0, "still here");
    frames_clear(&frames);
    wire_socket_close(large);
    wire_socket_close(good);
    wire_socket_close(router);
}

#define WIRE_TEST(name)                                                                            \
    cmocka_unit_test_setup_teardown(name, wire_fixture_make, wire_fixture_remove)

/* As a rank has one for each attention node. ZeroMQ's own limit is 1023 of its sockets, of which
 * each of ours takes two. */
static void test_there_is_room_for_a_large_cluster(void **state)
{
    enum { SOCKETS = 600, DESCRIPTORS_OF_ONE = 8 };
    const struct wire_fixture *f = *state;
    if (descriptors_raise() < (size_t)SOCKETS * DESCRIPTORS_OF_ONE)
        skip();
    struct wire_socket *sockets[SOCKETS];
    for (size_t i = 0; i < SOCKETS; i++)
        sockets[i] = open_socket(
            f->context, (struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = f->ipc});
    for (size_t i = 0; i < SOCKETS; i++)
        wire_socket_close(sockets[i]);
}

static void assert_exchange(struct wire_socket *from, struct wire_socket *to)
{
    struct frames frames = {0};
    put_text(&frames, "hello");
    assert_sent(from, &frames);
    assert_received(to, &frames);
    assert_text(&frames, 0, "hello");
    frames_clear(&frames);
}

/* ZeroMQ would end the process. */
static void test_who_comes_when_all_files_are_open_waits(void **state)
{
    enum { GUESTS = 16, LEFT = 4, LOOKS = 100 };
    const struct wire_fixture *f = *state;
    struct wire_socket *router = open_socket(
        f->context,
        (struct wire_socket_options){.kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc});
    const struct wire_socket_options options = {.kind = WIRE_DEALER, .endpoint = f->ipc};
    struct wire_socket *early = open_socket(f->context, options);
    assert_exchange(early, router);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->ipc + strlen("ipc://"));
    int guests[GUESTS];
    for (int i = 0; i < GUESTS; i++)
        assert_true((guests[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);

    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)guests[GUESTS - 1] + 1 + LEFT;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int i = 0; i < GUESTS; i++)
        assert_int_equal(connect(guests[i], (struct sockaddr *)&address, sizeof(address)), 0);
    const uint64_t deadline = soon(PATIENCE_US);
    while (!descriptors_are_few(1))
        assert_true(clock_us() < deadline);
    for (int i = 0; i < LOOKS; i++) /* its thread looks at the listener, too */
        assert_exchange(early, router);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);

    struct wire_socket *late = open_socket(f->context, options);
    assert_exchange(late, router);
    for (int i = 0; i < GUESTS; i++)
        close(guests[i]);
    wire_socket_close(late);
    wire_socket_close(early);
    wire_socket_close(router);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WIRE_TEST(test_the_right_key_gets_in),
        WIRE_TEST(test_threads_of_the_process_talk_inside),
        WIRE_TEST(test_a_wrong_or_missing_key_gets_nothing_in),
        WIRE_TEST(test_another_pair_with_our_public_key_is_denied),
        WIRE_TEST(test_nobody_there_is_said_differently),
        WIRE_TEST(test_who_was_stopped_goes_on_waiting),
        WIRE_TEST(test_a_restarted_listener_is_found_again),
        WIRE_TEST(test_a_taken_over_identity_reaches_the_new_peer),
        WIRE_TEST(test_what_cannot_be_opened),
        WIRE_TEST(test_an_open_network_needs_the_users_word),
        WIRE_TEST(test_poll_sees_sockets_and_descriptors),
        WIRE_TEST(test_there_is_room_for_a_large_cluster),
        WIRE_TEST(test_who_comes_when_all_files_are_open_waits),
        WIRE_TEST(test_noise_and_huge_frames_only_end_their_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
