/* test_answer.c - tokens leave with their text, never before it, and never behind a stop text. */
#include "coordinator/http/answer.h"

#include "tests/cmocka.h"
#include "tests/coordinator/http/byte_tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct generate_request request_of(enum generate_kind kind, bool stream)
{
    static int32_t ids[] = {1, 3 + 'h', 3 + 'i'};
    static struct generate_prompt prompt = {ids, 3};
    return (struct generate_request){.kind = kind,
                                     .prompts = &prompt,
                                     .n_prompts = 1,
                                     .n = 2,
                                     .stream = stream,
                                     .want_logprobs = true,
                                     .n_logprobs = 1};
}

static struct answer open_answer(const struct generate_request *request, void *tokenizer)
{
    struct answer answer;
    assert_true(answer_open(&answer, request, tokenizer, "ours", "req-1", 5));
    return answer;
}

/* Token `byte` of choice `choice` makes `text` certain, and `held` bytes are not. */
static struct answer_piece push(struct answer *answer, uint32_t choice, uint8_t byte,
                                const char *text, uint32_t held)
{
    Longspan__Logprob top = LONGSPAN__LOGPROB__INIT, *tops[] = {&top};
    Longspan__RunToken token = LONGSPAN__RUN_TOKEN__INIT;
    struct answer_piece piece;
    token.prompt = choice;
    token.id = 3 + byte;
    token.logprob = -0.5f;
    token.text.data = (uint8_t *)text;
    token.text.len = strlen(text);
    token.held_bytes = held;
    top.id = token.id;
    top.logprob = token.logprob;
    token.top = tops;
    token.n_top = 1;
    assert_true(answer_token(answer, &token, &piece));
    return piece;
}

static struct answer_piece finish(struct answer *answer, uint32_t choice, const char *reason,
                                  const char *text)
{
    Longspan__RunFinished finished = LONGSPAN__RUN_FINISHED__INIT;
    struct answer_piece piece;
    finished.prompt = choice;
    finished.reason = (char *)reason;
    finished.text.data = (uint8_t *)text;
    finished.text.len = strlen(text);
    finished.cached_tokens = 2;
    assert_true(answer_finished(answer, &finished, &piece));
    return piece;
}

static void check_piece(const struct answer_piece *piece, const char *text, size_t first,
                        size_t end)
{
    assert_int_equal(piece->n_bytes, strlen(text));
    assert_memory_equal(piece->text, text, piece->n_bytes);
    assert_int_equal(piece->first_token, first);
    assert_int_equal(piece->end_token, end);
}

static void test_tokens_wait_for_their_text(void **state)
{
    const struct generate_request request = request_of(GENERATE_CHAT, true);
    struct answer answer = open_answer(&request, *state);
    struct answer_piece piece = push(&answer, 0, 'a', "a", 0);
    check_piece(&piece, "a", 0, 1);
    piece = push(&answer, 0, 'b', "", 1); /* may begin a stop text */
    check_piece(&piece, "", 1, 1);
    piece = push(&answer, 0, 'c', "", 2);
    check_piece(&piece, "", 1, 1);
    piece = push(&answer, 0, 'd', "bcd", 0); /* it did not */
    check_piece(&piece, "bcd", 1, 4);
    piece = finish(&answer, 0, "length", "");
    check_piece(&piece, "", 4, 4);
    assert_true(piece.finished);
    answer_close(&answer);
}

static void test_what_lies_behind_a_stop_text_never_leaves(void **state)
{
    const struct generate_request request = request_of(GENERATE_CHAT, true);
    struct answer answer = open_answer(&request, *state);
    push(&answer, 1, 'a', "", 1);
    struct answer_piece piece = push(&answer, 1, 'b', "", 2); /* "ab" is one */
    check_piece(&piece, "", 0, 0);
    piece = finish(&answer, 1, "stop", "");
    check_piece(&piece, "", 0, 0);
    assert_int_equal(answer_completion_tokens(&answer), 2);
    answer_close(&answer);

    answer = open_answer(&request, *state);
    push(&answer, 0, 'x', "x", 0);
    push(&answer, 0, 'y', "", 3); /* a token of several bytes, of which one goes out */
    piece = push(&answer, 0, 'z', "y", 3);
    check_piece(&piece, "y", 1, 1);
    piece = finish(&answer, 0, "stop", "");
    check_piece(&piece, "", 1, 2); /* across the border: it belongs to what was said */
    answer_close(&answer);
}

