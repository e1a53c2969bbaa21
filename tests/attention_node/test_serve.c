/* test_serve.c - a node takes nothing from the network on trust: each field of each message is
 * checked, and a query is answered by all partials that it names, or by a failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before */
#include <cmocka.h>

#include "attention_node/serve.h"
#include "kernels/attention/partial.h"
#include "proto/protocol.h"
#include "sys/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LAYER = 4,
    N_LAYERS = 2,
    HEAD = 2,
    N_HEADS = 2,
    GROUP = 2,
    HEAD_DIM = 32,
    MAX_TOKENS = 4096,
    Q_ROW = N_HEADS * GROUP * HEAD_DIM,
    KV_ROW = N_HEADS * HEAD_DIM,
    N_PAGES = 40,
    MOST_ANSWERS = 128
};
static const uint64_t JOB = 77, NODE = 1234;

struct fixture {
    struct thread_pool *pool;
    struct serve *serve;
    struct frames answers[MOST_ANSWERS];
    uint32_t n_answers;
    Longspan__Data *answer; /* the last one, unpacked */
};

static void keep_answer(void *context, struct frames *answer, enum serve_answer kind)
{
    (void)kind;
    struct fixture *f = context;
    assert_true(f->n_answers < MOST_ANSWERS);
    struct frames *to = &f->answers[f->n_answers++];
    frames_init(to);
    frames_reply_to(to, answer);
    for (uint32_t i = 0; i < answer->n; i++)
        assert_int_equal(frames_add_copy(to, frames_data(answer, i), frames_size(answer, i), NULL),
                         STATUS_OK);
    frames_clear(answer);
}

static void forget_answers(struct fixture *f)
{
    for (uint32_t i = 0; i < f->n_answers; i++)
        frames_clear(&f->answers[i]);
    f->n_answers = 0;
    if (f->answer != NULL)
        longspan__data__free_unpacked(f->answer, NULL);
    f->answer = NULL;
}

static int open_fixture(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct kv_holder_shape shape = {.type = KV_F32,
                                          .head_dim = HEAD_DIM,
                                          .first_layer = LAYER,
                                          .n_layers = N_LAYERS,
                                          .first_kv_head = HEAD,
                                          .n_kv_heads = N_HEADS};
    assert_int_equal(thread_pool_create(&f->pool, 2, NULL), STATUS_OK);
    const struct serve_config config = {.name = "mem01",
                                        .node = NODE,
                                        .memory_bytes =
                                            kv_holder_bytes(&shape, PAGE_TOKENS) * N_PAGES,
                                        .pool = f->pool,
                                        .kernels = &kernels_cpu_scalar,
                                        .send = keep_answer,
                                        .context = f};
    assert_int_equal(serve_create(&f->serve, &config, NULL), STATUS_OK);
    *state = f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;
    forget_answers(f);
    serve_destroy(f->serve);
    thread_pool_destroy(f->pool);
    free(f);
    return 0;
}

/* ---- messages ---- */

static Longspan__NodeSetup good_setup(void)
{
    Longspan__NodeSetup setup = LONGSPAN__NODE_SETUP__INIT;
    setup.job = JOB;
    setup.kv_type = KV_F32;
    setup.head_dim = HEAD_DIM;
    setup.group = GROUP;
    setup.first_layer = LAYER;
    setup.n_layers = N_LAYERS;
    setup.first_kv_head = HEAD;
    setup.n_kv_heads = N_HEADS;
    setup.scale = 0.17f;
    setup.max_tokens = MAX_TOKENS;
    return setup;
}

static Longspan__Data good_data(void)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    data.job = JOB;
    data.step = 9;
    data.layer = LAYER;
    data.head = HEAD;
    data.n_heads = N_HEADS;
    return data;
}

