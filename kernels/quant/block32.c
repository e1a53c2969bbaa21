/* block32.c - one table row per type; reading, writing and values all go by it. */
#include "kernels/quant/block32.h"

#include <assert.h>
#include <string.h>

/* Where the parts of a block begin. */
struct layout {
    uint8_t minimum;  /* 0: none */
    uint8_t fifth;    /* 0: none */
    uint8_t integers; /* 0: not a type of this file */
    uint8_t offset;   /* what is added to an integer when it is stored */
};

static const struct layout *layout_of(enum weight_type type)
{
    static const struct layout layouts[] = {
        [WEIGHT_Q4_0] = {0, 0, 2, 8}, [WEIGHT_Q4_1] = {2, 0, 4, 0}, [WEIGHT_Q5_0] = {0, 2, 6, 16},
        [WEIGHT_Q5_1] = {2, 4, 8, 0}, [WEIGHT_Q8_0] = {0, 0, 2, 0},
    };
    const struct layout *layout =
        (unsigned)type < sizeof(layouts) / sizeof(layouts[0]) ? &layouts[type] : NULL;
    return layout != NULL && layout->integers != 0 ? layout : NULL;
}

bool block32_holds(enum weight_type type)
{
    return layout_of(type) != NULL;
}

void block32_read(struct block32 *block, enum weight_type type, const uint8_t *bytes)
{
    const struct layout *layout = layout_of(type);
    uint32_t fifth = 0;
    assert(layout != NULL);
    memcpy(&block->d, bytes, 2);
    block->m = 0;
    if (layout->minimum != 0)
        memcpy(&block->m, bytes + layout->minimum, 2);
    bytes += layout->integers;
    if (type == WEIGHT_Q8_0) {
        memcpy(block->q, bytes, sizeof(block->q));
        return;
    }
    if (layout->fifth != 0)
        memcpy(&fifth, bytes - layout->integers + layout->fifth, 4);
    for (int i = 0; i < 16; i++) {
        const int low = (bytes[i] & 15) | (int)(fifth >> i & 1) << 4;
        const int high = bytes[i] >> 4 | (int)(fifth >> (i + 16) & 1) << 4;
        block->q[i] = (int8_t)(low - layout->offset);
        block->q[i + 16] = (int8_t)(high - layout->offset);
    }
}

void block32_write(uint8_t *bytes, enum weight_type type, const struct block32 *block)
{
    const struct layout *layout = layout_of(type);
    uint32_t fifth = 0;
    assert(layout != NULL);
    memcpy(bytes, &block->d, 2);
    if (layout->minimum != 0)
        memcpy(bytes + layout->minimum, &block->m, 2);
    uint8_t *integers = bytes + layout->integers;
    if (type == WEIGHT_Q8_0) {
        memcpy(integers, block->q, sizeof(block->q));
        return;
    }
    for (int i = 0; i < 16; i++) {
        const uint32_t low = (uint32_t)(block->q[i] + layout->offset);
        const uint32_t high = (uint32_t)(block->q[i + 16] + layout->offset);
        assert(low < 32 && high < 32 && (layout->fifth != 0 || (low < 16 && high < 16)));
        integers[i] = (uint8_t)((low & 15) | (high & 15) << 4);
        fifth |= low >> 4 << i | high >> 4 << (i + 16);
    }
    if (layout->fifth != 0)
        memcpy(bytes + layout->fifth, &fifth, 4);
}

void block32_dequantize(float out[BLOCK32_ELEMENTS], enum weight_type type, const uint8_t *bytes)
{
    struct block32 block;
    block32_read(&block, type, bytes);
    const float d = half_to_float(block.d), m = half_to_float(block.m);
    const bool has_minimum = layout_of(type)->minimum != 0; /* -0 + 0 would lose a sign */
    for (int i = 0; i < BLOCK32_ELEMENTS; i++)
        out[i] = has_minimum ? d * (float)block.q[i] + m : d * (float)block.q[i];
}
