/* cluster/place_options.h - where it runs and how it computes: the options that every command has
 * that starts a cluster, or uses one. */
#ifndef LONGSPAN_CLUSTER_PLACE_OPTIONS_H
#define LONGSPAN_CLUSTER_PLACE_OPTIONS_H

#include "sys/options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PLACE_OPTIONS_MOST_NODES = 64,
    PLACE_OPTIONS_MOST_RANKS = 4096,
    PLACE_OPTIONS_MOST_TOKENS = 1 << 30, /* of a sequence */
    PLACE_OPTIONS_TABLE = 80,
};

/* Strings point into argv. A number that is 0 was not given, unless said otherwise. */
struct place_options {
    const char *model;
    const char *coordinator, *cluster; /* at most one of them */
    uint32_t pipeline, tensor;         /* 1 when not given: set by place_options_check */
    uint32_t attention_nodes;
    bool pipeline_given, tensor_given, attention_nodes_given;
    uint32_t threads;
    uint64_t memory_bytes, kv_memory_bytes, kv_store_bytes;
    const char *kv_type, *shares, *device, *kernels, *pin, *exchange, *prefix_cache, *kv_store;
    uint32_t stripe, chunk, step_target_ms;
    uint32_t ctx;                       /* tokens of one sequence; the command's own option */
    uint32_t join_timeout_s, timeout_s; /* join_timeout_s: set by place_options_check */
    bool strict_bits;
    const char *weights; /* "local", "push" or NULL: as the cluster file says */
    const char *trace;   /* as the next two, if the command has it: place_options_texts */
    bool dry_run;
    enum options_form help;
    const char *cluster_key;
    bool insecure_network;
    bool quiet;
    uint32_t verbose;
    /* More words for the coordinator, ended by NULL; whether what it says is shown. The command's
     * own. NULL: none. */
    const char *const *coordinator_words;
    bool coordinator_shown;
};

/* Entries that several commands have among their own: the model, and how long a sequence may
 * become. */
struct option place_options_model(struct place_options *options);
struct option place_options_ctx(struct place_options *options);

/* What a command says of its output: the help of these options. NULL, false: it does not have that
 * one. */
struct place_options_texts {
    const char *trace, *quiet, *verbose;
    bool dry_run;
    bool only_starts; /* the command has no use for a cluster that runs: --coordinator, which it
                       * refuses with what helps, is not listed */
};

/* For option_usage: of a command that starts a cluster and asks it. */
extern const char place_options_exit_codes[];

/* A whole table: a command's own entries, ended by one of which `kind` is 0, the last section of
 * which is about its output and goes on with `texts`; then where it runs, how it computes, and
 * --help. It points into `options`. */
void place_options_table(struct option table[PLACE_OPTIONS_TABLE], const struct option *own,
                         struct place_options *options, const struct place_options_texts *texts);

/* Rules about options that do not go together, after the command line was read. STATUS_INVALID:
 * with the option and the remedy. */
enum status place_options_check(struct place_options *options, struct error *error);

#endif