static json_t *field(json_t *json, const char *path)
{
    char copy[128], *rest = copy;
    snprintf(copy, sizeof(copy), "%s", path);
    for (char *name; json != NULL && (name = strsep(&rest, ".")) != NULL;)
        json = name[0] >= '0' && name[0] <= '9' ? json_array_get(json, strtoul(name, NULL, 10))
                                                : json_object_get(json, name);
    if (json == NULL)
        fail_msg("%s is missing", path);
    return json;
}

static void fill(struct answer *answer)
{
    for (uint32_t choice = 0; choice < 2; choice++) {
        push(answer, choice, 'o', "o", 0);
        push(answer, choice, 0xe2, "", 0);
        finish(answer, choice, "length", "\xef\xbf\xbd");
    }
}

static void test_a_completion_is_openais_object(void **state)
{
    const struct generate_request request = request_of(GENERATE_COMPLETION, false);
    struct answer answer = open_answer(&request, *state);
    fill(&answer);
    json_t *json = answer_whole(&answer);
    assert_string_equal(json_string_value(field(json, "id")), "cmpl-req-1");
    assert_string_equal(json_string_value(field(json, "object")), "text_completion");
    assert_string_equal(json_string_value(field(json, "choices.1.text")), "o\xef\xbf\xbd");
    assert_string_equal(json_string_value(field(json, "choices.1.finish_reason")), "length");
    assert_string_equal(json_string_value(field(json, "choices.0.logprobs.tokens.1")),
                        "bytes:\\xe2");
    assert_int_equal(json_integer_value(field(json, "choices.0.logprobs.text_offset.1")), 1);
    assert_true(json_real_value(field(json, "choices.0.logprobs.top_logprobs.0.o")) == -0.5);
    assert_int_equal(json_integer_value(field(json, "usage.prompt_tokens")), 3);
    assert_int_equal(json_integer_value(field(json, "usage.completion_tokens")), 4);
    assert_int_equal(json_integer_value(field(json, "usage.total_tokens")), 7);
    /* Of the prompt, not of each choice. */
    assert_int_equal(json_integer_value(field(json, "usage.prompt_tokens_details.cached_tokens")),
                     2);
    json_decref(json);
    answer_close(&answer);
}

static void test_a_chat_is_openais_object(void **state)
{
    const struct generate_request request = request_of(GENERATE_CHAT, false);
    struct answer answer = open_answer(&request, *state);
    fill(&answer);
    json_t *json = answer_whole(&answer);
    assert_string_equal(json_string_value(field(json, "object")), "chat.completion");
    assert_string_equal(json_string_value(field(json, "choices.0.message.role")), "assistant");
    assert_string_equal(json_string_value(field(json, "choices.0.message.content")),
                        "o\xef\xbf\xbd");
    assert_int_equal(json_integer_value(field(json, "choices.0.logprobs.content.1.bytes.0")), 0xe2);
    assert_string_equal(
        json_string_value(field(json, "choices.0.logprobs.content.0.top_logprobs.0.token")), "o");
    json_decref(json);
    answer_close(&answer);
}

static void test_a_stream_begins_with_the_role(void **state)
{
    const struct generate_request request = request_of(GENERATE_CHAT, true);
    struct answer answer = open_answer(&request, *state);
    bool none = true;
    json_t *json = answer_first_chunk(&answer, 1, &none);
    assert_false(none);
    assert_string_equal(json_string_value(field(json, "object")), "chat.completion.chunk");
    assert_int_equal(json_integer_value(field(json, "choices.0.index")), 1);
    assert_string_equal(json_string_value(field(json, "choices.0.delta.role")), "assistant");
    json_decref(json);
    const struct answer_piece piece = push(&answer, 1, 'o', "o", 0);
    json = answer_chunk(&answer, &piece, &none);
    assert_string_equal(json_string_value(field(json, "choices.0.delta.content")), "o");
    assert_true(json_is_null(field(json, "choices.0.finish_reason")));
    json_decref(json);
    json = answer_usage_chunk(&answer);
    assert_int_equal(json_array_size(field(json, "choices")), 0);
    assert_int_equal(json_integer_value(field(json, "usage.completion_tokens")), 1);
    json_decref(json);
    answer_close(&answer);
}

