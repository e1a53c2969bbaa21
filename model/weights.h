/* model/weights.h - the tensors of a model: names, shapes, which ones a model has, and their check.
 *
 * A matrix [n_columns, n_rows] has its rows as outputs: y[n_rows] = W x[n_columns]. One table has a
 * row for each tensor that any architecture has; which of them a model has follows from its
 * hyper-parameters. llama's GGUF files have the rows of attn_q and attn_k (and of their biases)
 * permuted so that rope turns adjacent pairs (2i, 2i + 1) of a head. */
#ifndef LONGSPAN_MODEL_WEIGHTS_H
#define LONGSPAN_MODEL_WEIGHTS_H

#include "model/hparams.h"
#include "model/model_file.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum weights_id {
    /* once per model; `layer` is ignored */
    WEIGHTS_TOKEN_EMBD,  /* token_embd.weight   [hidden, vocab] */
    WEIGHTS_OUTPUT_NORM, /* output_norm.weight  [hidden] */
    WEIGHTS_OUTPUT,      /* output.weight       [hidden, vocab]; absent when tied */
    WEIGHTS_ROPE_FREQS,  /* rope_freqs.weight   [rope_dims / 2], F32; where rope_factors */
    /* once per layer: blk.N. + */
    WEIGHTS_ATTN_NORM,   /* attn_norm.weight    [hidden] */
    WEIGHTS_ATTN_Q,      /* attn_q.weight       [hidden, n_heads head_dim] */
    WEIGHTS_ATTN_K,      /* attn_k.weight       [hidden, n_kv_heads head_dim] */
    WEIGHTS_ATTN_V,      /* attn_v.weight       [hidden, n_kv_heads head_dim] */
    WEIGHTS_ATTN_OUTPUT, /* attn_output.weight  [n_heads head_dim, hidden] */
    WEIGHTS_FFN_NORM,    /* ffn_norm.weight     [hidden] */
    WEIGHTS_FFN_GATE,    /* ffn_gate.weight     [hidden, ffn] */
    WEIGHTS_FFN_UP,      /* ffn_up.weight       [hidden, ffn] */
    WEIGHTS_FFN_DOWN,    /* ffn_down.weight     [ffn, hidden] */
    /* where qkv_bias, output_bias, qk_norm, post_norms */
    WEIGHTS_ATTN_Q_BIAS,      /* attn_q.bias                 [n_heads head_dim] */
    WEIGHTS_ATTN_K_BIAS,      /* attn_k.bias                 [n_kv_heads head_dim] */
    WEIGHTS_ATTN_V_BIAS,      /* attn_v.bias                 [n_kv_heads head_dim] */
    WEIGHTS_ATTN_OUTPUT_BIAS, /* attn_output.bias            [hidden] */
    WEIGHTS_ATTN_Q_NORM,      /* attn_q_norm.weight          [head_dim] */
    WEIGHTS_ATTN_K_NORM,      /* attn_k_norm.weight          [head_dim] */
    WEIGHTS_ATTN_POST_NORM,   /* post_attention_norm.weight  [hidden] */
    WEIGHTS_FFN_POST_NORM,    /* post_ffw_norm.weight        [hidden] */
    /* where n_experts, in place of ffn_gate, ffn_up and ffn_down */
    WEIGHTS_FFN_ROUTER,    /* ffn_gate_inp.weight   [hidden, n_experts] */
    WEIGHTS_FFN_GATE_EXPS, /* ffn_gate_exps.weight  [hidden, ffn_expert, n_experts] */
    WEIGHTS_FFN_UP_EXPS,   /* ffn_up_exps.weight    [hidden, ffn_expert, n_experts] */
    WEIGHTS_FFN_DOWN_EXPS, /* ffn_down_exps.weight  [ffn_expert, hidden, n_experts] */
    WEIGHTS_COUNT
};
#define WEIGHTS_FIRST_OF_LAYER   WEIGHTS_ATTN_NORM
#define WEIGHTS_FIRST_OF_EXPERTS WEIGHTS_FFN_GATE_EXPS /* from here on: a matrix for each expert */
#define WEIGHTS_DIMS             3
#define WEIGHTS_NAME_BYTES       64

