/* test_coordinator.c - the real loop against actors that behave, and against actors that do not. */
#include "tests/coordinator/rig.c"

#include "sys/random.h"

/* Until who has not come is given up. Who comes does so within it, also while the machine does a lot besides. */
enum { JOIN_MS = 2000 };

/* Ends in order: the stop is noticed, everybody is told, and nothing was wrong. */
static void end(struct rig *rig)
{
    rig_stop(rig);
    assert_int_equal(rig_wait(rig, 10), STATUS_OK);
    rig_close(rig);
}

static void expect_end(struct rig *rig, enum status status, const char *text)
{
    assert_int_equal(rig_wait(rig, 15), status);
    if (strstr(rig->result->error.text, text) == NULL)
        fail_msg("\"%s\" is not in: %s", text, rig->result->error.text);
    rig_close(rig);
}

/* What the fake model generates behind the prompt is what came back. */
static void check_generated(const struct rig_actor *client, const struct rig_ask *ask)
{
    int32_t *tokens = calloc(RIG_TOKENS, sizeof(*tokens));
    assert_non_null(tokens);
    for (uint32_t i = 0; i < ask->n; i++) {
        uint32_t n = ask->lengths[i];
        for (uint32_t j = 0; j < n; j++)
            tokens[j] = rig_prompt_token(i, j, ask->common);
        assert_int_equal(client->prompts[i].n_generated, ask->n_predict);
        assert_int_equal(client->prompts[i].text_bytes, ask->n_predict);
        assert_string_equal(client->prompts[i].reason, "length");
        for (uint32_t j = 0; j < ask->n_predict; j++) {
            tokens[n] = rig_next(tokens, n);
            assert_int_equal(client->prompts[i].generated[j], tokens[n]);
            assert_int_equal(client->prompts[i].text[j], tokens[n] - 3);
            n++;
        }
    }
    free(tokens);
}

static void serve(uint32_t workers, uint32_t nodes)
{
    struct rig *rig = rig_open(workers, nodes);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {700, 1, 300, 700};
    const struct rig_ask ask = {
        .lengths = lengths, .n = 4, .common = 600, .n_predict = 20, .n_logprobs = 3};
    rig_request(rig, client, 5, &ask); /* early: before anybody is ready */
    rig_until(rig, client->done);
    check_generated(client, &ask);
    assert_int_equal(client->n_plans, 1);
    assert_int_equal(client->prompts[0].shared_tokens, 0);
    assert_int_equal(client->prompts[2].shared_tokens, 256);
    assert_int_equal(client->prompts[3].shared_tokens, 512);
    assert_int_equal(client->prefill_tokens, 700 + 1 + 44 + 188);
    assert_int_equal(client->prompts[0].progress, 700);
    assert_int_equal(client->prompts[0].n_top, 3);
    assert_true(client->prompts[0].logprob == -0.5f);
    assert_true(client->kv_bytes > 0);
    assert_string_equal(client->holder, nodes > 0 ? "node0" : "local");
    assert_true(rig->actors[0]->max_rows_seen <= rig->options.chunk + rig->options.max_batch);
    for (uint32_t i = 0; i < rig->n_actors; i++)
        if (rig->actors[i]->kind == RIG_NODE) {
            assert_true(rig->actors[i]->n_reserves > 0);
            rig_until_n(rig, rig->actors[i]->n_frees, 1); /* after the closing step */
        }

    /* alone, without sharing, with whole rows: the same ids */
    struct rig_actor *second = rig_add(rig, RIG_CLIENT);
    const struct rig_ask again = {.lengths = lengths,
                                  .n = 4,
                                  .common = 600,
                                  .n_predict = 20,
                                  .want_logits = true,
                                  .no_sharing = true};
    rig_request(rig, second, 5, &again);
    rig_until(rig, second->done);
    check_generated(second, &again);
    assert_int_equal(second->n_rows, 80);
    assert_int_equal(second->prefill_tokens, 1701);
    rig_stop(rig);
    assert_int_equal(rig_wait(rig, 10), STATUS_OK);
    for (int i = 0; i < 20 && rig->actors[0]->left[0] == '\0'; i++)
        rig_turn(rig, 50);
    assert_true(rig->actors[0]->left[0] != '\0'); /* workers are told to go */
    rig_close(rig);
}

