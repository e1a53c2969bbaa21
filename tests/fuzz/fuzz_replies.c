/* fuzz_replies.c - what a worker takes from an attention node: a rank sends a prompt to a node that
 * greets it well, asks about it and about a fork of it, and gets the input for answers. Pieces are
 * Data headers (kind 0: the query's own number is put in) and frames behind them (kind 2); the rank
 * must end each step, with a result or with an error.
 *
 * One thread is both: the node has its turn whenever the rank would wait
 * (attention_config.progress). The clock is this file's, and goes on by itself only: a timeout
 * takes no time, and the same input does the same again. Each input meets a rank that was just
 * opened. */
#include "kernels/kernels.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "sys/clock.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/reply_job.h"
#include "worker/attention.h"

/* A channel's socket is one end of a pair inside this process, which is opened once. */
static enum status take_rank_end(struct wire_socket **socket, struct wire_context *context,
                                 const struct wire_socket_options *options, struct error *error);
static void give_rank_end(struct wire_socket *socket);
#define wire_socket_open  take_rank_end
#define wire_socket_close give_rank_end
#include "worker/attention_channel.c"
#undef wire_socket_open
#undef wire_socket_close

enum { FRAME = 2, KINDS = 4, TIMEOUT_MS = 15, RETRY_MS = 5, MAX_ROWS = REPLY_TOKENS };
#define INSIDE "inproc://fuzz"

static struct thread_pool *pool;
static struct device *device;
static struct wire_context *wire;
static struct wire_socket *node, *rank_end;
static struct frames request, reply; /* the node's */
static struct fuzz_pieces pieces;    /* of the input: what is left of it */

/* ---- sys/clock.h and the wait of proto/wire_socket.h, without waiting ---- */

static uint64_t now_ns;

uint64_t clock_ns(void)
{
    return now_ns += 1000; /* so that who only looks at it comes to an end, too */
}

uint64_t clock_us(void)
{
    return clock_ns() / 1000;
}

double clock_wall_s(void)
{
    return (double)now_ns * 1e-9;
}

void clock_sleep_us(uint64_t duration_us)
{
    now_ns += duration_us * 1000;
}

/* Whoever could send something has had its turn. */
enum status wire_poll(struct wire_poll_item *items, size_t n, uint32_t spin_us, uint64_t until_us,
                      struct error *error)
{
    if (until_us > now_ns / 1000)
        now_ns = until_us * 1000;
    return STATUS_TIMEOUT;
}

/* ---- the node ---- */

static void answer_hello(void)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    Longspan__HelloReply hello = LONGSPAN__HELLO_REPLY__INIT;
    hello.node = REPLY_NODE;
    data.job = REPLY_JOB;
    data.body_case = LONGSPAN__DATA__BODY_HELLO_REPLY;
    data.hello_reply = &hello;
    frames_add_message(&reply, &data.base, NULL);
}

/* A header of the input, with the number of the query that it answers where its kind says so. */
static void add_header(const struct fuzz_piece *piece, uint64_t query)
{
    Longspan__Data *data = longspan__data__unpack(NULL, piece->n, piece->data);
    if (piece->kind % KINDS != 0 || data == NULL ||
        data->body_case != LONGSPAN__DATA__BODY_ATTEND_REPLY) {
        frames_add_copy(&reply, piece->data, piece->n, NULL);
    } else {
        data->attend_reply->query = query;
        frames_add_message(&reply, &data->base, NULL);
    }
    if (data != NULL)
        longspan__data__free_unpacked(data, NULL);
}

static void answer_query(uint64_t query)
{
    struct fuzz_piece piece;
    if (!fuzz_next(&pieces, &piece))
        return;
    add_header(&piece, query);
    while (pieces.n > 0 && pieces.data[0] % KINDS == FRAME && reply.n < FRAMES_MAX &&
           fuzz_next(&pieces, &piece))
        frames_add_copy(&reply, piece.data, piece.n, NULL);
}

/* Whatever the rank has sent so far. */
static void node_turn(void *unused)
{
    while (frames_receive(node, &request, 0, NULL) == STATUS_OK) {
        Longspan__Data *data =
            longspan__data__unpack(NULL, frames_size(&request, 0), frames_data(&request, 0));
        FUZZ_CHECK(data != NULL);
        frames_reply_to(&reply, &request);
        if (data->body_case == LONGSPAN__DATA__BODY_HELLO)
            answer_hello();
        if (data->body_case == LONGSPAN__DATA__BODY_ATTEND)
            answer_query(data->attend->query);
        longspan__data__free_unpacked(data, NULL);
        if (reply.n > 0)
            (void)frames_send(node, &reply, 0, NULL);
        frames_clear(&reply);
    }
    frames_clear(&request);
}

/* ---- the rank ---- */

