/* model/hparams.h - the hyper-parameters of a model, read from its keys and checked.
 *
 * The architectures (architecture.h) are one decoder with parts that some of them have. A layer:
 *     n = rms_norm(x)
 *     q = rope(q_norm(Wq n + bq)),  k = rope(k_norm(Wk n + bk)),  v = Wv n + bv
 *     x += s post_norm(Wo a + bo),     a = attention(q, k, v) within the layer's window
 *     x += s post_norm(Wdown (act(Wgate n) * Wup n)),  n = rms_norm(x),  s = residual_scale
 *     with experts  x += s post_norm(sum of w[e] Wdown[e] (act(Wgate[e] n) * Wup[e] n)),
 *                   over the n_experts_used largest e of r = Wrouter n, w = softmax of these r
 * and the whole:
 *     x = embedding_scale * E[token];  the layers;
 *     logits = cap(Woutput rms_norm(x) / logit_scale),  cap(y) = logit_cap * tanh(y / logit_cap)
 * where attention's scores are cap(attention_scale q.k), with attention_cap, and
 *     llama    has none of the parts, biases or experts in some files;  act = silu
 *     qwen2    biases bq, bk, bv;                                   act = silu
 *     qwen3    q_norm and k_norm, over each head;                   act = silu
 *     qwen3moe likewise, and experts;                               act = silu
 *     gemma2   post_norms, caps, a window in every other layer;     act = gelu, scaled embedding
 *     gemma3   q_norm, k_norm, post_norms, a window in five of six layers, which turn by a base of
 *              their own;                                           act = gelu, scaled embedding
 *     granite  as llama, and scales of the file: embedding_scale, residual_scale, logit_scale
 *     smollm3  as llama, and no rope in every fourth layer
 *     phi3     none of the parts, a window in some files;            act = silu
 *     glm4     post_norms, biases bq, bk, bv in some files;          act = silu
 * Anything else is refused by its name, also where it would run with wrong answers: experts
 * that all rows share, or that are chosen otherwise; layers of which only some have experts; other
 * rope scalings than those below, in others than granite keys that scale logits, embeddings or
 * residuals.
 *
 * Keys are those of GGUF files, "ARCH.block_count". Hugging Face directories come with the same
 * ones (model_file.h), and with these, which GGUF files do not have:
 *     ARCH.rope.scaling.type "llama3"              then ARCH.rope.scaling.{factor,
 *                                                  original_context_length, low_freq_factor,
 *                                                  high_freq_factor}; files have rope_freqs.weight
 *     ARCH.attention.scale                f32      query_pre_attn_scalar^(-1/2)
 *     ARCH.attention.sliding_window_pattern  u32   every n-th layer sees everything
 *     ARCH.rope.freq_base_swa             f32      gemma3: the base of layers with a window
 *     ARCH.rope.unturned_period           u32      every n-th layer has no rope; 0: all have it
 *     longspan.rope.neox                  bool     rows of attn_q and attn_k are not permuted
 *     longspan.norm.offset                f32      1: norms' weights count from 1 */
#ifndef LONGSPAN_MODEL_HPARAMS_H
#define LONGSPAN_MODEL_HPARAMS_H

#include "model/architecture.h"
#include "model/model_file.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum rope_scaling {
    ROPE_PLAIN,
    ROPE_LINEAR, /* frequencies are divided by `factor` */
    ROPE_LLAMA3, /* slow ones are, fast ones are not, those between in part (Llama 3.1) */
    ROPE_YARN,   /* likewise, by another rule, and cosines grow (Peng et al. 2023, section 3) */
};

/* How positions turn: pair i of rope_dims / 2 by base^(-2i / rope_dims) radians per token,
 * scaled. */
struct hparams_rope {
    double base; /* rope.freq_base; 10000 when absent */
    enum rope_scaling scaling;
    double factor;           /* of a scaling; else 1 */
    double original_context; /* tokens: of ROPE_LLAMA3 and ROPE_YARN */
    double slow, fast;       /* turns within it: below `slow` divided by factor, above `fast` kept:
                              * low_freq_factor and high_freq_factor, beta_slow and beta_fast */
    float magnitude;         /* multiplies cos and sin; 1 but with ROPE_YARN */
};

