/* model/hparams.h - the hyper-parameters of a model, read from its GGUF keys and checked.
 *
 * One architecture is supported: `llama` (Llama 2 and 3, Mistral, and what shares their layers):
 *     x += Wo attention(rope(Wq n), rope(Wk n), Wv n),  n = rms_norm(x)
 *     x += Wdown (silu(Wgate n) * Wup n),               n = rms_norm(x)
 *     logits = Woutput rms_norm(x)
 * Anything else is refused by its name, also where it would run with wrong answers: experts, other
 * rope scalings than linear, keys that scale logits or attention. */
#ifndef LONGSPAN_MODEL_HPARAMS_H
#define LONGSPAN_MODEL_HPARAMS_H

#include "model/model_file.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct hparams {
    char name[128];      /* general.name, or the architecture; for people; NUL-terminated */
    uint32_t n_layers;   /* block_count */
    uint32_t hidden;     /* embedding_length: width of the residual stream */
    uint32_t n_heads;    /* attention.head_count: query heads */
    uint32_t n_kv_heads; /* attention.head_count_kv; divides n_heads */
    uint32_t head_dim;   /* attention.key_length = value_length; else hidden / n_heads */
    uint32_t ffn;        /* feed_forward_length */
    uint32_t vocab;      /* rows of token_embd.weight; else vocab_size; else tokens in the list */
    uint32_t
        context_train;  /* context_length: what it was trained for; 0 when the file does not say */
    uint32_t rope_dims; /* rope.dimension_count: dims of a head that turn; even, <= head_dim */
    double rope_base;   /* rope.freq_base; 10000 when absent */
    double rope_linear; /* linear scaling: frequencies are divided by it; 1 is none */
    bool rope_factors;  /* rope_freqs.weight is there: frequency i is also divided by factor i */
    float rms_eps;      /* attention.layer_norm_rms_epsilon */
    bool tied;          /* no output.weight: token_embd.weight is used; also true with no tensors */
};

/* Reads and checks the keys; does not look at the tensors' shapes (weights_check does).
 * STATUS_UNSUPPORTED: another architecture, or a feature we do not have; the text names both it and
 * what is supported. STATUS_INVALID: a key is missing, of the wrong type, or out of range (zero or
 * absurd sizes, heads not divisible by KV heads, odd rope dims, more tokens in the vocabulary than
 * rows in the embedding...). Outputs are untouched on failure. */
enum status hparams_read(struct hparams *hparams, const struct model_file *file,
                         struct error *error);

/* out[i] = rope_base^(-2i / rope_dims) / rope_linear / factor[i], i < rope_dims / 2, radians per
 * token (Su et al. 2021, section 3.2.2; factors as in Llama 3.1). Computed with additions, products
 * and divisions only: the same bits on every machine, a relative error below 1e-14, and exact where
 * base is a power of two and the exponent whole (base 2^48, 16 pairs: exactly 8^-i). `out` has
 * rope_dims / 2 places.
 * STATUS_INVALID: rope_freqs.weight is not F32 of rope_dims / 2, or holds a factor that is not
 * positive and finite. */
enum status hparams_rope_frequencies(const struct hparams *hparams, const struct model_file *file,
                                     double *out, struct error *error);

/* Bytes of K and V of one token over all layers: 2 n_layers n_kv_heads head_dim element_bytes. */
uint64_t hparams_kv_bytes_per_token(const struct hparams *hparams, uint32_t element_bytes);

#endif
