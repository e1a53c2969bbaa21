/* fuzz_worker.c - what a worker's rank takes from the coordinator: WorkerSetup, which is checked,
 * and Steps, which a rank with a small model runs: sequences that begin, go on, fork, fill and
 * close, candidates, logits and scores. Each piece is a Control message; the kind of a WorkerSetup
 * is the number of ranks. */
#include "tests/coordinator/rig.h"
#include "tests/coordinator/rig_model.h"

#include "proto/arena.h"
#include "sys/thread_pool.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/worker_job.h"
#include "worker/engine.h"

_Static_assert((int)WORKER_LAYERS == (int)RIG_LAYERS && (int)WORKER_VOCAB == (int)BYTE_VOCABULARY &&
                   (int)WORKER_FFN == (int)RIG_FFN,
               "the model is the rig's");

static struct thread_pool *pool;
static const struct kernels *kernels; /* the fastest: they are built without looking for errors */
static struct device *device;
static struct setup *setup;
static struct shard *shard;
static struct arena arena;

/* ---- worker/group.h, of one rank: nobody else is there, and MPI need not be ---- */

uint32_t group_tensor(const struct group *group)
{
    return 1;
}

uint32_t group_shard(const struct group *group)
{
    return 0;
}

enum status group_progress(struct group *group, struct error *error)
{
    return STATUS_OK;
}

static enum status nobody(struct error *error)
{
    return error_set(error, STATUS_FAILED, "a group of one");
}

enum status group_sum(struct group *group, float *x, size_t n, struct error *error)
{
    return STATUS_OK;
}

enum status group_receive_rows(struct group *group, float *rows, size_t n, struct error *error)
{
    return nobody(error);
}

enum status group_send_rows(struct group *group, float *rows, size_t n, uint32_t slot,
                            struct error *error)
{
    return nobody(error);
}

enum status group_rows_sent(struct group *group, uint32_t slot, struct error *error)
{
    return STATUS_OK;
}

enum status group_collect(struct group *group, const void *mine, void *all, size_t n_bytes,
                          struct error *error)
{
    return nobody(error);
}

/* ---- the rank ---- */

static void close_once(void)
{
    shard_destroy(shard);
    setup_destroy(setup);
    kernels->close(device);
    thread_pool_destroy(pool);
    arena_destroy(&arena);
}

static void open_once(void)
{
    char path[RIG_MODEL_PATH_BYTES];
    struct error error;
    struct model_file *file;
    struct setup_message message;
    rig_write_temporary_model(path);
    worker_job_setup(&message);
    FUZZ_CHECK(model_open(&file, path, &error) == STATUS_OK);
    model_fingerprint(file, message.fingerprint);
    model_close(file);
    FUZZ_CHECK(setup_create(&setup, &message.setup, 1, &error) == STATUS_OK);
    FUZZ_CHECK(thread_pool_create(&pool, 1, &error) == STATUS_OK);
    FUZZ_CHECK(kernels_choose(&kernels, NULL, &error) == STATUS_OK);
    FUZZ_CHECK(kernels->open(&device, pool, 0, &error) == STATUS_OK);
    const struct shard_source source = {
        .path = path, .setup = setup, .kernels = kernels, .device = device};
    FUZZ_CHECK(shard_load(&shard, &source, &error) == STATUS_OK);
    unlink(path);
    arena_init(&arena, 0);
    atexit(close_once);
}

static void open_engine(struct engine *engine)
{
    struct error error;
    const struct engine_config config = {.setup = setup,
                                         .shard = shard,
                                         .pool = pool,
                                         .kernels = kernels,
                                         .device = device,
                                         .local_kv_bytes = setup->local_kv_bytes};
    FUZZ_CHECK(engine_open(engine, &config, &error) == STATUS_OK);
}

/* ---- messages ---- */

static void take_setup(const Longspan__WorkerSetup *message, uint32_t n_ranks)
{
    struct setup *taken;
    struct error error;
    if (setup_create(&taken, message, n_ranks, &error) != STATUS_OK) {
        FUZZ_CHECK(error.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(taken->n_stages * taken->tensor == n_ranks);
    for (uint32_t i = 0; i < taken->n_stages; i++)
        FUZZ_CHECK(taken->stages[i].begin == (i == 0 ? 0 : taken->stages[i - 1].end));
    setup_destroy(taken);
}

static void check_step(const struct step *step)
{
    uint32_t n_rows = 0;
    FUZZ_CHECK(step->n_rows <= WORKER_ROWS && step->n_segments <= WORKER_SEQUENCES);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status != STATUS_OK)
            continue;
        FUZZ_CHECK(segment->row == n_rows && segment->attention < step->n_attention);
        n_rows += segment->n_tokens;
    }
    FUZZ_CHECK(n_rows == step->n_rows);
    for (uint32_t i = 0; i < step->n_rows; i++) {
        FUZZ_CHECK(step->positions[i] < WORKER_TOKENS);
        FUZZ_CHECK(step->fill || (uint32_t)step->tokens[i] < WORKER_VOCAB);
    }
    for (uint32_t i = 0; i < step->n_attention; i++)
        for (uint32_t j = 0; j < step->attention[i].n_spans; j++)
            FUZZ_CHECK(step->attention[i].spans[j].holder < setup->n_holders);
}

/* As rank.c does. */
static void take_step(struct engine *engine, const Longspan__Step *message)
{
    struct step *step = engine->step;
    struct error error;
    if (step_decode(step, message, &error) != STATUS_OK)
        return;
    for (uint32_t i = 0; i < step->n_closed; i++)
        attention_drop(engine->attention, step->closed[i].sequence, step->closed[i].incarnation,
                       step->closed[i].keep_tokens);
    if (step->fault.status != STATUS_OK) {
        FUZZ_CHECK(step->n_rows == 0);
        return;
    }
    check_step(step);
    FUZZ_CHECK(forward_run(engine->forward, step, &error) == STATUS_OK);
    const struct candidate_table *answers = &engine->results->answers;
    FUZZ_CHECK(answers->n_rows == (step->fill ? 0 : step->n_wanted));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece piece;
    struct engine engine;
    if (shard == NULL)
        open_once();
    open_engine(&engine);
    while (fuzz_next(&pieces, &piece)) {
        arena_reset(&arena);
        const Longspan__Control *control =
            longspan__control__unpack(&arena.allocator, piece.n, piece.data);
        if (control == NULL)
            continue;
        if (control->body_case == LONGSPAN__CONTROL__BODY_WORKER_SETUP)
            take_setup(control->worker_setup, piece.kind);
        if (control->body_case == LONGSPAN__CONTROL__BODY_STEP)
            take_step(&engine, control->step);
    }
    engine_close(&engine);
    return 0;
}