static void test_one_worker_serves(void **state)
{
    (void)state;
    serve(1, 0);
}

static void test_stages_and_nodes_serve(void **state)
{
    (void)state;
    serve(3, 2);
}

static void test_seeded_sampling_repeats(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 0);
    struct rig_actor *a = rig_ready(rig), *b = rig_add(rig, RIG_CLIENT);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {
        .lengths = lengths, .n = 1, .n_predict = 30, .temperature = 8.0f, .seed = 4};
    rig_request(rig, a, 1, &ask);
    rig_request(rig, b, 1, &ask);
    rig_until(rig, a->done);
    rig_until(rig, b->done);
    assert_true(a->prompts[0].n_generated > 0);
    assert_int_equal(a->prompts[0].n_generated, b->prompts[0].n_generated);
    assert_memory_equal(a->prompts[0].generated, b->prompts[0].generated,
                        a->prompts[0].n_generated * sizeof(int32_t));
    end(rig);
}

static void check_scores(const struct rig_prompt *prompt, uint32_t length, uint32_t common)
{
    int32_t tokens[RIG_SCORES];
    for (uint32_t i = 0; i < length; i++)
        tokens[i] = rig_prompt_token(0, i, common);
    assert_int_equal(prompt->n_scores, length - 1);
    for (uint32_t i = 1; i < length; i++)
        assert_true(prompt->scores[i - 1] == rig_score(tokens, i));
}

static void test_a_prompt_is_scored_before_its_answers(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 0);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {1300, 1300, 1300};
    struct rig_ask ask = {.lengths = lengths,
                          .n = 3,
                          .common = 1300,
                          .n_predict = 8,
                          .n_logprobs = 4,
                          .scored = true,
                          .again = true};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    check_scores(&client->prompts[0], 1300, 1300);
    assert_int_equal(client->prompts[0].n_score_tops, 4 * 1299);
    check_generated(client, &ask);
    assert_int_equal(client->prompts[1].n_scores, 0);
    /* The others have its pages. */
    assert_int_equal(client->prefill_tokens, 1300 + 2 * (1300 - 1280));

    /* Again, without an answer: what was kept of it is not taken over. */
    struct rig_actor *other = rig_add(rig, RIG_CLIENT);
    ask.n = 1;
    ask.no_answer = true;
    ask.n_logprobs = 0;
    rig_request(rig, other, 1, &ask);
    rig_until(rig, other->done);
    check_scores(&other->prompts[0], 1300, 1300);
    assert_int_equal(other->prompts[0].n_score_tops, 0);
    assert_int_equal(other->prompts[0].n_generated, 0);
    assert_string_equal(other->prompts[0].reason, "length");
    assert_int_equal(other->prefill_tokens, 1300);
    end(rig);
}

/* The second prompt is preempted while it is read, since the first one's answer outgrows the pages that
 * were left: no token is scored twice, none is left out. */
static void test_a_preempted_prompt_goes_on_being_scored(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 0);
    rig->options.prefix_cache = false;
    rig->options.ctx = 12800;
    rig->options.chunk = 16;
    rig_start(rig);
    rig_join_workers(rig, 1, 0)->capacity = 52 * PAGE_TOKENS * RIG_KV_BYTES;
    struct rig_actor *client = rig_add(rig, RIG_CLIENT), *other = rig_add(rig, RIG_CLIENT);
    const uint32_t lengths[] = {640}, later[] = {12000};
    const struct rig_ask first = {
        .lengths = lengths, .n = 1, .common = 12000, .n_predict = 900, .scored = true};
    const struct rig_ask second = {
        .lengths = later, .n = 1, .common = 12000, .n_predict = 20, .scored = true};
    rig_request(rig, client, 1, &first);
    rig_until_n(rig, client->prompts[0].n_generated, 1);
    rig_request(rig, other, 1, &second);
    rig_until(rig, client->done);
    rig_until(rig, other->done);
    check_scores(&client->prompts[0], 640, 12000);
    check_scores(&other->prompts[0], 12000, 12000);
    assert_true(other->prefill_tokens > 12000); /* some of them twice */
    end(rig);
}

