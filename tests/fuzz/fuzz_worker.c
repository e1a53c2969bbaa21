/* fuzz_worker.c - what a worker's rank takes from the coordinator: WorkerSetup and Step. Each piece is a Control message;
 * its kind is the number of ranks. */
#include "proto/arena.h"
#include "tests/fuzz/fuzz.h"
#include "worker/setup.h"
#include "worker/step.h"

static void take_setup(const Longspan__WorkerSetup *message, uint32_t n_ranks)
{
    struct setup *setup;
    struct error error;
    if (setup_create(&setup, message, n_ranks, &error) != STATUS_OK) {
        FUZZ_CHECK(error.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(setup->n_stages * setup->tensor == n_ranks);
    for (uint32_t i = 0; i < setup->n_stages; i++)
        FUZZ_CHECK(setup->stages[i].begin == (i == 0 ? 0 : setup->stages[i - 1].end));
    setup_destroy(setup);
}

static void check_step(const struct step *step, const struct step_limits *limits)
{
    uint32_t n_rows = 0;
    if (step->fault.status != STATUS_OK)
        FUZZ_CHECK(step->n_rows == 0);
    FUZZ_CHECK(step->n_rows <= limits->max_rows && step->n_segments <= limits->max_sequences);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status != STATUS_OK)
            continue;
        FUZZ_CHECK(segment->row == n_rows && segment->attention < step->n_attention);
        n_rows += segment->n_tokens;
    }
    FUZZ_CHECK(step->fault.status != STATUS_OK || n_rows == step->n_rows);
    for (uint32_t i = 0; i < step->n_rows; i++) {
        FUZZ_CHECK(step->positions[i] < limits->max_tokens);
        FUZZ_CHECK(step->fill || (uint32_t)step->tokens[i] < limits->vocab);
    }
    for (uint32_t i = 0; i < step->n_attention; i++)
        for (uint32_t j = 0; j < step->attention[i].n_spans; j++)
            FUZZ_CHECK(step->attention[i].spans[j].holder < limits->n_holders);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct step_limits limits = {.job = 7,
                                              .n_holders = 2,
                                              .max_rows = 64,
                                              .max_sequences = 4,
                                              .max_tokens = 4096,
                                              .vocab = 300};
    static struct arena arena;
    if (arena.limit == 0)
        arena_init(&arena, 0);
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece piece;
    struct step *step;
    struct error error;
    FUZZ_CHECK(step_create(&step, &limits, &error) == STATUS_OK);
    while (fuzz_next(&pieces, &piece)) {
        arena_reset(&arena);
        const Longspan__Control *control =
            longspan__control__unpack(&arena.allocator, piece.n, piece.data);
        if (control == NULL)
            continue;
        if (control->body_case == LONGSPAN__CONTROL__BODY_WORKER_SETUP)
            take_setup(control->worker_setup, piece.kind);
        if (control->body_case == LONGSPAN__CONTROL__BODY_STEP &&
            step_decode(step, control->step, &error) == STATUS_OK)
            check_step(step, &limits);
    }
    step_destroy(step);
    return 0;
}
