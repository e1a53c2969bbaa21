/* superblock.c - reading and writing mirror each other, part by part. */
#include "kernels/quant/superblock.h"

#include <assert.h>
#include <string.h>

/* Where the parts of a Q4_K or Q5_K super-block begin, then those of Q6_K. */
enum { PACKED = 4, Q5_K_HIGH = 16, Q4_K_LOW = 16, Q5_K_LOW = 48 };
enum { Q6_K_HIGH = 128, Q6_K_SCALES = 192, Q6_K_D = 208 };

bool superblock_holds(enum weight_type type)
{
    return type == WEIGHT_Q4_K || type == WEIGHT_Q5_K || type == WEIGHT_Q6_K;
}

/* Weights of a sub-block: 32 or 16. */
static uint32_t part_weights(enum weight_type type)
{
    return type == WEIGHT_Q6_K ? 16 : 32;
}

static void read_packed(struct superblock *block, const uint8_t packed[12])
{
    for (int i = 0; i < 4; i++) {
        const uint8_t scale = packed[i], min = packed[i + 4], low = packed[i + 8];
        block->scale[i] = (int8_t)(scale & 63);
        block->min[i] = min & 63;
        block->scale[i + 4] = (int8_t)((low & 15) | scale >> 6 << 4);
        block->min[i + 4] = (uint8_t)(low >> 4 | min >> 6 << 4);
    }
}

static void write_packed(uint8_t packed[12], const struct superblock *block)
{
    for (int i = 0; i < 4; i++) {
        const uint8_t scale = (uint8_t)block->scale[i + 4], min = block->min[i + 4];
        assert(scale < 64 && min < 64 && (uint8_t)block->scale[i] < 64 && block->min[i] < 64);
        packed[i] = (uint8_t)((uint8_t)block->scale[i] | scale >> 4 << 6);
        packed[i + 4] = (uint8_t)(block->min[i] | min >> 4 << 6);
        packed[i + 8] = (uint8_t)((scale & 15) | (min & 15) << 4);
    }
}

/* The fifth bit, of Q5_K. */
static uint8_t high_bit(const uint8_t *high, int i)
{
    return high == NULL ? 0 : (uint8_t)((high[i % 32] >> i / 32 & 1) << 4);
}

static void read_32s(struct superblock *block, const uint8_t *high, const uint8_t *low,
                     const uint8_t *bytes)
{
    memcpy(&block->d, bytes, 2);
    memcpy(&block->dmin, bytes + 2, 2);
    read_packed(block, bytes + PACKED);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
        const uint8_t pair = low[i / 64 * 32 + i % 32];
        block->q[i] = (int8_t)((i % 64 < 32 ? pair & 15 : pair >> 4) | high_bit(high, i));
    }
}

static void write_32s(uint8_t *bytes, uint8_t *high, uint8_t *low, const struct superblock *block)
{
    memcpy(bytes, &block->d, 2);
    memcpy(bytes + 2, &block->dmin, 2);
    write_packed(bytes + PACKED, block);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS / 2; i++) {
        const int at = i / 32 * 64 + i % 32;
        const uint8_t first = (uint8_t)block->q[at], second = (uint8_t)block->q[at + 32];
        assert((first | second) < (high != NULL ? 32 : 16));
        low[i] = (uint8_t)((first & 15) | (second & 15) << 4);
    }
    for (int i = 0; high != NULL && i < 32; i++) {
        high[i] = 0;
        for (int part = 0; part < 8; part++)
            high[i] |= (uint8_t)((uint8_t)block->q[32 * part + i] >> 4 << part);
    }
}

static void read_q6_k(struct superblock *block, const uint8_t *bytes)
{
    const uint8_t *high = bytes + Q6_K_HIGH;
    memcpy(&block->d, bytes + Q6_K_D, 2);
    memcpy(block->scale, bytes + Q6_K_SCALES, SUPERBLOCK_PARTS);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
        const uint8_t pair = bytes[i / 128 * 64 + i % 64];
        const int low = i % 128 < 64 ? pair & 15 : pair >> 4;
        const int upper = high[i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
        block->q[i] = (int8_t)((low | upper << 4) - 32);
    }
}

static void write_q6_k(uint8_t *bytes, const struct superblock *block)
{
    uint8_t *high = bytes + Q6_K_HIGH;
    memset(bytes, 0, Q6_K_SCALES);
    memcpy(bytes + Q6_K_D, &block->d, 2);
    memcpy(bytes + Q6_K_SCALES, block->scale, SUPERBLOCK_PARTS);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
        const unsigned q = (unsigned)(block->q[i] + 32);
        assert(q < 64);
        bytes[i / 128 * 64 + i % 64] |= (uint8_t)((q & 15) << (i % 128 < 64 ? 0 : 4));
        high[i / 128 * 32 + i % 32] |= (uint8_t)(q >> 4 << i % 128 / 32 * 2);
    }
}

void superblock_read(struct superblock *block, enum weight_type type, const uint8_t *bytes)
{
    assert(superblock_holds(type));
    memset(block, 0, sizeof(*block));
    if (type == WEIGHT_Q6_K)
        read_q6_k(block, bytes);
    else if (type == WEIGHT_Q5_K)
        read_32s(block, bytes + Q5_K_HIGH, bytes + Q5_K_LOW, bytes);
    else
        read_32s(block, NULL, bytes + Q4_K_LOW, bytes);
}

void superblock_write(uint8_t *bytes, enum weight_type type, const struct superblock *block)
{
    assert(superblock_holds(type));
    if (type == WEIGHT_Q6_K)
        write_q6_k(bytes, block);
    else if (type == WEIGHT_Q5_K)
        write_32s(bytes, bytes + Q5_K_HIGH, bytes + Q5_K_LOW, block);
    else
        write_32s(bytes, NULL, bytes + Q4_K_LOW, block);
}

void superblock_dequantize(float out[SUPERBLOCK_ELEMENTS], enum weight_type type,
                           const uint8_t *bytes)
{
    struct superblock block;
    superblock_read(&block, type, bytes);
    const int part = (int)part_weights(type);
    const float d = half_to_float(block.d), dmin = half_to_float(block.dmin);
    for (int p = 0; p < SUPERBLOCK_ELEMENTS / part; p++) {
        const float scale = d * (float)block.scale[p];
        const float min = type == WEIGHT_Q6_K ? 0.0f : dmin * (float)block.min[p];
        for (int i = p * part; i < (p + 1) * part; i++) /* x - 0 is x, with its sign */
            out[i] = scale * (float)block.q[i] - min;
    }
}
