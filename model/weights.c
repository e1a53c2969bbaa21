/* weights.c - one table row per tensor of the architecture; names, shapes, the search and the check
 * are all read from it. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

/* What a dimension is, by the hyper-parameters. */
enum extent { NONE, HIDDEN, VOCAB, FFN, HEADS, KV_HEADS, ROPE_PAIRS };

static const struct row {
    const char *suffix; /* of "blk.N." for layers, else the whole name */
    enum extent dims[2];
} rows[WEIGHTS_COUNT] = {
    [WEIGHTS_TOKEN_EMBD] = {"token_embd.weight", {HIDDEN, VOCAB}},
    [WEIGHTS_OUTPUT_NORM] = {"output_norm.weight", {HIDDEN, NONE}},
    [WEIGHTS_OUTPUT] = {"output.weight", {HIDDEN, VOCAB}},
    [WEIGHTS_ROPE_FREQS] = {"rope_freqs.weight", {ROPE_PAIRS, NONE}},
    [WEIGHTS_ATTN_NORM] = {"attn_norm.weight", {HIDDEN, NONE}},
    [WEIGHTS_ATTN_Q] = {"attn_q.weight", {HIDDEN, HEADS}},
    [WEIGHTS_ATTN_K] = {"attn_k.weight", {HIDDEN, KV_HEADS}},
    [WEIGHTS_ATTN_V] = {"attn_v.weight", {HIDDEN, KV_HEADS}},
    [WEIGHTS_ATTN_OUTPUT] = {"attn_output.weight", {HEADS, HIDDEN}},
    [WEIGHTS_FFN_NORM] = {"ffn_norm.weight", {HIDDEN, NONE}},
    [WEIGHTS_FFN_GATE] = {"ffn_gate.weight", {HIDDEN, FFN}},
    [WEIGHTS_FFN_UP] = {"ffn_up.weight", {HIDDEN, FFN}},
    [WEIGHTS_FFN_DOWN] = {"ffn_down.weight", {FFN, HIDDEN}},
};

static uint64_t extent_of(const struct hparams *h, enum extent extent)
{
    switch (extent) {
    case HIDDEN:
        return h->hidden;
    case VOCAB:
        return h->vocab;
    case FFN:
        return h->ffn;
    case HEADS:
        return (uint64_t)h->n_heads * h->head_dim;
    case KV_HEADS:
        return (uint64_t)h->n_kv_heads * h->head_dim;
    case ROPE_PAIRS:
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

uint32_t weights_shape(const struct hparams *hparams, enum weights_id id, uint64_t dims[2])
{
    dims[0] = extent_of(hparams, rows[id].dims[0]);
    dims[1] = extent_of(hparams, rows[id].dims[1]);
    return rows[id].dims[1] == NONE ? 1 : 2;
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

static const enum gguf_type matrix_types[] = {
    GGUF_TYPE_F32,  GGUF_TYPE_F16,  GGUF_TYPE_BF16, GGUF_TYPE_Q8_0, GGUF_TYPE_Q4_0, GGUF_TYPE_Q4_1,
    GGUF_TYPE_Q5_0, GGUF_TYPE_Q5_1, GGUF_TYPE_Q4_K, GGUF_TYPE_Q5_K, GGUF_TYPE_Q6_K,
};

static enum status check_type(const struct model_file *file, const struct model_tensor *tensor,
                              struct error *error)
{
    const size_t n_types = tensor->n_dims == 1 ? 1 : sizeof(matrix_types) / sizeof(matrix_types[0]);
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
    uint64_t dims[2];
    const uint32_t n_dims = weights_shape(h, id, dims);
    const struct model_tensor *tensor = model_tensor_find(file, weights_name(name, layer, id));
    shape_text(expected, sizeof(expected), dims, n_dims);
    if (tensor == NULL &&
        ((id == WEIGHTS_OUTPUT && h->tied) || (id == WEIGHTS_ROPE_FREQS && !h->rope_factors)))
        return STATUS_OK;
    if (tensor == NULL)
        return error_set(error, STATUS_INVALID, "%s: tensor %s %s is missing", model_path(file),
                         name, expected);
    shape_text(found, sizeof(found), tensor->dims, tensor->n_dims);
    if (tensor->n_dims != n_dims || tensor->dims[0] != dims[0] ||
        (n_dims == 2 && tensor->dims[1] != dims[1]))
        return error_set(error, STATUS_INVALID,
                         "%s: tensor %s has shape %s; the hyper-parameters ask for %s",
                         model_path(file), name, found, expected);
    return check_type(file, tensor, error);
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
    for (int id = 0; id < WEIGHTS_FIRST_OF_LAYER && status == STATUS_OK; id++)
        status = check_tensor(file, hparams, 0, (enum weights_id)id, error);
    for (uint32_t layer = 0; layer < hparams->n_layers; layer++)
        for (int id = WEIGHTS_FIRST_OF_LAYER; id < WEIGHTS_COUNT && status == STATUS_OK; id++)
            status = check_tensor(file, hparams, layer, (enum weights_id)id, error);
    for (size_t i = 0; i < model_tensor_count(file) && status == STATUS_OK; i++) {
        const char *name = model_tensor_at(file, i)->name;
        enum weights_id id;
        uint32_t layer;
        if (!weights_identify(name, hparams->n_layers, &id, &layer) &&
            !harmless(name, hparams->n_layers))
            status = error_set(error, STATUS_UNSUPPORTED,
                               "%s: tensor %s is not part of a llama model as supported here; "
                               "leaving it out would give wrong answers",
                               model_path(file), name);
    }
    return status;
}
