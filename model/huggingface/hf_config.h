/* model/huggingface/hf_config.h - config.json of a Hugging Face directory, as keys of a GGUF file.
 *
 * Read: model_type llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma2, gemma3_text, granite,
 * smollm3, phi3 and glm4, in the spelling of transformers 4 and 5 (rope_theta and rope_scaling, or
 * rope_parameters). What a config.json leaves out has the default that transformers' class for the
 * model_type has.
 *
 * A config.json has many entries that say nothing about the results (use_cache, dtype); they are
 * known by name. One that is not known is let pass when it is null or false, or its name begins
 * with an underscore; any other is refused by name, because ignoring it might give wrong answers.
 *
 * Keys that GGUF files do not have are in hparams.h. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_HF_CONFIG_H
#define LONGSPAN_MODEL_HUGGINGFACE_HF_CONFIG_H

#include "model/huggingface/hf_keys.h"
#include "sys/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Which names a directory's tensors have. */
enum hf_naming {
    HF_NAMES_LLAMA,
    HF_NAMES_MIXTRAL,
    HF_NAMES_QWEN_MOE,
    HF_NAMES_GEMMA,
    HF_NAMES_PHI3,
    HF_NAMES_GLM4
};

struct hf_config {
    enum hf_naming naming;
    uint32_t n_layers, n_experts; /* n_experts 0: none */
    bool tied;                    /* the embedding is the output matrix; lm_head is not read */
};

/* Fills *config and adds the keys to `keys`. `path` is for error texts.
 * STATUS_UNSUPPORTED: a model_type, an entry or a value of one that is not supported here; the text
 * names it. STATUS_INVALID: an entry is missing or of the wrong type, or out of range.
 * STATUS_NO_MEMORY. */
enum status hf_config_read(struct hf_config *config, struct hf_keys *keys, const json_t *root,
                           const char *path, struct error *error);

#endif
