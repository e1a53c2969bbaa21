/* tests/worker/attention_harness.h - a small cluster in one process: nodes, their coordinator, a
 * rank.
 *
 * Real attention nodes (node_run) run in threads over ipc sockets in a new directory; a coordinator
 * of a few lines sets them up and reserves pages; `cluster_step` plays the layers of a worker, with
 * rows made from a hash, so that every layout of holders sees the same numbers. A plain softmax in
 * double precision over all tokens is the judge. */
#ifndef LONGSPAN_TESTS_ATTENTION_HARNESS_H
#define LONGSPAN_TESTS_ATTENTION_HARNESS_H

#include "attention_node/node.h"
#include "kernels/attention/tile.h"
#include "kernels/quant/kv_type.h"
#include "proto/address.h"
#include "proto/arena.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "sys/clock.h"
#include "sys/random.h"
#include "tests/cmocka.h"
#include "tests/empty_directory.h"
#include "worker/attention.h"

#include <stdbool.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FIRST_LAYER = 3,
    N_LAYERS = 2,
    FIRST_HEAD = 1,
    N_HEADS = 2, /* KV heads */
    GROUP = 2,
    HEAD_DIM = 32,
    Q_ROW = N_HEADS * GROUP * HEAD_DIM,
    KV_ROW = N_HEADS * HEAD_DIM,
    MAX_NODES = 3,
    MAX_ROWS = 1024,
    MAX_TOKENS = 8192,
    NODE_PAGES = 400,
    INCARNATION = 1 /* of every sequence */
};
static const uint64_t JOB = UINT64_C(0x1234567890abcdef);
static const float SCALE = 0.176776695f; /* 1 / sqrt(32) */

struct harness_node {
    struct cluster *cluster;
    struct node_config config;
    int stop[2]; /* a pipe: closing its writing end stops the node */
    char name[16];
    pthread_t thread;
    bool running;
    enum status status;
    struct error error;
    /* from NodeJoin */
    struct frames peer; /* whom to write to */
    bool joined;
    uint64_t node;
    char endpoint[ADDRESS_BYTES];
};

struct cluster {
    char directory[64], address[96];
    struct wire_context *context;
    struct wire_socket *control;
    struct arena arena;
    struct frames in, out;
    struct harness_node nodes[MAX_NODES];
    uint32_t n_nodes;
    uint64_t n_requests;
    Longspan__Control *last; /* in the arena */
    struct thread_pool *pool;
    const struct kernels *kernels; /* of the rank */
    struct device *device;
    enum kv_type type;
    uint32_t windows[N_LAYERS], timeout_ms, retry_ms; /* windows: 0: none */
    bool zeromq_only;
    bool last_stage; /* ranks have the model's last layer */
    uint64_t n_steps;
};

/* ---- the coordinator ---- */

static inline void cluster_send(struct cluster *cluster, struct harness_node *node,
                                const Longspan__Control *control)
{
    frames_clear(&cluster->out);
    assert_int_equal(frames_add_message(&cluster->out, &control->base, NULL), STATUS_OK);
    frames_reply_to(&cluster->out, &node->peer);
    assert_int_equal(frames_send(cluster->control, &cluster->out, clock_us() + 5000000, NULL),
                     STATUS_OK);
}

/* Notes who has joined. NULL: nobody we started. */
static inline struct harness_node *cluster_joined(struct cluster *cluster)
{
    const Longspan__NodeJoin *join = cluster->last->node_join;
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        struct harness_node *node = &cluster->nodes[i];
        if (strcmp(node->name, join->name) != 0)
            continue;
        frames_reply_to(&node->peer, &cluster->in);
        node->joined = true;
        node->node = join->node;
        snprintf(node->endpoint, sizeof(node->endpoint), "%s", join->endpoint);
        return node;
    }
    return NULL;
}

