/* test_wire.c - a network that loses, repeats, reorders and delays, and nodes that go: the right
 * bits, or an error that names the holder. Never another answer. */
#include "tests/worker/wire_relay.h"

enum { TOKENS = 600, CHUNK = 60, STRIPE = 256, RETRY_MS = 10 };
/* Ample where the right answer must come; short where nothing can. */
enum { REPAIR_MS = 20000, CHAOS_MS = 1000, GIVE_UP_MS = 400, SLACK_MS = 10000 };

struct bench {
    struct cluster cluster;
    struct relay *relays[2];
    struct attention *attention;
    float *reference, *result;
    uint64_t n_sequences;
};

static float *new_result(void)
{
    float *result = calloc((size_t)N_LAYERS * TOKENS * Q_ROW, sizeof(*result));
    assert_non_null(result);
    return result;
}

static const struct text the_text = {.text = 5};
static const struct text the_child = {.text = 6, .parent = 5, .shared = 256};

static uint32_t deal(struct attention_span *spans, uint32_t n_holders)
{
    uint32_t n = 0;
    for (uint32_t begin = 0; begin < TOKENS; begin += STRIPE, n++)
        spans[n] = (struct attention_span){n % n_holders, {begin, begin + STRIPE}};
    return n;
}

/* Runs a sequence to its end or its first error, which is returned; every good step is compared. */
static const struct error *run(struct bench *bench, struct attention *attention, uint32_t n_nodes,
                               uint64_t parent, float *result)
{
    struct attention_span spans[8];
    const uint32_t n_spans = deal(spans, n_nodes > 0 ? n_nodes : 1);
    const uint64_t sequence = ++bench->n_sequences;
    const uint32_t start = parent > 0 ? 256 : 0;
    for (uint32_t i = 0; i < n_nodes; i++)
        if (bench->cluster.nodes[i].running)
            cluster_reserve(&bench->cluster, i, sequence, spans, n_spans, start);
    for (uint32_t position = start, n; position < TOKENS; position += n) {
        n = position == 120 ? 1 : CHUNK; /* a decode step too */
        n = n < TOKENS - position ? n : TOKENS - position;
        const struct attention_segment segment = {.sequence = sequence,
                                                  .incarnation = 1,
                                                  .position = position,
                                                  .n_tokens = n,
                                                  .spans = spans,
                                                  .n_spans = position == start ? n_spans : 0,
                                                  .fork = parent > 0 && position == start,
                                                  .parent = parent,
                                                  .parent_incarnation = 1};
        cluster_step(&bench->cluster, attention, &segment, parent > 0 ? &the_child : &the_text, 1,
                     &result, TOKENS);
        const struct error *error = attention_segment_error(attention, 0);
        for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
            const size_t at = ((size_t)layer * TOKENS + position) * Q_ROW;
            /* The layers before the one that failed were right. */
            if (memcmp(result + at, bench->reference + at, n * Q_ROW * sizeof(float)) != 0 &&
                parent == 0 && error == NULL)
                fail_msg("a wrong answer in layer %u, tokens from %u", layer, position);
        }
        if (error != NULL)
            return error;
    }
    return NULL;
}

static void start_bench(struct bench *bench, uint32_t n_nodes, bool relays, uint32_t timeout_ms)
{
    struct attention *local;
    struct error error = {0};
    const char *endpoints[2];
    memset(bench, 0, sizeof(*bench));
    bench->reference = new_result();
    bench->result = new_result();
    cluster_start(&bench->cluster, n_nodes);
    assert_int_equal(cluster_attention(&bench->cluster, 0, true, NULL, &local, NULL), STATUS_OK);
    float *reference = bench->reference;
    bench->reference = bench->result; /* compares the run with itself */
    assert_null(run(bench, local, 0, 0, bench->result));
    memcpy(reference, bench->result, sizeof(float) * N_LAYERS * TOKENS * Q_ROW);
    bench->reference = reference;
    attention_close(local);

    bench->cluster.retry_ms = RETRY_MS;
    bench->cluster.timeout_ms = timeout_ms;
    bench->cluster.zeromq_only = relays; /* shared memory would go past them */
    for (uint32_t i = 0; i < n_nodes; i++) {
        if (relays)
            bench->relays[i] = relay_start(&bench->cluster, i, 100 + i);
        endpoints[i] = relays ? bench->relays[i]->endpoint : bench->cluster.nodes[i].endpoint;
    }
    if (cluster_attention(&bench->cluster, n_nodes, false, endpoints, &bench->attention, &error) !=
        STATUS_OK)
        fail_msg("%s", error.text);
}

