/* test_door.c - who begins with HTTP/1 is let in, whoever comes beside, and however slowly. */
#include "coordinator/http/door.h"

#include "tests/cmocka.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Sanitizers let an allocation of any size fail, as the C library does. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static enum door_verdict judge(const char *line)
{
    return door_judge(line, strlen(line));
}

static void test_a_first_line_is_judged_by_its_version(void **state)
{
    assert_int_equal(judge(""), DOOR_WAITS);
    assert_int_equal(judge("GET / HTTP/9.9"), DOOR_WAITS);
    assert_int_equal(judge("GET / HTTP/1.1\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("GET / HTTP/1.0\nHost: x\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("GET / HTTP/1.9\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("GET / HTTP/2.0\r\nHTTP/1.1\r\n"), DOOR_REFUSES);
    assert_int_equal(judge("PRI * HTTP/2.0\r\n\r\nSM\r\n"), DOOR_REFUSES);
    assert_int_equal(judge("HTTP/0.9\n"), DOOR_REFUSES);
    /* what is no version is not ours to judge */
    assert_int_equal(judge("GET /\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("GET / HTTP/22.0\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("GET / http/2.0\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("\r\n"), DOOR_ADMITS);
    assert_int_equal(judge("\n"), DOOR_ADMITS);
    static char endless[DOOR_LINE_BYTES + 1];
    memset(endless, 'a', DOOR_LINE_BYTES);
    assert_int_equal(door_judge(endless, DOOR_LINE_BYTES - 1), DOOR_WAITS);
    assert_int_equal(door_judge(endless, DOOR_LINE_BYTES), DOOR_ADMITS);
}

struct place {
    struct MHD_Daemon *daemon;
    struct door *door;
    atomic_uint n_in, most_in; /* connections, as the daemon counts them */
    pthread_mutex_t answers;   /* who has it keeps the daemon from going on */
    struct sockaddr_in address;
};

/* A daemon that answers everything with 200 and nothing. */
static enum MHD_Result answer(void *closure, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *n_bytes, void **context)
{
    struct place *place = closure;
    pthread_mutex_lock(&place->answers);
    pthread_mutex_unlock(&place->answers);
    if (*context == NULL) { /* once more when it is whole: then the connection may go on */
        *context = closure;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    const enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static void count(void *closure, struct MHD_Connection *connection, void **context,
                  enum MHD_ConnectionNotificationCode code)
{
    struct place *place = closure;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const unsigned n = atomic_fetch_add(&place->n_in, 1) + 1;
        if (n > atomic_load(&place->most_in))
            atomic_store(&place->most_in, n); /* by the daemon's one thread */
    } else {
        atomic_fetch_sub(&place->n_in, 1);
    }
}

/* `memory`: what the daemon takes for each connection. */
static void open_place_with(struct place *p, uint32_t most, uint32_t patience_s, size_t memory)
{
    socklen_t n = sizeof(p->address);
    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->answers, NULL);
    p->address.sin_family = AF_INET;
    p->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(listening >= 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&p->address, n), 0);
    assert_int_equal(listen(listening, 16), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&p->address, &n), 0);
    p->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ITC |
                                     MHD_USE_NO_LISTEN_SOCKET,
                                 0, NULL, NULL, answer, p, MHD_OPTION_NOTIFY_CONNECTION, count, p,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_END);
    assert_non_null(p->daemon);
    const struct door_config config = {
        .listening = listening, .daemon = p->daemon, .most = most, .patience_s = patience_s};
    assert_int_equal(door_open(&p->door, &config, NULL), STATUS_OK);
}

static void open_place(struct place *p, uint32_t most, uint32_t patience_s)
{
    open_place_with(p, most, patience_s, DOOR_LINE_BYTES);
}

static void close_place(struct place *p)
{
    door_close(p->door);
    MHD_stop_daemon(p->daemon);
    assert_int_equal(atomic_load(&p->n_in), 0);
    pthread_mutex_destroy(&p->answers);
}

static int visit(const struct place *p, const char *text)
{
    const struct timeval patience = {.tv_sec = 20};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (const struct sockaddr *)&p->address, sizeof(p->address)), 0);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    return fd;
}

/* The status of the answer; 0: none came before the end. */
static int hear(int fd)
{
    char said[512] = "";
    int status = 0;
    for (size_t n = 0; n < sizeof(said) - 1 && strchr(said, '\n') == NULL;) {
        const ssize_t got = recv(fd, said + n, sizeof(said) - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        said[n] = '\0';
    }
    (void)sscanf(said, "HTTP/1.1 %d", &status);
    return status;
}

static void test_who_speaks_http_1_is_let_in(void **state)
{
    struct place p;
    open_place(&p, 20, 60);
    const int silent = visit(&p, "GE"); /* keeps nobody waiting */
    const int good = visit(&p, "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    const int other = visit(&p, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    const int none = visit(&p, "what is this\r\n\r\n");
    assert_int_equal(hear(good), 200);
    assert_int_equal(hear(other), 400);
    assert_int_equal(hear(none), 400);
    for (const char *c = "T / HTTP/1.1\r\nHost: x\r\n\r\n"; *c != '\0'; c++)
        assert_int_equal(send(silent, c, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(hear(silent), 200);
    assert_int_equal(send(good, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, MSG_NOSIGNAL), 27);
    assert_int_equal(hear(good), 200); /* it is in */
    close(silent);
    close(good);
    close(other);
    close(none);
    close_place(&p);
}

static void test_who_says_nothing_has_to_go(void **state)
{
    struct place p;
    open_place(&p, 2, 1);
    const int silent = visit(&p, ""), half = visit(&p, "GET / HT");
    const int later = visit(&p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); /* waits for a place */
    assert_int_equal(hear(later), 200);
    assert_int_equal(hear(silent), 0);
    assert_int_equal(hear(half), 0);
    const int unseen = visit(&p, "GET"); /* is still there in the end */
    close(silent);
    close(half);
    close(later);
    close_place(&p);
    close(unseen);
}

/* Of this process, the one that looks among them. */
static unsigned count_descriptors(void)
{
    unsigned n = 0;
    DIR *entries = opendir("/proc/self/fd");
    assert_non_null(entries);
    while (readdir(entries) != NULL)
        n++;
    closedir(entries);
    return n;
}

/* A daemon that is busy has not seen yet whom it was given. */
static void test_no_more_are_let_in_than_there_are_places(void **state)
{
    enum { MOST = 4, GUESTS = 5 * MOST };
    struct place p;
    int guests[GUESTS];
    open_place(&p, MOST, 60);
    const unsigned n_before = count_descriptors();
    pthread_mutex_lock(&p.answers);
    for (size_t i = 0; i < GUESTS; i++)
        guests[i] = visit(&p, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const unsigned n_all = n_before + GUESTS + MOST; /* both ends of those that are in */
    for (unsigned ms = 0; ms < 20000 && count_descriptors() < n_all; ms++)
        poll(NULL, 0, 1);
    assert_int_equal(count_descriptors(), n_all);
    pthread_mutex_unlock(&p.answers);
    for (size_t i = 0; i < GUESTS; i++) {
        assert_int_equal(hear(guests[i]), 200);
        close(guests[i]);
    }
    assert_true(atomic_load(&p.most_in) <= MOST);
    close_place(&p);
}

/* A daemon tells nothing of a connection for which it has no memory. */
static void test_whom_the_daemon_drops_has_gone(void **state)
{
    enum { MOST = 2, GUESTS = 4 * MOST };
    struct place p;
    open_place_with(&p, MOST, 60, SIZE_MAX / 4);
    for (size_t i = 0; i < GUESTS; i++) {
        const int guest = visit(&p, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        char byte;
        const ssize_t n = recv(guest, &byte, 1, 0);
        assert_true(n == 0 || (n < 0 && errno == ECONNRESET)); /* cut, and not left waiting */
        close(guest);
    }
    close_place(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_first_line_is_judged_by_its_version),
        cmocka_unit_test(test_who_speaks_http_1_is_let_in),
        cmocka_unit_test(test_who_says_nothing_has_to_go),
        cmocka_unit_test(test_no_more_are_let_in_than_there_are_places),
        cmocka_unit_test(test_whom_the_daemon_drops_has_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
