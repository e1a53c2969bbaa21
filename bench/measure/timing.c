/* timing.c - see timing.h. */
#include "bench/measure/timing.h"

#include "sys/clock.h"

#include <assert.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct timing timing_of(double *seconds, uint32_t n)
{
    assert(n > 0);
    qsort(seconds, n, sizeof(seconds[0]), compare);
    const double median = n % 2 == 1 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
    return (struct timing){median, seconds[0], seconds[n - 1], n};
}

struct timing timing_measure(uint32_t n_runs, void (*function)(void *context), void *context)
{
    double seconds[TIMING_MAX_RUNS];
    assert(n_runs > 0 && n_runs <= TIMING_MAX_RUNS);
    function(context);
    for (uint32_t i = 0; i < n_runs; i++) {
        const uint64_t begin = clock_ns();
        function(context);
        seconds[i] = (double)(clock_ns() - begin) * 1e-9;
    }
    return timing_of(seconds, n_runs);
}
