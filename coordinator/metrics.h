/* coordinator/metrics.h - what the coordinator counts of itself while it serves.
 *
 * Counters only grow; a histogram counts values in buckets with fixed upper bounds. Both are a few
 * additions into memory of the one thread that serves, and are read when somebody asks
 * (StatusRequest): nothing is computed, sorted or sent where tokens are made. What others count
 * (ranks, nodes) and what is a state (pages, queue) is not here: status_reply.h collects it.
 *
 * Names are those of /metrics without their prefix "longspan_", with the unit as Prometheus wants
 * it; docs/operations.md explains each. Pure: no I/O, no clock. */
#ifndef LONGSPAN_COORDINATOR_METRICS_H
#define LONGSPAN_COORDINATOR_METRICS_H

#include <stddef.h>
#include <stdint.h>

enum metrics_counter {
    METRICS_PREFILL_TOKENS,  /* prompt tokens that were computed */
    METRICS_CACHED_TOKENS,   /* prompt tokens that were found, and not computed */
    METRICS_DECODE_TOKENS,   /* tokens generated */
    METRICS_STEPS,           /* steps that all ranks have reported */
    METRICS_PROMPTS_STARTED, /* admitted for the first time */
    METRICS_PROMPTS_HIT,     /* of them, with cached tokens */
    METRICS_PREEMPTIONS,     /* sequences put back in the queue */
    METRICS_REQUESTS_DONE,
    METRICS_REQUESTS_FAILED,
    METRICS_REQUESTS_CANCELLED, /* by the client, or because it is gone */
    METRICS_REQUESTS_REFUSED,   /* never queued */
    METRICS_N_COUNTERS
};

enum metrics_histogram {
    METRICS_FIRST_TOKEN, /* seconds from a request's arrival to each prompt's first token */
    METRICS_NEXT_TOKEN,  /* seconds between two tokens of one prompt */
    METRICS_REQUEST,     /* seconds from a request's arrival to its end, if it was answered */
    METRICS_STEP,        /* seconds from a step's sending until all ranks have reported it */
    METRICS_BATCH,       /* sequences of a step */
    METRICS_ROWS,        /* tokens of a step */
    METRICS_N_HISTOGRAMS
};

enum { METRICS_MOST_BOUNDS = 32 };

struct metrics_distribution {
    uint64_t count;
    double sum;
    uint64_t counts[METRICS_MOST_BOUNDS + 1]; /* of each bucket alone; the last: above all bounds */
};

/* Zeroed: nothing has happened. */
struct metrics {
    uint64_t counters[METRICS_N_COUNTERS];
    struct metrics_distribution histograms[METRICS_N_HISTOGRAMS];
};

static inline void metrics_count(struct metrics *metrics, enum metrics_counter counter, uint64_t n)
{
    metrics->counters[counter] += n;
}

/* Values below zero and no numbers (NaN) are not counted. */
void metrics_observe(struct metrics *metrics, enum metrics_histogram histogram, double value);

/* "prefill_tokens_total" and what it means, in one sentence. */
const char *metrics_counter_name(enum metrics_counter counter);
const char *metrics_counter_help(enum metrics_counter counter);

/* "time_to_first_token_seconds"; *bounds: `n_bounds` upper bounds, ascending. */
const char *metrics_histogram_name(enum metrics_histogram histogram);
const char *metrics_histogram_help(enum metrics_histogram histogram);
const double *metrics_histogram_bounds(enum metrics_histogram histogram, size_t *n_bounds);

#endif
