/* test_result.c - events become a result and its JSON; events that cannot be are refused. */
#include "cluster/output.h"
#include "cluster/result.h"
#include "tests/cmocka.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status give(struct result *result, Longspan__RunEvent *event, struct error *error)
{
    uint32_t prompt;
    const char *text;
    size_t n_bytes;
    struct error unused;
    return result_take(result, event, &prompt, &text, &n_bytes, error != NULL ? error : &unused);
}

static enum status give_plan(struct result *result, uint32_t n_prompts, uint32_t n_ids)
{
    int32_t ids[64];
    Longspan__PromptPlan plans[4], *list[4];
    Longspan__RunPlan plan = LONGSPAN__RUN_PLAN__INIT;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    for (int32_t i = 0; i < 64; i++)
        ids[i] = 100 + i;
    for (uint32_t i = 0; i < n_prompts; i++) {
        longspan__prompt_plan__init(&plans[i]);
        plans[i].n_ids = n_ids;
        plans[i].ids = ids;
        list[i] = &plans[i];
    }
    plan.n_prompts = n_prompts;
    plan.prompts = list;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_PLAN;
    event.plan = &plan;
    return give(result, &event, NULL);
}

static enum status give_token(struct result *result, uint32_t prompt, int32_t id, const char *text,
                              uint32_t n_top)
{
    Longspan__Logprob top[8], *list[8];
    Longspan__RunToken token = LONGSPAN__RUN_TOKEN__INIT;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    for (uint32_t i = 0; i < n_top; i++) {
        longspan__logprob__init(&top[i]);
        top[i].id = id + (int32_t)i;
        top[i].logprob = i == 2 ? -INFINITY : -0.5f - (float)i;
        list[i] = &top[i];
    }
    token.prompt = prompt;
    token.id = id;
    token.logprob = -0.5f;
    token.text.data = (uint8_t *)(uintptr_t)text;
    token.text.len = strlen(text);
    token.n_top = n_top;
    token.top = list;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_TOKEN;
    event.token = &token;
    return give(result, &event, NULL);
}

static enum status give_progress(struct result *result, uint32_t prompt, uint32_t done,
                                 uint32_t total)
{
    Longspan__RunProgress progress = LONGSPAN__RUN_PROGRESS__INIT;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    progress.prompt = prompt;
    progress.done = done;
    progress.total = total;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_PROGRESS;
    event.progress = &progress;
    return give(result, &event, NULL);
}

static enum status give_finished(struct result *result, uint32_t prompt, const char *reason,
                                 const char *text)
{
    Longspan__RunFinished finished = LONGSPAN__RUN_FINISHED__INIT;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    finished.prompt = prompt;
    finished.reason = (char *)(uintptr_t)reason;
    finished.text.data = (uint8_t *)(uintptr_t)text;
    finished.text.len = strlen(text);
    event.body_case = LONGSPAN__RUN_EVENT__BODY_FINISHED;
    event.finished = &finished;
    return give(result, &event, NULL);
}

/* One holder with two spans of `prompt`: [0, 256) and [begin, end). */
static enum status give_done(struct result *result, uint32_t prompt, uint32_t begin, uint32_t end,
                             double seconds)
{
    Longspan__Span spans[2] = {LONGSPAN__SPAN__INIT, LONGSPAN__SPAN__INIT};
    Longspan__Span *span_list[2] = {&spans[0], &spans[1]};
    Longspan__HolderReport holder = LONGSPAN__HOLDER_REPORT__INIT, *holder_list[1] = {&holder};
    Longspan__RunDone done = LONGSPAN__RUN_DONE__INIT;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    char name[] = "node0";
    spans[0].end = 4;
    spans[0].holder = spans[1].holder = prompt;
    spans[1].begin = begin;
    spans[1].end = end;
    holder.name = name;
    holder.kv_bytes = 1024;
    holder.sent_bytes = (uint64_t)5 << 40;
    holder.n_spans = 2;
    holder.spans = span_list;
    done.load_s = 0.25;
    done.prefill_s = seconds;
    done.prefill_tokens = 10;
    done.n_holders = 1;
    done.holders = holder_list;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_DONE;
    event.done = &done;
    return give(result, &event, NULL);
}

