/* test_serve.c - a node takes nothing from the network on trust: each field of each message is
 * checked. */
#include "tests/attention_node/serve_fixture.h"

static void test_setup_checks_the_shape_and_keeps_its_job(void **state)
{
    struct fixture *f = *state;
    struct error error = {0};
    const Longspan__NodeSetup good = good_setup();
    Longspan__NodeSetup bad[11];
    for (size_t i = 0; i < 11; i++)
        bad[i] = good;
    bad[0].job = 0;
    bad[1].n_layers = 0;
    bad[2].n_kv_heads = 0;
    bad[3].first_layer = UINT32_MAX;
    bad[4].first_kv_head = UINT32_MAX - 1;
    bad[5].head_dim = 33;
    bad[6].group = 65;
    bad[7].kv_type = 99;
    bad[8].scale = NAN;
    bad[9].max_tokens = UINT32_MAX;
    bad[10].kv_type = KV_Q8_0;
    bad[10].head_dim = 40; /* no whole blocks */
    for (size_t i = 0; i < 11; i++)
        if (serve_setup(f->serve, &bad[i], NULL) == STATUS_OK)
            fail_msg("bad setup %zu is accepted", i);
    assert_int_equal(serve_job(f->serve), 0);
    assert_int_equal(serve_setup(f->serve, &good, NULL), STATUS_OK);
    assert_int_equal(serve_usage(f->serve).pages_total, N_PAGES * N_LAYERS * N_HEADS);
    assert_int_equal(serve_setup(f->serve, &good, NULL), STATUS_OK);
    Longspan__NodeSetup other = good;
    other.job = JOB + 1;
    assert_int_equal(serve_setup(f->serve, &other, &error), STATUS_FAILED);
    assert_non_null(strstr(error.text, "mem01"));
    assert_non_null(strstr(error.text, "000000000000004d")); /* the job it serves */
    assert_int_equal(serve_job(f->serve), JOB);
    serve_drop(f->serve);
    assert_int_equal(serve_setup(f->serve, &other, NULL), STATUS_OK);
}

static void test_reserve_counts_pages(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(reserve(f, 1, 0, 256, 0), STATUS_NOT_FOUND); /* no job */
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 200, 0), STATUS_INVALID);
    assert_int_equal(reserve(f, 1, 256, 256, 0), STATUS_INVALID);
    assert_int_equal(reserve(f, 1, 0, N_PAGES * PAGE_TOKENS + PAGE_TOKENS, 0), STATUS_EXHAUSTED);
    assert_int_equal(serve_usage(f->serve).pages_reserved, 0);
    assert_int_equal(reserve(f, 1, 0, N_PAGES * PAGE_TOKENS, 0), STATUS_OK);
    assert_int_equal(reserve(f, 2, 0, 256, 0), STATUS_EXHAUSTED);
    close_sequence(f, 1);
    assert_int_equal(reserve(f, 2, 0, 256, 0), STATUS_OK);
    Longspan__Reserve other = LONGSPAN__RESERVE__INIT;
    other.job = JOB + 1;
    assert_int_equal(serve_reserve(f->serve, &other, NULL), STATUS_NOT_FOUND);
}

static void test_hello_compares_constants_and_process(void **state)
{
    struct fixture *f = *state;
    const uint32_t protocol = PROTOCOL_VERSION;
    assert_non_null(say_hello(f, "a", JOB, NODE, protocol, TILE_TOKENS, PAGE_TOKENS)->failure);
    set_up(f);
    const Longspan__HelloReply *reply =
        say_hello(f, "a", JOB, NODE, protocol + 1, TILE_TOKENS, PAGE_TOKENS);
    assert_int_equal(reply->failure->status, STATUS_PROTOCOL);
    assert_non_null(strstr(reply->failure->text, "mem01"));
    assert_non_null(say_hello(f, "a", JOB, NODE, protocol, 64, PAGE_TOKENS)->failure);
    assert_non_null(say_hello(f, "a", JOB, NODE, protocol, TILE_TOKENS, 128)->failure);
    assert_non_null(say_hello(f, "a", JOB + 1, NODE, protocol, TILE_TOKENS, PAGE_TOKENS)->failure);
    reply = say_hello(f, "a", JOB, NODE + 1, protocol, TILE_TOKENS, PAGE_TOKENS);
    assert_non_null(reply->failure);
    assert_int_equal(reply->node, NODE); /* so that the rank sees that it is another process */
    assert_null(say_hello(f, "a", JOB, NODE, protocol, TILE_TOKENS, PAGE_TOKENS)->failure);
}

static void test_strangers_get_nothing(void **state)
{
    struct fixture *f = *state;
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 512, 0), STATUS_OK);
    append(f, 1, 0, 512);
    const struct ask ask = {1, 512, 1, 2, {0, 4}, 0};
    put_attend(f, "stranger", 5, &ask, 1, Q_ROW);
    serve_message(f->serve);
    serve_run(f->serve);
    const Longspan__AttendReply *reply = answer_of(f)->attend_reply;
    assert_non_null(reply->failure);
    assert_true(reply->missing); /* his Hello */
    assert_int_equal(reply->n_marks, 0);
    assert_int_equal(f->answers[f->n_answers - 1].n, 1);

    /* A rank of a job before: not even its appends count. */
    serve_drop(f->serve);
    put_append(f, 1, 0, 10, LAYER);
    serve_message(f->serve);
    put_attend(f, "peer", 5, &ask, 1, Q_ROW);
    serve_message(f->serve);
    assert_non_null(answer_of(f)->attend_reply->failure);
    assert_int_equal(serve_pending(f->serve), 0);
}

