/* test_bus_error.c - a mapped file that is cut short ends the program with words and an exit code. */
#include "sys/bus_error.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILE_BYTES = 1 << 16 };

static void read_what_was_cut(void)
{
    FILE *file = tmpfile();
    if (file == NULL || ftruncate(fileno(file), FILE_BYTES) != 0)
        _exit(99);
    const volatile char *data = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (data == MAP_FAILED || ftruncate(fileno(file), 0) != 0)
        _exit(99);
    _exit(data[FILE_BYTES - 1]);
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

static void test_a_file_that_is_cut_short_is_said(void **state)
{
    (void)state;
    char text[512];
    const int status = status_of(read_what_was_cut, text, sizeof(text));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 4);
    assert_non_null(strstr(text, "test_bus_error: error: a file that is mapped cannot be read"));
    assert_non_null(strstr(text, "by rename"));
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void test_other_causes_end_as_before(void **state)
{
    (void)state;
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
        cmocka_unit_test(test_other_causes_end_as_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