/* The next message of that kind, in cluster->last; others are dropped. NULL: none in time. */
static inline struct harness_node *cluster_receive(struct cluster *cluster, int kind)
{
    const uint64_t deadline = clock_us() + 60000000;
    while (frames_receive(cluster->control, &cluster->in, deadline, NULL) == STATUS_OK) {
        arena_reset(&cluster->arena);
        cluster->last = longspan__control__unpack(
            &cluster->arena.allocator, frames_size(&cluster->in, 0), frames_data(&cluster->in, 0));
        assert_non_null(cluster->last);
        if (cluster->last->body_case == LONGSPAN__CONTROL__BODY_NODE_JOIN) {
            struct harness_node *node = cluster_joined(cluster);
            if (node != NULL && kind == LONGSPAN__CONTROL__BODY_NODE_JOIN)
                return node;
        }
        if ((int)cluster->last->body_case != kind)
            continue;
        for (uint32_t i = 0; i < cluster->n_nodes; i++)
            if (frames_same_peer(&cluster->nodes[i].peer.peer, &cluster->in.peer))
                return &cluster->nodes[i];
    }
    return NULL;
}

static inline Longspan__NodeSetup cluster_setup_message(const struct cluster *cluster)
{
    Longspan__NodeSetup setup = LONGSPAN__NODE_SETUP__INIT;
    setup.job = JOB;
    setup.kv_type = cluster->type;
    setup.head_dim = HEAD_DIM;
    setup.group = GROUP;
    setup.first_layer = FIRST_LAYER;
    setup.n_layers = N_LAYERS;
    setup.first_kv_head = FIRST_HEAD;
    setup.n_kv_heads = N_HEADS;
    setup.scale = SCALE;
    setup.max_tokens = MAX_TOKENS;
    setup.windows = (uint32_t *)cluster->windows;
    setup.n_windows = N_LAYERS;
    setup.chunk = MAX_ROWS;
    return setup;
}

static inline void cluster_set_up(struct cluster *cluster, struct harness_node *node)
{
    while (!node->joined)
        assert_non_null(cluster_receive(cluster, LONGSPAN__CONTROL__BODY_NODE_JOIN));
    Longspan__NodeSetup setup = cluster_setup_message(cluster);
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_NODE_SETUP;
    control.node_setup = &setup;
    cluster_send(cluster, node, &control);
    assert_ptr_equal(cluster_receive(cluster, LONGSPAN__CONTROL__BODY_NODE_READY), node);
    assert_null(cluster->last->node_ready->failure);
    assert_true(cluster->last->node_ready->capacity_bytes > 0);
}

static inline void cluster_reserve(struct cluster *cluster, uint32_t index, uint64_t sequence,
                                   const struct attention_span *spans, uint32_t n_spans,
                                   uint32_t shared_tokens)
{
    Longspan__Span messages[64], *pointers[64];
    Longspan__Reserve reserve = LONGSPAN__RESERVE__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    for (uint32_t i = 0; i < n_spans; i++) {
        if (spans[i].holder != index)
            continue;
        longspan__span__init(&messages[reserve.n_spans]);
        messages[reserve.n_spans].begin = spans[i].tokens.begin;
        messages[reserve.n_spans].end = spans[i].tokens.end;
        pointers[reserve.n_spans] = &messages[reserve.n_spans];
        reserve.n_spans++;
    }
    if (reserve.n_spans == 0)
        return;
    reserve.spans = pointers;
    reserve.job = JOB;
    reserve.request = ++cluster->n_requests;
    reserve.sequence = sequence;
    reserve.incarnation = INCARNATION;
    reserve.shared_tokens = shared_tokens;
    control.body_case = LONGSPAN__CONTROL__BODY_RESERVE;
    control.reserve = &reserve;
    cluster_send(cluster, &cluster->nodes[index], &control);
    assert_non_null(cluster_receive(cluster, LONGSPAN__CONTROL__BODY_RESERVE_REPLY));
    assert_int_equal(cluster->last->reserve_reply->request, reserve.request);
    if (cluster->last->reserve_reply->failure != NULL)
        fail_msg("%s", cluster->last->reserve_reply->failure->text);
}

/* Tells the nodes that the sequence is closed, but for its first keep_tokens. */
static inline void cluster_keep(struct cluster *cluster, uint64_t sequence, uint32_t keep_tokens)
{
    Longspan__Free message = LONGSPAN__FREE__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    message.job = JOB;
    message.sequence = sequence;
    message.incarnation = INCARNATION;
    message.keep_tokens = keep_tokens;
    control.body_case = LONGSPAN__CONTROL__BODY_FREE;
    control.free = &message;
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i].running)
            cluster_send(cluster, &cluster->nodes[i], &control);
}

