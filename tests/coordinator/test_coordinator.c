/* test_coordinator.c - the real loop serves requests, among actors that behave, or fail a request
 * of them. */
#include "tests/coordinator/rig.c"

static void serve(uint32_t workers, uint32_t nodes)
{
    struct rig *rig = rig_open(workers, nodes);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {700, 1, 300, 700};
    const struct rig_ask ask = {
        .lengths = lengths, .n = 4, .common = 600, .n_predict = 20, .n_logprobs = 3};
    rig_request(rig, client, 5, &ask); /* early: before anybody is ready */
    rig_until(rig, client->done);
    rig_check_generated(client, &ask);
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
    rig_check_generated(second, &again);
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
    serve(1, 0);
}

static void test_stages_and_nodes_serve(void **state)
{
    serve(3, 2);
}

static void test_seeded_sampling_repeats(void **state)
{
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
    rig_end(rig);
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
    rig_check_generated(client, &ask);
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
    rig_end(rig);
}

/* The second prompt is preempted while it is read, since the first one's answer outgrows the pages
 * that were left: no token is scored twice, none is left out. */
static void test_a_preempted_prompt_goes_on_being_scored(void **state)
{
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
    rig_end(rig);
}

static void test_bad_requests_are_answered(void **state)
{
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
    rig_end(rig);
}

static void test_a_failed_segment_fails_its_request_only(void **state)
{
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
    rig_check_generated(second, &ask);
    rig_end(rig);
}

static void test_a_refused_reservation_fails_its_request(void **state)
{
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
    rig_end(rig);
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
    rig_check_generated(second, &all);

    /* so is one whose client dies */
    struct rig_actor *third = rig_add(rig, RIG_CLIENT), *fourth = rig_add(rig, RIG_CLIENT);
    rig_until_n(rig, node->n_frees, 3);
    rig_request(rig, third, 1, &all);
    rig_until_n(rig, third->n_plans, 1);
    rig_kill(third);
    rig_until_n(rig, node->n_frees, 4);
    rig_request(rig, fourth, 1, &all);
    rig_until(rig, fourth->done);
    rig_end(rig);
}

/* What stands behind it on the same connection is answered while it is tokenized; then it is refused,
 * since it is longer than the context. */
static void test_a_long_text_keeps_nobody_waiting(void **state)
{
    enum { TEXT_BYTES = 8 << 20, WORD_BYTES = 8 };
    struct rig *rig = rig_open(1, 0);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {10};
    const struct rig_ask ask = {.lengths = lengths, .n = 1, .n_predict = 5};
    Longspan__Prompt prompt = LONGSPAN__PROMPT__INIT, *list[] = {&prompt};
    Longspan__RunRequest request = LONGSPAN__RUN_REQUEST__INIT;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    prompt.text.len = TEXT_BYTES;
    prompt.text.data = malloc(TEXT_BYTES);
    assert_non_null(prompt.text.data);
    for (size_t i = 0; i < TEXT_BYTES; i++)
        prompt.text.data[i] = i % WORD_BYTES == 0 ? ' ' : 'a';
    request.request = 1;
    request.n_prompts = 1;
    request.prompts = list;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    message.run_request = &request;
    rig_send(rig, client, &message, NULL, 0);
    free(prompt.text.data);
    rig_request(rig, client, 2, &ask);
    rig_until(rig, client->done);
    rig_check_generated(client, &ask);
    assert_false(client->failed);
    rig_until(rig, client->failed);
    assert_int_equal(client->failure_status, STATUS_INVALID);
    assert_non_null(strstr(client->failure, "the context has"));
    rig_end(rig);
}

static void test_a_cancelled_request_is_freed(void **state)
{
    cancel(1);
    cancel(2); /* with two steps in flight */
}

/* Long enough for several stripes at both nodes, page by page, beyond what the prompt reserved. */
static void test_a_growing_sequence_reserves_ahead(void **state)
{
    struct rig *rig = rig_open(2, 2);
    struct rig_actor *client = rig_ready(rig);
    const uint32_t lengths[] = {700, 200};
    const struct rig_ask ask = {.lengths = lengths, .n = 2, .n_predict = 500};
    rig_request(rig, client, 1, &ask);
    rig_until(rig, client->done);
    rig_check_generated(client, &ask);
    const struct rig_actor *a = rig->actors[2], *b = rig->actors[3];
    assert_true(a->kind == RIG_NODE && b->kind == RIG_NODE);
    /* 1199 tokens and 699 tokens in pages of 256, each page reserved once, none too many */
    assert_int_equal(a->reserved_tokens + b->reserved_tokens, 1280 + 768);
    assert_true(a->reserved_tokens >= 512 && b->reserved_tokens >= 512);
    assert_true(a->n_reserves + b->n_reserves >= 6);
    rig_end(rig);
}

/* A prompt ends while a node still thinks about its next page: the late answer is for nobody. */
static void test_an_answer_for_a_finished_prompt_means_nothing(void **state)
{
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
    rig_end(rig);
}

static void test_generation_ends_where_the_model_says(void **state)
{
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
    rig_end(rig);
}

static void test_numbers_that_are_none_fail_the_request(void **state)
{
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
    rig_end(rig);
}

static void test_more_requests_than_pages_wait_their_turn(void **state)
{
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
        rig_check_generated(clients[i], &ask);
    }
    rig_end(rig);
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
        cmocka_unit_test(test_a_failed_segment_fails_its_request_only),
        cmocka_unit_test(test_a_refused_reservation_fails_its_request),
        cmocka_unit_test(test_a_long_text_keeps_nobody_waiting),
        cmocka_unit_test(test_a_cancelled_request_is_freed),
        cmocka_unit_test(test_a_growing_sequence_reserves_ahead),
        cmocka_unit_test(test_an_answer_for_a_finished_prompt_means_nothing),
        cmocka_unit_test(test_generation_ends_where_the_model_says),
        cmocka_unit_test(test_numbers_that_are_none_fail_the_request),
        cmocka_unit_test(test_more_requests_than_pages_wait_their_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
