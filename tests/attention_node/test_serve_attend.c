/* test_serve_attend.c - a query is answered by all partials that it names, or by a failure. */
#include "tests/attention_node/serve_fixture.h"

#include "tests/kernels/fake_device.h"

static void test_attend_checks_every_field(void **state)
{
    struct fixture *f = *state;
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 1024, 0), STATUS_OK);
    append(f, 1, 0, 1024);
    static const struct ask bad[] = {
        {1, 512, 2, 2, {0, 4}, 0},          /* 1 row of q for 2 tokens */
        {1, 512, UINT32_MAX, 2, {0, 4}, 0}, /* beyond every sequence */
        {1, UINT32_MAX, 1, 2, {0, 4}, 0},   /* likewise */
        {1, 512, 1, 1, {0}, 0},             /* half a range */
        {1, 512, 1, 2, {4, 4}, 0},          /* empty */
        {1, 512, 1, 2, {3, 2}, 0},          /* backwards */
        {1, 512, 1, 2, {0, 5}, 0},          /* the own tile */
        {1, 512, 1, 2, {0, UINT32_MAX}, 0}, /* likewise */
        {1, 512, 1, 4, {2, 3, 0, 1}, 0},    /* not ascending */
        {1, 512, 1, 4, {0, 2, 1, 3}, 0},    /* overlap */
        {1, 512, 1, 4, {0, 1, 1, 3}, 0},    /* touch: not joined */
        {1, 512, 0, 2, {0, 4}, 0},          /* tiles for no rows */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const Longspan__AttendReply *reply = attend(f, &bad[i], 1, Q_ROW);
        if (reply->failure == NULL || reply->missing)
            fail_msg("bad query %zu is answered", i);
        assert_non_null(strstr(reply->failure->text, "mem01"));
        assert_int_equal(f->answers[f->n_answers - 1].n, 1);
    }
    const struct ask good = {1, 512, 1, 2, {0, 4}, 0};
    static const size_t sizes[] = {0, 1, Q_ROW - 1, Q_ROW + 1, 2 * Q_ROW};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        assert_non_null(attend(f, &good, 1, sizes[i])->failure);
    const struct ask second_bad[] = {good, {1, 512, 1, 2, {0, 9}, 0}};
    assert_int_equal(attend(f, second_bad, 2, 2 * Q_ROW)->failed_entry, 1);

    const Longspan__AttendReply *reply = attend(f, &good, 1, Q_ROW);
    assert_null(reply->failure);
    assert_int_equal(reply->n_marks, 1);
    assert_int_equal(reply->marks[0], 1024);
    assert_int_equal(frames_size(&f->answers[f->n_answers - 1], 1),
                     N_HEADS * partial_floats(GROUP, HEAD_DIM) * sizeof(float));
    forget_answers(f);

    /* No rows: only the mark. */
    const struct ask confirm = {1, 0, 0, 0, {0}, 0};
    reply = attend(f, &confirm, 1, 0);
    assert_null(reply->failure);
    assert_int_equal(reply->marks[0], 1024);
}

