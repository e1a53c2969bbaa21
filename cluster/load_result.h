/* cluster/load_result.h - what the clients of a load test saw, added up. */
#ifndef LONGSPAN_CLUSTER_LOAD_RESULT_H
#define LONGSPAN_CLUSTER_LOAD_RESULT_H

#include "cluster/load_stream.h"
#include "sys/status.h"
#include "sys/table.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { LOAD_RESULT_FAILURES = 16 };

/* Measured values, in no order. */
struct load_values {
    double *items;
    size_t n, capacity;
    double sum;
};

/* Zeroed: nothing has come. */
struct load_result {
    double rate;
    uint32_t n_requests, n_good;
    double seconds; /* from the first arrival to the last end */
    struct load_values first_s, gap_s, whole_s;
    uint64_t prompt_tokens, cached_tokens, output_tokens; /* of good ones */
    struct load_failure {
        char text[LOAD_STREAM_ERROR_BYTES];
        uint32_t n;
    } failures[LOAD_RESULT_FAILURES]; /* by their text; the last place is for all others */
    uint32_t n_failures;
    bool failed; /* no memory for a value */
};

/* One request that was answered to its end: began_us is when it was sent. */
void load_result_good(struct load_result *result, const struct load_stream *stream,
                      uint64_t began_us, uint64_t ended_us);
void load_result_bad(struct load_result *result, const char *why);
void load_result_free(struct load_result *result);

/* The value that a part q of them does not exceed, 0 < q <= 1, by the nearest rank: one that was
 * measured. Sorts them. NAN: there are none. */
double load_values_quantile(struct load_values *values, double q);

/* A few lines for people. */
void load_result_print(struct load_result *result, FILE *out);

/* Columns for load_result_row. */
extern const struct table_column load_result_columns[];
void load_result_row(struct load_result *result, struct table *table);

#endif
