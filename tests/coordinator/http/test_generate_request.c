/* test_generate_request.c - what clients ask is read as they meant it, and what cannot be is
 * refused by name. */
#include "coordinator/http/generate_request.h"

#include "proto/longspan.pb-c.h"
#include "tests/cmocka.h"
#include "tests/coordinator/http/byte_tokenizer.h"

#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 100 };

/* A chat is the texts of its messages. */
static bool render(void *context, const json_t *body, const json_t *tools, const atomic_bool *stop,
                   char **text, size_t *n_bytes, struct api_error *error)
{
    const json_t *messages = json_object_get(body, "messages");
    *text = calloc(1, 1024);
    for (size_t i = 0; i < json_array_size(messages); i++)
        strcat(*text, json_string_value(json_object_get(json_array_get(messages, i), "content")));
    *n_bytes = strlen(*text);
    return true;
}

static bool read_as(enum generate_kind kind, const struct tokenizer *tokenizer, const char *text,
                    struct generate_request *request, struct api_error *error)
{
    json_error_t where;
    json_t *body = json_loads(text, 0, &where);
    if (body == NULL)
        fail_msg("%s: %s", text, where.text);
    const struct generate_limits limits = {.tokenizer = tokenizer,
                                           .vocab = BYTE_VOCABULARY,
                                           .context = CONTEXT,
                                           .prompt_tokens = 60,
                                           .names = {"ours", "ours.gguf"},
                                           .render = render};
    const bool good = generate_request_read(request, kind, body, &limits, error);
    json_decref(body);
    return good;
}

static struct generate_request read_good(enum generate_kind kind, const struct tokenizer *tokenizer,
                                         const char *text)
{
    struct generate_request request;
    struct api_error error;
    if (!read_as(kind, tokenizer, text, &request, &error))
        fail_msg("%s: %s", text, error.message);
    return request;
}

static void test_what_is_not_said_is_openais_default(void **state)
{
    struct generate_request r = read_good(GENERATE_COMPLETION, *state, "{\"prompt\": \"ab\"}");
    assert_int_equal(r.n_prompts, 1);
    assert_int_equal(r.prompts[0].n_ids, 3); /* BOS */
    assert_int_equal(r.n, 1);
    assert_int_equal(r.max_tokens, 16);
    assert_true(r.max_tokens_given);
    assert_true(r.temperature == 1.0f && r.top_p == 1.0f && r.repetition_penalty == 1.0f);
    assert_int_equal(r.top_k, 0);
    assert_false(r.stream || r.echo || r.want_logprobs || r.json_object);
    const uint64_t seed = r.seed;
    generate_request_free(&r);
    r = read_good(GENERATE_CHAT, *state,
                  "{\"messages\": [{\"role\": \"user\", \"content\": \"abc\"}], \"top_k\": -1, "
                  "\"unknown\": [1], \"stop\": null}");
    assert_int_equal(r.prompts[0].n_ids, 3); /* the template says what is in front */
    assert_false(r.max_tokens_given);
    assert_true(r.seed != seed); /* one of 2^64 */
    generate_request_free(&r);
}

static void test_a_prompt_that_is_said_back_is_scored(void **state)
{
    struct generate_request r = read_good(GENERATE_COMPLETION, *state,
                                          "{\"prompt\": [[5, 6], [7]], \"n\": 3.0, \"echo\": true, "
                                          "\"logprobs\": 2, \"max_tokens\": 0}");
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    assert_true(generate_request_scores(&r));
    assert_true(generate_request_pack(&r, 77, "req-1", &bytes, &n_bytes));
    Longspan__Control *control = longspan__control__unpack(NULL, n_bytes, bytes);
    assert_non_null(control);
    const Longspan__RunRequest *run = control->run_request;
    assert_true(run->no_answer);
    assert_int_equal(run->n_prompts, 2); /* what is the same for all choices is computed once */
    assert_true(run->prompts[0]->scored && run->prompts[1]->scored);
    assert_int_equal(generate_request_prompt(&r, 1), 1);
    longspan__control__free_unpacked(control, NULL);
    free(bytes);
    generate_request_free(&r);

    r = read_good(GENERATE_COMPLETION, *state,
                  "{\"prompt\": [[5, 6], [7]], \"n\": 2, \"echo\": true, \"logprobs\": 0}");
    assert_true(generate_request_pack(&r, 77, "req-1", &bytes, &n_bytes));
    control = longspan__control__unpack(NULL, n_bytes, bytes);
    assert_int_equal(control->run_request->n_prompts, 4);
    assert_false(control->run_request->no_answer);
    for (int i = 0; i < 4; i++)
        assert_true(control->run_request->prompts[i]->scored == (i % 2 == 0));
    assert_int_equal(generate_request_prompt(&r, 3), 1);
    longspan__control__free_unpacked(control, NULL);
    free(bytes);
    generate_request_free(&r);
}

