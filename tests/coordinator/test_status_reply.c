/* test_status_reply.c - what a coordinator with real sockets says of itself, before, while and
 * after it serves. */
#include "tests/coordinator/rig.c"

#include "coordinator/metrics.h"

static uint64_t counter(const Longspan__StatusReply *status, enum metrics_counter which)
{
    for (size_t i = 0; i < status->n_counters; i++)
        if (strcmp(status->counters[i]->name, metrics_counter_name(which)) == 0)
            return status->counters[i]->value;
    fail_msg("there is no counter %s", metrics_counter_name(which));
    return 0;
}

static const Longspan__HistogramStatus *histogram(const Longspan__StatusReply *status,
                                                  enum metrics_histogram which)
{
    for (size_t i = 0; i < status->n_histograms; i++)
        if (strcmp(status->histograms[i]->name, metrics_histogram_name(which)) == 0)
            return status->histograms[i];
    fail_msg("there is no histogram %s", metrics_histogram_name(which));
    return NULL;
}

static void test_who_has_not_joined_is_shown_as_absent(void **state)
{
    struct rig *rig = rig_open(2, 2);
    rig_start(rig);
    rig_join_node(rig, "big", 4096ull * RIG_KV_BYTES, 0, 0, "avx2");
    struct rig_actor *client = rig_add(rig, RIG_CLIENT);
    const Longspan__StatusReply *status = rig_status(rig, client);
    while (status->nodes[0]->state == LONGSPAN__PROCESS_STATE__PROCESS_ABSENT)
        status = rig_status(rig, client); /* its join may come later than our question */
    assert_string_equal(status->coordinator->phase, "joining");
    assert_int_equal(status->n_ranks, 2);
    assert_int_equal(status->n_nodes, 2);
    assert_int_equal(status->ranks[0]->state, LONGSPAN__PROCESS_STATE__PROCESS_ABSENT);
    assert_int_equal(status->nodes[0]->state, LONGSPAN__PROCESS_STATE__PROCESS_JOINED);
    assert_string_equal(status->nodes[0]->name, "big");
    assert_int_equal(status->nodes[1]->state, LONGSPAN__PROCESS_STATE__PROCESS_ABSENT);
    assert_int_equal(status->model->context, 0);
    assert_int_equal(status->n_holders + status->n_links + status->n_counters, 0);
    rig_close(rig);
}

static void test_processes_prompts_and_counts_are_told(void **state)
{
    struct rig *rig = rig_open(2, 2);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {1000, 900};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .common = 600, .n_predict = 20};
    rig->actors[1]->silent_steps = true; /* so that it stays at its first chunk */
    rig_request(rig, client, 7, &ask);
    rig_until_n(rig, client->n_plans, 1);

    const Longspan__StatusReply *status = rig_status(rig, client);
    assert_string_equal(status->coordinator->phase, "ready");
    assert_int_equal(status->n_stages, 2);
    assert_int_equal(status->stages[1]->first_layer, status->ranks[1]->first_layer);
    assert_int_equal(status->ranks[0]->n_layers + status->ranks[1]->n_layers, RIG_LAYERS);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(status->ranks[i]->state, LONGSPAN__PROCESS_STATE__PROCESS_READY);
        assert_int_equal(status->nodes[i]->state, LONGSPAN__PROCESS_STATE__PROCESS_READY);
        assert_true(status->holders[i]->pages_total > 0);
        assert_string_equal(status->holders[i]->name, status->nodes[i]->name);
    }
    assert_true(status->nodes[0]->share > 0 && status->nodes[1]->share > 0);
    assert_float_equal(status->nodes[0]->share + status->nodes[1]->share, 1, 1e-12);
    assert_int_equal(status->n_links, 4);
    assert_int_equal(status->n_prompts, 2);
    assert_int_equal(status->prompts[0]->request, 7);
    assert_int_equal(status->prompts[0]->prompt_tokens, 1000);
    assert_int_equal(status->prompts[0]->prompt_done, 0);
    assert_string_equal(status->prompts[0]->state, "prefill");
    assert_true(status->prompts[0]->n_spans > 0);
    assert_int_equal(status->prompts[0]->spans[0]->begin, 0);
    assert_int_equal(status->prompts[1]->prompt, 1);
    assert_int_equal(counter(status, METRICS_DECODE_TOKENS), 0);
    assert_int_equal(status->prompts_running + status->prompts_waiting, 2);
    rig_close(rig);
}

static void test_counts_after_the_work(void **state)
{
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {1000, 900};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .common = 600, .n_predict = 20};
    rig_request(rig, client, 7, &ask);
    rig_until(rig, client->done);
    const struct rig_ask bad = {.lengths = (const uint32_t[]){0}, .n = 1, .n_predict = 1};
    rig_request(rig, client, 8, &bad);
    rig_until(rig, client->failed);

    const Longspan__StatusReply *status = rig_status(rig, client);
    assert_int_equal(status->n_prompts, 0);
    assert_int_equal(counter(status, METRICS_DECODE_TOKENS), 40);
    assert_int_equal(counter(status, METRICS_CACHED_TOKENS), 512); /* two whole pages of 600 */
    assert_int_equal(counter(status, METRICS_PREFILL_TOKENS), 1900 - 512);
    assert_int_equal(counter(status, METRICS_REQUESTS_DONE), 1);
    assert_int_equal(counter(status, METRICS_REQUESTS_REFUSED), 1);
    assert_int_equal(histogram(status, METRICS_FIRST_TOKEN)->count, 2);
    assert_int_equal(histogram(status, METRICS_NEXT_TOKEN)->count, 38);
    assert_int_equal(histogram(status, METRICS_REQUEST)->count, 1);
    const Longspan__HistogramStatus *rows = histogram(status, METRICS_ROWS);
    assert_int_equal(rows->count, counter(status, METRICS_STEPS));
    assert_int_equal(rows->n_counts, rows->n_bounds + 1);
    assert_true(rows->sum == 1900 - 512 + 38); /* a first token costs no row of its own */
    rig_close(rig);
}

static void test_pages_that_are_kept_are_told_apart(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.prefix_cache = true;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {1000, 900};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .common = 600, .n_predict = 20};
    const Longspan__StatusReply *status;
    rig_request(rig, client, 7, &ask);
    rig_until(rig, client->done);
    do /* the step that closes them comes later */
        status = rig_status(rig, client);
    while (status->holders[0]->pages_used != status->holders[0]->pages_kept);
    /* Three whole pages of each, two of them shared. */
    assert_int_equal(status->holders[0]->pages_kept, 4);
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_has_not_joined_is_shown_as_absent),
        cmocka_unit_test(test_processes_prompts_and_counts_are_told),
        cmocka_unit_test(test_counts_after_the_work),
        cmocka_unit_test(test_pages_that_are_kept_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
