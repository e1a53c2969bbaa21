/* model/architecture.h - the architectures that can be run, and what differs between them: one
 * table.
 *
 * All of them are decoders of the same plan (hparams.h has the equations): rms_norm, attention with
 * rotary positions, rms_norm, a gated feed-forward part. A row of the table says which parts a
 * layer has beyond that. What differs from model to model of one architecture is in the file's
 * keys, and comes with the hyper-parameters. */
#ifndef LONGSPAN_MODEL_ARCHITECTURE_H
#define LONGSPAN_MODEL_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum architecture {
    ARCHITECTURE_LLAMA,
    ARCHITECTURE_QWEN2,
    ARCHITECTURE_QWEN3,
    ARCHITECTURE_QWEN3MOE,
    ARCHITECTURE_GEMMA2,
    ARCHITECTURE_GEMMA3,
    ARCHITECTURE_GRANITE,
    ARCHITECTURE_SMOLLM3,
    ARCHITECTURE_PHI3,
    ARCHITECTURE_GLM4,
    ARCHITECTURE_COUNT
};

/* Whether the layers of an architecture have a part: of those that may have it, the tensors of the
 * file's first layer say it (of experts: their number), and all layers are held to that
 * (weights_check). */
enum architecture_part { PART_NEVER, PART_OPTIONAL, PART_ALWAYS };

/* What gates the feed-forward part: silu(x) = x / (1 + e^-x), or the tanh form of gelu. */
enum activation { ACTIVATION_SILU, ACTIVATION_GELU };

struct architecture_traits {
    const char *name;   /* general.architecture, and the prefix of its keys: "qwen2.block_count" */
    const char *models; /* as people know them; for messages */
    bool neox;          /* rope turns (i, i + n / 2) of a head; else adjacent pairs (2i, 2i + 1) */
    enum activation activation;
    enum architecture_part qkv_bias;    /* attn_q.bias, attn_k.bias, attn_v.bias */
    enum architecture_part output_bias; /* attn_output.bias */
    enum architecture_part qk_norm;     /* attn_q_norm, attn_k_norm: per head, before rope */
    enum architecture_part experts; /* ffn_gate_exps... and their router in place of ffn_gate... */
    bool post_norms;                /* post_attention_norm, post_ffw_norm: of what is added */
    bool scaled_embedding;          /* rows of token_embd times sqrt(hidden) */
    bool scales;                    /* embedding_scale, residual_scale, logit_scale of the file */

    /* Sliding windows (attention.sliding_window): with 0 they are refused, with 1 all layers have
     * one, with n every n-th layer sees everything and the others have one. */
    uint32_t window_period;
    uint32_t window;     /* tokens, where the file does not say; 0: none then */
    float attention_cap; /* attn_logit_softcapping, likewise */
    float logit_cap;     /* final_logit_softcapping, likewise */
    double local_rope;   /* layers with a window turn by this base, unscaled; 0: as the others */
    uint32_t unturned_period; /* every n-th layer has no rope; 0: all have it */
    uint32_t wide_scale; /* a model of so many layers scales scores by hidden / n_heads; 0: none */
};

/* The row of one. */
const struct architecture_traits *architecture_traits(enum architecture architecture);

/* By its name, `n` bytes; false: none of ours, *architecture is untouched. */
bool architecture_find(const char *name, size_t n, enum architecture *architecture);

/* "llama (Llama 2 and 3, Mistral), qwen2 (...), ...", cut where it does not fit; returns `text`. */
const char *architecture_list(char *text, size_t size);

#endif