static inline void cluster_free(struct cluster *cluster, uint64_t sequence)
{
    cluster_keep(cluster, sequence, 0);
}

/* ---- nodes ---- */

/* For NODE_PAGES pages in all layers and heads. */
static inline uint64_t cluster_kv_bytes(const struct cluster *cluster)
{
    return (uint64_t)NODE_PAGES * N_LAYERS * N_HEADS * PAGE_TILES *
           tile_bytes(cluster->type, HEAD_DIM);
}

static inline void *harness_node_main(void *argument)
{
    struct harness_node *node = argument;
    node->status = node_run(&node->config, &node->error);
    return NULL;
}

static inline const struct kernels *harness_auto(void)
{
    const struct kernels *kernels = NULL;
    assert_int_equal(kernels_choose(&kernels, NULL, NULL), STATUS_OK);
    return kernels;
}

/* `kernels`: NULL: the fastest of the CPU. */
static inline void harness_node_config(struct cluster *cluster, struct harness_node *node,
                                       uint32_t index, const struct kernels *kernels)
{
    node->cluster = cluster;
    snprintf(node->name, sizeof(node->name), "node%u", index);
    assert_int_equal(pipe(node->stop), 0);
    node->config = (struct node_config){.coordinator = cluster->address,
                                        .name = node->name,
                                        .memory_bytes = cluster_kv_bytes(cluster),
                                        .n_threads = 1 + index % 2,
                                        .kernels = kernels != NULL ? kernels : harness_auto(),
                                        .bytes_per_s = 1e9,
                                        .silence_ms = 600000,
                                        .stop = node->stop[0]};
    frames_init(&node->peer);
}

static inline void harness_node_stop(struct harness_node *node)
{
    if (!node->running)
        return;
    close(node->stop[1]);
    assert_int_equal(pthread_join(node->thread, NULL), 0);
    close(node->stop[0]);
    node->running = false;
    frames_clear(&node->peer);
}

/* Which table the rank and each node have; NULL: the fastest of the CPU. */
struct harness_devices {
    const struct kernels *rank, *nodes[MAX_NODES];
};

/* `window`: of the last layer only, so that layers differ; 0: no layer has one. */
static inline void cluster_start_on(struct cluster *cluster, uint32_t n_nodes, enum kv_type type,
                                    bool nodes_zeromq_only, struct harness_devices devices,
                                    uint32_t window)
{
    memset(cluster, 0, sizeof(*cluster));
    cluster->windows[N_LAYERS - 1] = window;
    cluster->type = type;
    cluster->timeout_ms = 60000; /* loaded machines, sanitizers */
    cluster->retry_ms = 1000;
    cluster->n_nodes = n_nodes;
    strcpy(cluster->directory, "/tmp/longspan-test-XXXXXX");
    assert_non_null(mkdtemp(cluster->directory));
    snprintf(cluster->address, sizeof(cluster->address), "ipc://%s/head.sock", cluster->directory);
    arena_init(&cluster->arena, 0);
    frames_init(&cluster->in);
    frames_init(&cluster->out);
    assert_int_equal(
        wire_context_create(&cluster->context, &(struct wire_context_options){0}, NULL), STATUS_OK);
    assert_int_equal(wire_socket_open(&cluster->control, cluster->context,
                                      &(struct wire_socket_options){.kind = WIRE_ROUTER,
                                                                    .listen = true,
                                                                    .endpoint = cluster->address},
                                      NULL),
                     STATUS_OK);
    assert_int_equal(thread_pool_create(&cluster->pool, 2, NULL), STATUS_OK);
    cluster->kernels = devices.rank != NULL ? devices.rank : harness_auto();
    assert_int_equal(cluster->kernels->open(&cluster->device, cluster->pool, 0, NULL), STATUS_OK);
    for (uint32_t i = 0; i < n_nodes; i++) {
        struct harness_node *node = &cluster->nodes[i];
        harness_node_config(cluster, node, i, devices.nodes[i]);
        node->config.zeromq_only = nodes_zeromq_only;
        assert_int_equal(pthread_create(&node->thread, NULL, harness_node_main, node), 0);
        node->running = true;
    }
    for (uint32_t i = 0; i < n_nodes; i++)
        cluster_set_up(cluster, &cluster->nodes[i]);
}