static void test_bad_requests_are_answered(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 0);
    rig->options.ctx = 1000;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {1001};
    struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed);
    assert_int_equal(client->failure_status, STATUS_INVALID);
    assert_string_equal(client->failure, "prompt 0 has 1001 tokens, the context has 1000 (--ctx)");

    const uint32_t none[] = {0};
    ask.lengths = none;
    client->failed = false;
    rig_request(rig, client, 2, &ask);
    rig_until(rig, client->failed);
    assert_string_equal(client->failure, "prompt 0 is empty");

    ask.n = 0;
    client->failed = false;
    rig_request(rig, client, 3, &ask);
    rig_until(rig, client->failed);
    assert_non_null(strstr(client->failure, "0 prompts"));

    /* exactly the context: one token comes */
    const uint32_t full[] = {1000};
    ask = (struct rig_ask){.lengths = full, .n = 1, .n_predict = 5};
    rig_request(rig, client, 4, &ask);
    rig_until(rig, client->done);
    assert_int_equal(client->prompts[0].n_generated, 1);
    assert_string_equal(client->prompts[0].reason, "length");
    end(rig);
}

static void test_another_protocol_is_refused_by_name(void **state)
{
    (void)state;
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
    expect_end(rig, STATUS_UNREACHABLE, "0 of 1 workers joined");
}

static void test_missing_peers_are_named_in_time(void **state)
{
    (void)state;
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
    expect_end(
        rig, STATUS_UNREACHABLE,
        "after 2 s (--join-timeout): 1 of 2 attention nodes joined: node0 (mem01); missing: 1");
}

static void test_one_job_at_a_time(void **state)
{
    (void)state;
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
    end(rig);
}

static void test_a_node_of_another_job_is_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    rig_start(rig);
    struct rig_actor *node = rig_join_node(rig, "busy", 1 << 20, 0xabc, 0, "avx2");
    while (node->refusal[0] == '\0') {
        assert_true(rig_running(rig));
        rig_turn(rig, 20);
    }
    assert_non_null(
        strstr(node->refusal, "attention node busy (mem01) serves job 0000000000000abc"));
    end(rig);
}

static void test_a_wrong_number_of_ranks_is_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    struct rig_actor *worker = rig_join_workers(rig, 3, 0);
    while (worker->refusal[0] == '\0') {
        assert_true(rig_running(rig));
        rig_turn(rig, 20);
    }
    assert_non_null(strstr(worker->refusal, "has 3 ranks"));
    assert_non_null(strstr(worker->refusal, "mpirun -n 2"));
    end(rig);
}

static void test_strict_bits_refuses_another_variant(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    rig->options.strict_bits = true;
    rig_start(rig);
    struct rig_actor *worker = rig_join_workers(rig, 1, 0);
    rig_until_n(rig, worker->n_pongs, 1);
    rig_join_node(rig, "odd", 1 << 20, 0, 0, "avx512");
    expect_end(rig, STATUS_INVALID, "--strict-bits");
}

/* bf16 takes part in products only where all do: else a row's bits would follow its place in a batch. */
static void test_ranks_of_which_one_rounds_products_are_refused(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    rig_join_workers_of(rig, 2, 0, "bf16");
    expect_end(rig, STATUS_INVALID, "worker 1 (beta) computes with bf16 kernels");
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
    (void)state;
    expect_end(join_unlike_ranks(2, 4), STATUS_INVALID, "would choose other experts");
    for (uint32_t tensor = 1; tensor <= 2;
         tensor++) { /* stages route alone; without experts nobody does */
        struct rig *rig = join_unlike_ranks(tensor, tensor == 1 ? 4 : 0);
        rig_until_n(rig, rig->actors[0]->n_pongs, 1);
        end(rig);
    }
}

static void test_failures_to_start_are_passed_on(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 0);
    rig_start(rig);
    struct rig_actor *first = rig_join_workers(rig, 2, 0);
    first->load_failure = "model.gguf: another file";
    expect_end(rig, STATUS_INVALID, "worker 0 (alpha): model.gguf: another file");

    rig = rig_open(1, 1);
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    struct rig_actor *node = rig_join_node(rig, "node0", 1 << 24, 0, 0, "avx2");
    node->setup_failure = "already serving";
    expect_end(rig, STATUS_FAILED, "node0 (mem01): already serving");
}