/* Scores of tokens [first, first + n) of the only prompt, with one other token beside each. */
static bool score(struct answer *answer, uint32_t first, float *logprobs, size_t n, bool *complete)
{
    static int32_t ids[] = {3 + 'x', 3 + 'y'};
    static float tops[] = {-0.125f, -0.25f};
    Longspan__RunScores scores = LONGSPAN__RUN_SCORES__INIT;
    scores.first = first;
    scores.logprobs = logprobs;
    scores.top_ids = ids;
    scores.top_logprobs = tops;
    scores.n_logprobs = scores.n_top_ids = scores.n_top_logprobs = n;
    return answer_scores(answer, &scores, complete);
}

static void test_a_scored_prompt_is_said_back(void **state)
{
    struct generate_request request = request_of(GENERATE_COMPLETION, false);
    request.echo = true;
    struct answer answer = open_answer(&request, *state);
    float logprobs[] = {-1.5f, -INFINITY};
    bool complete;
    assert_false(score(&answer, 2, logprobs, 1, &complete)); /* not the next one */
    assert_false(score(&answer, 1, logprobs, 3, &complete)); /* more than there are */
    assert_false(answer_is_scored(&answer, 0));
    assert_true(score(&answer, 1, logprobs, 1, &complete) && !complete);
    assert_true(score(&answer, 2, logprobs + 1, 1, &complete) && complete);
    assert_false(score(&answer, 2, logprobs, 1, &complete)); /* twice */
    fill(&answer);
    json_t *json = answer_whole(&answer);
    for (int i = 0; i < 2; i++) {
        json_t *choice = json_array_get(field(json, "choices"), (size_t)i);
        assert_string_equal(json_string_value(field(choice, "text")), "hio\xef\xbf\xbd");
        json_t *list = field(choice, "logprobs.token_logprobs");
        assert_int_equal(json_array_size(list), 5);
        assert_true(json_is_null(json_array_get(list, 0)));
        assert_true(json_real_value(json_array_get(list, 1)) == -1.5);
        assert_true(json_real_value(json_array_get(list, 2)) == -9999.0); /* JSON has no -inf */
        assert_true(json_real_value(json_array_get(list, 3)) == -0.5);
        assert_true(json_is_null(field(choice, "logprobs.top_logprobs.0")));
        assert_true(json_real_value(field(choice, "logprobs.top_logprobs.1.x")) == -0.125);
        assert_true(json_real_value(field(choice, "logprobs.top_logprobs.1.h")) == -1.5);
        static const json_int_t offsets[] = {0, 0, 1, 2, 3};
        for (size_t t = 0; t < 5; t++)
            assert_int_equal(
                json_integer_value(json_array_get(field(choice, "logprobs.text_offset"), t)),
                offsets[t]);
    }
    json_decref(json);
    answer_close(&answer);
}

/* A coordinator that speaks of prompts that there are not. */
static void test_unknown_choices_are_refused(void **state)
{
    const struct generate_request request = request_of(GENERATE_CHAT, true);
    struct answer answer = open_answer(&request, *state);
    Longspan__RunToken token = LONGSPAN__RUN_TOKEN__INIT;
    Longspan__RunFinished finished = LONGSPAN__RUN_FINISHED__INIT;
    struct answer_piece piece;
    token.prompt = finished.prompt = 2;
    assert_false(answer_token(&answer, &token, &piece));
    assert_false(answer_finished(&answer, &finished, &piece));
    answer_close(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_wait_for_their_text),
        cmocka_unit_test(test_what_lies_behind_a_stop_text_never_leaves),
        cmocka_unit_test(test_a_completion_is_openais_object),
        cmocka_unit_test(test_a_chat_is_openais_object),
        cmocka_unit_test(test_a_stream_begins_with_the_role),
        cmocka_unit_test(test_a_scored_prompt_is_said_back),
        cmocka_unit_test(test_unknown_choices_are_refused),
    };
    return cmocka_run_group_tests(tests, byte_tokenizer_open, byte_tokenizer_close);
}
