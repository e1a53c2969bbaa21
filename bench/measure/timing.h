/* bench/measure/timing.h - wall-clock times of something done again and again: one warm-up that is
 * not counted, then the runs; median and spread. */
#ifndef LONGSPAN_BENCH_MEASURE_TIMING_H
#define LONGSPAN_BENCH_MEASURE_TIMING_H

#include <stdint.h>

enum { TIMING_MAX_RUNS = 1000 };

struct timing {
    double median_s, min_s, max_s;
    uint32_t n_runs;
};

/* Runs function(context) once, then n_runs times (1 to TIMING_MAX_RUNS). */
struct timing timing_measure(uint32_t n_runs, void (*function)(void *context), void *context);

#endif
