/* model/huggingface/hf_names.h - names of tensors in a Hugging Face directory, as in a GGUF
 * file. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_HF_NAMES_H
#define LONGSPAN_MODEL_HUGGINGFACE_HF_NAMES_H

#include "model/huggingface/hf_config.h"

enum { HF_NAME_BYTES = 64 };

enum hf_name_kind {
    HF_NAME_UNKNOWN, /* none that such a model has */
    HF_NAME_IGNORED, /* says nothing that config.json does not say: rotary_emb.inv_freq, or lm_head
                        of a model whose embedding is the output matrix */
    HF_NAME_TENSOR
};

/* Writes e.g. "blk.3.attn_q.weight" for "model.layers.3.self_attn.q_proj.weight", and
 * "blk.3.ffn_up.5.weight" for an expert's (expert_stack.h). Layers and experts are below those that
 * the config has. */
enum hf_name_kind hf_name_translate(char name[HF_NAME_BYTES], const char *hf_name,
                                    const struct hf_config *config);

#endif