/* Writes the tensor's name, e.g. "blk.3.attn_q.weight", and returns `name`. */
const char *weights_name(char name[WEIGHTS_NAME_BYTES], uint32_t layer, enum weights_id id);

/* Which tensor a name is, the other way round. False: none of the table, or of a layer from
 * n_layers on; outputs are untouched. */
bool weights_identify(const char *name, uint32_t n_layers, enum weights_id *id, uint32_t *layer);

/* Whether a model of these hyper-parameters has it, in all layers or in none. */
bool weights_has(const struct hparams *hparams, enum weights_id id);

/* Is it the weights of a norm, which hparams.norm_offset is added to? */
bool weights_is_norm(enum weights_id id);

/* What dimension `dim` of it runs over. Heads and KV heads: n_heads head_dim values. What is not of
 * a rank's own heads, FFN columns, experts or vocabulary, each rank of a group has whole. */
enum weights_extent {
    WEIGHTS_NO_EXTENT, /* there is no such dimension */
    WEIGHTS_HIDDEN,
    WEIGHTS_VOCAB,
    WEIGHTS_FFN,
    WEIGHTS_FFN_EXPERT, /* columns of one expert */
    WEIGHTS_EXPERTS,
    WEIGHTS_ROUTES, /* a router's outputs, one for each expert: whole */
    WEIGHTS_HEADS,
    WEIGHTS_KV_HEADS,
    WEIGHTS_HEAD_DIM,
    WEIGHTS_ROPE_PAIRS
};
enum weights_extent weights_extent(enum weights_id id, uint32_t dim);

/* Its shape by these hyper-parameters, as in the file: dims[0] is the row length. Returns n_dims, 1
 * (a vector), 2 or 3 (experts); dims beyond are 1. Also for writing models. */
uint32_t weights_shape(const struct hparams *hparams, enum weights_id id,
                       uint64_t dims[WEIGHTS_DIMS]);

/* Every tensor that the model has is there, with the exact shape, vectors in F32, F16 or BF16, rope
 * factors in F32, and matrices in the types of kernels/quant/types.h, mixed freely; nothing else is
 * (ignoring a bias would give wrong answers silently; only blk.N.attn_rot_embd.weight and
 * blk.N.attention.rotary_emb.inv_freq, derived tables that old converters wrote, are let pass).
 * STATUS_INVALID: missing, or another shape: the text names the tensor, found and expected.
 * STATUS_UNSUPPORTED: a type or a tensor that we do not compute with. */
enum status weights_check(const struct model_file *file, const struct hparams *hparams,
                          struct error *error);

/* Where the columns of attn_output and ffn_down are cut in segments whose sums are added as a
 * binary tree (kernels.h, struct matrix), so that tensor parallelism over 2, 4 or 8 ranks cut at
 * these places has the bits of one rank. Segments are whole KV heads and whole blocks. */
enum { WEIGHTS_SEGMENTS = 8 };
struct weights_segments {
    uint32_t n; /* a power of two: the most up to WEIGHTS_SEGMENTS that divides the KV heads */
    uint32_t kv_head[WEIGHTS_SEGMENTS + 1]; /* where each begins, and the end */
    uint32_t ffn[WEIGHTS_SEGMENTS + 1];     /* FFN columns, likewise */
};
void weights_segments(struct weights_segments *segments, const struct model_file *file,
                      const struct hparams *hparams);

/* In how many ranges of equally many experts, in order, a row's sum over its experts is cut: they
 * are added as a binary tree, so that ranks that hold aligned ranges have the bits of one. The most
 * of 8, 4, 2, 1 that divides them. */
uint32_t weights_expert_ranges(uint32_t n_experts);

/* NULL: absent. With WEIGHTS_OUTPUT of a tied model this is token_embd.weight. */
const struct model_tensor *weights_find(const struct model_file *file, uint32_t layer,
                                        enum weights_id id);

#endif