/* With KV of f16. */
static inline void cluster_start_with(struct cluster *cluster, uint32_t n_nodes,
                                      bool nodes_zeromq_only)
{
    cluster_start_on(cluster, n_nodes, KV_F16, nodes_zeromq_only, (struct harness_devices){0}, 0);
}

static inline void cluster_start(struct cluster *cluster, uint32_t n_nodes)
{
    cluster_start_with(cluster, n_nodes, false);
}

static inline void cluster_stop(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        const bool ran = cluster->nodes[i].running;
        harness_node_stop(&cluster->nodes[i]);
        if (ran && cluster->nodes[i].status != STATUS_OK)
            fail_msg("node %u: %s", i, cluster->nodes[i].error.text);
    }
    wire_socket_close(cluster->control);
    frames_clear(&cluster->in);
    frames_clear(&cluster->out);
    wire_context_destroy(cluster->context);
    cluster->kernels->close(cluster->device);
    thread_pool_destroy(cluster->pool);
    arena_destroy(&cluster->arena);
    char path[128];
    snprintf(path, sizeof(path), "%s/head.sock", cluster->directory);
    unlink(path);
    remove_empty_directory(cluster->directory);
}

/* ---- the rank ---- */

/* A rank over these nodes; `local`: one more holder, the last, in its own memory. `endpoints`:
 * NULL, or instead of the nodes' own. */
static inline enum status cluster_attention(struct cluster *cluster, uint32_t n_nodes, bool local,
                                            const char *const *endpoints,
                                            struct attention **attention, struct error *error)
{
    struct attention_holder holders[MAX_NODES + 1];
    for (uint32_t i = 0; i < n_nodes; i++)
        holders[i] = (struct attention_holder){
            cluster->nodes[i].name, endpoints != NULL ? endpoints[i] : cluster->nodes[i].endpoint,
            cluster->nodes[i].node};
    holders[n_nodes] = (struct attention_holder){"local", "", 0};
    const struct attention_config config = {.job = JOB,
                                            .rank = 7,
                                            .first_layer = FIRST_LAYER,
                                            .n_layers = N_LAYERS,
                                            .last = cluster->last_stage,
                                            .first_kv_head = FIRST_HEAD,
                                            .n_kv_heads = N_HEADS,
                                            .shape = {cluster->type, HEAD_DIM, GROUP, SCALE, 0.0f},
                                            .windows = cluster->windows,
                                            .chunk = MAX_ROWS,
                                            .max_rows = MAX_ROWS,
                                            .max_sequences = 16,
                                            .max_tokens = MAX_TOKENS,
                                            .holders = holders,
                                            .n_holders = n_nodes + local,
                                            .local_kv_bytes = cluster_kv_bytes(cluster),
                                            .timeout_ms = cluster->timeout_ms,
                                            .retry_ms = cluster->retry_ms,
                                            .kernels = cluster->kernels,
                                            .device = cluster->device,
                                            .constants_version = "test",
                                            .zeromq_only = cluster->zeromq_only};
    return attention_open(attention, cluster->pool, cluster->context, &config, error);
}

/* What a sequence says: token t is that of the text `parent` below `shared`, of `text` from there.
 */
struct text {
    uint64_t text, parent;
    uint32_t shared;
};

static inline float text_value(const struct text *text, uint32_t kind, uint32_t layer,
                               uint32_t token, uint32_t head, uint32_t i)
{
    const uint64_t whose = token < text->shared ? text->parent : text->text;
    uint64_t x = random_mix(whose * 4 + kind);
    x = random_mix(x ^ ((uint64_t)layer << 40 | token));
    x = random_mix(x ^ ((uint64_t)head << 32 | i));
    const float value = (float)(x >> 40) * 0x1p-23f - 1.0f;
    return kind == 0 ? 4.0f * value : value; /* q is larger: scores differ by a few units */
}

/* Fills rows of q (kind 0), k (1) or v (2). */
static inline void text_rows(const struct text *text, uint32_t kind, uint32_t layer,
                             uint32_t position, uint32_t n, float *out)
{
    const uint32_t n_heads = kind == 0 ? N_HEADS * GROUP : N_HEADS;
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t head = 0; head < n_heads; head++)
            for (uint32_t i = 0; i < HEAD_DIM; i++)
                *out++ = text_value(text, kind, layer, position + t, head, i);
}

