/* test_texts.c - long texts come back as the ids that the tokenizer gives them, in order, and what is
 * dropped does not. */
#include "coordinator/texts.h"

#include "tests/cmocka.h"
#include "tests/coordinator/give_back_gate.h"
#include "tests/coordinator/http/byte_tokenizer.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

static const struct frames_peer ours = {.n = 2, .bytes = "us"}, theirs = {.n = 4, .bytes = "them"};

static struct texts *open_texts(const struct tokenizer *tokenizer)
{
    struct texts *texts = NULL;
    assert_int_equal(texts_create(&texts, tokenizer, NULL), STATUS_OK);
    return texts;
}

/* A request of a text of n_bytes behind one of two bytes. */
static enum status add(struct texts *texts, const struct frames_peer *client, uint64_t number,
                       size_t n_bytes, struct error *error)
{
    Longspan__RunRequest run = LONGSPAN__RUN_REQUEST__INIT;
    Longspan__Prompt prompts[2], *list[] = {&prompts[0], &prompts[1]};
    uint8_t *bytes = malloc(n_bytes + 1);
    assert_non_null(bytes);
    memset(bytes, 'a', n_bytes);
    for (int i = 0; i < 2; i++)
        longspan__prompt__init(&prompts[i]);
    prompts[0].text = (ProtobufCBinaryData){.len = 2, .data = (uint8_t *)"xy"};
    prompts[1].text = (ProtobufCBinaryData){.len = n_bytes, .data = bytes};
    run.request = number;
    run.n_prompts = 2;
    run.prompts = list;
    run.n_predict = 7;
    assert_true(texts_are_long(&run) == (n_bytes + 2 > TEXTS_LEAST_BYTES));
    const enum status status = texts_add(texts, client, &run, 1000, error);
    free(bytes);
    return status;
}

static void take(struct texts *texts, struct texts_request *request)
{
    struct pollfd bell = {.fd = texts_descriptor(texts), .events = POLLIN};
    while (!texts_take(texts, request))
        assert_int_equal(poll(&bell, 1, 60000), 1);
}

static void test_a_long_text_becomes_its_ids(void **state)
{
    struct texts *texts = open_texts(*state);
    struct texts_request request;
    assert_false(texts_take(texts, &request));
    for (uint64_t number = 1; number <= 3; number++)
        assert_int_equal(add(texts, &ours, number, 50000, NULL), STATUS_OK);
    for (uint64_t number = 1; number <= 3; number++) {
        take(texts, &request);
        assert_non_null(request.message);
        const Longspan__RunRequest *run = request.message->run_request;
        assert_true(frames_same_peer(&request.client, &ours));
        assert_true(request.number == number && run->request == number && run->n_predict == 7);
        assert_int_equal(run->prompts[0]->n_ids, 3); /* BOS */
        assert_int_equal(run->prompts[1]->n_ids, 50001);
        assert_int_equal(run->prompts[1]->ids[0], 1);
        assert_int_equal(run->prompts[1]->ids[50000], 3 + 'a');
        assert_int_equal(run->prompts[1]->text.len, 0);
        assert_false(texts_are_long(run));
        longspan__control__free_unpacked(request.message, NULL);
    }
    assert_false(texts_take(texts, &request));
    texts_destroy(texts);
}

static void test_memory_is_given_back_after_a_text_is_handed_on(void **state)
{
    struct texts *texts = open_texts(*state);
    struct texts_request request;
    sem_init(&given_back, 0, 0);
    pthread_mutex_lock(&give_back_gate);
    assert_int_equal(add(texts, &ours, 1, 2 << 20, NULL), STATUS_OK);
    take(texts, &request);
    pthread_mutex_unlock(&give_back_gate);
    assert_non_null(request.message);
    longspan__control__free_unpacked(request.message, NULL);
    assert_true(given_back_once());
    texts_destroy(texts);
}