static void test_every_field_reaches_the_message(void **state)
{
    struct generate_request r = read_good(
        GENERATE_COMPLETION, *state,
        "{\"model\": \"ours.gguf\", \"prompt\": [[5, 6], [7]], \"n\": 3, \"max_tokens\": 9, "
        "\"temperature\": 0.5, \"top_p\": 0.25, \"top_k\": 7, \"min_p\": 0.125, \"seed\": -2, "
        "\"presence_penalty\": 1, \"frequency_penalty\": -1, \"repetition_penalty\": 1.5, "
        "\"logit_bias\": {\"3\": -100, \"4\": 0.5}, \"stop\": [\"x\", \"\\u20ac\"], "
        "\"logprobs\": 4, \"ignore_eos\": true, \"priority\": -3, "
        "\"response_format\": {\"type\": \"json_object\"}}");
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    assert_true(generate_request_pack(&r, 77, "req-1", &bytes, &n_bytes));
    Longspan__Control *control = longspan__control__unpack(NULL, n_bytes, bytes);
    assert_non_null(control);
    const Longspan__RunRequest *run = control->run_request;
    const Longspan__Sampling *s = run->sampling;
    assert_int_equal(run->request, 77);
    assert_string_equal(run->id, "req-1");
    assert_int_equal(run->n_prompts, 6);
    for (uint32_t i = 0; i < 6; i++) {
        assert_true(run->prompts[i]->again == (i % 3 > 0));
        assert_int_equal(run->prompts[i]->n_ids, i == 0 ? 2 : i == 3 ? 1 : 0);
        assert_false(run->prompts[i]->scored);
        assert_int_equal(run->prompts[i]->seed_offset, i % 3);
    }
    assert_int_equal(run->prompts[0]->ids[0], 5);
    assert_int_equal(run->prompts[3]->ids[0], 7);
    assert_int_equal(run->n_predict, 9);
    assert_true(s->temperature == 0.5f && s->top_p == 0.25f && s->min_p == 0.125f);
    assert_int_equal(s->top_k, 7);
    assert_true(s->seed == (uint64_t)-2);
    assert_true(s->presence_penalty == 1.0f && s->frequency_penalty == -1.0f &&
                s->repetition_penalty == 1.5f);
    assert_int_equal(s->n_logit_bias, 2);
    assert_int_equal(s->logit_bias[0]->id, 3);
    assert_true(s->logit_bias[0]->bias == -100.0f);
    assert_int_equal(run->n_stop, 2);
    assert_int_equal(run->stop[1].len, 3);
    assert_true(run->want_logprobs && run->ignore_eos && run->json_object);
    assert_int_equal(run->n_logprobs, 4);
    assert_int_equal(run->priority, -3);
    longspan__control__free_unpacked(control, NULL);
    free(bytes);
    generate_request_free(&r);
}

static void test_a_schema_is_passed_on(void **state)
{
    struct generate_request r = read_good(GENERATE_CHAT, *state,
                                          "{\"messages\": [{\"role\": \"user\", \"content\": "
                                          "\"a\"}], \"response_format\": {\"type\": "
                                          "\"json_schema\", \"json_schema\": {\"name\": \"n\", "
                                          "\"schema\": {\"type\": \"string\"}}}}");
    assert_string_equal(r.json_schema, "{\"type\":\"string\"}");
    assert_false(r.json_object);
    generate_request_free(&r);
}

