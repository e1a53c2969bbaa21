/* metrics.c - see metrics.h. Bounds of times are 1, 2, 3, 5, 7 in each decade from a millisecond
 * on: wide enough for a laptop and a cluster, and fine enough for a percentile that is off by a
 * fifth at most. */
#include "coordinator/metrics.h"

#include <assert.h>

struct definition {
    const char *name, *help;
};

static const struct definition counters[METRICS_N_COUNTERS] = {
    [METRICS_PREFILL_TOKENS] = {"prefill_tokens_total", "Prompt tokens that were computed."},
    [METRICS_CACHED_TOKENS] = {"cached_tokens_total",
                               "Prompt tokens that were found in the KV cache and not computed."},
    [METRICS_DECODE_TOKENS] = {"decode_tokens_total", "Tokens that were generated."},
    [METRICS_STEPS] = {"steps_total", "Steps that all ranks have reported."},
    [METRICS_PROMPTS_STARTED] = {"prompts_started_total",
                                 "Prompts that left the queue for the first time."},
    [METRICS_PROMPTS_HIT] = {"prefix_cache_hits_total",
                             "Prompts of which a part was found in the KV cache."},
    [METRICS_PREEMPTIONS] = {"preemptions_total",
                             "Sequences that were put back in the queue because pages ran out."},
    [METRICS_REQUESTS_DONE] = {"requests_done_total", "Requests that were answered to their end."},
    [METRICS_REQUESTS_FAILED] = {"requests_failed_total", "Requests that failed after queueing."},
    [METRICS_REQUESTS_CANCELLED] = {"requests_cancelled_total",
                                    "Requests that the client gave up, or whose client is gone."},
    [METRICS_REQUESTS_REFUSED] = {"requests_refused_total",
                                  "Requests that were never queued: invalid, or the queue full."},
};

static const double seconds[] = {0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.02, 0.03, 0.05, 0.07,
                                 0.1,   0.2,   0.3,   0.5,   0.7,   1,    2,    3,    5,    7,
                                 10,    20,    30,    50,    70,    100,  200,  300,  500};
static const double sizes[] = {1,   2,   4,    8,    16,   32,   64,    128,
                               256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(COUNT(seconds) <= METRICS_MOST_BOUNDS && COUNT(sizes) <= METRICS_MOST_BOUNDS,
               "a distribution has a bucket for every bound");

static const struct {
    struct definition is;
    const double *bounds;
    size_t n_bounds;
} histograms[METRICS_N_HISTOGRAMS] = {
    [METRICS_FIRST_TOKEN] = {{"time_to_first_token_seconds",
                              "From a request's arrival to the first token of each prompt."},
                             seconds,
                             COUNT(seconds)},
    [METRICS_NEXT_TOKEN] = {{"time_between_tokens_seconds", "Between two tokens of one prompt."},
                            seconds,
                            COUNT(seconds)},
    [METRICS_REQUEST] = {{"request_seconds", "From a request's arrival to its end."},
                         seconds,
                         COUNT(seconds)},
    [METRICS_STEP] = {{"step_seconds", "From a step's sending until all ranks have reported it."},
                      seconds,
                      COUNT(seconds)},
    [METRICS_BATCH] = {{"batch_sequences", "Sequences of a step."}, sizes, COUNT(sizes)},
    [METRICS_ROWS] = {{"batch_tokens", "Tokens of a step, prompts and decodes."},
                      sizes,
                      COUNT(sizes)},
};

void metrics_observe(struct metrics *metrics, enum metrics_histogram histogram, double value)
{
    assert(histogram < METRICS_N_HISTOGRAMS);
    if (!(value >= 0.0))
        return;
    struct metrics_distribution *to = &metrics->histograms[histogram];
    size_t bucket = 0;
    while (bucket < histograms[histogram].n_bounds && value > histograms[histogram].bounds[bucket])
        bucket++;
    to->counts[bucket]++;
    to->count++;
    to->sum += value;
}

const char *metrics_counter_name(enum metrics_counter counter)
{
    return counters[counter].name;
}

const char *metrics_counter_help(enum metrics_counter counter)
{
    return counters[counter].help;
}

const char *metrics_histogram_name(enum metrics_histogram histogram)
{
    return histograms[histogram].is.name;
}

const char *metrics_histogram_help(enum metrics_histogram histogram)
{
    return histograms[histogram].is.help;
}

const double *metrics_histogram_bounds(enum metrics_histogram histogram, size_t *n_bounds)
{
    *n_bounds = histograms[histogram].n_bounds;
    return histograms[histogram].bounds;
}
