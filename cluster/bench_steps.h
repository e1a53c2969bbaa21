/* cluster/bench_steps.h - when a batch's steps ended, from the times at which its tokens came.
 *
 * A step has ended when every sequence has its token: the k-th step of a batch ends with the last
 * of the k-th tokens. So a batch that is computed in several micro-batches counts as one, and what
 * is told is what users see. */
#ifndef LONGSPAN_CLUSTER_BENCH_STEPS_H
#define LONGSPAN_CLUSTER_BENCH_STEPS_H

#include "sys/samples.h"
#include "sys/status.h"

#include <stdint.h>

struct bench_steps {
    uint32_t n_sequences, n_steps;
    uint32_t *n_tokens;  /* [n_sequences] that came */
    uint32_t *n_arrived; /* [n_steps] sequences that have the step's token */
    uint64_t *ended_us;  /* [n_steps] */
};

/* For n_steps tokens of each sequence. STATUS_NO_MEMORY. */
enum status bench_steps_open(struct bench_steps *steps, uint32_t n_sequences, uint32_t n_steps,
                             struct error *error);
/* Zeroed memory is fine. */
void bench_steps_close(struct bench_steps *steps);

/* A token of the sequence came. More than n_steps of them are ignored. */
void bench_steps_token(struct bench_steps *steps, uint32_t sequence, uint64_t now_us);

/* Seconds of a step, from `runs` runs of n steps each that follow the first `skip` steps; every run
 * gives one value: its time over n. All tokens have come. */
struct samples bench_steps_seconds(const struct bench_steps *steps, uint32_t skip, uint32_t runs,
                                   uint32_t n, double *values);

#endif