static void test_kv_that_does_not_fit_is_said_before_starting(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 2);
    rig->options.ctx = 8192;
    rig_start(rig);
    rig_join_node(rig, "node0", 1024 * RIG_KV_BYTES, 0, 0, "avx2");
    rig_join_node(rig, "node1", 1100 * RIG_KV_BYTES, 0, 0, "avx2");
    rig_join_workers(rig, 1, 0);
    expect_end(rig, STATUS_EXHAUSTED, "--ctx 2048 would fit");

    rig = rig_open(1, 0);
    rig->options.ctx = 8192;
    rig->options.kv_memory = 3000 * RIG_KV_BYTES;
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    expect_end(rig, STATUS_EXHAUSTED, "--ctx 2816 would fit");
}

static void test_bad_input_is_found_before_anybody_joins(void **state)
{
    (void)state;
    struct rig *rig = rig_open(3, 0);
    rig->options.tensor = 3;
    rig_start(rig);
    expect_end(rig, STATUS_INVALID, "tensor 3: the model has 2 KV heads; possible: 1, 2");

    rig = rig_open(1, 0);
    rig->options.model = "/nonexistent.gguf";
    rig_start(rig);
    expect_end(rig, STATUS_NOT_FOUND, "/nonexistent.gguf");

    rig = rig_open(1, 0);
    rig->options.listen = "tcp://0.0.0.0:5999";
    rig_start(rig);
    expect_end(rig, STATUS_INVALID, "--cluster-key");
}

static void test_a_failed_segment_fails_its_request_only(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 1);
    struct rig_actor *client = rig_ready(rig);
    rig_until(rig, rig->actors[1]->set_up);
    rig->actors[1]->segment_failure = "node0 (mem01) did not answer for 60 s";
    const uint32_t lengths[] = {400};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed);
    assert_int_equal(client->failure_status, STATUS_TIMEOUT);
    assert_string_equal(client->failure, "node0 (mem01) did not answer for 60 s");
    rig_until_n(rig, rig->actors[2]->n_frees, 1);
    struct rig_actor *second = rig_add(rig, RIG_CLIENT);
    rig_request(rig, second, 1, &ask);
    rig_until(rig, second->done);
    check_generated(second, &ask);
    end(rig);
}

static void test_a_refused_reservation_fails_its_request(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *client = rig_ready(rig);
    rig->actors[1]->refuses_reserve = true;
    const uint32_t lengths[] = {400};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed);
    assert_string_equal(client->failure, "attention node node0 (mem01): no pages left");
    rig_until_n(rig, rig->actors[1]->n_frees, 1);
    rig->actors[1]->refuses_reserve = false;
    client->failed = false;
    rig_request(rig, client, 2, &ask);
    rig_until(rig, client->done);
    end(rig);
}

static void cancel(uint32_t workers)
{
    struct rig *rig = rig_open(workers, 1);
    struct rig_actor *client = rig_ready(rig), *node = rig->actors[workers];
    const uint32_t lengths[] = {100, 3000};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .n_predict = 300};
    rig_request(rig, client, 1, &ask);
    rig_until_n(rig, client->prompts[0].n_generated, 3);
    Longspan__RunCancel cancel = LONGSPAN__RUN_CANCEL__INIT;
    cancel.request = 1;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_CANCEL;
    message.run_cancel = &cancel;
    rig_send(rig, client, &message, NULL, 0);
    rig_until(rig, client->failed);
    assert_int_equal(client->failure_status, STATUS_CANCELLED);
    rig_until_n(rig, node->n_frees, 2);

    /* everything is free again: a request that needs nearly all pages is served */
    struct rig_actor *second = rig_add(rig, RIG_CLIENT);
    const uint32_t large[] = {4000};
    const struct rig_ask all = {.lengths = large, .n = 1, .n_predict = 50};
    rig_request(rig, second, 1, &all);
    rig_until(rig, second->done);
    check_generated(second, &all);

    /* so is one whose client dies */
    struct rig_actor *third = rig_add(rig, RIG_CLIENT), *fourth = rig_add(rig, RIG_CLIENT);
    rig_until_n(rig, node->n_frees, 3);
    rig_request(rig, third, 1, &all);
    rig_until_n(rig, third->n_plans, 1);
    rig_kill(third);
    rig_until_n(rig, node->n_frees, 4);
    rig_request(rig, fourth, 1, &all);
    rig_until(rig, fourth->done);
    end(rig);
}