/* Rows of a segment, its last ones, that have a query in the layer. */
static inline uint32_t cluster_asking(const struct cluster *cluster,
                                      const struct attention_segment *segment, uint32_t layer)
{
    return cluster->last_stage && layer + 1 == FIRST_LAYER + N_LAYERS ? segment->n_needed
                                                                      : segment->n_tokens;
}

/* One step over all layers; row r of layer l goes to out[s] + (l * n_tokens_total(s) + ...): the
 * caller's results[s] is [layer][token][Q_ROW], `stride` tokens per layer. results[s] may be NULL.
 */
static inline void cluster_step(struct cluster *cluster, struct attention *attention,
                                const struct attention_segment *segments, const struct text *texts,
                                uint32_t n_segments, float *const *results, uint32_t stride)
{
    uint32_t n_rows = 0;
    for (uint32_t s = 0; s < n_segments; s++)
        n_rows += segments[s].n_tokens;
    enum { Q, K, V, OUT, ROWS };
    const struct kernels *kernels = cluster->kernels;
    struct device *device = cluster->device;
    float *host[ROWS], *there[ROWS];
    size_t bytes[ROWS];
    for (int i = 0; i < ROWS; i++) {
        void *memory;
        bytes[i] = (size_t)n_rows * (i == Q || i == OUT ? Q_ROW : KV_ROW) * sizeof(float);
        host[i] = malloc(bytes[i]);
        assert_int_equal(kernels->memory_take(device, &memory, bytes[i], NULL), STATUS_OK);
        there[i] = memory;
    }
    float *q = host[Q], *k = host[K], *v = host[V], *out = host[OUT];
    attention_begin_step(attention, ++cluster->n_steps, segments, n_segments);
    for (uint32_t layer = FIRST_LAYER; layer < FIRST_LAYER + N_LAYERS; layer++) {
        uint32_t n_asking = 0;
        for (uint32_t s = 0, row = 0; s < n_segments; row += segments[s++].n_tokens) {
            const struct attention_segment *segment = &segments[s];
            const uint32_t n = cluster_asking(cluster, segment, layer);
            text_rows(&texts[s], 0, layer, segment->position + segment->n_tokens - n, n,
                      q + n_asking * Q_ROW);
            n_asking += n;
            text_rows(&texts[s], 1, layer, segment->position, segment->n_tokens, k + row * KV_ROW);
            text_rows(&texts[s], 2, layer, segment->position, segment->n_tokens, v + row * KV_ROW);
        }
        memset(out, 0xff, bytes[OUT]);
        for (int i = 0; i < ROWS; i++)
            kernels->upload(device, there[i], host[i], bytes[i]);
        attention_query(attention, layer, there[Q]);
        const struct attention_kv kv = attention_kv(attention);
        const struct heads heads[] = {
            {.x = there[K], .n_heads = N_HEADS, .rounded = kv.k, .type = kv.type},
            {.x = there[V], .n_heads = N_HEADS, .rounded = kv.v, .type = kv.type}};
        kernels->turn(device, heads, 2, &(struct turn){.n_rows = n_rows, .head_dim = HEAD_DIM});
        attention_append(attention, layer);
        attention_finish(attention, layer, there[OUT]);
        assert_int_equal(kernels->finish(device, NULL), STATUS_OK);
        kernels->download(device, out, there[OUT], bytes[OUT]);
        assert_int_equal(kernels->finish(device, NULL), STATUS_OK);
        for (uint32_t s = 0, row = 0, n; s < n_segments; row += n, s++) {
            n = cluster_asking(cluster, &segments[s], layer);
            const uint32_t position = segments[s].position + segments[s].n_tokens - n;
            if (results[s] != NULL)
                memcpy(results[s] + ((size_t)(layer - FIRST_LAYER) * stride + position) * Q_ROW,
                       out + row * Q_ROW, n * Q_ROW * sizeof(float));
        }
        for (size_t i = (size_t)n_asking * Q_ROW * sizeof(float); i < bytes[OUT]; i++)
            assert_int_equal(((unsigned char *)out)[i], 0xff); /* nobody asked */
    }
    attention_end_step(attention);
    for (int i = 0; i < ROWS; i++) {
        kernels->memory_give(device, there[i]);
        free(host[i]);
    }
}

