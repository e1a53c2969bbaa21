/* tests/attention_node/serve_fixture.h - the data side of a node without sockets: messages are put
 * in, answers kept. */
#ifndef LONGSPAN_TESTS_ATTENTION_NODE_SERVE_FIXTURE_H
#define LONGSPAN_TESTS_ATTENTION_NODE_SERVE_FIXTURE_H

#include "attention_node/serve.h"
#include "kernels/attention/partial.h"
#include "proto/protocol.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdbool.h>

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
    uint64_t run_bytes;     /* serve_config's */
};

static inline void keep_answer(void *context, struct frames *answer, enum serve_answer kind)
{
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

static inline void forget_answers(struct fixture *f)
{
    for (uint32_t i = 0; i < f->n_answers; i++)
        frames_clear(&f->answers[i]);
    f->n_answers = 0;
    if (f->answer != NULL)
        longspan__data__free_unpacked(f->answer, NULL);
    f->answer = NULL;
}

/* With memory for N_PAGES pages. */
static inline void open_serve(struct fixture *f, const struct kernels *kernels,
                              struct device *device, uint32_t keep_after_us)
{
    const uint64_t page_bytes =
        (uint64_t)N_LAYERS * N_HEADS * PAGE_TILES * tile_bytes(KV_F32, HEAD_DIM);
    const struct serve_config config = {.name = "mem01",
                                        .node = NODE,
                                        .memory_bytes = page_bytes * N_PAGES,
                                        .pool = f->pool,
                                        .kernels = kernels,
                                        .device = device,
                                        .send = keep_answer,
                                        .context = f,
                                        .keep_after_us = keep_after_us,
                                        .run_bytes = f->run_bytes};
    assert_int_equal(serve_create(&f->serve, &config, NULL), STATUS_OK);
}

static inline struct fixture *open_pool(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    assert_int_equal(thread_pool_create(&f->pool, 2, NULL), STATUS_OK);
    return f;
}

static inline int open_fixture(void **state)
{
    struct fixture *f = open_pool();
    open_serve(f, &kernels_cpu_scalar, NULL, 0);
    *state = f;
    return 0;
}

static inline int close_fixture(void **state)
{
    struct fixture *f = *state;
    forget_answers(f);
    serve_destroy(f->serve);
    thread_pool_destroy(f->pool);
    free(f);
    return 0;
}

/* ---- messages ---- */

static inline Longspan__NodeSetup good_setup(void)
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

static inline Longspan__Data good_data(void)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    data.job = JOB;
    data.step = 9;
    data.layer = LAYER;
    data.head = HEAD;
    data.n_heads = N_HEADS;
    return data;
}

static inline void put_header(struct fixture *f, const char *peer, const Longspan__Data *data)
{
    struct frames *inbox = serve_inbox(f->serve);
    frames_clear(inbox);
    assert_int_equal(frames_add_message(inbox, &data->base, NULL), STATUS_OK);
    frames_set_peer(inbox, peer, strlen(peer));
}

static inline void put_floats(struct fixture *f, size_t n, uint64_t seed)
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
static inline Longspan__Data *answer_of(struct fixture *f)
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

static inline void greet(struct fixture *f, const char *peer)
{
    assert_null(say_hello(f, peer, JOB, NODE, PROTOCOL_VERSION, TILE_TOKENS, PAGE_TOKENS)->failure);
}

static inline enum status reserve(struct fixture *f, uint64_t sequence, uint32_t begin,
                                  uint32_t end, uint32_t shared)
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

static inline void close_sequence(struct fixture *f, uint64_t sequence)
{
    Longspan__Free message = LONGSPAN__FREE__INIT;
    message.job = JOB;
    message.sequence = sequence;
    message.incarnation = 1;
    serve_free(f->serve, &message);
}

static inline void set_up(struct fixture *f)
{
    const Longspan__NodeSetup setup = good_setup();
    assert_int_equal(serve_setup(f->serve, &setup, NULL), STATUS_OK);
    greet(f, "peer");
}

/* An append of one entry; token t's rows come from seed + t, so that chunks do not matter. */
static inline void put_append(struct fixture *f, uint64_t sequence, uint32_t first, uint32_t n,
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

static inline void append(struct fixture *f, uint64_t sequence, uint32_t first, uint32_t n)
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

static inline void put_attend(struct fixture *f, const char *peer, uint64_t query,
                              const struct ask *asks, size_t n_asks, size_t q_floats)
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

static inline const Longspan__AttendReply *attend(struct fixture *f, const struct ask *asks,
                                                  size_t n_asks, size_t q_floats)
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

#endif
