/* gguf_type.c - what the type numbers of a GGUF file mean: names and sizes, nothing else. */
#include "model/gguf_type.h"

#include <stddef.h>

static const struct gguf_type_traits traits[GGUF_TYPE_COUNT] = {
    [GGUF_TYPE_F32] = {"F32", 1, 4},
    [GGUF_TYPE_F16] = {"F16", 1, 2},
    [GGUF_TYPE_Q4_0] = {"Q4_0", 32, 18},
    [GGUF_TYPE_Q4_1] = {"Q4_1", 32, 20},
    [GGUF_TYPE_Q5_0] = {"Q5_0", 32, 22},
    [GGUF_TYPE_Q5_1] = {"Q5_1", 32, 24},
    [GGUF_TYPE_Q8_0] = {"Q8_0", 32, 34},
    [GGUF_TYPE_Q8_1] = {"Q8_1", 32, 36},
    [GGUF_TYPE_Q2_K] = {"Q2_K", 256, 84},
    [GGUF_TYPE_Q3_K] = {"Q3_K", 256, 110},
    [GGUF_TYPE_Q4_K] = {"Q4_K", 256, 144},
    [GGUF_TYPE_Q5_K] = {"Q5_K", 256, 176},
    [GGUF_TYPE_Q6_K] = {"Q6_K", 256, 210},
    [GGUF_TYPE_Q8_K] = {"Q8_K", 256, 292},
    [GGUF_TYPE_IQ2_XXS] = {"IQ2_XXS", 256, 66},
    [GGUF_TYPE_IQ2_XS] = {"IQ2_XS", 256, 74},
    [GGUF_TYPE_IQ3_XXS] = {"IQ3_XXS", 256, 98},
    [GGUF_TYPE_IQ1_S] = {"IQ1_S", 256, 50},
    [GGUF_TYPE_IQ4_NL] = {"IQ4_NL", 32, 18},
    [GGUF_TYPE_IQ3_S] = {"IQ3_S", 256, 110},
    [GGUF_TYPE_IQ2_S] = {"IQ2_S", 256, 82},
    [GGUF_TYPE_IQ4_XS] = {"IQ4_XS", 256, 136},
    [GGUF_TYPE_I8] = {"I8", 1, 1},
    [GGUF_TYPE_I16] = {"I16", 1, 2},
    [GGUF_TYPE_I32] = {"I32", 1, 4},
    [GGUF_TYPE_I64] = {"I64", 1, 8},
    [GGUF_TYPE_F64] = {"F64", 1, 8},
    [GGUF_TYPE_IQ1_M] = {"IQ1_M", 256, 56},
    [GGUF_TYPE_BF16] = {"BF16", 1, 2},
    [GGUF_TYPE_Q4_0_4_4] = {"Q4_0_4_4", 32, 18},
    [GGUF_TYPE_Q4_0_4_8] = {"Q4_0_4_8", 32, 18},
    [GGUF_TYPE_Q4_0_8_8] = {"Q4_0_8_8", 32, 18},
    [GGUF_TYPE_TQ1_0] = {"TQ1_0", 256, 54},
    [GGUF_TYPE_TQ2_0] = {"TQ2_0", 256, 66},
    [GGUF_TYPE_IQ4_NL_4_4] = {"IQ4_NL_4_4", 32, 18},
    [GGUF_TYPE_IQ4_NL_4_8] = {"IQ4_NL_4_8", 32, 18},
    [GGUF_TYPE_IQ4_NL_8_8] = {"IQ4_NL_8_8", 32, 18},
    [GGUF_TYPE_MXFP4] = {"MXFP4", 32, 17},
};

const struct gguf_type_traits *gguf_type_traits(enum gguf_type type)
{
    if ((unsigned)type >= GGUF_TYPE_COUNT || traits[type].name == NULL)
        return NULL;
    return &traits[type];
}

enum status gguf_tensor_bytes(uint64_t *n_bytes, enum gguf_type type, uint32_t n_dims,
                              const uint64_t *dims, struct error *error)
{
    const struct gguf_type_traits *t = gguf_type_traits(type);
    if (t == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "unknown tensor type %u", (unsigned)type);
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return error_set(error, STATUS_INVALID, "%u dimensions; 1 to %d are possible", n_dims,
                         GGUF_MAX_DIMS);
    if (dims[0] % t->block_elements != 0)
        return error_set(error, STATUS_INVALID,
                         "rows of %llu elements are no whole number of %s blocks of %u",
                         (unsigned long long)dims[0], t->name, t->block_elements);
    uint64_t bytes = t->block_bytes;
    for (uint32_t i = 0; i < n_dims; i++) {
        const uint64_t n = i == 0 ? dims[0] / t->block_elements : dims[i];
        if (n == 0)
            return error_set(error, STATUS_INVALID, "dimension %u is 0", i);
        if (n > INT64_MAX / bytes)
            return error_set(error, STATUS_INVALID,
                             "the dimensions overflow: more than 2^63 bytes");
        bytes *= n;
    }
    *n_bytes = bytes;
    return STATUS_OK;
}

const char *gguf_value_type_name(enum gguf_value_type type)
{
    static const char *const names[GGUF_VALUE_COUNT] = {
        [GGUF_VALUE_U8] = "u8",       [GGUF_VALUE_I8] = "i8",     [GGUF_VALUE_U16] = "u16",
        [GGUF_VALUE_I16] = "i16",     [GGUF_VALUE_U32] = "u32",   [GGUF_VALUE_I32] = "i32",
        [GGUF_VALUE_F32] = "f32",     [GGUF_VALUE_BOOL] = "bool", [GGUF_VALUE_STRING] = "string",
        [GGUF_VALUE_ARRAY] = "array", [GGUF_VALUE_U64] = "u64",   [GGUF_VALUE_I64] = "i64",
        [GGUF_VALUE_F64] = "f64",
    };
    return (unsigned)type < GGUF_VALUE_COUNT ? names[type] : "unknown";
}