static json_t *json_of(const struct result *result, bool logprobs)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    assert_int_equal(output_json(stream, result, logprobs, NULL), STATUS_OK);
    fclose(stream);
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    if (root == NULL)
        fail_msg("%s in %s", error.text, text);
    free(text);
    return root;
}

static void test_a_whole_answer_as_json(void **state)
{
    struct result result;
    assert_int_equal(result_open(&result, 1, NULL), STATUS_OK);
    assert_int_equal(give_plan(&result, 1, 10), STATUS_OK);
    assert_int_equal(give_progress(&result, 0, 5, 10), STATUS_OK);
    assert_int_equal(result.prompts[0].n_prefilled, 5);
    assert_int_equal(give_token(&result, 0, 7, "na", 3), STATUS_OK);
    assert_int_equal(give_token(&result, 0, 8, "", 3), STATUS_OK);
    assert_int_equal(give_token(&result, 0, 9, "\xc3\xaf", 3), STATUS_OK);
    assert_int_equal(give_finished(&result, 0, "length", "ve"), STATUS_OK);
    assert_int_equal(give_done(&result, 0, 4, 256, 0.5), STATUS_OK);
    assert_true(result.done);

    json_t *root = json_of(&result, true);
    assert_true(json_is_object(root));
    assert_int_equal(json_array_size(json_object_get(root, "prompt_ids")), 10);
    assert_int_equal(json_array_size(json_object_get(root, "ids")), 3);
    assert_string_equal(json_string_value(json_object_get(root, "text")), "na\xc3\xafve");
    assert_string_equal(json_string_value(json_object_get(root, "finish_reason")), "length");
    const json_t *first = json_array_get(json_object_get(root, "logprobs"), 0);
    assert_int_equal(json_integer_value(json_object_get(first, "id")), 7);
    assert_true(json_real_value(json_object_get(first, "logprob")) == -0.5);
    const json_t *top = json_object_get(first, "top");
    assert_int_equal(json_array_size(top), 3);
    assert_true(json_is_null(json_object_get(json_array_get(top, 2), "logprob"))); /* -infinity */
    const json_t *timings = json_object_get(root, "timings");
    assert_true(json_real_value(json_object_get(timings, "prefill_tokens_per_s")) == 20);
    assert_true(json_real_value(json_object_get(timings, "decode_tokens_per_s")) ==
                0); /* no time */
    const json_t *holder = json_array_get(json_object_get(root, "holders"), 0);
    assert_true(json_integer_value(json_object_get(holder, "sent_bytes")) == (json_int_t)5 << 40);
    /* Neighbours joined, and cut at the 12 tokens that were computed. */
    const json_t *spans = json_object_get(holder, "spans");
    assert_int_equal(json_array_size(spans), 1);
    assert_int_equal(json_integer_value(json_array_get(json_array_get(spans, 0), 1)), 12);
    json_decref(root);

    root = json_of(&result, false);
    assert_null(json_object_get(root, "logprobs"));
    json_decref(root);
    result_close(&result);
}

static void test_several_prompts_are_a_list(void **state)
{
    struct result result;
    assert_int_equal(result_open(&result, 2, NULL), STATUS_OK);
    assert_int_equal(give_plan(&result, 2, 3), STATUS_OK);
    assert_int_equal(give_token(&result, 1, 9, "b", 0), STATUS_OK);
    assert_int_equal(give_finished(&result, 1, "stop", ""), STATUS_OK);
    assert_int_equal(give_finished(&result, 0, "stop", ""), STATUS_OK);
    assert_int_equal(give_done(&result, 1, 2, 3, 0), STATUS_OK);
    json_t *root = json_of(&result, false);
    assert_int_equal(json_array_size(root), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(root, 1), "text")), "b");
    const json_t *holders = json_object_get(json_array_get(root, 0), "holders");
    assert_int_equal(json_array_size(json_object_get(json_array_get(holders, 0), "spans")), 0);
    json_decref(root);

    char *text = NULL;
    size_t size;
    struct prompts_item items[2] = {{.name = "one"}, {.name = "two"}};
    const struct prompts prompts = {.items = items, .n = 2};
    FILE *stream = open_memstream(&text, &size);
    assert_int_equal(output_texts(stream, &result, &prompts, NULL), STATUS_OK);
    fclose(stream);
    assert_string_equal(text, "==> 1: one <==\n\n\n==> 2: two <==\nb\n");
    free(text);
    result_close(&result);
}