static void stop_bench(struct bench *bench)
{
    attention_close(bench->attention);
    for (int i = 0; i < 2; i++)
        if (bench->relays[i] != NULL)
            relay_stop(bench->relays[i]);
    cluster_stop(&bench->cluster);
    free(bench->reference);
    free(bench->result);
}

static void set_both(struct bench *bench, const struct relay_faults *faults)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&bench->relays[i]->struck, 0);
        relay_set(bench->relays[i], faults);
    }
}

/* Faults that can be repaired: the right bits must come, although the faults did strike. */
static void expect_repaired(struct bench *bench, const char *what,
                            const struct relay_faults *faults)
{
    set_both(bench, faults);
    const struct error *error = run(bench, bench->attention, 2, 0, bench->result);
    if (error != NULL)
        fail_msg("%s: %s", what, error->text);
    if (atomic_load(&bench->relays[0]->struck) + atomic_load(&bench->relays[1]->struck) == 0)
        fail_msg("%s: did not happen", what);
    set_both(bench, &(struct relay_faults){0});
    attention_drop(bench->attention, bench->n_sequences, 1, 0);
    cluster_free(&bench->cluster, bench->n_sequences);
}

static void test_appends_lost_repeated_reordered_delayed(void **state)
{
    struct bench bench;
    start_bench(&bench, 2, true, REPAIR_MS);
    expect_repaired(&bench, "a third of the appends lost",
                    &(struct relay_faults){.drop = {[RELAY_APPEND] = 3}});
    expect_repaired(&bench, "every append twice",
                    &(struct relay_faults){.repeat = {[RELAY_APPEND] = 1}});
    expect_repaired(&bench, "half of the appends behind what follows",
                    &(struct relay_faults){.swap = {[RELAY_APPEND] = 2}});
    expect_repaired(&bench, "a third of the appends 30 ms late",
                    &(struct relay_faults){.delay = {[RELAY_APPEND] = 3}, .delay_ms = 30});
    stop_bench(&bench);
}

static void test_queries_and_replies_lost_repeated_late(void **state)
{
    struct bench bench;
    start_bench(&bench, 2, true, REPAIR_MS);
    expect_repaired(&bench, "a third of the queries lost",
                    &(struct relay_faults){.drop = {[RELAY_ATTEND] = 3}});
    expect_repaired(&bench, "a third of the replies lost",
                    &(struct relay_faults){.drop = {[RELAY_ATTEND_REPLY] = 3}});
    expect_repaired(
        &bench, "queries and replies twice",
        &(struct relay_faults){.repeat = {[RELAY_ATTEND] = 1, [RELAY_ATTEND_REPLY] = 1}});
    expect_repaired(&bench, "half of the replies later than a retry",
                    &(struct relay_faults){.delay = {[RELAY_ATTEND_REPLY] = 2}, .delay_ms = 25});
    expect_repaired(&bench, "half of the queries behind what follows",
                    &(struct relay_faults){.swap = {[RELAY_ATTEND] = 2}});
    expect_repaired(&bench, "a third of the replies' headers are noise",
                    &(struct relay_faults){.garble = 3});
    stop_bench(&bench);
}

static void test_connection_made_anew_between_append_and_query(void **state)
{
    struct bench bench;
    start_bench(&bench, 2, true, REPAIR_MS);
    expect_repaired(&bench, "a new connection before a fourth of the queries",
                    &(struct relay_faults){.cut = {[RELAY_ATTEND] = 4}});
    expect_repaired(&bench, "a new connection before a sixth of the appends",
                    &(struct relay_faults){.cut = {[RELAY_APPEND] = 6}});
    stop_bench(&bench);
}

static void test_forks_lost(void **state)
{
    struct bench bench;
    float *fresh = new_result();
    start_bench(&bench, 2, true, REPAIR_MS);
    assert_null(run(&bench, bench.attention, 2, 0, bench.result));
    const uint64_t parent = bench.n_sequences;
    assert_null(run(&bench, bench.attention, 2, parent, fresh));
    set_both(&bench, &(struct relay_faults){.drop = {[RELAY_FORK] = 2, [RELAY_APPEND] = 4}});
    /* Two layers have a fork each: the counters stand so that one of them, and repeats, are lost.
     */
    for (int i = 0; i < 3; i++) {
        memset(bench.result, 0, sizeof(float) * N_LAYERS * TOKENS * Q_ROW);
        const struct error *error = run(&bench, bench.attention, 2, parent, bench.result);
        if (error != NULL)
            fail_msg("%s", error->text);
        for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
            const size_t at = ((size_t)layer * TOKENS + 256) * Q_ROW;
            assert_memory_equal(fresh + at, bench.result + at,
                                (TOKENS - 256) * Q_ROW * sizeof(float));
        }
    }
    assert_true(atomic_load(&bench.relays[0]->struck) > 0);
    stop_bench(&bench);
    free(fresh);
}

