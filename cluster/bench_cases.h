/* cluster/bench_cases.h - what `longspan bench` measures: one row of its table each.
 *
 * A case is a batch of sequences, each behind a depth of tokens that are filled (docs/protocol.md):
 *     decode   every sequence adds `n_tokens` tokens in each of the runs, all in one batch
 *     prefill  one sequence reads a prompt of `n_tokens` tokens
 * The order is that of the command line: by depth, prefill before decode, by size of the batch;
 * then the ragged batches. */
#ifndef LONGSPAN_CLUSTER_BENCH_CASES_H
#define LONGSPAN_CLUSTER_BENCH_CASES_H

#include "cluster/bench_options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_CASES_TEXT_BYTES = 64 };

struct bench_case {
    bool prefill;
    uint32_t n_sequences, n_tokens;
    uint32_t *depths;                   /* [n_sequences] */
    char depth[BENCH_CASES_TEXT_BYTES]; /* for people: "4096", "256+1024", "8 from 256 to 32768" */
};

struct bench_cases {
    struct bench_case *cases;
    uint32_t n;
};

/* The caller ends *cases with bench_cases_free. STATUS_INVALID: a list that cannot be read.
 * STATUS_NO_MEMORY. */
enum status bench_cases_make(struct bench_cases *cases, const struct bench_options *options,
                             struct error *error);
void bench_cases_free(struct bench_cases *cases);

/* Tokens behind which the case begins, all sequences together. */
uint64_t bench_case_depth(const struct bench_case *bench_case);

/* Tokens of its longest sequence when it ends. */
uint64_t bench_case_longest(const struct bench_case *bench_case,
                            const struct bench_options *options);

#endif
