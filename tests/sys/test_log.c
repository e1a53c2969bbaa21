/* test_log.c - one line per call, by verbosity, whatever the text holds. */
#include "sys/log.h"

#include "tests/cmocka.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What the calls of `say` write. */
static size_t captured(char *text, size_t size, int verbosity, void (*say)(struct log *log))
{
    int ends[2];
    struct log log;
    assert_int_equal(pipe(ends), 0);
    log_open(&log, "worker 3", verbosity);
    log.descriptor = ends[1];
    say(&log);
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n = 1; n > 0 && used<size - 1; used += n> 0 ? (size_t)n : 0)
        n = read(ends[0], text + used, size - 1 - used);
    text[used] = '\0';
    close(ends[0]);
    return used;
}

static void say_all(struct log *log)
{
    log_debug(log, "step %d", 1);
    log_info(log, "ready\n");
    log_warn(log, "slow");
    log_error(log, "bad\tpeer\nsays \x1b[31m");
}

static void test_verbosity_chooses_lines(void **state)
{
    char text[1000];
    captured(text, sizeof(text), 0, say_all);
    assert_string_equal(text, "worker 3: ready\nworker 3: warning: slow\n"
                              "worker 3: error: bad peer says  [31m\n");
    captured(text, sizeof(text), -1, say_all);
    assert_string_equal(text, "worker 3: warning: slow\nworker 3: error: bad peer says  [31m\n");
    captured(text, sizeof(text), 1, say_all);
    unsigned hour, minute, second, ms;
    char rest[100] = "";
    assert_int_equal(sscanf(text, "%2u:%2u:%2u.%3u %99[^\n]", &hour, &minute, &second, &ms, rest),
                     5);
    assert_string_equal(rest, "worker 3: step 1");
    log_error(NULL, "nobody listens");
}

static void say_much(struct log *log)
{
    char long_text[3 * LOG_LINE_BYTES];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    log_info(log, "%s", long_text);
    log_info(log, "after");
}

static void test_long_lines_are_cut(void **state)
{
    static char text[8 * LOG_LINE_BYTES];
    captured(text, sizeof(text), 0, say_much);
    assert_true(strchr(text, '\n') - text < LOG_LINE_BYTES);
    assert_string_equal(strchr(text, '\n') + 1, "worker 3: after\n");
}

enum { N_LINES = 100 };

static void *say_lines(void *log)
{
    for (int i = 0; i < N_LINES; i++)
        log_info(log, "0123456789 0123456789 0123456789");
    return NULL;
}

static void say_together(struct log *log)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_lines, log), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void test_lines_of_threads_stay_whole(void **state)
{
    static char text[65536];
    static const char line[] = "worker 3: 0123456789 0123456789 0123456789\n";
    const size_t used = captured(text, sizeof(text), 0, say_together);
    assert_int_equal(used, 3 * N_LINES * (sizeof(line) - 1));
    for (size_t at = 0; at < used; at += sizeof(line) - 1)
        assert_memory_equal(text + at, line, sizeof(line) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbosity_chooses_lines),
        cmocka_unit_test(test_long_lines_are_cut),
        cmocka_unit_test(test_lines_of_threads_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