static void test_a_cancelled_request_is_freed(void **state)
{
    (void)state;
    cancel(1);
    cancel(2); /* with two steps in flight */
}

/* Long enough for several stripes at both nodes, page by page, beyond what the prompt reserved. */
static void test_a_growing_sequence_reserves_ahead(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 2);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {700, 200};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .n_predict = 500};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    check_generated(client, &ask);
    const struct rig_actor *a = rig->actors[2], *b = rig->actors[3];
    assert_true(a->kind == RIG_NODE && b->kind == RIG_NODE);
    /* 1199 tokens and 699 tokens in pages of 256, each page reserved once, none too many */
    assert_int_equal(a->reserved_tokens + b->reserved_tokens, 1280 + 768);
    assert_true(a->reserved_tokens >= 512 && b->reserved_tokens >= 512);
    assert_true(a->n_reserves + b->n_reserves >= 6);
    end(rig);
}

/* A prompt ends while a node still thinks about its next page: the late answer is for nobody. */
static void test_an_answer_for_a_finished_prompt_means_nothing(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    rig->ends_at = 255;
    struct rig_actor *client = rig_ready(rig), *node = rig->actors[1];
    assert_int_equal(node->kind, RIG_NODE);
    node->holds_growth = 100;
    /* the second asks for a second page at once, and ends at 255; the first stays in its own */
    const uint32_t lengths[] = {10, 250};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .n_predict = 200};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    assert_int_equal(node->held, 0);
    assert_int_equal(node->holds_growth, 0); /* it did answer late */
    assert_string_equal(client->prompts[1].reason, "stop");
    assert_int_equal(client->prompts[1].n_generated, 6);
    assert_string_equal(client->prompts[0].reason, "length");
    assert_int_equal(client->prompts[0].n_generated, 200);
    end(rig);
}

static void test_generation_ends_where_the_model_says(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 0);
    rig->ends_at = 105;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {100, 300};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .n_predict = 50};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    assert_int_equal(client->prompts[0].n_generated, 6);
    assert_int_equal(client->prompts[0].generated[5], 2);
    assert_int_equal(client->prompts[0].text_bytes, 5); /* the end has no text */
    assert_string_equal(client->prompts[0].reason, "stop");
    assert_int_equal(client->prompts[1].n_generated, 50);
    assert_string_equal(client->prompts[1].reason, "length");
    end(rig);
}

static void test_numbers_that_are_none_fail_the_request(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 0);
    rig->bad_numbers = true;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed);
    assert_int_equal(client->failure_status, STATUS_FAILED);
    assert_non_null(strstr(client->failure, "log-sum-exp"));
    rig->bad_numbers = false;
    rig_request(rig, client, 2, &ask);
    rig_until(rig, client->done);
    end(rig);
}

static void test_a_worker_that_leaves_ends_the_job(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 1);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    leave.reason = "interrupted";
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
    message.leave = &leave;
    rig_send(rig, rig->actors[1], &message, NULL, 0);
    expect_end(rig, STATUS_FAILED, "worker 1 (beta) left: interrupted");
}

static void test_who_does_not_get_ready_is_named(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 2);
    rig->options.join_timeout_ms = JOIN_MS;
    rig_start(rig);
    rig_join_workers(rig, 1, 0);
    rig_join_node(rig, "node0", 1 << 24, 0, 0, "avx2");
    struct rig_actor *node = rig_join_node(rig, "node1", 1 << 24, 0, 0, "avx2");
    node->mute = true;
    expect_end(rig, STATUS_UNREACHABLE,
               "attention node node1 (mem01) did not get ready within 2 s");

    rig = rig_open(2, 0);
    rig->options.load_timeout_ms = 400;
    rig_start(rig);
    rig_join_workers(rig, 2, 0)->mute = true;
    expect_end(rig, STATUS_UNREACHABLE, "worker 0 (alpha) did not load its part of");
}

