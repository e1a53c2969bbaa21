/* test_trace_files.c - parts become one JSON array; what is no part is refused; times add up. */
#include "cluster/trace_files.h"

#include "cluster/trace_table.h"
#include "sys/trace.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void part(const char *name, const char *process, uint32_t n_spans)
{
    char path[FILE_PATH_BYTES + 64];
    struct trace *trace = NULL;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    assert_int_equal(trace_create(&trace, path, process, NULL), STATUS_OK);
    struct trace_track *track = trace_track(trace, "main");
    trace_step(track, 1, TRACE_DECODE);
    for (uint32_t i = 0; i < n_spans; i++)
        trace_span(track, "q", trace_begin(track));
    assert_int_equal(trace_write(trace, NULL, NULL), STATUS_OK);
    trace_destroy(trace);
}

/* A layout of a coordinator, a rank and a node "mem". */
static struct trace_files expected(void)
{
    struct layout_node node = {.name = "mem"};
    struct layout layout = {.n_ranks = 1, .nodes = &node, .n_nodes = 1};
    struct trace_files files = {0};
    snprintf(layout.trace, sizeof(layout.trace), "%.*s/all", FILE_PATH_BYTES - 8, directory);
    assert_int_equal(trace_files_expect(&files, &layout, NULL), STATUS_OK);
    assert_int_equal(files.n_parts, 3);
    return files;
}

static void test_parts_become_one_array(void **state)
{
    struct trace_files files = expected();
    part("all.coordinator", "coordinator", 2);
    part("all.worker.0", "worker 0", 3);
    part("all.mem", "mem", 0);
    assert_int_equal(trace_files_join(&files, NULL, NULL, NULL), STATUS_OK);

    json_t *all = json_load_file(files.path, 0, NULL);
    assert_non_null(all);
    assert_int_equal(json_array_size(all), 3 * 2 + 5);
    size_t i, n_spans[4] = {0};
    json_t *event;
    json_array_foreach(all, i, event)
    {
        const char *kind = json_string_value(json_object_get(event, "ph"));
        const json_int_t pid = json_integer_value(json_object_get(event, "pid"));
        assert_in_range(pid, 1, 3);
        n_spans[pid] += strcmp(kind, "X") == 0;
    }
    assert_true(n_spans[1] == 2 && n_spans[2] == 3 && n_spans[3] == 0);
    json_decref(all);
    for (i = 0; i < files.n_parts; i++)
        assert_int_not_equal(access(files.parts[i], F_OK), 0);
    trace_files_free(&files);
}

static void test_a_part_on_another_machine_is_left_out(void **state)
{
    struct trace_files files = expected();
    struct error error;
    assert_int_equal(trace_files_join(&files, NULL, NULL, &error), STATUS_NOT_FOUND);
    part("all.coordinator", "coordinator", 1);
    assert_int_equal(trace_files_join(&files, NULL, NULL, &error), STATUS_OK);
    trace_files_free(&files);
}

static void test_what_is_no_part_is_refused(void **state)
{
    static const char *const texts[] = {
        "", "[\n", "[\nnothing\n]\n", "[\n{\"pid\":1,\"tid\":0,\"ph\":\"X\",\"name\":\"q\"}\n]\n"};
    struct trace_files files = expected();
    struct error error;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(file_write(files.parts[0], texts[i], strlen(texts[i]), 0600, NULL),
                         STATUS_OK);
        assert_int_equal(trace_files_join(&files, NULL, NULL, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "all.coordinator"));
        assert_non_null(strstr(error.text, "is the disk full"));
    }
    unlink(files.parts[0]);
    trace_files_free(&files);
}

static void test_no_trace_no_parts(void **state)
{
    const struct layout layout = {.n_ranks = 2};
    struct trace_files files = {0};
    assert_int_equal(trace_files_expect(&files, &layout, NULL), STATUS_OK);
    assert_int_equal(files.n_parts, 0);
    trace_files_free(&files);
}

/* Two steps of 100 us: a product of 80 us, of which 30 us are a wait inside it, and 20 us of
 * nothing that was recorded. Lanes and prompts do not count. */
static void test_own_times_add_up(void **state)
{
    static const char *const lines[] = {
        "{\"pid\":9,\"tid\":0,\"ph\":\"M\",\"name\":\"process_name\",\"args\":{\"name\":\"worker "
        "0\"}}",
        "{\"pid\":9,\"tid\":0,\"ph\":\"X\",\"name\":\"wait\",\"cat\":\"decode\",\"ts\":1050.0,"
        "\"dur\":30.0,\"args\":{\"step\":4}}",
        "{\"pid\":9,\"tid\":0,\"ph\":\"X\",\"name\":\"q\",\"cat\":\"decode\",\"ts\":1000.0,"
        "\"dur\":80.0,\"args\":{\"step\":4,\"layer\":1}}",
        "{\"pid\":9,\"tid\":0,\"ph\":\"X\",\"name\":\"wait\",\"cat\":\"decode\",\"ts\":1150.0,"
        "\"dur\":30.0,\"args\":{\"step\":5}}",
        "{\"pid\":9,\"tid\":0,\"ph\":\"X\",\"name\":\"q\",\"cat\":\"decode\",\"ts\":1100.0,"
        "\"dur\":80.0,\"args\":{\"step\":5,\"layer\":1}}",
        "{\"pid\":9,\"tid\":1,\"ph\":\"X\",\"name\":\"run\",\"cat\":\"decode\",\"ts\":1000.0,"
        "\"dur\":500.0,\"args\":{\"step\":5}}",
        "{\"pid\":9,\"tid\":0,\"ph\":\"X\",\"name\":\"q\",\"cat\":\"prefill\",\"ts\":100.0,"
        "\"dur\":500.0,\"args\":{\"step\":1}}",
    };
    struct trace_table *table = NULL;
    assert_int_equal(trace_table_create(&table, NULL), STATUS_OK);
    assert_int_equal(trace_table_add(table, lines[1], NULL), STATUS_INVALID);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_int_equal(trace_table_add(table, lines[i], NULL), STATUS_OK);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    trace_table_print(out, table);
    fclose(out);
    assert_non_null(strstr(text, "worker 0: 2 decode steps"));
    assert_non_null(strstr(text, "  q                          50.0 us"));
    assert_non_null(strstr(text, "  wait                       30.0 us"));
    assert_null(strstr(text, "run"));
    free(text);
    trace_table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_become_one_array),
        cmocka_unit_test(test_a_part_on_another_machine_is_left_out),
        cmocka_unit_test(test_what_is_no_part_is_refused),
        cmocka_unit_test(test_no_trace_no_parts),
        cmocka_unit_test(test_own_times_add_up),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
