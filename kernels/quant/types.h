/* kernels/quant/types.h - the number formats of weights and of the KV cache.
 *
 * The values of `weight_type` are those of GGUF's tensor types. */
#ifndef LONGSPAN_KERNELS_QUANT_TYPES_H
#define LONGSPAN_KERNELS_QUANT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum weight_type {
    WEIGHT_F32 = 0,
    WEIGHT_F16 = 1,
    WEIGHT_Q8_0 = 8, /* blocks of 32: f16 scale, 32 int8; 34 bytes */
};

struct weight_traits {
    const char *name;        /* "F32", "F16", "Q8_0" */
    uint32_t block_elements; /* a row is a whole number of blocks */
    uint32_t block_bytes;
};

/* NULL for a type that we do not multiply with. */
const struct weight_traits *weight_traits(enum weight_type type);

/* Bytes of `n` elements; n must be a multiple of the block. */
size_t weight_row_bytes(enum weight_type type, uint32_t n);

enum kv_type { KV_F32 = 0, KV_F16 = 1 };

/* "f32", "f16"; NULL for an unknown type. */
const char *kv_type_name(enum kv_type type);
bool kv_type_parse(enum kv_type *type, const char *name);
size_t kv_type_bytes(enum kv_type type); /* of one element */

/* IEEE half precision, round to nearest even, subnormals kept; NaN stays NaN. */
uint16_t half_from_float(float value);

/* Exact; here, so that loops over halves become vector code where there is no instruction for it. */
static inline float half_to_float(uint16_t half)
{
    const uint32_t small = (uint32_t)(half & 0x7fff) << 13; /* the value times 2^-112 */
    uint32_t bits;
    float value;
    memcpy(&value, &small, sizeof(value));
    value *= 0x1p112f; /* subnormals too, exactly */
    memcpy(&bits, &value, sizeof(bits));
    bits |= (half & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u; /* infinity and NaN */
    bits |= (half & 0x7fff) > 0x7c00 ? 0x400000u : 0u;    /* NaN, made quiet */
    bits |= (uint32_t)(half & 0x8000) << 16;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* n elements, a multiple of the type's block, to and from f32; round to nearest even for F16, and
 * for Q8_0 as the format's reference quantizer does (scale = max|x| / 127, half away from zero). */
void weight_quantize(enum weight_type type, void *out, const float *x, size_t n);
void weight_dequantize(enum weight_type type, float *out, const void *x, size_t n);

#endif