/* Once all ranks have said how much it is; the one behind the lead is known by its pings only. */
static void test_who_waits_is_told_how_far_loading_is(void **state)
{
    (void)state;
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

static void test_more_requests_than_pages_wait_their_turn(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *clients[5] = {rig_ready(rig)};
    const uint32_t lengths[] = {2500};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 10};
    for (int i = 1; i < 5; i++)
        clients[i] = rig_add(rig, RIG_CLIENT);
    for (int i = 0; i < 5; i++)
        rig_request(rig, clients[i], 1, &ask);
    for (int i = 0; i < 5; i++) {
        rig_until(rig, clients[i]->done);
        check_generated(clients[i], &ask);
    }
    end(rig);
}

static void test_a_step_that_is_not_reported_names_who(void **state)
{
    (void)state;
    struct rig *rig = rig_open(3, 0);
    rig->options.step_timeout_ms = 2000;
    struct rig_actor *client = rig_ready(rig);
    rig_until(rig, rig->actors[1]->set_up);
    rig->actors[1]->silent_steps = true;
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->failed);
    assert_non_null(strstr(client->failure, "by: worker 1 (beta)"));
    expect_end(rig, STATUS_TIMEOUT,
               "step 1 was not reported within 2 s (--step-timeout) by: worker 1");
}

static void test_a_worker_that_dies_is_noticed(void **state)
{
    (void)state;
    struct rig *rig = rig_open(2, 0);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig_kill(rig->actors[1]);
    expect_end(rig, STATUS_FAILED, "worker 1 (beta) is lost: its connection ended");
}

static void send_ping(struct rig *rig, struct rig_actor *actor, uint64_t job, char *name)
{
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    ping.job = job;
    ping.name = name;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_PING;
    message.ping = &ping;
    rig_send(rig, actor, &message, NULL, 0);
}

/* Connections end and come back: who pings as a node is that node, and not a worker. */
static void test_a_node_that_reconnects_is_not_the_lead(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    struct rig_actor *back = rig_add(rig, RIG_CLIENT);
    const uint64_t job = rig->actors[0]->job;
    rig_kill(rig->actors[1]);
    const uint64_t until_us = clock_us() + 1200000; /* longer than a lost one may stay away */
    while (clock_us() < until_us && rig_running(rig)) {
        send_ping(rig, back, job, "node0");
        rig_turn(rig, 50);
    }
    assert_true(rig_running(rig));
    rig_kill(rig->actors[0]);
    struct rig_actor *other = rig_add(rig, RIG_CLIENT);
    while (clock_us() < until_us + 4000000 && rig_running(rig)) {
        send_ping(rig, back, job, "node0");
        send_ping(rig, other, job, "mem01");
        rig_turn(rig, 50);
    }
    expect_end(rig, STATUS_FAILED, "worker 0 (alpha) is lost: its connection ended");
}

static void test_a_node_that_falls_silent_is_noticed(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    rig->options.silence_ms = 1500;
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig->actors[1]->mute = true;
    expect_end(rig, STATUS_FAILED, "attention node node0 (mem01) is lost: nothing was heard of it");
}

static void test_a_lying_worker_ends_the_job(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 0);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    Longspan__StepDone done = LONGSPAN__STEP_DONE__INIT;
    done.job = rig->actors[0]->job;
    done.step = 4711;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_STEP_DONE;
    message.step_done = &done;
    rig_send(rig, rig->actors[0], &message, NULL, 0);
    expect_end(rig, STATUS_PROTOCOL, "step 4711");
}

