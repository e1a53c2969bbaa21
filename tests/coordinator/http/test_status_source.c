/* test_status_source.c - many ask, the loop is asked once; and whoever sleeps is woken: by the
 * answer, by time, by the end. */
#include "coordinator/http/status_source.h"

#include "tests/coordinator/http/loop.h"
#include "tests/coordinator/http/sleeper.h"

enum { MANY = 20, SOON_MS = 50, LATE_MS = 60000 };

struct desk {
    struct loop loop;
    struct status_source *source;
};

static struct desk *desk_open(void **state, uint32_t wait_ms)
{
    struct desk *desk = calloc(1, sizeof(*desk));
    struct wire_fixture *f = *state;
    assert_non_null(desk);
    loop_open(&desk->loop, f);
    assert_int_equal(status_source_create(&desk->source, f->context, LOOP_ENDPOINT, wait_ms, NULL),
                     STATUS_OK);
    return desk;
}

static void desk_close(struct desk *desk)
{
    status_source_destroy(desk->source);
    loop_close(&desk->loop);
    free(desk);
}

static uint64_t hear_question(struct desk *desk)
{
    return loop_hear(&desk->loop, LONGSPAN__CONTROL__BODY_STATUS_REQUEST)->status_request->request;
}

static void tell(struct desk *desk, uint64_t number, uint64_t job)
{
    Longspan__StatusReply reply = LONGSPAN__STATUS_REPLY__INIT;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    reply.request = number;
    reply.job = job;
    message.body_case = LONGSPAN__CONTROL__BODY_STATUS_REPLY;
    message.status_reply = &reply;
    loop_say(&desk->loop, &message);
}

static struct status_question *ask(struct desk *desk, struct sleeper *sleeper)
{
    struct status_question *question = status_source_ask(desk->source, sleeper_connection(sleeper));
    assert_non_null(question);
    return question;
}

/* As MHD does: looks, sleeps, is woken, looks again. */
static const Longspan__StatusReply *wait_for(struct status_question *question,
                                             struct sleeper *sleeper, struct error *error)
{
    if (!status_question_answered(question)) {
        sleeper_wait(sleeper);
        assert_true(status_question_answered(question));
    }
    return status_question_reply(question, error);
}

static void expect_job(struct status_question *question, struct sleeper *sleeper, uint64_t job)
{
    const Longspan__StatusReply *reply = wait_for(question, sleeper, NULL);
    assert_non_null(reply);
    assert_int_equal(reply->job, job);
    status_question_end(question);
}

static void expect_failure(struct status_question *question, struct sleeper *sleeper,
                           const char *text)
{
    struct error error;
    assert_null(wait_for(question, sleeper, &error));
    assert_non_null(strstr(error.text, text));
    status_question_end(question);
}

static void test_many_ask_and_the_loop_is_asked_once(void **state)
{
    struct desk *desk = desk_open(state, LATE_MS);
    struct sleeper sleepers[MANY], late = SLEEPER;
    struct status_question *questions[MANY];
    for (int i = 0; i < MANY; i++) {
        sleepers[i] = (struct sleeper)SLEEPER;
        questions[i] = ask(desk, &sleepers[i]);
        assert_false(status_question_answered(questions[i]));
    }
    tell(desk, hear_question(desk), 77);
    for (int i = 0; i < MANY; i++)
        expect_job(questions[i], &sleepers[i], 77);
    struct status_question *question = ask(desk, &late);
    assert_true(status_question_answered(question)); /* the answer is young */
    expect_job(question, &late, 77);
    loop_hear_nothing(&desk->loop);
    desk_close(desk);
}

static void test_an_old_answer_is_not_told_again(void **state)
{
    struct desk *desk = desk_open(state, LATE_MS);
    struct sleeper first = SLEEPER, second = SLEEPER;
    struct status_question *question = ask(desk, &first);
    const uint64_t number = hear_question(desk);
    tell(desk, number, 1);
    expect_job(question, &first, 1);
    clock_sleep_us((STATUS_SOURCE_AGE_MS + 1) * 1000);
    question = ask(desk, &second);
    assert_false(status_question_answered(question));
    const uint64_t next = hear_question(desk);
    assert_true(next != number);
    tell(desk, number, 1); /* to the first one, once more: nobody's any more */
    tell(desk, next, 2);
    expect_job(question, &second, 2);
    desk_close(desk);
}

static void test_a_stuck_loop_fails_the_question_and_the_next_one_is_asked(void **state)
{
    struct desk *desk = desk_open(state, SOON_MS);
    struct sleeper first = SLEEPER, second = SLEEPER;
    struct status_question *question = ask(desk, &first);
    expect_failure(question, &first, "busy");
    const uint64_t number = hear_question(desk);
    do { /* on a loaded machine this one may be too late too */
        question = ask(desk, &second);
        const uint64_t next = hear_question(desk);
        assert_true(next > number);
        tell(desk, next, 5);
        const Longspan__StatusReply *reply = wait_for(question, &second, &(struct error){0});
        status_question_end(question);
        if (reply != NULL)
            break;
    } while (true);
    desk_close(desk);
}

static void test_a_call_may_end_first(void **state)
{
    struct desk *desk = desk_open(state, LATE_MS);
    struct sleeper gone = SLEEPER, stays = SLEEPER;
    struct status_question *left = ask(desk, &gone), *question = ask(desk, &stays);
    assert_false(status_question_answered(left));
    status_question_end(left); /* its connection must not be touched */
    tell(desk, hear_question(desk), 9);
    expect_job(question, &stays, 9);
    assert_true(gone.asleep);
    desk_close(desk);
}

static void test_the_end_wakes_everybody(void **state)
{
    struct desk *desk = desk_open(state, LATE_MS);
    struct sleeper waits = SLEEPER, late = SLEEPER;
    struct status_question *question = ask(desk, &waits);
    assert_false(status_question_answered(question));
    status_source_close(desk->source);
    assert_false(waits.asleep); /* at once, not soon */
    expect_failure(question, &waits, "shutting down");
    question = ask(desk, &late);
    assert_true(status_question_answered(question));
    expect_failure(question, &late, "shutting down");
    desk_close(desk);
}

static void test_without_memory_there_is_an_error(void **state)
{
    struct error error;
    assert_true(status_question_answered(NULL));
    assert_null(status_question_reply(NULL, &error));
    assert_non_null(strstr(error.text, "no memory"));
    status_question_end(NULL);
    status_source_close(NULL);
    status_source_destroy(NULL);
}

int main(void)
{
#define WITH_WIRE(test)                                                                            \
    cmocka_unit_test_setup_teardown(test, wire_fixture_make, wire_fixture_remove)
    const struct CMUnitTest tests[] = {
        WITH_WIRE(test_many_ask_and_the_loop_is_asked_once),
        WITH_WIRE(test_an_old_answer_is_not_told_again),
        WITH_WIRE(test_a_stuck_loop_fails_the_question_and_the_next_one_is_asked),
        WITH_WIRE(test_a_call_may_end_first),
        WITH_WIRE(test_the_end_wakes_everybody),
        cmocka_unit_test(test_without_memory_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
