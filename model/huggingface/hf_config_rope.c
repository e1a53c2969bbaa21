/* hf_config_rope.c - rope_theta and rope_scaling of transformers 4, rope_parameters of 5.
 *
 * Gemma 3 has two ropes: one of layers that see everything, and of those with a window, which is
 * never scaled. rope_parameters has an object for each of the two. */
#include "model/huggingface/hf_config_internal.h"

#include <string.h>

static void add_real(struct hf_reader *reader, const json_t *from, const char *name,
                     const char *key)
{
    double value = 0;
    hf_read_real(reader, from, name, &value);
    if (reader->status == STATUS_OK && hf_find(from, name) != NULL)
        hf_keys_add_f32(reader->keys, key, (float)value);
}

static void read_original_context(struct hf_reader *reader, const json_t *from, uint32_t context)
{
    hf_read_count(reader, from, "original_max_position_embeddings", &context);
    hf_keys_add_u32(reader->keys, ".rope.scaling.original_context_length", context);
}

static void read_llama3(struct hf_reader *reader, const json_t *from, uint32_t context)
{
    add_real(reader, from, "factor", ".rope.scaling.factor");
    add_real(reader, from, "low_freq_factor", ".rope.scaling.low_freq_factor");
    add_real(reader, from, "high_freq_factor", ".rope.scaling.high_freq_factor");
    read_original_context(reader, from, context);
}

static void read_yarn(struct hf_reader *reader, const json_t *from, uint32_t context)
{
    bool truncate = true;
    double mscale = 1;
    add_real(reader, from, "factor", ".rope.scaling.factor");
    add_real(reader, from, "attention_factor", ".rope.scaling.yarn_attn_factor");
    add_real(reader, from, "beta_fast", ".rope.scaling.yarn_beta_fast");
    add_real(reader, from, "beta_slow", ".rope.scaling.yarn_beta_slow");
    read_original_context(reader, from, context);
    hf_read_bool(reader, from, "truncate", &truncate);
    hf_read_real(reader, from, "mscale", &mscale);
    if (!truncate)
        hf_refuse(reader, "truncate of rope scaling", "false");
    if (hf_find(from, "mscale") != NULL && hf_find(from, "mscale_all_dim") != NULL) {
        if (mscale != 1)
            hf_refuse(reader, "mscale of rope scaling", "other than 1");
        add_real(reader, from, "mscale_all_dim", ".rope.scaling.yarn_log_multiplier");
    }
}

/* "rope_type", or "type" as it was called first; "default" is none. */
static const char *scaling_type(struct hf_reader *reader, const json_t *from)
{
    const char *type = "default";
    hf_read_text(reader, from, "type", &type);
    hf_read_text(reader, from, "rope_type", &type);
    return type;
}

/* finetuned: a remark of models that were trained on with YaRN. */
static void check_scaling_entries(struct hf_reader *reader, const json_t *from)
{
    static const char *const known[] = {"attention_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "factor",
                                        "finetuned",
                                        "mscale",
                                        "truncate",
                                        "mscale_all_dim",
                                        "type",
                                        "rope_type",
                                        "rope_theta",
                                        "high_freq_factor",
                                        "low_freq_factor",
                                        "partial_rotary_factor",
                                        "original_max_position_embeddings"};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)from, name, value)
    {
        bool found = json_is_null(value);
        for (size_t i = 0; !found && i < sizeof(known) / sizeof(known[0]); i++)
            found = strcmp(name, known[i]) == 0;
        if (!found)
            hf_refuse(reader, name, NULL);
    }
}

static void read_scaling(struct hf_reader *reader, const json_t *from, uint32_t context)
{
    static const char *const known[] = {"default", "linear", "llama3", "yarn"};
    const char *type = scaling_type(reader, from);
    bool found = false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        found |= strcmp(type, known[i]) == 0;
    if (!found) /* before its entries: it is what they belong to */
        hf_refuse(reader, "rope_type", type);
    check_scaling_entries(reader, from);
    if (reader->status != STATUS_OK || strcmp(type, "default") == 0)
        return;
    if (strcmp(type, "linear") == 0)
        add_real(reader, from, "factor", ".rope.scaling.factor");
    else if (strcmp(type, "llama3") == 0)
        read_llama3(reader, from, context);
    else
        read_yarn(reader, from, context);
    hf_keys_add_string(reader->keys, ".rope.scaling.type", type, strlen(type));
}

/* Of a head's dimensions, the first ones turn. */
static void read_dimensions(struct hf_reader *reader, const json_t *from, uint32_t head_dim)
{
    double part = reader->family->naming == HF_NAMES_GLM4 ? 0.5 : 1;
    hf_read_real(reader, reader->root, "partial_rotary_factor", &part);
    hf_read_real(reader, from, "partial_rotary_factor", &part);
    if (reader->status == STATUS_OK && !(part > 0 && part <= 1))
        hf_refuse(reader, "partial_rotary_factor", "not above 0 and up to 1");
    if (reader->status == STATUS_OK)
        hf_keys_add_u32(reader->keys, ".rope.dimension_count", (uint32_t)((double)head_dim * part));
}

void hf_read_rope(struct hf_reader *reader, uint32_t head_dim, uint32_t context)
{
    const json_t *parameters = hf_find(reader->root, "rope_parameters");
    const json_t *whole = hf_find(parameters, "full_attention");
    const json_t *local = hf_find(parameters, "sliding_attention");
    const json_t *from = whole != NULL        ? whole
                         : parameters != NULL ? parameters
                                              : hf_find(reader->root, "rope_scaling");
    double theta = reader->family->rope_theta, local_theta = 0;
    if ((from != NULL && !json_is_object(from)) || (local != NULL && !json_is_object(local)))
        hf_refuse(reader, "rope_parameters", "no object");
    check_scaling_entries(reader, local);
    hf_read_real(reader, reader->root, "rope_theta", &theta);
    hf_read_real(reader, from, "rope_theta", &theta);
    hf_keys_add_f32(reader->keys, ".rope.freq_base", (float)theta);
    read_dimensions(reader, from, head_dim);
    read_scaling(reader, from, context);

    hf_read_real(reader, reader->root, "rope_local_base_freq", &local_theta);
    hf_read_real(reader, local, "rope_theta", &local_theta);
    if (reader->status == STATUS_OK && local != NULL &&
        strcmp(scaling_type(reader, local), "default") != 0)
        hf_refuse(reader, "rope_type of sliding_attention", scaling_type(reader, local));
    if (local_theta > 0)
        hf_keys_add_f32(reader->keys, ".rope.freq_base_swa", (float)local_theta);
}
