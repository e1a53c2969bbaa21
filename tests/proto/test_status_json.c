/* test_status_json.c - a reply becomes JSON that says the same, also when it has holes. */
#include "proto/status_json.h"

#include "tests/cmocka.h"

#include <math.h>
#include <string.h>

static const char *string_at(json_t *list, size_t i, const char *name)
{
    return json_string_value(json_object_get(json_array_get(list, i), name));
}

static void test_an_empty_reply_has_every_field(void **state)
{
    Longspan__StatusReply reply = LONGSPAN__STATUS_REPLY__INIT;
    json_t *json = status_json(&reply);
    assert_non_null(json);
    assert_true(json_is_null(json_object_get(json, "coordinator")));
    assert_true(json_is_null(json_object_get(json, "model")));
    for (const char *const *name =
             (const char *const[]){"stages", "ranks", "nodes", "holders", "links", "prompts", NULL};
         *name != NULL; name++)
        assert_int_equal(json_array_size(json_object_get(json, *name)), 0);
    assert_string_equal(json_string_value(json_object_get(json, "job")), "0000000000000000");
    json_decref(json);
}

static void test_fields_arrive_under_their_names(void **state)
{
    Longspan__StatusReply reply = LONGSPAN__STATUS_REPLY__INIT;
    Longspan__RankStatus rank = LONGSPAN__RANK_STATUS__INIT, *ranks[] = {&rank};
    Longspan__NodeStatus node = LONGSPAN__NODE_STATUS__INIT, *nodes[] = {&node};
    Longspan__PromptStatus prompt = LONGSPAN__PROMPT_STATUS__INIT, *prompts[] = {&prompt};
    Longspan__Span span = LONGSPAN__SPAN__INIT, *spans[] = {&span};
    Longspan__HistogramStatus histogram = LONGSPAN__HISTOGRAM_STATUS__INIT, *list[] = {&histogram};
    double waits[] = {0.5, NAN}, bounds[] = {1.0};
    uint64_t counts[] = {3, 4};
    rank.rank = 2;
    rank.state = LONGSPAN__PROCESS_STATE__PROCESS_LOST;
    rank.layer_wait_s = waits;
    rank.n_layer_wait_s = 2;
    node.name = "no\xffUTF-8"; /* the node has no usage yet either */
    prompt.state = "prefill";
    prompt.priority = -3;
    span.holder = 1;
    span.begin = 256;
    span.end = 512;
    prompt.spans = spans;
    prompt.n_spans = 1;
    histogram.name = "step_seconds";
    histogram.bounds = bounds;
    histogram.n_bounds = 1;
    histogram.counts = counts;
    histogram.n_counts = 2;
    reply.job = 0xabcdef;
    reply.ranks = ranks;
    reply.nodes = nodes;
    reply.prompts = prompts;
    reply.histograms = list;
    reply.n_ranks = reply.n_nodes = reply.n_prompts = reply.n_histograms = 1;

    json_t *json = status_json(&reply);
    assert_non_null(json);
    assert_string_equal(string_at(json_object_get(json, "ranks"), 0, "state"), "lost");
    json_t *told =
        json_object_get(json_array_get(json_object_get(json, "ranks"), 0), "layer_wait_s");
    assert_true(json_real_value(json_array_get(told, 0)) == 0.5);
    assert_true(json_is_null(json_array_get(told, 1)));
    assert_string_equal(string_at(json_object_get(json, "nodes"), 0, "name"), "?");
    json_t *first = json_array_get(json_object_get(json, "prompts"), 0);
    assert_int_equal(json_integer_value(json_object_get(first, "priority")), -3);
    json_t *place = json_array_get(json_object_get(first, "spans"), 0);
    assert_int_equal(json_integer_value(json_array_get(place, 1)), 256);
    json_t *steps = json_object_get(json_object_get(json, "histograms"), "step_seconds");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(steps, "counts"), 1)), 4);
    assert_string_equal(json_string_value(json_object_get(json, "job")), "0000000000abcdef");
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_reply_has_every_field),
        cmocka_unit_test(test_fields_arrive_under_their_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