static void test_append_checks_every_size(void **state)
{
    struct fixture *f = *state;
    set_up(f);
    assert_int_equal(reserve(f, 1, 0, 512, 0), STATUS_OK);
    uint64_t malformed = serve_counts(f->serve).malformed;
    for (int i = 0; i < 9; i++) {
        Longspan__AppendEntry entry = LONGSPAN__APPEND_ENTRY__INIT, *entries[] = {&entry, &entry};
        Longspan__Append message = LONGSPAN__APPEND__INIT;
        Longspan__Data data = good_data();
        size_t k = 4 * KV_ROW, v = 4 * KV_ROW, n_frames = 2;
        entry.sequence = 1;
        entry.incarnation = 1;
        entry.n_tokens = 4;
        message.entries = entries;
        message.n_entries = 1;
        data.body_case = LONGSPAN__DATA__BODY_APPEND;
        data.append = &message;
        switch (i) {
        case 0:
            k -= 1;
            break;
        case 1:
            v += KV_ROW;
            break;
        case 2:
            message.n_entries = 2;
            break;
        case 3:
            entry.n_tokens = UINT32_MAX;
            break;
        case 4:
            entry.first = UINT32_MAX - 3;
            break;
        case 5:
            data.layer = LAYER + N_LAYERS;
            break;
        case 6:
            data.head = UINT32_MAX;
            break;
        case 7:
            data.n_heads = UINT32_MAX;
            break;
        default:
            n_frames = 1;
        }
        put_header(f, "peer", &data);
        put_floats(f, k, 1);
        if (n_frames == 2)
            put_floats(f, v, 2);
        serve_message(f->serve);
        if (serve_counts(f->serve).malformed != ++malformed)
            fail_msg("bad append %d is accepted", i);
    }
    assert_int_equal(serve_counts(f->serve).appends, 0);
    assert_int_equal(serve_usage(f->serve).pages_taken, 0);

    /* Well-formed, and without effect: a gap, an unknown sequence. */
    append(f, 1, 10, 5);
    append(f, 9, 0, 5);
    assert_int_equal(serve_counts(f->serve).dropped, 2 * N_LAYERS);
    assert_int_equal(serve_usage(f->serve).pages_taken, 0);
}

/* Noise, and messages of ours with a few bytes changed: no crash, no hang, no answer of wrong size.
 */
static void test_noise_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct random_state random;
    random_seed(&random, 1);
    set_up(f);
    for (uint64_t sequence = 1; sequence <= 2; sequence++)
        assert_int_equal(reserve(f, sequence, 0, 512, 0), STATUS_OK);
    append(f, 1, 0, 512);
    for (int i = 0; i < 6000; i++) {
        const struct ask asks[] = {{1, 512, 2, 2, {0, 4}, 0}, {1, 300, 1, 4, {0, 1, 2, 2}, 100}};
        switch (i % 3) {
        case 0:
            put_attend(f, "peer", 5, asks, 2, 3 * Q_ROW);
            break;
        case 1:
            put_append(f, 2, (uint32_t)random_below(&random, 520), 3, LAYER);
            break;
        default: {
            unsigned char noise[64];
            for (size_t j = 0; j < sizeof(noise); j++)
                noise[j] = (unsigned char)random_u64(&random);
            struct frames *inbox = serve_inbox(f->serve);
            frames_clear(inbox);
            assert_int_equal(
                frames_add_copy(inbox, noise, random_below(&random, sizeof(noise)), NULL),
                STATUS_OK);
            frames_set_peer(inbox, "peer", 4);
        }
        }
        struct frames *inbox = serve_inbox(f->serve);
        unsigned char *header = frames_data(inbox, 0);
        const size_t size = frames_size(inbox, 0);
        for (uint64_t n = random_below(&random, 4); size > 0 && n > 0; n--)
            header[random_below(&random, size)] = (unsigned char)random_u64(&random);
        serve_message(f->serve);
        if (i % 7 == 0)
            serve_run(f->serve);
        if (f->n_answers > MOST_ANSWERS / 2)
            forget_answers(f);
    }
    serve_run(f->serve);
    assert_true(serve_counts(f->serve).malformed > 1000);

    const struct ask good = {1, 512, 1, 2, {0, 4}, 0}; /* and it still serves */
    greet(f, "peer");
    assert_null(attend(f, &good, 1, Q_ROW)->failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_setup_checks_the_shape_and_keeps_its_job),
        TEST(test_reserve_counts_pages),
        TEST(test_hello_compares_constants_and_process),
        TEST(test_strangers_get_nothing),
        TEST(test_append_checks_every_size),
        TEST(test_noise_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