static void test_missing_tokens_are_told_with_marks(void **state)
{
    struct fixture *f = *state;
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 512, 0), STATUS_OK);
    assert_int_equal(reserve(f, 2, 0, 512, 256), STATUS_OK);
    append(f, 1, 0, 200);
    const struct ask whole = {1, 256, 1, 2, {0, 2}, 0}, child = {2, 256, 1, 2, {0, 2}, 0};
    const struct ask both[] = {{1, 128, 1, 2, {0, 1}, 0}, {1, 256, 1, 2, {0, 2}, 0}};
    const Longspan__AttendReply *reply = attend(f, &whole, 1, Q_ROW);
    assert_true(reply->missing);
    assert_int_equal(reply->marks[0], 200);
    reply = attend(f, both, 2, 2 * Q_ROW); /* never a part of a query */
    assert_true(reply->missing);
    assert_int_equal(reply->failed_entry, 1);
    assert_int_equal(f->answers[f->n_answers - 1].n, 1);
    reply = attend(f, &child, 1, Q_ROW); /* the fork is missing */
    assert_true(reply->missing);
    assert_int_equal(reply->marks[0], 0);

    append(f, 1, 150, 106); /* overlaps with what is there */
    assert_null(attend(f, &whole, 1, Q_ROW)->failure);
    Longspan__ForkEntry entry = LONGSPAN__FORK_ENTRY__INIT, *entries[] = {&entry};
    Longspan__Fork fork = LONGSPAN__FORK__INIT;
    Longspan__Data data = good_data();
    entry.parent = 1;
    entry.parent_incarnation = 1;
    entry.child = 2;
    entry.child_incarnation = 1;
    entry.n_tokens = 256;
    fork.entries = entries;
    fork.n_entries = 1;
    data.body_case = LONGSPAN__DATA__BODY_FORK;
    data.fork = &fork;
    for (int twice = 0; twice < 2; twice++) {
        put_header(f, "peer", &data);
        serve_message(f->serve);
        reply = attend(f, &child, 1, Q_ROW);
        assert_null(reply->failure);
        assert_int_equal(reply->marks[0], 256);
    }
    close_sequence(f, 1);
    reply = attend(f, &whole, 1, Q_ROW);
    assert_non_null(reply->failure);
    assert_false(reply->missing); /* sending again would not help */
    append(f, 1, 0, 256);
    assert_non_null(attend(f, &whole, 1, Q_ROW)->failure);
    assert_null(attend(f, &child, 1, Q_ROW)->failure);
}

static void test_queries_together_equal_queries_alone(void **state)
{
    struct fixture *f = *state;
    enum { N = 5 };
    set_up(f);
    const struct ask asks[N] = {{1, 512, 1, 2, {0, 4}, 0},
                                {2, 700, 150, 4, {0, 2, 3, 5}, 0},
                                {1, 300, 3, 2, {1, 2}, 0},
                                {2, 640, 1, 2, {4, 5}, 200},
                                {1, 900, 0, 0, {0}, 0}};
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        assert_int_equal(reserve(f, sequence, 0, 768, 0), STATUS_OK);
        append(f, sequence, 0, 768);
    }
    for (uint32_t i = 0; i < N; i++) {
        put_attend(f, "peer", 10 + i, &asks[i], 1, asks[i].n_tokens * Q_ROW);
        serve_message(f->serve);
        serve_run(f->serve);
    }
    assert_int_equal(f->n_answers, N + 1); /* and the Hello's */
    greet(f, "other peer");
    const uint32_t first = f->n_answers;
    const uint64_t runs = serve_counts(f->serve).runs;
    for (uint32_t i = 0; i < N; i++) {
        for (int twice = 0; twice < 2;
             twice++) { /* repeated before it was answered: once is enough */
            put_attend(f, i % 2 ? "peer" : "other peer", 10 + i, &asks[i], 1,
                       asks[i].n_tokens * Q_ROW);
            serve_message(f->serve);
        }
        append(f, 1, 700, 10); /* held already: changes nothing in between */
    }
    serve_run(f->serve);
    assert_int_equal(serve_counts(f->serve).runs, runs + 1);
    assert_int_equal(f->n_answers, first + N);
    for (uint32_t i = 0; i < N; i++) {
        struct frames *alone = &f->answers[1 + i], *together = &f->answers[first + i];
        assert_int_equal(alone->n, together->n);
        if (alone->n < 2)
            continue;
        assert_int_equal(frames_size(alone, 1), frames_size(together, 1));
        assert_memory_equal(frames_data(alone, 1), frames_data(together, 1), frames_size(alone, 1));
    }
}

static void test_more_queries_than_fit_run_in_turns(void **state)
{
    struct fixture *f = *state;
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 256, 0), STATUS_OK);
    append(f, 1, 0, 256);
    forget_answers(f);
    const struct ask ask = {1, 256, 1, 2, {0, 2}, 0};
    for (uint32_t i = 0; i < SERVE_QUERIES + 10; i++) {
        put_attend(f, "peer", i, &ask, 1, Q_ROW);
        serve_message(f->serve);
    }
    serve_run(f->serve);
    assert_int_equal(f->n_answers, SERVE_QUERIES + 10);
    for (uint32_t i = 0; i < f->n_answers; i++)
        assert_int_equal(f->answers[i].n, 2);
}

