/* kernels/quant/block32.h - blocks of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
 *
 * A block is a scale d, in the _1 types also a minimum m, and 32 integers; halves little endian:
 *     Q4_0   d                qs[16]     value = d q,     q = -8 .. 7     stored + 8
 *     Q4_1   d, m             qs[16]     value = d q + m, q = 0 .. 15
 *     Q5_0   d      qh[4]     qs[16]     value = d q,     q = -16 .. 15   stored + 16
 *     Q5_1   d, m   qh[4]     qs[16]     value = d q + m, q = 0 .. 31
 *     Q8_0   d                qs[32]     value = d q,     q = -128 .. 127
 * The low halves of qs[16] are the low four bits of weights 0 to 15, the high halves those of
 * weights 16 to 31; bit i of qh is the fifth bit of weight i.
 *
 * d q is exact in f32 (11 bits times 8), so a value is rounded once at most, by the addition of m:
 * there is no order of operations, fused or not, that gives other bits. */
#ifndef LONGSPAN_KERNELS_QUANT_BLOCK32_H
#define LONGSPAN_KERNELS_QUANT_BLOCK32_H

#include "kernels/quant/types.h"

enum { BLOCK32_ELEMENTS = 32 };

/* A block taken apart. */
struct block32 {
    uint16_t d, m; /* halves; m is 0 where the type has none */
    int8_t q[BLOCK32_ELEMENTS];
};

bool block32_holds(enum weight_type type); /* is it one of the five */

/* `bytes` is a block as in the file. write: q must be in the type's range. */
void block32_read(struct block32 *block, enum weight_type type, const uint8_t *bytes);
void block32_write(uint8_t *bytes, enum weight_type type, const struct block32 *block);

void block32_dequantize(float out[BLOCK32_ELEMENTS], enum weight_type type, const uint8_t *bytes);
void block32_quantize(uint8_t *bytes, enum weight_type type, const float x[BLOCK32_ELEMENTS]);

#endif