static void test_text_that_is_not_utf8_does_not_break_the_json(void **state)
{
    struct result result;
    assert_int_equal(result_open(&result, 1, NULL), STATUS_OK);
    assert_int_equal(give_plan(&result, 1, 1), STATUS_OK);
    assert_int_equal(give_token(&result, 0, 1, "a\xff\"b", 0), STATUS_OK);
    assert_int_equal(give_finished(&result, 0, "stop", ""), STATUS_OK);
    assert_int_equal(give_done(&result, 0, 0, 1, 1), STATUS_OK);
    strcpy(result.holders[0].name, "n\xc3"); /* cut in the middle of a character */
    json_t *root = json_of(&result, false);
    const json_t *holder = json_array_get(json_object_get(root, "holders"), 0);
    assert_string_equal(json_string_value(json_object_get(root, "text")), "a\xef\xbf\xbd\"b");
    assert_string_equal(json_string_value(json_object_get(holder, "name")), "n\xef\xbf\xbd");
    json_decref(root);
    result_close(&result);
}

static void test_what_cannot_be_is_refused(void **state)
{
    struct result result;
    struct error error;
    assert_int_equal(result_open(&result, 2, NULL), STATUS_OK);
    assert_int_equal(give_token(&result, 0, 1, "x", 0), STATUS_PROTOCOL); /* before the plan */
    assert_int_equal(give_plan(&result, 1, 3), STATUS_PROTOCOL);
    assert_int_equal(give_plan(&result, 3, 3), STATUS_PROTOCOL);
    assert_int_equal(give_plan(&result, 2, 0), STATUS_PROTOCOL);
    assert_int_equal(give_plan(&result, 2, 3), STATUS_OK);
    assert_int_equal(give_token(&result, 2, 1, "x", 0), STATUS_PROTOCOL);
    assert_int_equal(give_progress(&result, 2, 0, 1), STATUS_PROTOCOL);
    assert_int_equal(give_progress(&result, 0, 4, 4), STATUS_PROTOCOL);
    assert_int_equal(give_progress(&result, 0, 3, 2), STATUS_PROTOCOL);
    assert_int_equal(give_finished(&result, 9, "stop", ""), STATUS_PROTOCOL);
    assert_int_equal(give_finished(&result, 0, "", ""), STATUS_PROTOCOL);
    assert_int_equal(give_finished(&result, 0, "stop", ""), STATUS_OK);
    assert_int_equal(give_finished(&result, 0, "stop", ""), STATUS_PROTOCOL);
    assert_int_equal(give_token(&result, 0, 1, "x", 0), STATUS_PROTOCOL); /* after its end */
    assert_int_equal(give_done(&result, 0, 1, 2, 0), STATUS_PROTOCOL);    /* one is unfinished */
    assert_int_equal(give_finished(&result, 1, "a reason that is far too long", ""), STATUS_OK);
    assert_int_equal(give_done(&result, 2, 1, 2, 0), STATUS_PROTOCOL);
    assert_int_equal(give_done(&result, 0, 2, 2, 0), STATUS_PROTOCOL);
    assert_int_equal(give_done(&result, 0, 1, 2, (double)NAN), STATUS_PROTOCOL);
    assert_int_equal(give_done(&result, 0, 1, 2, -1), STATUS_PROTOCOL);
    assert_int_equal(give_done(&result, 0, 1, 2, 1), STATUS_OK);
    assert_int_equal(give_progress(&result, 0, 0, 1), STATUS_PROTOCOL); /* after it was done */

    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    result.done = false;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_FAILURE;
    event.failure = &failure;
    failure.status = STATUS_EXHAUSTED;
    char text[] = "too long";
    failure.text = text;
    assert_int_equal(give(&result, &event, &error), STATUS_EXHAUSTED);
    assert_string_equal(error.text, "too long");
    failure.status = 12345; /* and a failure that says it is none */
    assert_int_equal(give(&result, &event, &error), STATUS_FAILED);
    failure.status = STATUS_OK;
    assert_int_equal(give(&result, &event, &error), STATUS_FAILED);
    result_close(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_answer_as_json),
        cmocka_unit_test(test_several_prompts_are_a_list),
        cmocka_unit_test(test_text_that_is_not_utf8_does_not_break_the_json),
        cmocka_unit_test(test_what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
