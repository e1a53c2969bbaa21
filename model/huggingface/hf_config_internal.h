/* model/huggingface/hf_config_internal.h - what the files of hf_config.h share: a reader of entries
 * whose first failure sticks. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_HF_CONFIG_INTERNAL_H
#define LONGSPAN_MODEL_HUGGINGFACE_HF_CONFIG_INTERNAL_H

#include "model/huggingface/hf_config.h"

/* What transformers assumes for a model_type where config.json does not say it. */
struct hf_family {
    const char *model_type;
    const char *architecture; /* general.architecture */
    enum hf_naming naming;
    double rope_theta, rms_norm_eps;
    uint32_t n_kv_heads;     /* 0: num_attention_heads */
    uint32_t head_dim;       /* 0: hidden_size / num_attention_heads */
    uint32_t sliding_window; /* 0: none */
    bool tied;
};

struct hf_reader {
    const struct hf_family *family;
    const json_t *root;
    const char *path;
    struct hf_keys *keys;
    struct error *error;
    enum status status; /* the first failure; afterwards nothing is read */
};

/* An entry; NULL: absent or null. */
const json_t *hf_find(const json_t *object, const char *name);

/* Each leaves *value where the entry is absent. */
void hf_read_count(struct hf_reader *reader, const json_t *object, const char *name,
                   uint32_t *value);
void hf_read_real(struct hf_reader *reader, const json_t *object, const char *name, double *value);
void hf_read_bool(struct hf_reader *reader, const json_t *object, const char *name, bool *value);
void hf_read_text(struct hf_reader *reader, const json_t *object, const char *name,
                  const char **value);

/* Records that `name` is not supported, or not as `value` (NULL: it is not said how). */
void hf_refuse(struct hf_reader *reader, const char *name, const char *value);

/* hf_config_rope.c: how positions turn. `context`: max_position_embeddings. */
void hf_read_rope(struct hf_reader *reader, uint32_t head_dim, uint32_t context);

/* hf_config_entries.c: refuses entries that are not known, by name. */
void hf_check_entries(struct hf_reader *reader);

#endif
