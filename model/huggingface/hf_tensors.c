/* hf_tensors.c - see hf_tensors.h. */
#include "model/huggingface/hf_tensors.h"

#include "model/huggingface/hf_names.h"

#include <stdlib.h>
#include <string.h>

static enum status no_memory(const char *path, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", path);
}

enum status hf_tensors_create(struct hf_tensors *tensors, const struct hf_config *config,
                              size_t n_tensors, const char *path, struct error *error)
{
    tensors->config = *config;
    if (n_tensors >= STRING_TABLE_NONE)
        return no_memory(path, error);
    tensors->items = calloc(n_tensors + 1, sizeof(*tensors->items)); /* + 1: there may be none */
    tensors->widened = calloc(n_tensors + 1, sizeof(*tensors->widened));
    return tensors->items == NULL || tensors->widened == NULL ? no_memory(path, error) : STATUS_OK;
}

/* Exact: a subnormal half is a normal float, so the exponent is put right by a product. */
static float widen_f16(uint16_t half)
{
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float value;
    memcpy(&value, &bits, sizeof(value));
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof(bits));
    if ((half & 0x7c00) == 0x7c00) /* infinity, NaN */
        bits = 0x7f800000u | (uint32_t)(half & 0x3ff) << 13;
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float widen_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* Vectors of files are F32. */
static enum status widen_vector(struct hf_tensors *tensors, size_t index, const char *path,
                                struct error *error)
{
    struct model_tensor *tensor = &tensors->items[index];
    const bool f16 = tensor->type == GGUF_TYPE_F16;
    if (tensor->n_dims != 1 || (!f16 && tensor->type != GGUF_TYPE_BF16))
        return STATUS_OK;
    const uint16_t *halves = tensor->data;
    float *values = malloc(tensor->dims[0] * sizeof(*values));
    if (values == NULL)
        return no_memory(path, error);
    for (uint64_t i = 0; i < tensor->dims[0]; i++)
        values[i] = f16 ? widen_f16(halves[i]) : widen_bf16(halves[i]);
    tensors->widened[index] = values;
    tensor->made = true;
    tensor->type = GGUF_TYPE_F32;
    tensor->data = values;
    tensor->n_bytes = tensor->dims[0] * sizeof(*values);
    return STATUS_OK;
}

enum status hf_tensors_add(struct hf_tensors *tensors, const struct model_tensor *tensor,
                           const char *path, struct error *error)
{
    char name[HF_NAME_BYTES];
    const enum hf_name_kind kind = hf_name_translate(name, tensor->name, &tensors->config);
    if (kind == HF_NAME_IGNORED)
        return STATUS_OK;
    if (kind == HF_NAME_UNKNOWN)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: tensor %s is not part of such a model as supported here; leaving it "
                         "out would give wrong answers",
                         path, tensor->name);
    char *copy = strdup(name);
    if (copy == NULL)
        return no_memory(path, error);
    const size_t index = tensors->n++;
    tensors->items[index] = *tensor;
    tensors->items[index].name = copy;
    const uint32_t owner = string_table_add(&tensors->table, copy, strlen(copy), (uint32_t)index);
    if (owner == STRING_TABLE_NONE)
        return no_memory(path, error);
    if (owner != index)
        return error_set(error, STATUS_INVALID, "%s: tensor %s is there twice", path, tensor->name);
    return widen_vector(tensors, index, path, error);
}

enum status hf_tensors_finish(struct hf_tensors *tensors, const char *path, struct error *error)
{
    static const char output[] = "output.weight";
    if (!tensors->config.tied &&
        string_table_find(&tensors->table, output, sizeof(output) - 1) == STRING_TABLE_NONE)
        return error_set(error, STATUS_INVALID,
                         "%s: tensor lm_head.weight is missing, and config.json does not say "
                         "tie_word_embeddings",
                         path);
    return STATUS_OK;
}

void hf_tensors_destroy(struct hf_tensors *tensors)
{
    for (size_t i = 0; i < tensors->n; i++) {
        free((char *)tensors->items[i].name);
        free(tensors->widened[i]);
    }
    free(tensors->items);
    free(tensors->widened);
    string_table_free(&tensors->table);
    *tensors = (struct hf_tensors){0};
}
