/* test_bus_error.c - a mapped file that is cut short ends the program with words and an exit
 * code. */
#include "sys/bus_error.h"
#include "sys/thread_pool.h"
#include "tests/cmocka.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_BYTES = 1 << 16 };

static const volatile char *map_and_cut(void)
{
    FILE *file = tmpfile();
    if (file == NULL || ftruncate(fileno(file), FILE_BYTES) != 0)
        _exit(99);
    const char *data = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (data == MAP_FAILED || ftruncate(fileno(file), 0) != 0)
        _exit(99);
    return data;
}

static void read_what_was_cut(void)
{
    _exit(map_and_cut()[FILE_BYTES - 1]);
}

static void read_in_lane_1(void *data, uint32_t lane, uint32_t n_lanes)
{
    if (lane == 1)
        _exit(*(const volatile char *)data);
}

static void read_what_was_cut_in_a_lane(void)
{
    struct thread_pool *pool;
    if (thread_pool_create(&pool, 2, NULL) != STATUS_OK)
        _exit(99);
    thread_pool_run(pool, read_in_lane_1, (void *)(uintptr_t)map_and_cut());
    _exit(99);
}

static void raise_it(void)
{
    raise(SIGBUS);
    _exit(99);
}

/* In a child; what it says goes to `text`. Returns its status as wait has it. */
static int status_of(void (*run)(void), char *text, size_t size)
{
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGBUS, SIG_DFL); /* a sanitizer's */
        bus_error_explain();
        run();
    }
    close(ends[1]);
    size_t at = 0;
    for (ssize_t n; at < size - 1 && (n = read(ends[0], text + at, size - 1 - at)) > 0;)
        at += (size_t)n;
    text[at] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void check_is_said(void (*run)(void))
{
    char text[512];
    const int status = status_of(run, text, sizeof(text));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 4);
    assert_non_null(strstr(text, "test_bus_error: error: a file that is mapped cannot be read"));
    assert_non_null(strstr(text, "by rename"));
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void test_a_file_that_is_cut_short_is_said(void **state)
{
    check_is_said(read_what_was_cut);
}

static void test_by_lanes_too(void **state)
{
    check_is_said(read_what_was_cut_in_a_lane);
}

static void test_other_causes_end_as_before(void **state)
{
    char text[512];
    const int status = status_of(raise_it, text, sizeof(text));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    assert_null(strstr(text, "a file that is mapped"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_that_is_cut_short_is_said),
        cmocka_unit_test(test_by_lanes_too),
        cmocka_unit_test(test_other_causes_end_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
