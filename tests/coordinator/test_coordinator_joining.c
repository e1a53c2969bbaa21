/* test_coordinator_joining.c - who may join a job, and what is said when somebody may not, cannot,
 * or does not. */
#include "tests/coordinator/rig.c"

/* Until who has not come is given up. Who comes does so within it, also while the machine does a
 * lot besides. */
enum { JOIN_MS = 2000 };

static void test_another_protocol_is_refused_by_name(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.join_timeout_ms = JOIN_MS;
    rig_start(rig);
    struct rig_actor *worker = rig_join_workers(rig, 1, 77);
    struct rig_actor *node = rig_join_node(rig, "n", 1 << 20, 0, 78, "avx2");
    while (worker->refusal[0] == '\0' || node->refusal[0] == '\0') {
        assert_true(rig_running(rig));
        rig_turn(rig, 20);
    }
    assert_non_null(strstr(worker->refusal, "(longspan 9.9) speaks protocol 77"));
    char ours[80];
    snprintf(ours, sizeof(ours), "the coordinator (longspan " LONGSPAN_VERSION ") speaks %d",
             PROTOCOL_VERSION);
    assert_non_null(strstr(worker->refusal, ours));
    assert_non_null(strstr(node->refusal, "protocol 78"));
    /* and at the deadline it is said who was refused */
    rig_expect_end(rig, STATUS_UNREACHABLE, "0 of 1 workers joined");
}

static void test_missing_peers_are_named_in_time(void **state)
{
    struct rig *rig = rig_open(1, 2);
    rig->options.join_timeout_ms = JOIN_MS;
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    rig_join_node(rig, "node0", 1 << 20, 0, 0, "avx2");
    struct rig_actor *client = rig_add(rig, RIG_CLIENT);
    const uint32_t lengths[] = {5};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed); /* who waits is told, too */
    assert_non_null(strstr(client->failure, "missing: 1"));
    rig_expect_end(
        rig, STATUS_UNREACHABLE,
        "after 2 s (--join-timeout): 1 of 2 attention nodes joined: node0 (mem01); missing: 1");
}

static void test_one_job_at_a_time(void **state)
{
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *client = rig_ready(rig);
    rig_until(rig, rig->actors[0]->set_up);
    struct rig_actor *intruder = rig_join_workers(rig, 1, 0);
    while (intruder->refusal[0] == '\0') {
        assert_true(rig_running(rig));
        rig_turn(rig, 20);
    }
    assert_non_null(strstr(intruder->refusal, "already has its 1 workers, the first on alpha"));
    struct rig_actor *node = rig_join_node(rig, "late", 1 << 20, 0, 0, "avx2");
    while (node->refusal[0] == '\0')
        rig_turn(rig, 20);
    assert_non_null(strstr(node->refusal, "is not needed"));
    const uint32_t lengths[] = {5};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig_end(rig);
}

static void test_a_node_of_another_job_is_refused(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig_start(rig);
    struct rig_actor *node = rig_join_node(rig, "busy", 1 << 20, 0xabc, 0, "avx2");
    while (node->refusal[0] == '\0') {
        assert_true(rig_running(rig));
        rig_turn(rig, 20);
    }
    assert_non_null(
        strstr(node->refusal, "attention node busy (mem01) serves job 0000000000000abc"));
    rig_end(rig);
}

static void test_a_wrong_number_of_ranks_is_refused(void **state)
{
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    struct rig_actor *worker = rig_join_workers(rig, 3, 0);
    while (worker->refusal[0] == '\0') {
        assert_true(rig_running(rig));
        rig_turn(rig, 20);
    }
    assert_non_null(strstr(worker->refusal, "has 3 ranks"));
    assert_non_null(strstr(worker->refusal, "mpirun -n 2"));
    rig_end(rig);
}

static void test_strict_bits_refuses_another_variant(void **state)
{
    struct rig *rig = rig_open(1, 1);
    rig->options.strict_bits = true;
    rig_start(rig);
    struct rig_actor *worker = rig_join_workers(rig, 1, 0);
    rig_until_n(rig, worker->n_pongs, 1);
    rig_join_node(rig, "odd", 1 << 20, 0, 0, "avx512");
    rig_expect_end(rig, STATUS_INVALID, "--strict-bits");
}

/* bf16 takes part in products only where all do: else a row's bits would follow its place in a
 * batch. */
static void test_ranks_of_which_one_rounds_products_are_refused(void **state)
{
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    rig_join_workers_of(rig, 2, 0, "bf16");
    rig_expect_end(rig, STATUS_INVALID, "worker 1 (beta) computes with bf16 kernels");
}

/* Two ranks, of which one computes on a GPU. */
static struct rig *join_unlike_ranks(uint32_t tensor, uint32_t n_experts)
{
    struct rig *rig = rig_open(2, 0);
    rig->options.tensor = tensor;
    rig_write_model_of(rig->model, n_experts);
    rig_start(rig);
    rig_join_workers_of(rig, 2, 0, "cuda");
    return rig;
}