/* All kinds of faults at once, often: an error is allowed, if it names the holder. */
static void test_chaos_is_right_or_names_the_holder(void **state)
{
    struct bench bench;
    uint32_t n_right = 0;
    start_bench(&bench, 2, true, CHAOS_MS);
    for (uint32_t round = 0; round < 8; round++) {
        struct relay_faults faults = {0};
        for (int kind = 0; kind < RELAY_KINDS; kind++)
            faults.chance[kind] = 50 + 30 * round;
        set_both(&bench, &faults);
        const struct error *error = run(&bench, bench.attention, 2, 0, bench.result);
        if (error != NULL && strncmp(error->text, "node", 4) != 0)
            fail_msg("an error that names nobody: %s", error->text);
        n_right += error == NULL;
        attention_drop(bench.attention, bench.n_sequences, 1, 0);
        cluster_free(&bench.cluster, bench.n_sequences);
    }
    assert_true(n_right > 0);
    stop_bench(&bench);
}

static void test_replies_of_wrong_size_fail_naming_the_holder(void **state)
{
    struct bench bench;
    start_bench(&bench, 2, true, REPAIR_MS);
    for (int longer = 0; longer < 2; longer++) {
        relay_set(bench.relays[1], longer ? &(struct relay_faults){.lengthen = 1}
                                          : &(struct relay_faults){.shorten = 1});
        const struct error *error = run(&bench, bench.attention, 2, 0, bench.result);
        assert_non_null(error);
        assert_int_equal(error->status, STATUS_PROTOCOL);
        assert_non_null(strstr(error->text, "node1"));
        relay_set(bench.relays[1], &(struct relay_faults){0});
        assert_null(run(&bench, bench.attention, 2, 0, bench.result));
    }
    stop_bench(&bench);
}

static void test_silent_holder_is_named_in_time_and_forgiven(void **state)
{
    struct bench bench;
    start_bench(&bench, 2, true, GIVE_UP_MS);
    relay_set(bench.relays[1], &(struct relay_faults){.drop = {1, 1, 1, 1, 1, 1}});
    const uint64_t began = clock_us();
    const struct error *error = run(&bench, bench.attention, 2, 0, bench.result);
    assert_non_null(error);
    assert_int_equal(error->status, STATUS_TIMEOUT);
    assert_non_null(strstr(error->text, "node1"));
    assert_true(clock_us() - began < 1000 * (uint64_t)(GIVE_UP_MS + SLACK_MS));

    /* Known to be silent: the next one does not wait. */
    error = run(&bench, bench.attention, 2, 0, bench.result);
    assert_non_null(error);
    assert_non_null(strstr(error->text, "node1"));
    assert_int_equal(error->status, STATUS_UNREACHABLE); /* after a wait it would be TIMEOUT */

    relay_set(bench.relays[1], &(struct relay_faults){0});
    for (int attempt = 0; attempt < 200 && error != NULL; attempt++) {
        clock_sleep_us(10000); /* until its answer to a Hello is here */
        error = run(&bench, bench.attention, 2, 0, bench.result);
        attention_drop(bench.attention, bench.n_sequences, 1, 0);
        cluster_free(&bench.cluster, bench.n_sequences);
    }
    assert_null(error);
    stop_bench(&bench);
}

