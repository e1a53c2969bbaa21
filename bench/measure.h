/* bench/measure.h - what every measurement prints: the machine, the runs, median and spread, and
 * the limit.
 *
 * Timings are wall clock, one warm-up run that is not counted. For developers; not installed. */
#ifndef LONGSPAN_BENCH_MEASURE_H
#define LONGSPAN_BENCH_MEASURE_H

#include "sys/thread_pool.h"

#include <stddef.h>
#include <stdint.h>

enum { MEASURE_MAX_RUNS = 64 };

struct measure {
    double median_s, min_s, max_s;
    uint32_t n_runs;
};

/* Runs function(context) once, then n_runs times (at most MEASURE_MAX_RUNS). */
struct measure measure(uint32_t n_runs, void (*function)(void *context), void *context);

/* One line: processor model, processors usable, kernel release. */
void measure_print_machine(void);

/* Bytes per second that all lanes together can read from memory, each its own part of `bytes`
 * bytes: the limit that decode is judged by. The median of 7 runs. */
double measure_read_bandwidth(struct thread_pool *pool, size_t bytes);

#endif
