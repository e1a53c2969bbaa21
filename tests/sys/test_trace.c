/* test_trace.c - what was recorded is what the file says; off costs nothing and needs nothing. */
#include "sys/trace.h"

#include "sys/thread_pool.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char path[FILE_PATH_BYTES + 16];

static struct trace *create(const char *process)
{
    struct trace *trace = NULL;
    struct error error;
    assert_int_equal(trace_create(&trace, path, process, &error), STATUS_OK);
    assert_non_null(trace);
    return trace;
}

/* Ends the trace; the caller frees the text. */
static char *written(struct trace *trace)
{
    struct error error;
    char *text = NULL;
    size_t size;
    assert_int_equal(trace_write(trace, NULL, &error), STATUS_OK);
    trace_destroy(trace);
    assert_int_equal(file_read(path, 1 << 30, &text, &size, &error), STATUS_OK);
    return text;
}

static uint32_t count(const char *text, const char *what)
{
    uint32_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

static void test_spans_follow_each_other(void **state)
{
    struct trace *trace = create("worker 3");
    struct trace_track *track = trace_track(trace, "main");
    trace_step(track, 7, TRACE_DECODE);
    trace_layer(track, 2);
    uint64_t at = trace_begin(track);
    at = trace_span(track, "norm", at);
    assert_int_equal(track->events[0].begin_ns + track->events[0].duration_ns, at);
    trace_step(track, 8, TRACE_PREFILL);
    trace_span(track, "report", at);
    assert_int_equal(track->events[1].begin_ns, at);

    char *text = written(trace);
    assert_true(strncmp(text, "[\n{", 3) == 0 && strstr(text, "}\n]\n") != NULL);
    assert_int_equal(count(text, "\n"), 6); /* brackets, two names, two spans */
    assert_non_null(strstr(text, "\"process_name\",\"args\":{\"name\":\"worker 3\"}"));
    assert_non_null(strstr(text, "\"thread_name\",\"args\":{\"name\":\"main\"}"));
    assert_non_null(strstr(text, "\"name\":\"norm\",\"cat\":\"decode\","));
    assert_non_null(strstr(text, "\"args\":{\"step\":7,\"layer\":2}"));
    assert_non_null(strstr(text, "\"name\":\"report\",\"cat\":\"prefill\","));
    assert_non_null(strstr(text, "\"args\":{\"step\":8}"));
    free(text);
}

static void test_without_a_file_nothing_is_recorded(void **state)
{
    struct trace *trace = NULL;
    struct error error;
    assert_int_equal(trace_create(&trace, NULL, "worker", &error), STATUS_OK);
    assert_null(trace);
    struct trace_track *track = trace_track(trace, "main");
    assert_null(track);
    trace_step(track, 1, TRACE_DECODE);
    trace_layer(track, 1);
    assert_int_equal(trace_span(track, "norm", trace_begin(track)), 0);
    trace_heard(trace, 1, 1);
    assert_int_equal(trace_write(trace, NULL, &error), STATUS_OK);
    trace_destroy(trace);
}

static void test_a_path_that_cannot_be_written_is_told_at_once(void **state)
{
    struct trace *trace = NULL;
    struct error error;
    assert_int_equal(trace_create(&trace, "/nowhere/trace", "worker", &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "/nowhere/trace"));
    assert_null(trace);
}

static void test_a_full_track_keeps_the_first_spans(void **state)
{
    struct trace *trace = create("worker");
    struct trace_track *track = trace_track(trace, "main");
    const size_t capacity = track->capacity;
    for (size_t i = 0; i < capacity + 5; i++)
        trace_span(track, i < capacity ? "kept" : "dropped", 1);
    assert_int_equal(track->n, capacity);
    assert_int_equal(track->n_dropped, 5);
    char *text = written(trace);
    assert_null(strstr(text, "\"dropped\""));
    free(text);
}

static void test_names_cannot_break_the_file(void **state)
{
    struct trace *trace = create("a \"node\"\n\\");
    char *text = written(trace);
    assert_non_null(strstr(text, "{\"name\":\"a ?node???\"}"));
    free(text);
}

/* The time at which a span begins, in the file's clock. */
static double begin_us(struct trace *trace)
{
    struct trace_track *track = trace_track(trace, "main");
    trace_span(track, "span", 5000000);
    char *text = written(trace);
    const double us = strtod(strstr(text, "\"ts\":") + 5, NULL);
    free(text);
    return us;
}

static void test_the_quickest_answer_sets_the_clock(void **state)
{
    const uint64_t far = UINT64_C(3600) * 1000000000;
    struct trace *trace = create("worker");
    trace_heard(trace, clock_ns(), clock_ns() + far);
    trace_heard(trace, clock_ns() - 1000000000, clock_ns()); /* slow: tells less */
    const double us = begin_us(trace);
    assert_true(us > 3600e6 + 4900 && us < 3600e6 + 5100 + 1e6);

    trace = create("worker");
    const uint64_t asked = clock_ns(), answered = clock_ns();
    trace_heard(trace, asked, answered); /* the same host: within the time it took */
    assert_true(begin_us(trace) == 5000.0);
}

static void nothing(void *context, uint32_t lane, uint32_t n_lanes)
{
}

static void test_lanes_are_where_their_caller_is(void **state)
{
    struct thread_pool *pool = NULL;
    struct trace *trace = create("worker");
    struct trace_track *track = trace_track(trace, "main");
    assert_int_equal(thread_pool_create(&pool, 3, NULL), STATUS_OK);
    thread_pool_trace(pool, trace, track);
    trace_step(track, 9, TRACE_DECODE);
    trace_layer(track, 4);
    for (uint32_t i = 0; i < 10; i++)
        thread_pool_run(pool, nothing, NULL);
    thread_pool_destroy(pool);
    char *text = written(trace);
    assert_int_equal(count(text, "\"name\":\"wait for lanes\""), 10);
    assert_int_equal(count(text, "\"name\":\"run\""), 20);
    assert_int_equal(count(text, "{\"step\":9,\"layer\":4}"), 30);
    assert_non_null(strstr(text, "\"name\":\"lane 2\""));
    free(text);
}

static int make_path(void **state)
{
    const int made = make_directory(state);
    snprintf(path, sizeof(path), "%s/trace", directory);
    return made;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans_follow_each_other),
        cmocka_unit_test(test_without_a_file_nothing_is_recorded),
        cmocka_unit_test(test_a_path_that_cannot_be_written_is_told_at_once),
        cmocka_unit_test(test_a_full_track_keeps_the_first_spans),
        cmocka_unit_test(test_names_cannot_break_the_file),
        cmocka_unit_test(test_the_quickest_answer_sets_the_clock),
        cmocka_unit_test(test_lanes_are_where_their_caller_is),
    };
    return cmocka_run_group_tests(tests, make_path, remove_directory);
}