static enum status take_rank_end(struct wire_socket **socket, struct wire_context *context,
                                 const struct wire_socket_options *options, struct error *error)
{
    struct wire_socket_options inside = *options;
    inside.endpoint = INSIDE;
    inside.inside = true;
    if (rank_end == NULL)
        FUZZ_CHECK(wire_socket_open(&rank_end, context, &inside, error) == STATUS_OK);
    *socket = rank_end;
    return STATUS_OK;
}

/* What was under way goes with it. */
static void give_rank_end(struct wire_socket *socket)
{
    while (frames_receive(node, &request, 0, NULL) == STATUS_OK)
        ;
    while (socket != NULL && frames_receive(socket, &request, 0, NULL) == STATUS_OK)
        ;
    frames_clear(&request);
}

static void close_all(void)
{
    wire_socket_close(rank_end);
    wire_socket_close(node);
    wire_context_destroy(wire);
    kernels_cpu_scalar.close(device);
    thread_pool_destroy(pool);
}

static void open_once(void)
{
    struct error error;
    const struct wire_context_options context = {0};
    const struct wire_socket_options router = {
        .kind = WIRE_ROUTER, .listen = true, .endpoint = "tcp://127.0.0.1:*", .name = "the node"};
    FUZZ_CHECK(thread_pool_create(&pool, 1, &error) == STATUS_OK);
    FUZZ_CHECK(kernels_cpu_scalar.open(&device, pool, 0, &error) == STATUS_OK);
    FUZZ_CHECK(wire_context_create(&wire, &context, &error) == STATUS_OK);
    FUZZ_CHECK(wire_socket_open(&node, wire, &router, &error) == STATUS_OK);
    FUZZ_CHECK(wire_socket_listen_inside(node, INSIDE, &error) == STATUS_OK);
    frames_init(&request);
    frames_init(&reply);
    atexit(close_all);
}

static struct attention *open_rank(void)
{
    struct attention *attention;
    struct error error;
    const struct attention_holder holder = {"node", wire_socket_endpoint(node), REPLY_NODE};
    const struct attention_config config = {
        .job = REPLY_JOB,
        .n_layers = 1,
        .n_kv_heads = 1,
        .shape = {KV_F32, REPLY_HEAD_DIM, REPLY_GROUP, 0.25f, 0},
        .max_rows = MAX_ROWS,
        .max_sequences = 4,
        .max_tokens = 4096,
        .holders = &holder,
        .n_holders = 1,
        .timeout_ms = TIMEOUT_MS,
        .retry_ms = RETRY_MS,
        .kernels = &kernels_cpu_scalar,
        .device = device,
        .constants_version = "fuzz",
        .zeromq_only = true,
        .progress = node_turn};
    FUZZ_CHECK(attention_open(&attention, pool, wire, &config, &error) == STATUS_OK);
    return attention;
}

static void run_step(struct attention *attention, uint64_t step,
                     const struct attention_segment *segments, uint32_t n_segments)
{
    enum { ROW = REPLY_GROUP * REPLY_HEAD_DIM };
    static float q[MAX_ROWS * ROW], out[MAX_ROWS * ROW];
    attention_begin_step(attention, step, segments, n_segments);
    attention_query(attention, 0, q);
    const struct attention_kv kv = attention_kv(attention); /* f32 */
    for (uint32_t i = 0; kv.k != NULL && i < n_segments; i++) {
        const size_t bytes = segments[i].n_tokens * REPLY_HEAD_DIM * sizeof(float);
        memset(kv.k, 0, bytes);
        memset(kv.v, 0, bytes);
    }
    attention_append(attention, 0);
    attention_finish(attention, 0, out);
    attention_end_step(attention);
    /* Its rows are zeros then: nothing of an answer that was refused is left. */
    for (uint32_t i = 0, row = 0; i < n_segments; row += segments[i++].n_tokens)
        if (attention_segment_error(attention, i) != NULL)
            for (uint32_t j = row * ROW; j < (row + segments[i].n_tokens) * ROW; j++)
                FUZZ_CHECK(out[j] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct attention_span all = {0, {0, 4096}};
    static const struct attention_segment
        prompt = {.sequence = 1,
                  .n_tokens = REPLY_TOKENS,
                  .fill = true,
                  .spans = &all,
                  .n_spans = 1},
        both[] =
            {{.sequence = 1, .position = REPLY_TOKENS, .n_tokens = 1},
             {.sequence = 2, .position = REPLY_TOKENS, .n_tokens = 1, .fork = true, .parent = 1}},
        next = {.sequence = 2, .position = REPLY_TOKENS + 1, .n_tokens = 2};
    if (wire == NULL)
        open_once();
    now_ns = 1000000000;
    pieces = (struct fuzz_pieces){NULL, 0};
    struct attention *attention = open_rank();
    pieces = (struct fuzz_pieces){data, n};
    run_step(attention, 1, &prompt, 1);
    run_step(attention, 2, both, 2);
    attention_drop(attention, 1, 0, REPLY_TOKENS); /* what its fork shares stays */
    run_step(attention, 3, &next, 1);
    attention_drop(attention, 2, 0, 0);
    attention_close(attention);
    return 0;
}
