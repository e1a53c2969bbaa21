/* cluster/load_options.h - the command line of `longspan bench serve`. */
#ifndef LONGSPAN_CLUSTER_LOAD_OPTIONS_H
#define LONGSPAN_CLUSTER_LOAD_OPTIONS_H

#include "cluster/load_shape.h"
#include "sys/options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { LOAD_OPTIONS_MOST_RATES = 32 };

/* Strings point into argv. */
struct load_options {
    const char *url, *api_key_file, *model;
    const char *prompts; /* a file, a trace, or PROMPT:OUTPUT */
    double rates[LOAD_OPTIONS_MOST_RATES];
    uint32_t n_rates;
    enum load_spread spread;
    uint32_t n_requests, n_common, timeout_s;
    uint32_t output; /* tokens, for the lines of a file */
    uint64_t seed;
    bool until_eos; /* answers may end earlier */
    const char *csv, *json;
    bool quiet;
    enum options_form help;
};

/* STATUS_INVALID: with the option and the remedy. */
enum status load_options_read(struct load_options *options, int argc, char **argv,
                              struct error *error);
void load_options_print_help(enum options_form form);

#endif
