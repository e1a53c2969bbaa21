/* fuzz_replies.c - what a worker takes from an attention node: a rank sends a prompt to a node that greets it well, asks about
 * it, and gets the input for an answer. Pieces are Data headers (kind 0: the query's own number is put in) and frames behind
 * them (kind 2); the rank must end the step, with a result or with an error. */
#include "kernels/kernels.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "sys/clock.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/reply_job.h"
#include "worker/attention.h"

#include <pthread.h>

enum { FRAME = 2, KINDS = 4, TIMEOUT_MS = 15, RETRY_MS = 5 };

static struct attention *attention;
static struct thread_pool *pool;
static struct device *device;
static struct wire_context *wire;
static struct wire_socket *node;
static pthread_t node_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fuzz_pieces pieces; /* under the lock: of the input */
static bool closing;              /* likewise */

/* ---- the node ---- */

static void answer_hello(struct frames *reply)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    Longspan__HelloReply hello = LONGSPAN__HELLO_REPLY__INIT;
    uint8_t bytes[256];
    hello.node = REPLY_NODE;
    data.job = REPLY_JOB;
    data.body_case = LONGSPAN__DATA__BODY_HELLO_REPLY;
    data.hello_reply = &hello;
    frames_add_copy(reply, bytes, longspan__data__pack(&data, bytes), NULL);
}

/* A header of the input, with the number of the query that it answers where its kind says so. */
static void add_header(struct frames *reply, const struct fuzz_piece *piece, uint64_t query)
{
    Longspan__Data *data = longspan__data__unpack(NULL, piece->n, piece->data);
    void *packed;
    if (piece->kind % KINDS != 0 || data == NULL ||
        data->body_case != LONGSPAN__DATA__BODY_ATTEND_REPLY) {
        frames_add_copy(reply, piece->data, piece->n, NULL);
    } else {
        data->attend_reply->query = query;
        if (frames_add(reply, longspan__data__get_packed_size(data), &packed, NULL) == STATUS_OK)
            longspan__data__pack(data, packed);
    }
    if (data != NULL)
        longspan__data__free_unpacked(data, NULL);
}

static void answer_query(struct frames *reply, uint64_t query)
{
    struct fuzz_piece piece;
    pthread_mutex_lock(&lock);
    if (fuzz_next(&pieces, &piece)) {
        add_header(reply, &piece, query);
        while (pieces.n > 0 && pieces.data[0] % KINDS == FRAME && reply->n < FRAMES_MAX &&
               fuzz_next(&pieces, &piece))
            frames_add_copy(reply, piece.data, piece.n, NULL);
    }
    pthread_mutex_unlock(&lock);
}

static void *node_main(void *unused)
{
    struct frames request, reply;
    (void)unused;
    frames_init(&request);
    frames_init(&reply);
    for (;;) {
        pthread_mutex_lock(&lock);
        const bool end = closing;
        pthread_mutex_unlock(&lock);
        if (end)
            break;
        if (frames_receive(node, &request, clock_us() + 20000, NULL) != STATUS_OK)
            continue;
        Longspan__Data *data =
            longspan__data__unpack(NULL, frames_size(&request, 0), frames_data(&request, 0));
        FUZZ_CHECK(data != NULL);
        frames_reply_to(&reply, &request);
        if (data->body_case == LONGSPAN__DATA__BODY_HELLO)
            answer_hello(&reply);
        if (data->body_case == LONGSPAN__DATA__BODY_ATTEND)
            answer_query(&reply, data->attend->query);
        longspan__data__free_unpacked(data, NULL);
        if (reply.n > 0)
            (void)frames_send(node, &reply, clock_us() + 20000, NULL);
        frames_clear(&reply);
    }
    frames_clear(&request);
    return NULL;
}

/* ---- the rank ---- */

static void close_all(void)
{
    pthread_mutex_lock(&lock);
    closing = true;
    pthread_mutex_unlock(&lock);
    pthread_join(node_thread, NULL);
    attention_close(attention);
    wire_socket_close(node);
    wire_context_destroy(wire);
    kernels_cpu_scalar.close(device);
    thread_pool_destroy(pool);
}

static void open_all(void)
{
    struct error error;
    const struct wire_context_options context = {0};
    const struct wire_socket_options router = {
        .kind = WIRE_ROUTER, .listen = true, .endpoint = "tcp://127.0.0.1:*", .name = "the node"};
    FUZZ_CHECK(thread_pool_create(&pool, 1, &error) == STATUS_OK);
    FUZZ_CHECK(kernels_cpu_scalar.open(&device, pool, 0, &error) == STATUS_OK);
    FUZZ_CHECK(wire_context_create(&wire, &context, &error) == STATUS_OK);
    FUZZ_CHECK(wire_socket_open(&node, wire, &router, &error) == STATUS_OK);
    const struct attention_holder holder = {"node", wire_socket_endpoint(node), REPLY_NODE};
    const struct attention_config config = {
        .job = REPLY_JOB,
        .n_layers = 1,
        .n_kv_heads = 1,
        .shape = {KV_F16, REPLY_HEAD_DIM, REPLY_GROUP, 0.25f, 0},
        .max_rows = REPLY_TOKENS,
        .max_sequences = 4,
        .max_tokens = 4096,
        .holders = &holder,
        .n_holders = 1,
        .timeout_ms = TIMEOUT_MS,
        .retry_ms = RETRY_MS,
        .kernels = &kernels_cpu_scalar,
        .device = device,
        .constants_version = "fuzz",
        .zeromq_only = true};
    FUZZ_CHECK(pthread_create(&node_thread, NULL, node_main, NULL) == 0);
    for (int again = 0; attention_open(&attention, pool, wire, &config, &error) != STATUS_OK;
         again++)
        FUZZ_CHECK(again < 1000); /* its patience is short, and the machine may be busy */
    atexit(close_all);
}

static void run_step(uint64_t step, uint64_t sequence, uint32_t position, uint32_t n_tokens)
{
    static float q[REPLY_TOKENS * REPLY_GROUP * REPLY_HEAD_DIM], kv[REPLY_TOKENS * REPLY_HEAD_DIM],
        out[REPLY_TOKENS * REPLY_GROUP * REPLY_HEAD_DIM];
    const struct attention_span span = {0, {0, 4096}};
    const struct attention_segment segment = {.sequence = sequence,
                                              .position = position,
                                              .n_tokens = n_tokens,
                                              .spans = &span,
                                              .n_spans = position == 0};
    attention_begin_step(attention, step, &segment, 1);
    attention_query(attention, 0, q);
    attention_append(attention, 0, kv, kv);
    attention_finish(attention, 0, out);
    attention_end_step(attention);
    const struct error *error = attention_segment_error(attention, 0);
    if (error != NULL) /* then its rows are zeros: nothing of an answer that was refused is left */
        for (uint32_t i = 0; i < n_tokens * REPLY_GROUP * REPLY_HEAD_DIM; i++)
            FUZZ_CHECK(out[i] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint64_t sequence, step;
    if (attention == NULL)
        open_all();
    pthread_mutex_lock(&lock);
    pieces = (struct fuzz_pieces){data, n};
    pthread_mutex_unlock(&lock);
    sequence++;
    run_step(++step, sequence, 0, REPLY_TOKENS);
    run_step(++step, sequence, REPLY_TOKENS, 1);
    pthread_mutex_lock(&lock);
    pieces = (struct fuzz_pieces){NULL, 0};
    pthread_mutex_unlock(&lock);
    attention_drop(attention, sequence, 0, 0);
    return 0;
}
