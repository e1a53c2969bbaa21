/* test_wire_context.c - how ZeroMQ's threads are scheduled. */
#include "proto/wire_parts.h"
#include "sys/offer.h"
#include "tests/proto/wire_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LOOK_US = 300,
    FIND_US = 2000000,
    MOST_THREADS = 256,
    ZEROMQS = 2 /* one moves bytes, one ends sockets; a sanitizer may have a thread of its own */
};

/* Threads of this process, in *ids. */
static size_t list_threads(int ids[MOST_THREADS])
{
    size_t n = 0;
    DIR *directory = opendir("/proc/self/task");
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.' && n < MOST_THREADS)
            ids[n++] = atoi(entry->d_name);
    closedir(directory);
    return n;
}

static bool is_listed(const int *ids, size_t n, int id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* A context that the calling thread makes, with a socket, and ZeroMQ's threads of both. */
struct made {
    struct wire_context *context;
    struct wire_socket *socket;
    int threads[ZEROMQS];
};

static bool all_have(const int *ids, int policy)
{
    for (size_t i = 0; i < ZEROMQS; i++)
        if (sched_getscheduler(ids[i]) != policy)
            return false;
    return true;
}

/* ZeroMQ's threads begin with the first socket, and choose their policy themselves, in time. */
static bool find_threads(const int *before, size_t n_before, int policy, int found[ZEROMQS])
{
    const uint64_t deadline = soon(PATIENCE_US);
    while (clock_us() < deadline) {
        int ids[MOST_THREADS];
        const size_t n = list_threads(ids);
        size_t n_found = 0;
        for (size_t i = 0; i < n; i++)
            if (!is_listed(before, n_before, ids[i]) && sched_getscheduler(ids[i]) == policy &&
                n_found < ZEROMQS)
                found[n_found++] = ids[i];
        if (n_found == ZEROMQS)
            return true;
    }
    return false;
}

static void make(struct made *made, const char *endpoint)
{
    int before[MOST_THREADS];
    const size_t n_before = list_threads(before);
    assert_int_equal(wire_context_create(&made->context, &(struct wire_context_options){0}, NULL),
                     STATUS_OK);
    assert_int_equal(
        wire_socket_open(&made->socket, made->context,
                         &(struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = endpoint},
                         NULL),
        STATUS_OK);
    assert_true(find_threads(before, n_before, SCHED_BATCH, made->threads));
}

static void end(struct made *made)
{
    wire_socket_close(made->socket);
    wire_context_destroy(made->context);
}

static void test_zeromqs_threads_wait_their_turn(void **state)
{
    const struct wire_fixture *f = *state;
    struct made made;
    if (sched_getscheduler(0) != SCHED_OTHER)
        skip(); /* somebody chose for all tests (chrt), and that is kept */
    make(&made, f->ipc);
    end(&made);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

/* ---- beside who only computes ---- */

static void *compute(void *stop)
{
    while (!atomic_load_explicit((atomic_bool *)stop, memory_order_relaxed))
        continue;
    return NULL;
}

/* False: the kernel's turns are too short for anybody to be found. */
static bool is_found(void)
{
    const uint64_t deadline = soon(FIND_US);
    while (clock_us() < deadline)
        if (!offer_processor())
            return true;
    return false;
}

static void test_a_look_beside_who_only_computes_lets_them_interrupt(void **state)
{
    const struct wire_fixture *f = *state;
    struct made made;
    cpu_set_t before, one;
    pthread_t thread;
    atomic_bool stop = false;
    if (sched_getscheduler(0) != SCHED_OTHER)
        skip();
    make(&made, f->ipc);
    struct wire_poll_item item = {.socket = made.socket};
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(pthread_create(&thread, NULL, compute, &stop), 0);
    const bool found = is_found();
    const enum status status = wire_poll(&item, 1, LOOK_US, soon(LOOK_US), NULL);
    const bool interrupt = all_have(made.threads, SCHED_OTHER);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    end(&made);
    if (!found)
        skip();
    assert_int_equal(status, STATUS_TIMEOUT);
    assert_true(interrupt);
}

/* Told, not found: who else computes here meanwhile is nothing to this test. */
static void test_zeromqs_threads_wait_again_when_nobody_computes(void **state)
{
    const struct wire_fixture *f = *state;
    struct made made;
    if (sched_getscheduler(0) != SCHED_OTHER)
        skip();
    make(&made, f->ipc);
    struct wire_threads *threads = &made.context->threads;
    wire_threads_note(threads, false);
    const bool interrupt = all_have(made.threads, SCHED_OTHER);
    const uint64_t deadline = soon(PATIENCE_US);
    while (!all_have(made.threads, SCHED_BATCH) && clock_us() < deadline)
        wire_threads_note(threads, true);
    const bool wait_again = all_have(made.threads, SCHED_BATCH);
    end(&made);
    assert_true(interrupt);
    assert_true(wait_again);
}

/* Without a right that goes beyond the limit. */
static void test_too_few_threads_are_told(void **state)
{
    (void)state;
    enum { NOBODY = 65534, IS_TOLD = 0, IS_NOT, CANNOT };
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit one = {1, 1};
        const struct wire_context_options options = {0};
        struct wire_context *context = NULL;
        struct error error;
        if ((geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0) ||
            setrlimit(RLIMIT_NPROC, &one) != 0)
            _exit(CANNOT);
        const enum status status = wire_context_create(&context, &options, &error);
        _exit(status == STATUS_NO_MEMORY && strstr(error.text, "ulimit -u") != NULL ? IS_TOLD
                                                                                    : IS_NOT);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT)
        skip();
    assert_int_equal(WEXITSTATUS(status), IS_TOLD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_few_threads_are_told),
        cmocka_unit_test_setup_teardown(test_zeromqs_threads_wait_their_turn, wire_fixture_make,
                                        wire_fixture_remove),
        cmocka_unit_test_setup_teardown(test_a_look_beside_who_only_computes_lets_them_interrupt,
                                        wire_fixture_make, wire_fixture_remove),
        cmocka_unit_test_setup_teardown(test_zeromqs_threads_wait_again_when_nobody_computes,
                                        wire_fixture_make, wire_fixture_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
