/* cluster/bench_options.h - the command line of `longspan bench`. */
#ifndef LONGSPAN_CLUSTER_BENCH_OPTIONS_H
#define LONGSPAN_CLUSTER_BENCH_OPTIONS_H

#include "cluster/place_options.h"
#include "sys/options.h"
#include "sys/status.h"

#include <stdint.h>

enum {
    BENCH_OPTIONS_WARM_UP = 2, /* decode steps that are not counted */
    BENCH_OPTIONS_MOST_RUNS = 1000,
};

/* Strings point into argv. */
struct bench_options {
    struct place_options place;   /* place.ctx: set by the command, as long as the longest case */
    const char *depths, *batches; /* lists: "0,4096" */
    struct option_list ragged;    /* "256+1024+32768" each */
    uint32_t prompt;              /* tokens of a prefill; 0: none is measured */
    uint32_t n_tokens, runs;      /* decode steps of a run */
    const char *csv, *json;
};

/* Like run_options_read and its companions. */
enum status bench_options_read(struct bench_options *options, int argc, char **argv,
                               struct error *error);
void bench_options_free(struct bench_options *options);
void bench_options_print_help(enum options_form form);

#endif