static void put_header(struct fixture *f, const char *peer, const Longspan__Data *data)
{
    struct frames *inbox = serve_inbox(f->serve);
    void *header;
    frames_clear(inbox);
    assert_int_equal(frames_add(inbox, longspan__data__get_packed_size(data), &header, NULL),
                     STATUS_OK);
    longspan__data__pack(data, header);
    frames_set_peer(inbox, peer, strlen(peer));
}

static void put_floats(struct fixture *f, size_t n, uint64_t seed)
{
    void *data;
    assert_int_equal(frames_add(serve_inbox(f->serve), n * sizeof(float), &data, NULL), STATUS_OK);
    struct random_state random;
    random_seed(&random, seed);
    for (size_t i = 0; i < n; i++) {
        const float value = 2.0f * random_f32(&random) - 1.0f;
        memcpy((char *)data + i * sizeof(value), &value, sizeof(value));
    }
}

/* The last answer. */
static Longspan__Data *answer_of(struct fixture *f)
{
    assert_true(f->n_answers > 0);
    struct frames *frames = &f->answers[f->n_answers - 1];
    if (f->answer != NULL)
        longspan__data__free_unpacked(f->answer, NULL);
    f->answer = longspan__data__unpack(NULL, frames_size(frames, 0), frames_data(frames, 0));
    assert_non_null(f->answer);
    return f->answer;
}

static const Longspan__HelloReply *say_hello(struct fixture *f, const char *peer, uint64_t job,
                                             uint64_t node, uint32_t protocol, uint32_t tile,
                                             uint32_t page)
{
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    Longspan__Hello hello = LONGSPAN__HELLO__INIT;
    Longspan__Data data = good_data();
    constants.protocol = protocol;
    constants.tile_tokens = tile;
    constants.page_tokens = page;
    hello.constants = &constants;
    hello.node = node;
    data.job = job;
    data.body_case = LONGSPAN__DATA__BODY_HELLO;
    data.hello = &hello;
    put_header(f, peer, &data);
    serve_message(f->serve);
    assert_int_equal(answer_of(f)->body_case, LONGSPAN__DATA__BODY_HELLO_REPLY);
    return f->answer->hello_reply;
}

static void greet(struct fixture *f, const char *peer)
{
    assert_null(say_hello(f, peer, JOB, NODE, PROTOCOL_VERSION, TILE_TOKENS, PAGE_TOKENS)->failure);
}

static enum status reserve(struct fixture *f, uint64_t sequence, uint32_t begin, uint32_t end,
                           uint32_t shared)
{
    Longspan__Span span = LONGSPAN__SPAN__INIT, *spans[] = {&span};
    Longspan__Reserve message = LONGSPAN__RESERVE__INIT;
    span.begin = begin;
    span.end = end;
    message.job = JOB;
    message.sequence = sequence;
    message.incarnation = 1;
    message.spans = spans;
    message.n_spans = 1;
    message.shared_tokens = shared;
    return serve_reserve(f->serve, &message, NULL);
}

static void close_sequence(struct fixture *f, uint64_t sequence)
{
    Longspan__Free message = LONGSPAN__FREE__INIT;
    message.job = JOB;
    message.sequence = sequence;
    message.incarnation = 1;
    serve_free(f->serve, &message);
}

static void set_up(struct fixture *f)
{
    const Longspan__NodeSetup setup = good_setup();
    assert_int_equal(serve_setup(f->serve, &setup, NULL), STATUS_OK);
    greet(f, "peer");
}