/* Memory is bounded by what the answers take, not by how many there are. */
static void test_queries_of_many_bytes_run_in_turns(void **state)
{
    enum { N = 9, ROWS = 128 };
    struct fixture *f = open_pool();
    /* Each has a third of that in q, and more in its answer. */
    f->run_bytes = 3 * ROWS * Q_ROW * sizeof(float);
    open_serve(f, &kernels_cpu_scalar, NULL, 0);
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 256, 0), STATUS_OK);
    append(f, 1, 0, 256);
    forget_answers(f);
    const struct ask ask = {1, 256, ROWS, 2, {0, 2}, 0};
    for (uint32_t i = 0; i < N; i++) {
        put_attend(f, "peer", i, &ask, 1, ROWS * Q_ROW);
        serve_message(f->serve);
        assert_true(serve_pending(f->serve) <= 2);
        assert_int_equal(serve_has_room(f->serve), serve_pending(f->serve) < 2);
    }
    serve_run(f->serve);
    assert_true(serve_has_room(f->serve));
    assert_int_equal(serve_counts(f->serve).runs, (N + 1) / 2);
    assert_int_equal(f->n_answers, N);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(f->answers[i].n, 2);
    close_fixture((void **)&f);
}

/* ---- a device without room ---- */

static size_t most_bytes; /* that the device gives at once */

static enum status take_at_most(struct device *device, void **memory, size_t bytes,
                                struct error *error)
{
    if (bytes <= most_bytes)
        return fake_memory_take(device, memory, bytes, error);
    return error_set(error, STATUS_NO_MEMORY, "the device has no %zu bytes left", bytes);
}

/* Who gets no answer waits for it in vain: until its timeout, which does not say why. */
static void test_what_finds_no_memory_is_refused_and_the_rest_answered(void **state)
{
    struct fixture *f = open_pool();
    struct kernels kernels = kernels_fake;
    struct device *device;
    kernels.memory_take = take_at_most;
    most_bytes = SIZE_MAX;
    assert_int_equal(kernels.open(&device, f->pool, 0, NULL), STATUS_OK);
    open_serve(f, &kernels, device, 0);
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 512, 0), STATUS_OK);
    append(f, 1, 0, 512);
    forget_answers(f);
    const struct ask large[] = {{1, 512, 1, 2, {0, 4}, 0}, {1, 512, 128, 2, {0, 4}, 0}};
    const struct ask small = {1, 512, 1, 2, {0, 4}, 0};
    most_bytes = 32 << 10;
    put_attend(f, "peer", 20, &small, 1, Q_ROW);
    serve_message(f->serve);
    put_attend(f, "peer", 21, large, 2, 129 * Q_ROW);
    serve_message(f->serve);
    put_attend(f, "peer", 22, &small, 1, Q_ROW);
    serve_message(f->serve);
    serve_run(f->serve);
    assert_int_equal(f->n_answers, 3);
    for (uint32_t i = 0; i < 3; i++) {
        Longspan__Data *data = longspan__data__unpack(NULL, frames_size(&f->answers[i], 0),
                                                      frames_data(&f->answers[i], 0));
        assert_non_null(data);
        const Longspan__AttendReply *reply = data->attend_reply;
        assert_int_equal(reply->query, 20 + i);
        assert_int_equal(reply->failure != NULL, i == 1);
        if (i == 1) {
            assert_int_equal(reply->failure->status, STATUS_NO_MEMORY);
            assert_non_null(strstr(reply->failure->text, "mem01: the device has no"));
            assert_int_equal(reply->failed_entry, 2); /* not one of them: all */
            assert_false(reply->missing);
        }
        longspan__data__free_unpacked(data, NULL);
    }
    forget_answers(f);
    serve_destroy(f->serve);
    kernels.close(device);
    thread_pool_destroy(f->pool);
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_attend_checks_every_field),
        TEST(test_missing_tokens_are_told_with_marks),
        TEST(test_queries_together_equal_queries_alone),
        TEST(test_more_queries_than_fit_run_in_turns),
        cmocka_unit_test(test_queries_of_many_bytes_run_in_turns),
        cmocka_unit_test(test_what_finds_no_memory_is_refused_and_the_rest_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
