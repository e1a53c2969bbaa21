/* weights.c - one table row per tensor of any architecture; names, shapes, the search and the check
 * are all read from it. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

/* Which models have a tensor. */
enum condition {
    ALWAYS,
    UNTIED,
    ROPE_FACTORS,
    QKV_BIAS,
    OUTPUT_BIAS,
    QK_NORM,
    POST_NORMS,
    DENSE,
    EXPERTS
};

static const struct row {
    const char *suffix; /* of "blk.N." for layers, else the whole name */
    enum weights_extent dims[WEIGHTS_DIMS];
    enum condition when;
    bool norm;
} rows[WEIGHTS_COUNT] = {
    [WEIGHTS_TOKEN_EMBD] = {"token_embd.weight", {WEIGHTS_HIDDEN, WEIGHTS_VOCAB}, ALWAYS, false},
    [WEIGHTS_OUTPUT_NORM] = {"output_norm.weight", {WEIGHTS_HIDDEN}, ALWAYS, true},
    [WEIGHTS_OUTPUT] = {"output.weight", {WEIGHTS_HIDDEN, WEIGHTS_VOCAB}, UNTIED, false},
    [WEIGHTS_ROPE_FREQS] = {"rope_freqs.weight", {WEIGHTS_ROPE_PAIRS}, ROPE_FACTORS, false},
    [WEIGHTS_ATTN_NORM] = {"attn_norm.weight", {WEIGHTS_HIDDEN}, ALWAYS, true},
    [WEIGHTS_ATTN_Q] = {"attn_q.weight", {WEIGHTS_HIDDEN, WEIGHTS_HEADS}, ALWAYS, false},
    [WEIGHTS_ATTN_K] = {"attn_k.weight", {WEIGHTS_HIDDEN, WEIGHTS_KV_HEADS}, ALWAYS, false},
    [WEIGHTS_ATTN_V] = {"attn_v.weight", {WEIGHTS_HIDDEN, WEIGHTS_KV_HEADS}, ALWAYS, false},
    [WEIGHTS_ATTN_OUTPUT] = {"attn_output.weight", {WEIGHTS_HEADS, WEIGHTS_HIDDEN}, ALWAYS, false},
    [WEIGHTS_FFN_NORM] = {"ffn_norm.weight", {WEIGHTS_HIDDEN}, ALWAYS, true},
    [WEIGHTS_FFN_GATE] = {"ffn_gate.weight", {WEIGHTS_HIDDEN, WEIGHTS_FFN}, DENSE, false},
    [WEIGHTS_FFN_UP] = {"ffn_up.weight", {WEIGHTS_HIDDEN, WEIGHTS_FFN}, DENSE, false},
    [WEIGHTS_FFN_DOWN] = {"ffn_down.weight", {WEIGHTS_FFN, WEIGHTS_HIDDEN}, DENSE, false},
    [WEIGHTS_ATTN_Q_BIAS] = {"attn_q.bias", {WEIGHTS_HEADS}, QKV_BIAS, false},
    [WEIGHTS_ATTN_K_BIAS] = {"attn_k.bias", {WEIGHTS_KV_HEADS}, QKV_BIAS, false},
    [WEIGHTS_ATTN_V_BIAS] = {"attn_v.bias", {WEIGHTS_KV_HEADS}, QKV_BIAS, false},
    [WEIGHTS_ATTN_OUTPUT_BIAS] = {"attn_output.bias", {WEIGHTS_HIDDEN}, OUTPUT_BIAS, false},
    [WEIGHTS_ATTN_Q_NORM] = {"attn_q_norm.weight", {WEIGHTS_HEAD_DIM}, QK_NORM, true},
    [WEIGHTS_ATTN_K_NORM] = {"attn_k_norm.weight", {WEIGHTS_HEAD_DIM}, QK_NORM, true},
    [WEIGHTS_ATTN_POST_NORM] = {"post_attention_norm.weight", {WEIGHTS_HIDDEN}, POST_NORMS, true},
    [WEIGHTS_FFN_POST_NORM] = {"post_ffw_norm.weight", {WEIGHTS_HIDDEN}, POST_NORMS, true},
    [WEIGHTS_FFN_ROUTER] = {"ffn_gate_inp.weight",
                            {WEIGHTS_HIDDEN, WEIGHTS_ROUTES},
                            EXPERTS,
                            false},
    [WEIGHTS_FFN_GATE_EXPS] = {"ffn_gate_exps.weight",
                               {WEIGHTS_HIDDEN, WEIGHTS_FFN_EXPERT, WEIGHTS_EXPERTS},
                               EXPERTS,
                               false},
    [WEIGHTS_FFN_UP_EXPS] = {"ffn_up_exps.weight",
                             {WEIGHTS_HIDDEN, WEIGHTS_FFN_EXPERT, WEIGHTS_EXPERTS},
                             EXPERTS,
                             false},
    [WEIGHTS_FFN_DOWN_EXPS] = {"ffn_down_exps.weight",
                               {WEIGHTS_FFN_EXPERT, WEIGHTS_HIDDEN, WEIGHTS_EXPERTS},
                               EXPERTS,
                               false},
};