/* The first one takes longer than the dropping: those behind it wait. */
static void test_what_is_dropped_does_not_come_back(void **state)
{
    struct texts *texts = open_texts(*state);
    struct texts_request request;
    struct frames_peer client;
    uint64_t number;
    assert_int_equal(add(texts, &ours, 1, 4 << 20, NULL), STATUS_OK);
    assert_int_equal(add(texts, &ours, 2, 20000, NULL), STATUS_OK);
    assert_int_equal(add(texts, &theirs, 1, 20000, NULL), STATUS_OK);
    assert_int_equal(add(texts, &theirs, 2, 20000, NULL), STATUS_OK);
    assert_int_equal(add(texts, &ours, 3, 20000, NULL), STATUS_OK);
    texts_drop(texts, &ours, false, 1); /* it may be under way */
    texts_drop(texts, &ours, false, 2);
    texts_drop(texts, &theirs, true, 0);
    texts_heard(texts, &ours, 5000);
    assert_false(texts_drop_silent(texts, 5000, &client, &number));
    take(texts, &request);
    assert_true(request.number == 3 && request.message != NULL);
    longspan__control__free_unpacked(request.message, NULL);

    assert_int_equal(add(texts, &theirs, 8, 20000, NULL), STATUS_OK);
    assert_true(texts_drop_silent(texts, 5000, &client, &number));
    assert_true(number == 8 && frames_same_peer(&client, &theirs));
    assert_false(texts_drop_silent(texts, 5000, &client, &number));
    assert_int_equal(add(texts, &theirs, 9, 20000, NULL), STATUS_OK);
    assert_true(texts_drop_one(texts, &client, &number));
    assert_true(number == 9 && frames_same_peer(&client, &theirs));
    assert_false(texts_drop_one(texts, &client, &number));
    assert_false(texts_take(texts, &request));
    assert_int_equal(add(texts, &ours, 4, 4 << 20, NULL), STATUS_OK);
    texts_destroy(texts); /* ends soon, whatever is under way */
}

static void test_too_many_are_refused(void **state)
{
    struct texts *texts = open_texts(*state);
    struct error error;
    enum status status = STATUS_OK;
    uint64_t n = 0;
    for (; status == STATUS_OK && n < 1000; n++)
        status = add(texts, &ours, n, 20000, &error);
    assert_int_equal(status, STATUS_EXHAUSTED);
    assert_int_equal(n, TEXTS_MOST_REQUESTS + 1);
    texts_destroy(texts);
}

/* Bytes that come with ids: they count, and are not tokenized. */
static enum status add_bytes(struct texts *texts, uint8_t *bytes, size_t n_bytes,
                             struct error *error)
{
    Longspan__RunRequest run = LONGSPAN__RUN_REQUEST__INIT;
    Longspan__Prompt prompt = LONGSPAN__PROMPT__INIT, *list[] = {&prompt};
    int32_t id = 5;
    prompt.n_ids = 1;
    prompt.ids = &id;
    prompt.text = (ProtobufCBinaryData){.len = n_bytes, .data = bytes};
    run.n_prompts = 1;
    run.prompts = list;
    return texts_add(texts, &ours, &run, 1000, error);
}

static void test_too_many_bytes_are_refused(void **state)
{
    struct texts *texts = open_texts(*state);
    struct texts_request request;
    struct error error;
    uint8_t *bytes = calloc(3, TEXTS_MOST_BYTES / 4);
    assert_non_null(bytes);
    assert_int_equal(add_bytes(texts, bytes, TEXTS_MOST_BYTES / 4 * 3, &error), STATUS_OK);
    assert_int_equal(add_bytes(texts, bytes, TEXTS_MOST_BYTES / 4, &error), STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "no room"));
    assert_int_equal(add_bytes(texts, bytes, TEXTS_MOST_BYTES / 8, &error), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        take(texts, &request);
        longspan__control__free_unpacked(request.message, NULL);
    }
    assert_int_equal(add_bytes(texts, bytes, TEXTS_MOST_BYTES / 4, &error), STATUS_OK);
    free(bytes);
    texts_destroy(texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_text_becomes_its_ids),
        cmocka_unit_test(test_memory_is_given_back_after_a_text_is_handed_on),
        cmocka_unit_test(test_what_is_dropped_does_not_come_back),
        cmocka_unit_test(test_too_many_are_refused),
        cmocka_unit_test(test_too_many_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, byte_tokenizer_open, byte_tokenizer_close);
}
