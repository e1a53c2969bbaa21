/* fuzz_coordinator.c - control messages to the coordinator, of a rank (kind 0), an attention node
 * (1), a client (2) and somebody who never joined (3), with frames (COORDINATOR_FRAME) behind them,
 * from its beginning on: joins, set-up, requests, steps. The loop's own functions are used, without
 * the loop: what they send goes to sockets of this process. */
#include "coordinator/coordinator.c" /* handle, begin_serving: all that a message can reach */

#include "tests/coordinator/rig.h"
#include "tests/coordinator/rig_model.h"
#include "tests/fuzz/coordinator_job.h"
#include "tests/fuzz/pieces.h"

enum { N_PEERS = 3, PEER_KINDS = 4 };

static struct coordinator_options options = {.listen = "tcp://127.0.0.1:*",
                                             .workers = 1,
                                             .nodes = 1,
                                             .tensor = 1,
                                             .chunk = 64,
                                             .max_batch = 4,
                                             .prefix_cache = true,
                                             .kv_type = KV_F16,
                                             .stripe = 256,
                                             .kernels = "auto",
                                             .join_timeout_ms = 1000000,
                                             .load_timeout_ms = 1000000,
                                             .timeout_ms = 1000000,
                                             .step_timeout_ms = 1000000,
                                             .lost_ms = 1000000,
                                             .silence_ms = 1000000,
                                             .retry_ms = 1000};
static struct coordinator opened; /* the model and the socket; each input begins with a copy */
static struct wire_socket *sockets[N_PEERS];
static struct frames_peer peers[PEER_KINDS];

static void open_peers(void)
{
    struct error error;
    struct frames frames;
    frames_init(&frames);
    FUZZ_CHECK(wire_socket_listen_inside(opened.socket, "inproc://fuzz", &error) == STATUS_OK);
    for (int i = 0; i < N_PEERS; i++) {
        const struct wire_socket_options dealer = {
            .kind = WIRE_DEALER, .endpoint = "inproc://fuzz", .inside = true, .name = "a peer"};
        FUZZ_CHECK(wire_socket_open(&sockets[i], opened.wire, &dealer, &error) == STATUS_OK);
        FUZZ_CHECK(frames_add_copy(&frames, "hello", 5, &error) == STATUS_OK);
        FUZZ_CHECK(frames_send(sockets[i], &frames, clock_us() + 1000000, &error) == STATUS_OK);
        FUZZ_CHECK(frames_receive(opened.socket, &frames, clock_us() + 1000000, &error) ==
                   STATUS_OK);
        peers[i].n = frames.peer.n;
        memcpy(peers[i].bytes, frames.peer.bytes, frames.peer.n);
        frames_clear(&frames);
    }
    peers[N_PEERS] = (struct frames_peer){.n = 5, .bytes = "\1who?"};
}

static void close_peers(void)
{
    for (int i = 0; i < N_PEERS; i++)
        wire_socket_close(sockets[i]);
    close_all(&opened);
}

static void open_once(void)
{
    static char path[RIG_MODEL_PATH_BYTES];
    struct error error;
    rig_write_temporary_model(path);
    options.model = path;
    opened.options = &options;
    if (open_model(&opened, &error) != STATUS_OK || open_socket(&opened, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        abort();
    }
    unlink(path); /* its mapping stays */
    open_peers();
    atexit(close_peers);
}

static void drain(void)
{
    struct frames frames;
    frames_init(&frames);
    for (int i = 0; i < N_PEERS; i++)
        while (frames_receive(sockets[i], &frames, 0, NULL) == STATUS_OK)
            ;
    frames_clear(&frames);
}

/* A message, and the frames behind it. False: the job has ended. */
static bool take(struct coordinator *c, const struct fuzz_piece *piece, struct fuzz_pieces *rest)
{
    struct error error;
    struct fuzz_piece frame;
    frames_clear(&c->in);
    FUZZ_CHECK(frames_add_copy(&c->in, piece->data, piece->n, NULL) == STATUS_OK);
    while (rest->n > 0 && (rest->data[0] & COORDINATOR_FRAME) && c->in.n < FRAMES_MAX &&
           fuzz_next(rest, &frame))
        FUZZ_CHECK(frames_add_copy(&c->in, frame.data, frame.n, NULL) == STATUS_OK);
    const Longspan__Control *message = unpack(c, frames_data(&c->in, 0), frames_size(&c->in, 0));
    if (message == NULL)
        return true;
    enum status status = handle(c, &peers[piece->kind % PEER_KINDS], message, clock_us(), &error);
    if (status == STATUS_OK && c->serving == NULL && c->cluster.phase == CLUSTER_READY)
        status = begin_serving(c, &error);
    if (status == STATUS_OK && c->serving != NULL)
        status = serving_pump(c->serving, clock_us(), &error);
    return status == STATUS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece piece;
    struct error error;
    if (opened.file == NULL)
        open_once();
    struct coordinator c = opened;
    struct early_request *request;
    frames_init(&c.in);
    arena_init(&c.arena, 64 << 20);
    control_open(&c.control, c.socket);
    const struct cluster_model model = {"/model", c.file, &c.hparams};
    FUZZ_CHECK(cluster_open(&c.cluster, &options, &model, &c.control, NULL, clock_us(), &error) ==
               STATUS_OK);
    c.cluster.job = COORDINATOR_JOB; /* so that messages can be written beforehand */
    while (fuzz_next(&pieces, &piece) && take(&c, &piece, &pieces))
        ;
    if (c.serving != NULL)
        serving_fail_all(c.serving, STATUS_CANCELLED, "the end");
    serving_destroy(c.serving);
    while ((request = early_take(&c.early)) != NULL)
        free(request);
    cluster_close(&c.cluster);
    control_close(&c.control);
    frames_clear(&c.in);
    arena_destroy(&c.arena);
    drain();
    return 0;
}