bool weights_has(const struct hparams *h, enum weights_id id)
{
    switch (rows[id].when) {
    case UNTIED:
        return !h->tied;
    case ROPE_FACTORS:
        return h->rope_factors;
    case QKV_BIAS:
        return h->qkv_bias;
    case OUTPUT_BIAS:
        return h->output_bias;
    case QK_NORM:
        return h->qk_norm;
    case POST_NORMS:
        return h->post_norms;
    case DENSE:
        return h->n_experts == 0;
    case EXPERTS:
        return h->n_experts > 0;
    default:
        return true;
    }
}

bool weights_is_norm(enum weights_id id)
{
    return rows[id].norm;
}

enum weights_extent weights_extent(enum weights_id id, uint32_t dim)
{
    return dim < WEIGHTS_DIMS ? rows[id].dims[dim] : WEIGHTS_NO_EXTENT;
}

static uint64_t extent_of(const struct hparams *h, enum weights_extent extent)
{
    switch (extent) {
    case WEIGHTS_HIDDEN:
        return h->hidden;
    case WEIGHTS_VOCAB:
        return h->vocab;
    case WEIGHTS_FFN:
        return h->ffn;
    case WEIGHTS_FFN_EXPERT:
        return h->ffn_expert;
    case WEIGHTS_EXPERTS:
    case WEIGHTS_ROUTES:
        return h->n_experts;
    case WEIGHTS_HEADS:
        return (uint64_t)h->n_heads * h->head_dim;
    case WEIGHTS_KV_HEADS:
        return (uint64_t)h->n_kv_heads * h->head_dim;
    case WEIGHTS_HEAD_DIM:
        return h->head_dim;
    case WEIGHTS_ROPE_PAIRS:
        return h->rope_dims / 2;
    default:
        return 1;
    }
}

const char *weights_name(char name[WEIGHTS_NAME_BYTES], uint32_t layer, enum weights_id id)
{
    if (id >= WEIGHTS_FIRST_OF_LAYER)
        snprintf(name, WEIGHTS_NAME_BYTES, "blk.%u.%s", layer, rows[id].suffix);
    else
        snprintf(name, WEIGHTS_NAME_BYTES, "%s", rows[id].suffix);
    return name;
}

uint32_t weights_shape(const struct hparams *hparams, enum weights_id id,
                       uint64_t dims[WEIGHTS_DIMS])
{
    uint32_t n_dims = 0;
    for (uint32_t i = 0; i < WEIGHTS_DIMS; i++) {
        dims[i] = extent_of(hparams, rows[id].dims[i]);
        n_dims += rows[id].dims[i] != WEIGHTS_NO_EXTENT;
    }
    return n_dims;
}

const struct model_tensor *weights_find(const struct model_file *file, uint32_t layer,
                                        enum weights_id id)
{
    char name[WEIGHTS_NAME_BYTES];
    const struct model_tensor *tensor = model_tensor_find(file, weights_name(name, layer, id));
    if (tensor == NULL && id == WEIGHTS_OUTPUT)
        tensor = model_tensor_find(file, weights_name(name, 0, WEIGHTS_TOKEN_EMBD));
    return tensor;
}