/* A batch: what lies on the node that lives goes on. */
static void test_dead_node_fails_its_segments_only(void **state)
{
    struct bench bench;
    struct attention_span both[8], one[] = {{0, {0, 768}}};
    const uint32_t n_both = deal(both, 2);
    start_bench(&bench, 2, false, GIVE_UP_MS);
    cluster_reserve(&bench.cluster, 0, 1, both, n_both, 0);
    cluster_reserve(&bench.cluster, 1, 1, both, n_both, 0);
    cluster_reserve(&bench.cluster, 0, 2, one, 1, 0);
    const struct text texts[] = {the_text, the_text};
    float *results[] = {bench.result, bench.result};
    struct attention_segment segments[] = {
        {.sequence = 1, .incarnation = 1, .n_tokens = 400, .spans = both, .n_spans = n_both},
        {.sequence = 2, .incarnation = 1, .n_tokens = 400, .spans = one, .n_spans = 1}};
    cluster_step(&bench.cluster, bench.attention, segments, texts, 2, results, TOKENS);
    assert_null(attention_segment_error(bench.attention, 0));
    assert_null(attention_segment_error(bench.attention, 1));

    harness_node_stop(&bench.cluster.nodes[1]);
    const uint64_t began = clock_us();
    for (int i = 0; i < 2; i++) {
        segments[i].position = 400;
        segments[i].n_tokens = 50;
        segments[i].n_spans = 0;
    }
    cluster_step(&bench.cluster, bench.attention, segments, texts, 2, results, TOKENS);
    assert_true(clock_us() - began < 1000 * (uint64_t)(GIVE_UP_MS + SLACK_MS));
    assert_non_null(attention_segment_error(bench.attention, 0));
    assert_non_null(strstr(attention_segment_error(bench.attention, 0)->text, "node1"));
    if (attention_segment_error(bench.attention, 1) != NULL)
        fail_msg("%s", attention_segment_error(bench.attention, 1)->text);
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        const size_t at = ((size_t)layer * TOKENS + 400) * Q_ROW;
        assert_memory_equal(bench.result + at, bench.reference + at, 50 * Q_ROW * sizeof(float));
    }
    stop_bench(&bench);
}

/* A node that was started again at the same address knows nothing: that is told from a slow one. */
static void test_restarted_node_is_another_one(void **state)
{
    struct bench bench;
    start_bench(&bench, 1, false, REPAIR_MS);
    assert_null(run(&bench, bench.attention, 1, 0, bench.result));
    struct harness_node *node = &bench.cluster.nodes[0];
    char endpoint[ADDRESS_BYTES];
    snprintf(endpoint, sizeof(endpoint), "%s", node->endpoint);
    harness_node_stop(node);
    harness_node_config(&bench.cluster, node, 0, NULL);
    node->config.bind = endpoint;
    node->joined = false;
    assert_int_equal(pthread_create(&node->thread, NULL, harness_node_main, node), 0);
    node->running = true;
    cluster_set_up(&bench.cluster, node);

    const struct attention_segment segment = {
        .sequence = bench.n_sequences, .incarnation = 1, .position = TOKENS, .n_tokens = 1};
    float *none = NULL;
    cluster_step(&bench.cluster, bench.attention, &segment, &the_text, 1, &none, TOKENS);
    const struct error *error = attention_segment_error(bench.attention, 0);
    assert_non_null(error);
    assert_non_null(strstr(error->text, "node0"));
    assert_non_null(strstr(error->text, "another process"));
    stop_bench(&bench);
}

static void test_open_names_who_is_absent(void **state)
{
    struct cluster cluster;
    struct attention *attention = NULL;
    struct error error = {0};
    char absent[160];
    cluster_start(&cluster, 2);
    cluster.timeout_ms = 300;
    cluster.retry_ms = 50;
    snprintf(absent, sizeof(absent), "ipc://%s/nobody.sock", cluster.directory);
    const char *endpoints[] = {cluster.nodes[0].endpoint, absent};
    assert_int_equal(cluster_attention(&cluster, 2, false, endpoints, &attention, &error),
                     STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "node1"));
    assert_null(attention);

    /* Another process than the plan says. */
    const char *swapped[] = {cluster.nodes[1].endpoint, cluster.nodes[0].endpoint};
    error = (struct error){0};
    assert_int_not_equal(cluster_attention(&cluster, 2, false, swapped, &attention, &error),
                         STATUS_OK);
    assert_non_null(strstr(error.text, "node"));
    cluster_stop(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_lost_repeated_reordered_delayed),
        cmocka_unit_test(test_queries_and_replies_lost_repeated_late),
        cmocka_unit_test(test_connection_made_anew_between_append_and_query),
        cmocka_unit_test(test_forks_lost),
        cmocka_unit_test(test_chaos_is_right_or_names_the_holder),
        cmocka_unit_test(test_replies_of_wrong_size_fail_naming_the_holder),
        cmocka_unit_test(test_silent_holder_is_named_in_time_and_forgiven),
        cmocka_unit_test(test_dead_node_fails_its_segments_only),
        cmocka_unit_test(test_restarted_node_is_another_one),
        cmocka_unit_test(test_open_names_who_is_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
