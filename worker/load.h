/* worker/load.h - one rank's shard of the model: the layers of its stage, its slice of each tensor.
 *
 *     attn_q            rows of the query heads of KV heads [kv_head_begin, kv_head_end)
 *     attn_k, attn_v    rows of these KV heads
 *     attn_output       columns of the same query heads
 *     ffn_gate, ffn_up  rows [ffn_begin, ffn_end)
 *     ffn_down          columns of the same
 *     ffn_..._exps      experts [expert_begin, expert_end), each a matrix of its own
 *     token_embd        rows [vocab_begin, vocab_end), on the first stage
 *     output            rows [vocab_begin, vocab_end), on the last stage (tied: of token_embd; one
 *                       copy when first and last are the same)
 *     biases            as the rows that they are added to; attn_output's whole
 *     ffn_gate_inp      whole: every rank routes all rows
 *     norms             whole, with hparams.norm_offset added
 * So the shards' parts of attn_output and ffn_down products add up to the whole product.
 *
 * The file is mapped only while loading; what stays in memory is the shard. */
#ifndef LONGSPAN_WORKER_LOAD_H
#define LONGSPAN_WORKER_LOAD_H

#include "kernels/attention/attend.h"
#include "kernels/kernels.h"
#include "model/hparams.h"
#include "sys/log.h"
#include "sys/status.h"
#include "worker/setup.h"

#include <stdbool.h>
#include <stdint.h>

/* A part that the model does not have (weights_has) has no data. */
struct shard_layer {
    struct matrix attn_norm, q, k, v, attn_output, ffn_norm, gate, up, down;
    struct matrix q_bias, k_bias, v_bias, output_bias; /* vectors */
    struct matrix q_norm, k_norm;                      /* over a head */
    struct matrix attn_post_norm, ffn_post_norm;
    struct matrix router;
    struct matrix *gate_experts, *up_experts, *down_experts; /* [experts of this rank] */
    const struct rope *rope;                                 /* one of the shard's; NULL: none */
};

struct shard {
    struct hparams hparams;
    uint32_t stage, index;  /* which one */
    bool first, last;       /* stage of the embedding; of the output */
    struct shard_part part; /* ranges of heads, FFN columns, vocabulary */
    uint32_t first_layer, n_layers;
    struct shard_layer *layers; /* [n_layers] */
    struct matrix token_embd;   /* first stage */
    struct matrix output_norm;  /* last stage */
    struct matrix output;       /* last stage, unless it is token_embd itself */
    bool output_is_token_embd;
    struct rope rope, local_rope; /* local_rope: of layers with a window, where the model says so */
    uint64_t weight_bytes;        /* of all matrices */

    const struct kernels *kernels;
    struct device *device;
};

/* What is loaded, and to where. */
struct shard_source {
    const char *path;          /* of the model, on this host */
    const struct setup *setup; /* which model that should be, and how it is divided */
    uint32_t rank;             /* whose shard */
    const struct kernels *kernels;
    struct device *device; /* its memory holds the shard */

    /* How far it is, or NULL: `tick` is called between tensors, with bytes of the file. */
    const struct log *log;
    void (*tick)(void *context, uint64_t n_loaded, uint64_t n_all);
    void *context;
};

/* Opens the model, compares its fingerprint with the setup's, checks it and loads what belongs to
 * the rank. The caller ends *shard with shard_destroy, before the device is closed. Error texts
 * name the path. STATUS_INVALID: another file than the coordinator's, or a split that does not fit
 * the model. Fails also as model_open, hparams_read, weights_check and matrix_create. */
enum status shard_load(struct shard **shard, const struct shard_source *source,
                       struct error *error);
void shard_destroy(struct shard *shard);

/* Attention as this model's layers have it, over KV of that type. */
struct attend_shape shard_attend_shape(const struct shard *shard, enum kv_type kv_type);

/* The matrix that gives logits of this rank's part of the vocabulary. */
const struct matrix *shard_output(const struct shard *shard);

#endif
