/* bench_steps.c - see bench_steps.h. */
#include "cluster/bench_steps.h"

#include <assert.h>
#include <stdlib.h>

enum status bench_steps_open(struct bench_steps *steps, uint32_t n_sequences, uint32_t n_steps,
                             struct error *error)
{
    struct bench_steps open = {.n_sequences = n_sequences, .n_steps = n_steps};
    open.n_tokens = calloc(n_sequences, sizeof(*open.n_tokens));
    open.n_arrived = calloc(n_steps, sizeof(*open.n_arrived));
    open.ended_us = calloc(n_steps, sizeof(*open.ended_us));
    if (open.n_tokens == NULL || open.n_arrived == NULL || open.ended_us == NULL) {
        bench_steps_close(&open);
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u steps", n_steps);
    }
    *steps = open;
    return STATUS_OK;
}

void bench_steps_close(struct bench_steps *steps)
{
    free(steps->n_tokens);
    free(steps->n_arrived);
    free(steps->ended_us);
    *steps = (struct bench_steps){0};
}

void bench_steps_token(struct bench_steps *steps, uint32_t sequence, uint64_t now_us)
{
    assert(sequence < steps->n_sequences);
    const uint32_t step = steps->n_tokens[sequence]++;
    if (step < steps->n_steps && ++steps->n_arrived[step] == steps->n_sequences)
        steps->ended_us[step] = now_us;
}

struct samples bench_steps_seconds(const struct bench_steps *steps, uint32_t skip, uint32_t runs,
                                   uint32_t n, double *values)
{
    assert(n > 0 && (uint64_t)skip + (uint64_t)runs * n < steps->n_steps);
    for (uint32_t i = 0; i < runs; i++) {
        const uint64_t begin = steps->ended_us[skip + i * n];
        values[i] = (double)(steps->ended_us[skip + (i + 1) * n] - begin) * 1e-6 / n;
    }
    return samples_of(values, runs);
}