/* n values, whole rows, as the holders have them. */
static inline void text_round(enum kv_type type, float *values, size_t n)
{
    void *rows = malloc(kv_row_bytes(type, n) + 1);
    kv_round(type, rows, values, n);
    kv_widen(type, values, rows, n);
    free(rows);
}

/* A query head as tiles of q8_0 take it (kernels/attention/tile.h). */
static inline void text_round_query(enum kv_type type, float *q)
{
    float query[HEAD_DIM];
    if (type != KV_Q8_0)
        return;
    tile_query_write(type, HEAD_DIM, query, q);
    const struct tile_q8_query q8 = tile_q8_query(query, HEAD_DIM);
    for (uint32_t i = 0; i < HEAD_DIM; i++)
        q[i] = (float)q8.q[i] * q8.scale[i / TILE_Q8_DIMS];
}

/* Checks [layer][token][Q_ROW] against one softmax over all visible tokens, in double precision. */
static inline void check_reference(const struct cluster *cluster, const struct text *text,
                                   uint32_t n_tokens, const float *result, uint32_t stride)
{
    float *k = malloc((size_t)n_tokens * KV_ROW * 4), *v = malloc((size_t)n_tokens * KV_ROW * 4);
    float q[Q_ROW];
    double *p = malloc(n_tokens * sizeof(*p)), worst = 0.0;
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        text_rows(text, 1, FIRST_LAYER + layer, 0, n_tokens, k);
        text_rows(text, 2, FIRST_LAYER + layer, 0, n_tokens, v);
        text_round(cluster->type, k, (size_t)n_tokens * KV_ROW);
        text_round(cluster->type, v, (size_t)n_tokens * KV_ROW);
        for (uint32_t t = 0; t < n_tokens; t += t + 37 < n_tokens ? 37 : 1) { /* a sample of rows */
            text_rows(text, 0, FIRST_LAYER + layer, t, 1, q);
            for (uint32_t head = 0; head < N_HEADS * GROUP; head++)
                text_round_query(cluster->type, q + head * HEAD_DIM);
            const uint32_t window = cluster->windows[layer];
            const uint32_t first = window > 0 && t + 1 > window ? t + 1 - window : 0;
            for (uint32_t head = 0; head < N_HEADS * GROUP; head++) {
                double largest = -INFINITY, sum = 0.0, o[HEAD_DIM] = {0};
                for (uint32_t s = first; s <= t; s++) {
                    const float *key = k + (size_t)s * KV_ROW + head / GROUP * HEAD_DIM;
                    p[s] = 0.0;
                    for (uint32_t i = 0; i < HEAD_DIM; i++)
                        p[s] += (double)q[head * HEAD_DIM + i] * key[i];
                    p[s] *= SCALE;
                    largest = p[s] > largest ? p[s] : largest;
                }
                for (uint32_t s = first; s <= t; s++) {
                    const double e = exp(p[s] - largest);
                    const float *value = v + (size_t)s * KV_ROW + head / GROUP * HEAD_DIM;
                    sum += e;
                    for (uint32_t i = 0; i < HEAD_DIM; i++)
                        o[i] += e * value[i];
                }
                for (uint32_t i = 0; i < HEAD_DIM; i++) {
                    const float got =
                        result[((size_t)layer * stride + t) * Q_ROW + head * HEAD_DIM + i];
                    const double wrong = fabs(o[i] / sum - got);
                    if (!(wrong <
                          1e-5)) /* sums of up to 1000 f32 terms of size 1 over their count */
                        fail_msg("layer %u token %u head %u dim %u: %.9g instead of %.9g", layer, t,
                                 head, i, (double)got, o[i] / sum);
                    worst = wrong > worst ? wrong : worst;
                }
            }
        }
    }
    free(k);
    free(v);
    free(p);
}

static inline void check_same_bits(const float *a, const float *b, uint32_t n_tokens,
                                   uint32_t stride, const char *what)
{
    for (uint32_t layer = 0; layer < N_LAYERS; layer++)
        for (uint32_t t = 0; t < n_tokens; t++) {
            const size_t at = ((size_t)layer * stride + t) * Q_ROW;
            if (memcmp(a + at, b + at, Q_ROW * sizeof(float)) != 0)
                fail_msg("%s: layer %u token %u differs", what, layer, t);
        }
}

#endif
