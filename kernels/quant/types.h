/* kernels/quant/types.h - the number formats of weights; those of the KV cache are in kv_type.h.
 *
 * The values of `weight_type` are those of GGUF's tensor types. */
#ifndef LONGSPAN_KERNELS_QUANT_TYPES_H
#define LONGSPAN_KERNELS_QUANT_TYPES_H

#include "kernels/quant/half.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum weight_type {
    WEIGHT_F32 = 0,
    WEIGHT_F16 = 1,
    WEIGHT_Q4_0 = 2,
    WEIGHT_Q4_1 = 3,
    WEIGHT_Q5_0 = 6,
    WEIGHT_Q5_1 = 7,
    WEIGHT_Q8_0 = 8,
    WEIGHT_Q4_K = 12,
    WEIGHT_Q5_K = 13,
    WEIGHT_Q6_K = 14,
    WEIGHT_BF16 = 30,
};

/* All of them, for loops: weight_types[0] to weight_types[WEIGHT_TYPES - 1]. */
enum { WEIGHT_TYPES = 11, WEIGHT_MAX_BLOCK_ELEMENTS = 256 };
extern const enum weight_type weight_types[WEIGHT_TYPES];

struct weight_traits {
    const char *name;        /* "F32", "Q4_K": as GGUF's tools write it */
    uint32_t block_elements; /* a row is a whole number of blocks */
    uint32_t block_bytes;
};

/* NULL for a number that is none of weight_types. */
const struct weight_traits *weight_traits(enum weight_type type);

/* Bytes of `n` elements; n must be a multiple of the block. */
size_t weight_row_bytes(enum weight_type type, uint32_t n);

/* n elements, a multiple of the type's block, to f32: exactly what the format says (block32.h,
 * superblock.h), every bit. A scale that is no number gives values that are none. */
void weight_dequantize(enum weight_type type, float *out, const void *x, size_t n);

/* n elements from f32. F16 and BF16 round to nearest even. The blocks of 32 are those of the
 * format's reference quantizer, byte for byte; super-blocks are searched (superblock_quantize.c).
 * The same bytes on every machine.
 *     Zeros, or values below the least scale: a block of zeros.
 *     Values beyond the greatest scale (65504): the nearest that the block can hold.
 *     A NaN or an infinity: F32, F16 and BF16 keep it; of a block it makes every value a NaN (the
 *     scale is one), because there is no scale for it, and a zero in its place would hide it. */
void weight_quantize(enum weight_type type, void *out, const float *x, size_t n);

#endif
