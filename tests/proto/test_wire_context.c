/* test_wire_context.c - how ZeroMQ's threads are scheduled. */
#include "tests/proto/wire_fixture.h"

#include <dirent.h>
#include <sched.h>

enum {
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

/* ZeroMQ's threads begin with the first socket, and choose their policy themselves, in time. */
static bool new_threads_become(const int *before, size_t n_before, int policy)
{
    const uint64_t deadline = soon(PATIENCE_US);
    while (clock_us() < deadline) {
        int ids[MOST_THREADS];
        const size_t n = list_threads(ids);
        size_t n_as_expected = 0;
        for (size_t i = 0; i < n; i++)
            n_as_expected +=
                !is_listed(before, n_before, ids[i]) && sched_getscheduler(ids[i]) == policy;
        if (n_as_expected == ZEROMQS)
            return true;
    }
    return false;
}

/* Of a context that the calling thread makes. */
static bool zeromqs_threads_become(int policy, const char *endpoint)
{
    const struct wire_context_options options = {0};
    struct wire_context *context = NULL;
    struct wire_socket *socket = NULL;
    int before[MOST_THREADS];
    const size_t n_before = list_threads(before);
    const bool become =
        wire_context_create(&context, &options, NULL) == STATUS_OK &&
        wire_socket_open(&socket, context,
                         &(struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = endpoint},
                         NULL) == STATUS_OK &&
        new_threads_become(before, n_before, policy);
    wire_socket_close(socket);
    wire_context_destroy(context);
    return become;
}

static void test_zeromqs_threads_wait_their_turn(void **state)
{
    const struct wire_fixture *f = *state;
    if (sched_getscheduler(0) != SCHED_OTHER)
        skip(); /* somebody chose for all tests (chrt), and that is kept */
    assert_true(zeromqs_threads_become(SCHED_BATCH, f->ipc));
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_zeromqs_threads_wait_their_turn, wire_fixture_make,
                                        wire_fixture_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