struct hparams {
    enum architecture architecture;
    char name[128];          /* general.name, or the architecture; for people; NUL-terminated */
    uint32_t n_layers;       /* block_count */
    uint32_t hidden;         /* embedding_length: width of the residual stream */
    uint32_t n_heads;        /* attention.head_count: query heads */
    uint32_t n_kv_heads;     /* attention.head_count_kv; divides n_heads */
    uint32_t head_dim;       /* attention.key_length = value_length; else hidden / n_heads */
    uint32_t ffn;            /* feed_forward_length; 0: the layers have experts */
    uint32_t n_experts;      /* expert_count; 0: none */
    uint32_t n_experts_used; /* expert_used_count: of one row */
    uint32_t ffn_expert;     /* expert_feed_forward_length; else feed_forward_length */
    bool
        experts_normalised; /* a row's weights add up to 1: expert_weights_norm, true when absent; else
                              * the softmax is over all experts */
    uint32_t vocab; /* rows of token_embd.weight; else vocab_size; else tokens in the list */
    uint32_t
        context_train;  /* context_length: what it was trained for; 0 when the file does not say */
    uint32_t rope_dims; /* rope.dimension_count: dims of a head that turn; even, <= head_dim */
    bool rope_neox;     /* they turn as (i, i + rope_dims / 2), not as (2i, 2i + 1) */
    bool rope_factors;  /* rope_freqs.weight is there: frequency i is also divided by factor i */
    struct hparams_rope rope;
    struct hparams_rope local_rope; /* of layers with a window, where has_local_rope; no factors */
    bool has_local_rope;
    uint32_t unturned_period; /* every n-th layer has no rope; 0: all have it */
    uint32_t window;          /* attention.sliding_window: tokens; 0: no layer has one */
    uint32_t window_period;   /* 1: all layers have it; n: every n-th has not */
    float rms_eps;            /* attention.layer_norm_rms_epsilon */
    float norm_offset;        /* added to the weights of norms as the file has them */
    float attention_scale;    /* multiplies q.k: attention.scale; else head_dim^(-1/2) */
    float attention_cap;      /* attn_logit_softcapping; 0: none */
    float logit_cap;          /* final_logit_softcapping; 0: none */
    float embedding_scale;    /* embedding_scale; else 1, or sqrt(hidden) */
    float residual_scale;     /* residual_scale: multiplies what a layer adds; else 1 */
    float logit_scale;        /* logit_scale: divides logits; else 1 */
    bool qkv_bias, output_bias, qk_norm, post_norms; /* parts that its layers have */
    bool tied; /* no output.weight: token_embd.weight is used; also true with no tensors */
};

/* Reads and checks the keys; does not look at the tensors' shapes (weights_check does).
 * STATUS_UNSUPPORTED: another architecture, or a feature we do not have; the text names both it and
 * what is supported. STATUS_INVALID: a key is missing, of the wrong type, or out of range (zero or
 * absurd sizes, heads not divisible by KV heads, odd rope dims, more tokens in the vocabulary than
 * rows in the embedding...). Outputs are untouched on failure. */
enum status hparams_read(struct hparams *hparams, const struct model_file *file,
                         struct error *error);

/* What follows from the architecture alone, the shape being set (n_layers, hidden, n_heads,
 * head_dim): parts, activation, scales, rope order, windows, as of a file that has only the keys it
 * must have. Parts that are optional are left out. For writing models. */
void hparams_complete(struct hparams *hparams, enum architecture architecture);

/* Tokens that a row of this layer sees, itself the last of them: (p - window, p]; 0: all. */
uint32_t hparams_window(const struct hparams *hparams, uint32_t layer);

/* How this layer turns: &hparams->rope, or &hparams->local_rope; NULL: it does not. */
const struct hparams_rope *hparams_layer_rope(const struct hparams *hparams, uint32_t layer);

/* out[i] = the radians per token of pair i < rope_dims / 2 (Su et al. 2021, section 3.2.2), by one
 * of the two ropes of `hparams`:
 *     f = base^(-2i / rope_dims);  plain f, linear f / factor, and between the two with weight w,
 *     f / factor (1 - w) + f w, turns = original_context f / 2 pi:
 *     llama3   w = (turns - slow) / (fast - slow), within [0, 1]
 *     yarn     w = 1 - (i - low) / (high - low), within [0, 1], where pair `low`, rounded down, makes
 *              `fast` turns and pair `high`, rounded up, `slow`
 * divided by factor i where rope_factors says so. Computed with additions, products and divisions
 * only: the same bits on every machine, a relative error below 1e-14, and exact where base is a
 * power of two and the exponent whole (base 2^48, 16 pairs: exactly 8^-i). `out` has rope_dims / 2
 * places. STATUS_INVALID: rope_freqs.weight is not F32 of rope_dims / 2, or holds a factor that is
 * not positive and finite. */
enum status hparams_rope_frequencies(const struct hparams *hparams, const struct hparams_rope *rope,
                                     const struct model_file *file, double *out,
                                     struct error *error);

/* 1 + 0.1 weight ln(factor), for a factor of at least 1: how YaRN lets cosines grow (section
 * 3.4). */
double hparams_yarn_growth(double factor, double weight);

/* Bytes of K and V of one token over all layers: 2 n_layers n_kv_heads head_dim element_bytes. */
uint64_t hparams_kv_bytes_per_token(const struct hparams *hparams, uint32_t element_bytes);

#endif