/* An append of one entry; token t's rows come from seed + t, so that chunks do not matter. */
static void put_append(struct fixture *f, uint64_t sequence, uint32_t first, uint32_t n,
                       uint32_t layer)
{
    Longspan__AppendEntry entry = LONGSPAN__APPEND_ENTRY__INIT, *entries[] = {&entry};
    Longspan__Append append = LONGSPAN__APPEND__INIT;
    Longspan__Data data = good_data();
    entry.sequence = sequence;
    entry.incarnation = 1;
    entry.position = entry.first = first;
    entry.n_tokens = n;
    append.entries = entries;
    append.n_entries = 1;
    data.layer = layer;
    data.body_case = LONGSPAN__DATA__BODY_APPEND;
    data.append = &append;
    put_header(f, "peer", &data);
    for (uint64_t kind = 0; kind < 2; kind++) {
        void *rows;
        assert_int_equal(
            frames_add(serve_inbox(f->serve), (size_t)n * KV_ROW * sizeof(float), &rows, NULL),
            STATUS_OK);
        for (uint32_t t = 0; t < n; t++) {
            struct random_state random;
            random_seed(&random, random_mix(sequence * 2 + kind) + first + t);
            for (uint32_t i = 0; i < KV_ROW; i++) {
                const float value = random_f32(&random) - 0.5f;
                memcpy((char *)rows + ((size_t)t * KV_ROW + i) * sizeof(value), &value,
                       sizeof(value));
            }
        }
    }
}

static void append(struct fixture *f, uint64_t sequence, uint32_t first, uint32_t n)
{
    for (uint32_t layer = LAYER; layer < LAYER + N_LAYERS; layer++) {
        put_append(f, sequence, first, n, layer);
        serve_message(f->serve);
    }
}

struct ask {
    uint64_t sequence;
    uint32_t position, n_tokens, n_tiles, tiles[8], window;
};

static void put_attend(struct fixture *f, const char *peer, uint64_t query, const struct ask *asks,
                       size_t n_asks, size_t q_floats)
{
    Longspan__AttendEntry entries[8], *pointers[8];
    Longspan__Attend attend = LONGSPAN__ATTEND__INIT;
    Longspan__Data data = good_data();
    uint32_t tiles[8][8];
    memset(tiles, 0, sizeof(tiles));
    for (size_t i = 0; i < n_asks; i++) {
        longspan__attend_entry__init(&entries[i]);
        entries[i].sequence = asks[i].sequence;
        entries[i].incarnation = 1;
        entries[i].position = asks[i].position;
        entries[i].n_tokens = asks[i].n_tokens;
        memcpy(tiles[i], asks[i].tiles, sizeof(tiles[i]));
        entries[i].tiles = tiles[i];
        entries[i].n_tiles = asks[i].n_tiles;
        entries[i].window = asks[i].window;
        pointers[i] = &entries[i];
    }
    attend.query = query;
    attend.entries = pointers;
    attend.n_entries = n_asks;
    data.body_case = LONGSPAN__DATA__BODY_ATTEND;
    data.attend = &attend;
    put_header(f, peer, &data);
    put_floats(f, q_floats, query);
}

static const Longspan__AttendReply *attend(struct fixture *f, const struct ask *asks, size_t n_asks,
                                           size_t q_floats)
{
    const uint32_t n_before = f->n_answers;
    put_attend(f, "peer", 5, asks, n_asks, q_floats);
    serve_message(f->serve);
    serve_run(f->serve);
    assert_int_equal(serve_pending(f->serve), 0);
    assert_int_equal(f->n_answers, n_before + 1);
    assert_int_equal(answer_of(f)->body_case, LONGSPAN__DATA__BODY_ATTEND_REPLY);
    assert_int_equal(f->answer->attend_reply->query, 5);
    return f->answer->attend_reply;
}

/* ---- tests ---- */

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
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        TEST(test_setup_checks_the_shape_and_keeps_its_job),
        TEST(test_reserve_counts_pages),
        TEST(test_hello_compares_constants_and_process),
        TEST(test_strangers_get_nothing),
        TEST(test_append_checks_every_size),
        TEST(test_attend_checks_every_field),
        TEST(test_missing_tokens_are_told_with_marks),
        TEST(test_queries_together_equal_queries_alone),
        TEST(test_more_queries_than_fit_run_in_turns),
        TEST(test_noise_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