static void test_bad_fields_are_named(void **state)
{
    static const struct {
        enum generate_kind kind;
        const char *body, *param;
        unsigned http;
    } bad[] = {
        {GENERATE_COMPLETION, "{}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": 5}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": []}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": [[]]}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": [\"a\", [1]]}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": [259]}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"model\": \"theirs\"}", "model", 404},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"n\": 0}", "n", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 0}", "max_tokens", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 2.5}", "max_tokens", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 1e300}", "max_tokens", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 99}", "prompt", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"top_p\": 0}", "top_p", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"stop\": \"\"}", "stop", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"logit_bias\": {\"259\": 1}}", "logit_bias",
         400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"echo\": true, \"max_tokens\": -1}",
         "max_tokens", 400},
        {GENERATE_COMPLETION, "{\"prompt\": \"a\", \"stream_options\": {}}", "stream_options", 400},
        {GENERATE_CHAT, "{\"prompt\": \"a\"}", "messages", 400},
        {GENERATE_CHAT, "{\"messages\": []}", "messages", 400},
        {GENERATE_CHAT, "{\"messages\": [{\"content\": \"a\"}]}", "messages[0].role", 400},
        {GENERATE_CHAT,
         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"top_logprobs\": 2}",
         "top_logprobs", 400},
        {GENERATE_CHAT,
         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"max_completion_tokens\": "
         "100}",
         "messages", 400},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct generate_request request;
        struct api_error error = {0};
        assert_false(read_as(bad[i].kind, *state, bad[i].body, &request, &error));
        generate_request_free(&request);
        assert_int_equal(error.http, bad[i].http);
        assert_string_equal(error.param, bad[i].param);
        json_t *json = api_error_json(&error);
        assert_non_null(json_object_get(json_object_get(json, "error"), "code"));
        json_decref(json);
    }
}

/* What a client sent is quoted, and cut where it is too long: the rest of the message stays. */
static void test_a_quote_that_is_cut_leaves_the_message(void **state)
{
    char body[600] = "{\"model\": \"x";
    struct generate_request request;
    struct api_error error = {0};
    for (int i = 0; i < 200; i++)
        strcat(body, "\xc3\xa9");
    strcat(body, "\"}");
    assert_false(read_as(GENERATE_COMPLETION, *state, body, &request, &error));
    generate_request_free(&request);
    json_t *json = api_error_json(&error);
    const json_t *message = json_object_get(json_object_get(json, "error"), "message");
    assert_non_null(strstr(json_string_value(message), "\xc3\xa9?' does not exist here"));
    json_decref(json);
}

/* The limit of prompts is not that of the context. */
static void test_lengths_are_told_with_both_numbers(void **state)
{
    char body[256] = "{\"prompt\": \"";
    struct generate_request request;
    struct api_error error = {0};
    memset(body + strlen(body), 'a', 70);
    strcat(body, "\", \"max_tokens\": 1}");
    assert_false(read_as(GENERATE_COMPLETION, *state, body, &request, &error));
    generate_request_free(&request);
    assert_non_null(strstr(error.message, "71"));
    assert_non_null(strstr(error.message, "60"));
    assert_string_equal(error.code, "prompt_too_long");
    assert_false(read_as(GENERATE_COMPLETION, *state, "{\"prompt\": \"a\", \"max_tokens\": 99}",
                         &request, &error));
    generate_request_free(&request);
    assert_non_null(strstr(error.message, "100 tokens, but 101"));
    assert_string_equal(error.code, "context_length_exceeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_said_is_openais_default),
        cmocka_unit_test(test_a_prompt_that_is_said_back_is_scored),
        cmocka_unit_test(test_every_field_reaches_the_message),
        cmocka_unit_test(test_a_schema_is_passed_on),
        cmocka_unit_test(test_bad_fields_are_named),
        cmocka_unit_test(test_a_quote_that_is_cut_leaves_the_message),
        cmocka_unit_test(test_lengths_are_told_with_both_numbers),
    };
    return cmocka_run_group_tests(tests, byte_tokenizer_open, byte_tokenizer_close);
}
