/* cluster/run_options.h - the command line of `longspan run`. */
#ifndef LONGSPAN_CLUSTER_RUN_OPTIONS_H
#define LONGSPAN_CLUSTER_RUN_OPTIONS_H

#include "sys/options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { RUN_OPTIONS_MOST_NODES = 64, RUN_OPTIONS_MOST_RANKS = 4096, RUN_OPTIONS_MOST_LOGPROBS = 64 };

/* Strings point into argv. A number that is 0 was not given, unless said otherwise. */
struct run_options {
    const char *model;
    struct option_list prompts; /* items "prompt" (the text) and "file" (a path, or -), in order */
    struct option_item *prompt_items;
    uint32_t n_predict, fill_tokens;

    const char *coordinator, *cluster; /* at most one of them */
    uint32_t pipeline, tensor;         /* 1 when not given */
    uint32_t attention_nodes;
    bool pipeline_given, tensor_given, attention_nodes_given;
    uint32_t threads;
    uint64_t memory_bytes, kv_memory_bytes;
    const char *kv_type, *weights, *kernels;
    uint32_t stripe, ctx, chunk;
    uint32_t join_timeout_s, timeout_s; /* join_timeout_s always set */
    bool strict_bits;

    float temperature, top_p, min_p;
    uint32_t top_k;
    uint64_t seed;
    bool ignore_eos, no_prefix_sharing;

    bool json, logprobs_given, dry_run, quiet;
    uint32_t n_logprobs;
    const char *dump_logits, *trace;
    uint32_t verbose;

    const char *cluster_key;
    bool insecure_network;
    bool help;
};

/* Reads and checks what can be checked without looking at files. argv[0] is "run". The caller ends
 * *options with run_options_free. STATUS_INVALID: with the option and the remedy. */
enum status run_options_read(struct run_options *options, int argc, char **argv,
                             struct error *error);

void run_options_free(struct run_options *options);

void run_options_print_help(void);

#endif