/* "[4096, 32000]" */
static const char *shape_text(char *text, size_t size, const uint64_t *dims, uint32_t n_dims)
{
    size_t at = 0;
    for (uint32_t i = 0; i < n_dims; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%llu", i == 0 ? "[" : ", ",
                               (unsigned long long)dims[i]);
    snprintf(text + at, size - at, "]");
    return text;
}

enum { FACTOR_TYPES = 1, VECTOR_TYPES = 3 };
static const enum gguf_type matrix_types[] = {
    GGUF_TYPE_F32,  GGUF_TYPE_F16,  GGUF_TYPE_BF16, GGUF_TYPE_Q8_0, GGUF_TYPE_Q4_0, GGUF_TYPE_Q4_1,
    GGUF_TYPE_Q5_0, GGUF_TYPE_Q5_1, GGUF_TYPE_Q4_K, GGUF_TYPE_Q5_K, GGUF_TYPE_Q6_K,
};

/* The first n of them. */
static enum status check_type(const struct model_file *file, const struct model_tensor *tensor,
                              size_t n_types, struct error *error)
{
    char names[128];
    size_t at = 0;
    for (size_t i = 0; i < n_types; i++) {
        if (tensor->type == matrix_types[i])
            return STATUS_OK;
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i == 0 ? "" : ", ",
                               gguf_type_traits(matrix_types[i])->name);
    }
    return error_set(error, STATUS_UNSUPPORTED,
                     "%s: tensor %s has type %s, which is not supported; supported here: %s",
                     model_path(file), tensor->name, gguf_type_traits(tensor->type)->name, names);
}

static enum status check_tensor(const struct model_file *file, const struct hparams *h,
                                uint32_t layer, enum weights_id id, struct error *error)
{
    char name[WEIGHTS_NAME_BYTES], found[128], expected[128];
    uint64_t dims[WEIGHTS_DIMS];
    const uint32_t n_dims = weights_shape(h, id, dims);
    const struct model_tensor *tensor = model_tensor_find(file, weights_name(name, layer, id));
    shape_text(expected, sizeof(expected), dims, n_dims);
    if (tensor == NULL)
        return error_set(error, STATUS_INVALID, "%s: tensor %s %s is missing", model_path(file),
                         name, expected);
    shape_text(found, sizeof(found), tensor->dims, tensor->n_dims);
    if (tensor->n_dims != n_dims || memcmp(tensor->dims, dims, sizeof(dims)) != 0)
        return error_set(error, STATUS_INVALID,
                         "%s: tensor %s has shape %s; the hyper-parameters ask for %s",
                         model_path(file), name, found, expected);
    const size_t n_types = id == WEIGHTS_ROPE_FREQS ? FACTOR_TYPES
                           : n_dims == 1            ? VECTOR_TYPES
                                         : sizeof(matrix_types) / sizeof(matrix_types[0]);
    return check_type(file, tensor, n_types, error);
}

bool weights_identify(const char *name, uint32_t n_layers, enum weights_id *id, uint32_t *layer)
{
    char canonical[WEIGHTS_NAME_BYTES];
    unsigned number = 0;
    const bool of_layer = sscanf(name, "blk.%6u.", &number) == 1 && number < n_layers;
    for (int i = 0; i < WEIGHTS_COUNT; i++) {
        if (i >= WEIGHTS_FIRST_OF_LAYER && !of_layer)
            return false;
        if (strcmp(name, weights_name(canonical, number, (enum weights_id)i)) == 0) {
            *id = (enum weights_id)i;
            *layer = i < WEIGHTS_FIRST_OF_LAYER ? 0 : number;
            return true;
        }
    }
    return false;
}

/* Tables of rope that old converters wrote into each layer. */
static bool harmless(const char *name, uint32_t n_layers)
{
    unsigned layer;
    int suffix = 0;
    return sscanf(name, "blk.%6u.%n", &layer, &suffix) == 1 && suffix > 0 && layer < n_layers &&
           (strcmp(name + suffix, "attn_rot_embd.weight") == 0 ||
            strcmp(name + suffix, "attention.rotary_emb.inv_freq") == 0);
}

enum status weights_check(const struct model_file *file, const struct hparams *hparams,
                          struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t layer = 0; layer < hparams->n_layers; layer++)
        for (int id = layer == 0 ? 0 : WEIGHTS_FIRST_OF_LAYER; id < WEIGHTS_COUNT; id++)
            if (status == STATUS_OK && weights_has(hparams, (enum weights_id)id))
                status = check_tensor(file, hparams, layer, (enum weights_id)id, error);
    for (size_t i = 0; i < model_tensor_count(file) && status == STATUS_OK; i++) {
        const char *name = model_tensor_at(file, i)->name;
        enum weights_id id;
        uint32_t layer;
        const bool ours =
            weights_identify(name, hparams->n_layers, &id, &layer) && weights_has(hparams, id);
        if (!ours && !harmless(name, hparams->n_layers))
            status =
                error_set(error, STATUS_UNSUPPORTED,
                          "%s: tensor %s is not part of this %s model as supported here; "
                          "leaving it out would give wrong answers",
                          model_path(file), name, architecture_traits(hparams->architecture)->name);
    }
    return status;
}