/* Bytes that are no message, messages that make no sense here, from anybody: it goes on serving. */
static void test_hostile_messages_are_survived(void **state)
{
    (void)state;
    struct rig *rig = rig_open(1, 1);
    struct rig_actor *client = rig_ready(rig), *enemy = rig_add(rig, RIG_CLIENT);
    struct random_state random;
    random_seed(&random, 99);
    rig_until(rig, rig->actors[1]->set_up);
    uint8_t bytes[200];
    for (int i = 0; i < 2000; i++) {
        const size_t n = 1 + random_below(&random, sizeof(bytes));
        for (size_t j = 0; j < n; j++)
            bytes[j] = (uint8_t)random_u64(&random);
        rig_send_bytes(rig, enemy, bytes, n);
    }
    /* valid messages of every kind, with random bits flipped */
    const uint32_t lengths[] = {20};
    for (int i = 0; i < 2000; i++) {
        Longspan__Control message = LONGSPAN__CONTROL__INIT;
        Longspan__NodeReady ready = LONGSPAN__NODE_READY__INIT;
        Longspan__ReserveReply reply = LONGSPAN__RESERVE_REPLY__INIT;
        Longspan__StepDone done = LONGSPAN__STEP_DONE__INIT;
        Longspan__NodeJoin join = LONGSPAN__NODE_JOIN__INIT;
        Longspan__WorkerReady worker = LONGSPAN__WORKER_READY__INIT;
        Longspan__WorkersJoin workers = LONGSPAN__WORKERS_JOIN__INIT;
        Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
        ready.job = reply.job = done.job = worker.job = rig->actors[0]->job;
        reply.request = random_below(&random, 10);
        switch (random_below(&random, 7)) {
        case 0:
            message.body_case = LONGSPAN__CONTROL__BODY_NODE_READY;
            message.node_ready = &ready;
            break;
        case 1:
            message.body_case = LONGSPAN__CONTROL__BODY_RESERVE_REPLY;
            message.reserve_reply = &reply;
            break;
        case 2:
            message.body_case = LONGSPAN__CONTROL__BODY_STEP_DONE;
            message.step_done = &done;
            break;
        case 3:
            message.body_case = LONGSPAN__CONTROL__BODY_NODE_JOIN;
            message.node_join = &join;
            break;
        case 4:
            worker.rank = (uint32_t)random_u64(&random);
            message.body_case = LONGSPAN__CONTROL__BODY_WORKER_READY;
            message.worker_ready = &worker;
            break;
        case 5:
            message.body_case = LONGSPAN__CONTROL__BODY_WORKERS_JOIN;
            message.workers_join = &workers;
            break;
        default:
            message.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
            message.leave = &leave;
            break;
        }
        const size_t n = longspan__control__pack(&message, bytes);
        if (random_below(&random, 2))
            bytes[random_below(&random, n)] ^= (uint8_t)(1u << random_below(&random, 8));
        rig_send_bytes(rig, enemy, bytes, n);
        if (i % 50 == 0)
            rig_turn(rig, 0);
    }
    enemy->mute = true; /* whatever it was answered */
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 10};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    check_generated(client, &ask);
    end(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_worker_serves),
        cmocka_unit_test(test_stages_and_nodes_serve),
        cmocka_unit_test(test_seeded_sampling_repeats),
        cmocka_unit_test(test_a_prompt_is_scored_before_its_answers),
        cmocka_unit_test(test_a_preempted_prompt_goes_on_being_scored),
        cmocka_unit_test(test_bad_requests_are_answered),
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
        cmocka_unit_test(test_a_failed_segment_fails_its_request_only),
        cmocka_unit_test(test_a_refused_reservation_fails_its_request),
        cmocka_unit_test(test_a_cancelled_request_is_freed),
        cmocka_unit_test(test_a_growing_sequence_reserves_ahead),
        cmocka_unit_test(test_an_answer_for_a_finished_prompt_means_nothing),
        cmocka_unit_test(test_generation_ends_where_the_model_says),
        cmocka_unit_test(test_numbers_that_are_none_fail_the_request),
        cmocka_unit_test(test_a_worker_that_leaves_ends_the_job),
        cmocka_unit_test(test_who_does_not_get_ready_is_named),
        cmocka_unit_test(test_who_waits_is_told_how_far_loading_is),
        cmocka_unit_test(test_more_requests_than_pages_wait_their_turn),
        cmocka_unit_test(test_a_step_that_is_not_reported_names_who),
        cmocka_unit_test(test_a_worker_that_dies_is_noticed),
        cmocka_unit_test(test_a_node_that_reconnects_is_not_the_lead),
        cmocka_unit_test(test_a_node_that_falls_silent_is_noticed),
        cmocka_unit_test(test_a_lying_worker_ends_the_job),
        cmocka_unit_test(test_hostile_messages_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
