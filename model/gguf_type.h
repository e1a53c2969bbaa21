/* model/gguf_type.h - the numbers that stand in GGUF files for types of tensors and of values.
 *
 * All of model/ uses these names, also for what comes from other files. */
#ifndef LONGSPAN_MODEL_GGUF_TYPE_H
#define LONGSPAN_MODEL_GGUF_TYPE_H

#include "sys/status.h"

#include <stdint.h>

#define GGUF_MAX_DIMS 4

/* Element types of tensors, with the numbers that stand in the file. The numbers that are missing
 * here belonged to types that were withdrawn (4, 5) or are not known to us: a file that has one is
 * refused, because the size of such a tensor cannot be checked. */
enum gguf_type {
    GGUF_TYPE_F32 = 0,
    GGUF_TYPE_F16 = 1,
    GGUF_TYPE_Q4_0 = 2,
    GGUF_TYPE_Q4_1 = 3,
    GGUF_TYPE_Q5_0 = 6,
    GGUF_TYPE_Q5_1 = 7,
    GGUF_TYPE_Q8_0 = 8,
    GGUF_TYPE_Q8_1 = 9,
    GGUF_TYPE_Q2_K = 10,
    GGUF_TYPE_Q3_K = 11,
    GGUF_TYPE_Q4_K = 12,
    GGUF_TYPE_Q5_K = 13,
    GGUF_TYPE_Q6_K = 14,
    GGUF_TYPE_Q8_K = 15,
    GGUF_TYPE_IQ2_XXS = 16,
    GGUF_TYPE_IQ2_XS = 17,
    GGUF_TYPE_IQ3_XXS = 18,
    GGUF_TYPE_IQ1_S = 19,
    GGUF_TYPE_IQ4_NL = 20,
    GGUF_TYPE_IQ3_S = 21,
    GGUF_TYPE_IQ2_S = 22,
    GGUF_TYPE_IQ4_XS = 23,
    GGUF_TYPE_I8 = 24,
    GGUF_TYPE_I16 = 25,
    GGUF_TYPE_I32 = 26,
    GGUF_TYPE_I64 = 27,
    GGUF_TYPE_F64 = 28,
    GGUF_TYPE_IQ1_M = 29,
    GGUF_TYPE_BF16 = 30,
    GGUF_TYPE_Q4_0_4_4 = 31,
    GGUF_TYPE_Q4_0_4_8 = 32,
    GGUF_TYPE_Q4_0_8_8 = 33,
    GGUF_TYPE_TQ1_0 = 34,
    GGUF_TYPE_TQ2_0 = 35,
    GGUF_TYPE_IQ4_NL_4_4 = 36,
    GGUF_TYPE_IQ4_NL_4_8 = 37,
    GGUF_TYPE_IQ4_NL_8_8 = 38,
    GGUF_TYPE_MXFP4 = 39,
    GGUF_TYPE_COUNT
};

/* A type stores `block_elements` consecutive elements of a row in `block_bytes` bytes. */
struct gguf_type_traits {
    const char *name; /* "F32", "Q8_0"... */
    uint32_t block_elements, block_bytes;
};

/* NULL for a number that we do not know. Knowing a type (to show it) is not supporting it (to
 * compute with it): see weights.h. */
const struct gguf_type_traits *gguf_type_traits(enum gguf_type type);

/* The bytes of a tensor of these dimensions (dims[0] is the row length, contiguous in memory).
 * STATUS_INVALID: a zero, n_dims not 1 to 4, a row that is no whole number of blocks, or more than
 * 2^63 bytes. STATUS_UNSUPPORTED: unknown type. The error texts do not name the tensor. */
enum status gguf_tensor_bytes(uint64_t *n_bytes, enum gguf_type type, uint32_t n_dims,
                              const uint64_t *dims, struct error *error);

/* Types of metadata values, with the numbers that stand in the file. */
enum gguf_value_type {
    GGUF_VALUE_U8 = 0,
    GGUF_VALUE_I8 = 1,
    GGUF_VALUE_U16 = 2,
    GGUF_VALUE_I16 = 3,
    GGUF_VALUE_U32 = 4,
    GGUF_VALUE_I32 = 5,
    GGUF_VALUE_F32 = 6,
    GGUF_VALUE_BOOL = 7,
    GGUF_VALUE_STRING = 8,
    GGUF_VALUE_ARRAY = 9,
    GGUF_VALUE_U64 = 10,
    GGUF_VALUE_I64 = 11,
    GGUF_VALUE_F64 = 12,
    GGUF_VALUE_COUNT
};

/* "u32", "string", ...; "unknown" for a number outside the enum. */
const char *gguf_value_type_name(enum gguf_value_type type);

#endif
