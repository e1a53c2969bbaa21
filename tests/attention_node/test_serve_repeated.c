/* test_serve_repeated.c - what comes again is evaluated once. */
#include "tests/attention_node/serve_fixture.h"

static int open_keeping(void **state)
{
    struct fixture *f = open_pool();
    open_serve(f, &kernels_cpu_scalar, NULL, 1); /* every answer takes as long */
    *state = f;
    return 0;
}

static void ask_number(struct fixture *f, const char *peer, uint64_t number)
{
    const struct ask ask = {1, 512, 100, 2, {0, 4}, 0};
    put_attend(f, peer, number, &ask, 1, ask.n_tokens * Q_ROW);
    serve_message(f->serve);
}

/* A sequence of which query `number` of "peer" has been answered: that is the last answer. */
static void answer_one(struct fixture *f, uint64_t number)
{
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 512, 0), STATUS_OK);
    append(f, 1, 0, 512);
    ask_number(f, "peer", number);
    assert_int_equal(serve_pending(f->serve), 1);
    serve_run(f->serve);
    assert_int_equal(answer_of(f)->attend_reply->query, number);
}

static void test_a_query_that_was_answered_is_not_evaluated_again(void **state)
{
    struct fixture *f = *state;
    answer_one(f, 10);
    struct frames *first = &f->answers[f->n_answers - 1];
    for (int times = 0; times < 3; times++) {
        greet(f, "peer"); /* as a rank does before it repeats */
        ask_number(f, "peer", 10);
        assert_int_equal(serve_pending(f->serve), 0);
        struct frames *again = &f->answers[f->n_answers - 1];
        assert_int_equal(answer_of(f)->body_case, LONGSPAN__DATA__BODY_ATTEND_REPLY);
        assert_int_equal(again->n, 2);
        for (uint32_t i = 0; i < 2; i++) {
            assert_int_equal(frames_size(again, i), frames_size(first, i));
            assert_memory_equal(frames_data(again, i), frames_data(first, i),
                                frames_size(first, i));
        }
    }
    assert_int_equal(serve_counts(f->serve).runs, 1);
}

static void test_only_the_last_answer_of_a_peer_is_kept(void **state)
{
    struct fixture *f = *state;
    answer_one(f, 10);
    greet(f, "other peer");
    ask_number(f, "other peer", 10); /* its own number 10 */
    assert_int_equal(serve_pending(f->serve), 1);
    serve_run(f->serve);
    ask_number(f, "peer", 11);
    assert_int_equal(serve_pending(f->serve), 1);
    ask_number(f, "peer", 10);
    assert_int_equal(serve_pending(f->serve), 2);
    ask_number(f, "other peer", 10); /* still kept */
    assert_int_equal(serve_pending(f->serve), 2);
    serve_run(f->serve);
    assert_int_equal(serve_counts(f->serve).runs, 3);
}

static void test_a_job_that_ends_takes_its_answers_along(void **state)
{
    struct fixture *f = *state;
    answer_one(f, 10);
    serve_drop(f->serve);
    answer_one(f, 10);
    assert_int_equal(serve_counts(f->serve).runs, 2);
}

#define KEEPING(name) cmocka_unit_test_setup_teardown(name, open_keeping, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KEEPING(test_a_query_that_was_answered_is_not_evaluated_again),
        KEEPING(test_only_the_last_answer_of_a_peer_is_kept),
        KEEPING(test_a_job_that_ends_takes_its_answers_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
