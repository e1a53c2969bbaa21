/* timing.c - see timing.h. */
#include "bench/measure/timing.h"

#include "sys/clock.h"
#include "sys/samples.h"

#include <assert.h>

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
    const struct samples samples = samples_of(seconds, n_runs);
    return (struct timing){samples.median, samples.min, samples.max, n_runs};
}
