/* cluster/run_options.h - the command line of `longspan run`. */
#ifndef LONGSPAN_CLUSTER_RUN_OPTIONS_H
#define LONGSPAN_CLUSTER_RUN_OPTIONS_H

#include "cluster/place_options.h"
#include "sys/options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { RUN_OPTIONS_MOST_LOGPROBS = 64 };

/* Strings point into argv. A number that is 0 was not given, unless said otherwise. */
struct run_options {
    struct place_options place;
    struct option_list prompts; /* items "prompt" (the text) and "file" (a path, or -), in order */
    uint32_t n_predict, fill_tokens;

    float temperature, top_p, min_p;
    uint32_t top_k;
    uint64_t seed;
    bool ignore_eos, no_prefix_sharing;

    bool json, logprobs_given;
    uint32_t n_logprobs;
    const char *dump_logits;
};

/* Reads and checks what can be checked without looking at files. argv[0] is "run". The caller ends
 * *options with run_options_free. STATUS_INVALID: with the option and the remedy. */
enum status run_options_read(struct run_options *options, int argc, char **argv,
                             struct error *error);

void run_options_free(struct run_options *options);

void run_options_print_help(enum options_form form);

/* The section about sampling, for a command that has it too, with its own --temp. */
void run_options_add_sampling(struct option_table *table, struct run_options *options,
                              const char *temperature);

#endif
