/* kv_type.c - a KV type is a weight type under another name. */
#include "kernels/quant/kv_type.h"

#include <assert.h>
#include <string.h>

const char *const kv_type_choices[] = {"f16", "bf16", "q8_0", "f32", NULL};

static const struct {
    const char *name;
    enum weight_type weights;
} types[KV_TYPES] = {
    [KV_F32] = {"f32", WEIGHT_F32},
    [KV_F16] = {"f16", WEIGHT_F16},
    [KV_BF16] = {"bf16", WEIGHT_BF16},
    [KV_Q8_0] = {"q8_0", WEIGHT_Q8_0},
};

const char *kv_type_name(enum kv_type type)
{
    return (unsigned)type < KV_TYPES ? types[type].name : NULL;
}

bool kv_type_parse(enum kv_type *type, const char *name)
{
    for (unsigned i = 0; i < KV_TYPES; i++)
        if (strcmp(name, types[i].name) == 0) {
            *type = (enum kv_type)i;
            return true;
        }
    return false;
}

uint32_t kv_type_block(enum kv_type type)
{
    return weight_traits(types[type].weights)->block_elements;
}

size_t kv_row_bytes(enum kv_type type, size_t n)
{
    const struct weight_traits *traits = weight_traits(types[type].weights);
    assert(n % traits->block_elements == 0);
    return n / traits->block_elements * traits->block_bytes;
}

void kv_round(enum kv_type type, void *out, const float *x, size_t n)
{
    weight_quantize(types[type].weights, out, x, n);
}

void kv_widen(enum kv_type type, float *out, const void *x, size_t n)
{
    weight_dequantize(types[type].weights, out, x, n);
}
