/* kernels/quant/superblock.h - super-blocks of 256 weights: Q4_K, Q5_K, Q6_K.
 *
 * A super-block is cut in sub-blocks that each have a small integer scale; its halves d and dmin
 * are the scales of these; halves little endian:
 *     Q4_K   d, dmin   packed[12]            qs[128]        8 sub-blocks of 32, q = 0 .. 15
 *     Q5_K   d, dmin   packed[12]   qh[32]   qs[128]        8 sub-blocks of 32, q = 0 .. 31
 *            value = (d scale) q - (dmin min), scale and min 0 .. 63
 *     Q6_K   ql[128]   qh[64]   scales[16]   d              16 sub-blocks of 16, q = -32 .. 31
 *            value = (d scale) q, scale -128 .. 127, q stored + 32
 *
 * packed: eight scales and eight minima of six bits. Bytes 0 to 3 hold scales 0 to 3 in their low
 * six bits, bytes 4 to 7 minima 0 to 3; the two bits above are the upper ones of scales 4 to 7 and
 * minima 4 to 7, of which bytes 8 to 11 have the low four bits, scales below, minima above.
 * Q4_K, Q5_K: qs[32 c + i] holds weight 64 c + i in its low half and 64 c + 32 + i in its high
 * half; bit s of qh[i] is the fifth bit of weight 32 s + i.
 * Q6_K: the weights are two halves h of 128. ql[64 h + i], i below 64, holds the low four bits of
 * weights 128 h + i and 128 h + 64 + i; qh[32 h + i], i below 32, the upper two bits of weights
 * 128 h + i + 0, 32, 64 and 96, from the low bits up.
 *
 * All products are exact in f32 (11 bits times 6 or 7, times 6), so a value is rounded once at
 * most, by the subtraction, and no order of operations gives other bits; but the sign of a zero is
 * that of (d scale) q. */
#ifndef LONGSPAN_KERNELS_QUANT_SUPERBLOCK_H
#define LONGSPAN_KERNELS_QUANT_SUPERBLOCK_H

#include "kernels/quant/types.h"

enum { SUPERBLOCK_ELEMENTS = 256, SUPERBLOCK_PARTS = 16 };

/* A super-block taken apart. */
struct superblock {
    uint16_t d, dmin;               /* halves; Q6_K has no dmin: 0 */
    int8_t scale[SUPERBLOCK_PARTS]; /* 8 or 16 are used */
    uint8_t min[8];                 /* Q6_K: 0 */
    int8_t q[SUPERBLOCK_ELEMENTS];
};

bool superblock_holds(enum weight_type type); /* is it one of the three */

/* `bytes` is a super-block as in the file. write: numbers must be in the type's ranges. */
void superblock_read(struct superblock *block, enum weight_type type, const uint8_t *bytes);
void superblock_write(uint8_t *bytes, enum weight_type type, const struct superblock *block);

void superblock_dequantize(float out[SUPERBLOCK_ELEMENTS], enum weight_type type,
                           const uint8_t *bytes);
void superblock_quantize(uint8_t *bytes, enum weight_type type, const float x[SUPERBLOCK_ELEMENTS]);

#endif