static void test_ranks_that_would_choose_other_experts_are_refused(void **state)
{
    rig_expect_end(join_unlike_ranks(2, 4), STATUS_INVALID, "would choose other experts");
    for (uint32_t tensor = 1; tensor <= 2;
         tensor++) { /* stages route alone; without experts nobody does */
        struct rig *rig = join_unlike_ranks(tensor, tensor == 1 ? 4 : 0);
        rig_until_n(rig, rig->actors[0]->n_pongs, 1);
        rig_end(rig);
    }
}

static void test_failures_to_start_are_passed_on(void **state)
{
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    struct rig_actor *first = rig_join_workers(rig, 2, 0);
    first->load_failure = "model.gguf: another file";
    rig_expect_end(rig, STATUS_INVALID, "worker 0 (alpha): model.gguf: another file");

    rig = rig_open(1, 1);
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    struct rig_actor *node = rig_join_node(rig, "node0", 1 << 24, 0, 0, "avx2");
    node->setup_failure = "already serving";
    rig_expect_end(rig, STATUS_FAILED, "node0 (mem01): already serving");
}

static void test_kv_that_does_not_fit_is_said_before_starting(void **state)
{
    struct rig *rig = rig_open(1, 2);
    rig->options.ctx = 8192;
    rig_start(rig);
    rig_join_node(rig, "node0", 1024 * RIG_KV_BYTES, 0, 0, "avx2");
    rig_join_node(rig, "node1", 1100 * RIG_KV_BYTES, 0, 0, "avx2");
    rig_join_workers(rig, 1, 0);
    rig_expect_end(rig, STATUS_EXHAUSTED, "--ctx 2048 would fit");

    rig = rig_open(1, 0);
    rig->options.ctx = 8192;
    rig->options.kv_memory = 3000 * RIG_KV_BYTES;
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    rig_expect_end(rig, STATUS_EXHAUSTED, "--ctx 2816 would fit");
}

static void test_bad_input_is_found_before_anybody_joins(void **state)
{
    struct rig *rig = rig_open(3, 0);
    rig->options.tensor = 3;
    rig_start(rig);
    rig_expect_end(rig, STATUS_INVALID, "tensor 3: the model has 2 KV heads; possible: 1, 2");

    rig = rig_open(1, 0);
    rig->options.model = "/nonexistent.gguf";
    rig_start(rig);
    rig_expect_end(rig, STATUS_NOT_FOUND, "/nonexistent.gguf");

    rig = rig_open(1, 0);
    rig->options.listen = "tcp://0.0.0.0:5999";
    rig_start(rig);
    rig_expect_end(rig, STATUS_INVALID, "--cluster-key");
}

static void test_who_does_not_get_ready_is_named(void **state)
{
    struct rig *rig = rig_open(1, 2);
    rig->options.join_timeout_ms = JOIN_MS;
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    rig_join_node(rig, "node0", 1 << 24, 0, 0, "avx2");
    struct rig_actor *node = rig_join_node(rig, "node1", 1 << 24, 0, 0, "avx2");
    node->mute = true;
    rig_expect_end(rig, STATUS_UNREACHABLE,
                   "attention node node1 (mem01) did not get ready within 2 s");

    rig = rig_open(2, 0);
    rig->options.load_timeout_ms = 400;
    rig_start(rig);
    rig_join_workers(rig, 2, 0)->mute = true;
    rig_expect_end(rig, STATUS_UNREACHABLE, "worker 0 (alpha) did not load its part of");
}

/* Once all ranks have said how much it is; the one behind the lead is known by its pings only. */
static void test_who_waits_is_told_how_far_loading_is(void **state)
{
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    rig_join_workers(rig, 2, 0);
    struct rig_actor *client = rig_add(rig, RIG_CLIENT);
    rig->actors[0]->load_bytes = 200;
    rig->actors[0]->loaded_bytes = 30;
    rig->actors[1]->mute = true;
    rig_until_n(rig, client->n_pongs, 2);
    assert_int_equal(client->told_load, 0);
    rig->actors[1]->mute = false;
    rig->actors[1]->load_bytes = 100;
    rig->actors[1]->loaded_bytes = 50;
    const uint64_t until_us = clock_us() + 10000000;
    while (client->told_load == 0 && clock_us() < until_us)
        rig_turn(rig, 50);
    assert_int_equal(client->told_load, 300);
    assert_int_equal(client->told_loaded, 80);
    rig_stop(rig);
    rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_protocol_is_refused_by_name),
        cmocka_unit_test(test_missing_peers_are_named_in_time),
        cmocka_unit_test(test_one_job_at_a_time),
        cmocka_unit_test(test_a_node_of_another_job_is_refused),
        cmocka_unit_test(test_a_wrong_number_of_ranks_is_refused),
        cmocka_unit_test(test_strict_bits_refuses_another_variant),
        cmocka_unit_test(test_ranks_of_which_one_rounds_products_are_refused),
        cmocka_unit_test(test_ranks_that_would_choose_other_experts_are_refused),
        cmocka_unit_test(test_failures_to_start_are_passed_on),
        cmocka_unit_test(test_kv_that_does_not_fit_is_said_before_starting),
        cmocka_unit_test(test_bad_input_is_found_before_anybody_joins),
        cmocka_unit_test(test_who_does_not_get_ready_is_named),
        cmocka_unit_test(test_who_waits_is_told_how_far_loading_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
