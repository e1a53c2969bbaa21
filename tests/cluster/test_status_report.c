/* test_status_report.c - tables from a status, also from one that makes no sense. */
#include "cluster/columns.h"
#include "cluster/status_report.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static char *report_of(const char *json_text)
{
    json_error_t where;
    json_t *json = json_loads(json_text, JSON_DECODE_ANY, &where);
    assert_non_null(json);
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    assert_non_null(out);
    status_report_print(out, json);
    assert_int_equal(fclose(out), 0);
    json_decref(json);
    return text;
}

static void expect(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void test_what_a_cluster_says_is_shown(void **state)
{
    char *text = report_of(
        "{\"coordinator\": {\"phase\": \"ready\", \"listen\": \"tcp://h:1\", \"host\": \"h\","
        "  \"version\": \"1\", \"uptime_s\": 3723.5},"
        " \"model\": {\"name\": \"m\", \"n_layers\": 4, \"n_kv_heads\": 2, \"kv_type\": \"f16\","
        "  \"context\": 1000}, \"running\": 1, \"waiting\": 2,"
        " \"ranks\": [{\"rank\": 0, \"state\": \"ready\", \"host\": \"h\", \"pid\": 7, \"lanes\": "
        "2,"
        "  \"device\": \"cuda:1\", \"kernels\": \"avx2\", \"first_layer\": 0, \"n_layers\": 4, "
        "\"kv_heads\": [0, 2],"
        "  \"weight_bytes\": 2097152, \"steps\": 9}],"
        " \"nodes\": [{\"name\": \"node0\", \"state\": \"lost\", \"memory_bytes\": 1073741824,"
        "  \"read_bytes_per_s\": 2e10}, {\"name\": \"\", \"state\": \"absent\"}],"
        " \"holders\": [{\"name\": \"node0\", \"pages_used\": 25, \"pages_kept\": 11, "
        "\"pages_total\": 100}],"
        " \"links\": [{\"rank\": 0, \"holder\": 0, \"sent_bytes\": 1024, \"round_trips\": 4,"
        "  \"round_trip_s\": 0.001}],"
        " \"prompts\": [{\"id\": \"cmpl-1\", \"request\": 3, \"prompt\": 0, \"state\": \"prefill\","
        "  \"age_s\": 61, \"prompt_tokens\": 1000, \"prompt_done\": 250,"
        "  \"spans\": [[0, 0, 512], [0, 512, 1024]]}],"
        " \"counters\": {\"decode_tokens_total\": 5},"
        " \"histograms\": {\"time_to_first_token_seconds\": {\"count\": 2, \"sum\": 1.0}}}");
    expect(text, "ready at tcp://h:1 on h, version 1, up 1:02:03");
    expect(text, "1 running, 2 waiting");
    expect(text, "layers 0-3, KV heads 0-1");
    expect(text, "2.00 MiB");
    expect(text, "lost");
    expect(text, "reads 20.0 GB/s");
    expect(text, "(attention node)");
    expect(text, "cuda:1  avx2");
    expect(text, "25            11  100   25.0%");
    expect(text, "250 us");
    expect(text, "cmpl-1.0");
    expect(text, "node0 1024");
    expect(text, "500.0 ms to the first token\n");
    free(text);
}

/* 50 workers and two nodes: a row for each node, not for each link. */
static void test_many_links_are_one_row_for_each_node(void **state)
{
    json_t *links = json_array();
    for (int i = 0; i < 100; i++)
        json_array_append_new(links,
                              json_pack("{s:i, s:i, s:I, s:i, s:f}", "rank", i / 2, "holder", i % 2,
                                        "sent_bytes", (json_int_t)1 << 20, "round_trips", 10,
                                        "round_trip_s", i == 37 ? 0.02 : 0.001));
    json_t *status = json_pack("{s:[{s:s}, {s:s}], s:o}", "holders", "name", "node0", "name",
                               "node1", "links", links);
    char *json = json_dumps(status, 0), *text = report_of(json);
    expect(text, "50 workers - node0  50.0 MiB");
    expect(text, "500  100 us  worker 0, 100 us"); /* the first of equals */
    expect(text, "500  138 us  worker 18, 2000 us");
    assert_null(strstr(text, "worker 7 "));
    free(text);
    free(json);
    json_decref(status);
}

static void test_nonsense_is_survived(void **state)
{
    static const char *const texts[] = {
        "null",
        "[]",
        "{}",
        "{\"ranks\": 3, \"nodes\": {\"a\": 1}, \"holders\": \"x\"}",
        "{\"ranks\": [null, 1, \"x\", [], {\"kv_heads\": [null], \"n_layers\": -1}]}",
        "{\"nodes\": [{\"name\": 5, \"read_bytes_per_s\": \"fast\"}]}",
        "{\"holders\": [{}], \"links\": [{\"holder\": 1e300}, {\"holder\": -1, \"rank\": 1e17}]}",
        "{\"prompts\": [{\"spans\": [[], [1], [0, 5, 1], null], \"age_s\": 1e300}], \"holders\": "
        "[1]}",
        "{\"coordinator\": {\"host\": \"a\\u0007b\\nc\"}}",
        "{\"counters\": {\"steps_total\": \"many\"}, \"histograms\": []}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *text = report_of(texts[i]);
        assert_null(strchr(text, '\a'));
        free(text);
    }
}

static void test_columns_line_up(void **state)
{
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *out = open_memstream(&text, &n_bytes);
    struct columns columns = {.n = 3, .right = 1 << 1};
    const char *const cells[] = {"name", "n", "what", "\xc3\xa4\xc3\xb6", "12345", "",
                                 "x",    "",  "end"};
    for (size_t i = 0; i < 9; i++)
        columns_add(&columns, cells[i]);
    columns_print(&columns, out);
    fclose(out);
    assert_string_equal(text, "name      n  what\n"
                              "\xc3\xa4\xc3\xb6    12345  -\n"
                              "x         -  end\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_cluster_says_is_shown),
        cmocka_unit_test(test_many_links_are_one_row_for_each_node),
        cmocka_unit_test(test_nonsense_is_survived),
        cmocka_unit_test(test_columns_line_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
