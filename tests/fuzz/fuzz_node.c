/* fuzz_node.c - an attention node among strangers: control messages (kind 0), data messages (kind 1
 * begins one with its header, kind 2 adds a frame) of two peers. A job is set up and one peer is
 * greeted before. */
#include "attention_node/serve.h"
#include "proto/arena.h"
#include "tests/fuzz/node_job.h"
#include "tests/fuzz/pieces.h"

enum { CONTROL, HEADER, FRAME, MEMORY = 1 << 20 };

static struct serve *serve;
static struct arena arena;

/* Whatever is answered can be read, and a failure has no tensor. */
static void check_answer(void *context, struct frames *answer, enum serve_answer kind)
{
    Longspan__Data *data =
        longspan__data__unpack(NULL, frames_size(answer, 0), frames_data(answer, 0));
    FUZZ_CHECK(data != NULL);
    if (data->body_case == LONGSPAN__DATA__BODY_ATTEND_REPLY)
        FUZZ_CHECK(data->attend_reply->failure == NULL || answer->n == 1);
    longspan__data__free_unpacked(data, NULL);
    frames_clear(answer);
}

static void open_serve(void)
{
    struct thread_pool *pool;
    struct error error;
    FUZZ_CHECK(thread_pool_create(&pool, 1, &error) == STATUS_OK);
    const struct serve_config config = {.name = "fuzz",
                                        .node = NODE_JOB_NODE,
                                        .memory_bytes = MEMORY,
                                        .pool = pool,
                                        .kernels = &kernels_cpu_scalar,
                                        .send = check_answer};
    FUZZ_CHECK(serve_create(&serve, &config, &error) == STATUS_OK);
    arena_init(&arena, 0);
}

static void take_control(const struct fuzz_piece *piece)
{
    struct error error;
    arena_reset(&arena);
    const Longspan__Control *control =
        longspan__control__unpack(&arena.allocator, piece->n, piece->data);
    if (control == NULL)
        return;
    switch (control->body_case) {
    case LONGSPAN__CONTROL__BODY_NODE_SETUP:
        (void)serve_setup(serve, control->node_setup, &error);
        break;
    case LONGSPAN__CONTROL__BODY_RESERVE:
        (void)serve_reserve(serve, control->reserve, &error);
        break;
    case LONGSPAN__CONTROL__BODY_RESTORE:
        (void)serve_restore(serve, control->restore, &error);
        break;
    case LONGSPAN__CONTROL__BODY_FREE:
        serve_free(serve, control->free);
        break;
    default:
        break;
    }
}

static void take_message(void)
{
    if (!serve_has_room(serve))
        serve_run(serve);
    if (serve_inbox(serve)->n > 0)
        serve_message(serve);
}

static void begin_message(const struct fuzz_piece *header, const char *peer)
{
    struct frames *inbox = serve_inbox(serve);
    frames_clear(inbox);
    FUZZ_CHECK(frames_add_copy(inbox, header->data, header->n, NULL) == STATUS_OK);
    frames_set_peer(inbox, peer, strlen(peer));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece piece;
    struct error error;
    uint8_t hello[256];
    if (serve == NULL)
        open_serve();
    const Longspan__NodeSetup setup = node_job_setup();
    FUZZ_CHECK(serve_setup(serve, &setup, &error) == STATUS_OK);
    const struct fuzz_piece greeting = {HEADER, hello, node_job_hello(hello)};
    begin_message(&greeting, "a");
    take_message();
    while (fuzz_next(&pieces, &piece)) {
        struct frames *inbox = serve_inbox(serve);
        if (piece.kind % 4 == FRAME) {
            if (inbox->n > 0 && inbox->n < FRAMES_MAX)
                (void)frames_add_copy(inbox, piece.data, piece.n, NULL);
            continue;
        }
        take_message();
        if (piece.kind % 4 == CONTROL)
            take_control(&piece);
        else
            begin_message(&piece, piece.kind % 4 == HEADER ? "a" : "b");
    }
    take_message();
    serve_run(serve);
    serve_drop(serve);
    return 0;
}
