/* plan/capacity.h - how a model is divided over the processes of a job, and how many tokens fit
 * then.
 *
 * The coordinator tells it what ranks and nodes said of their memory, when they joined and again
 * when they were ready; `longspan plan` what a cluster file says. Both are answered by the same
 * rules. Pure. */
#ifndef LONGSPAN_PLAN_CAPACITY_H
#define LONGSPAN_PLAN_CAPACITY_H

#include "kernels/quant/kv_type.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "plan/page_cost.h"
#include "plan/planner.h"
#include "plan/shard_cost.h"
#include "sys/status.h"

#include <stdint.h>

/* As the coordinator's options of the same names (coordinator.h). */
struct capacity_options {
    uint32_t workers, nodes;
    uint32_t pipeline, tensor; /* pipeline 0: workers / tensor */
    uint32_t ctx;              /* 0: what the model was trained for, or what fits */
    uint32_t chunk;
    enum kv_type kv_type;
    uint64_t kv_memory; /* of each rank, where there are no nodes; 0: what memory allows */
};

/* `host` is borrowed, for messages; the numbers are zeros until somebody knows them. */
struct capacity_rank {
    const char *host;
    uint64_t memory_bytes; /* for weights and KV cache, while nothing is loaded */
    uint64_t kv_bytes;     /* of its local holder, when that is there */
    struct shard_cost cost;
};

struct capacity_node {
    uint64_t kv_bytes;
};

/* To be read by others; ranks' and nodes' memory is theirs to write. */
struct capacity {
    struct capacity_options options;
    struct planner_model model;
    struct planner_plan plan;
    uint32_t n_layers, context_train;
    uint32_t *windows;           /* [n_layers] sliding windows; NULL: no layer has one */
    struct page_cost cost;       /* of a page of tokens, in units */
    uint64_t unit_bytes;         /* of a unit, all KV heads */
    struct capacity_rank *ranks; /* [options.workers] */
    struct capacity_node *nodes; /* [options.nodes] */
};

/* `file` passed weights_check. The caller ends *capacity with capacity_close, also after a failure.
 * STATUS_INVALID: an impossible split; the text lists the possible ones. STATUS_UNSUPPORTED: KV of
 * this type and head_dim. STATUS_NO_MEMORY. */
enum status capacity_open(struct capacity *capacity, const struct capacity_options *options,
                          const struct hparams *hparams, const struct model_file *file,
                          struct error *error);
/* Zeroed memory is fine. */
void capacity_close(struct capacity *capacity);

/* KV holders: the nodes, or one, the ranks' own memory. */
uint32_t capacity_n_holders(const struct capacity *capacity);
uint64_t capacity_holder_units(const struct capacity *capacity, uint32_t holder); /* page_cost.h */

/* Tokens of one sequence that so many units have room for, at one holder. */
uint64_t capacity_tokens(const struct capacity *capacity, uint64_t units);

/* The same of all holders together: the longest sequence that there is room for. */
uint64_t capacity_all_tokens(const struct capacity *capacity);

/* KV cache of a sequence of so many tokens, rounded up to pages. */
uint64_t capacity_sequence_bytes(const struct capacity *capacity, uint64_t n_tokens);

/* Sequences of so many tokens that there is room for at once, dealt evenly over the holders. */
uint64_t capacity_sequences(const struct capacity *capacity, uint64_t n_tokens);

/* How long a sequence may become: --ctx; or without it what the model was trained for, or what
 * fits. STATUS_EXHAUSTED: weights of a rank, or --ctx, do not fit; the text has both numbers and
 * the remedy. */
enum status capacity_settle(const struct capacity *capacity, uint32_t *max_tokens,
                            struct error *error);

#endif
