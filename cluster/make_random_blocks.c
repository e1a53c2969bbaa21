/* make_random_blocks.c - a super-block is drawn taken apart, and written as any other. */
#include "cluster/make_random_blocks.h"

#include "kernels/quant/superblock.h"

#include <math.h>

/* The root of the mean square of integers begin .. end. */
static float rms_of(int begin, int end)
{
    float sum = 0.0f;
    for (int i = begin; i <= end; i++)
        sum += (float)(i * i);
    return sqrtf(sum / (float)(end - begin + 1));
}

/* A half of six bits, so that 7.5 and 15.5 times it are halves too. */
static float short_half(float value)
{
    const uint16_t half = half_from_float(value);
    return half_to_float((uint16_t)((half + 16) & 0xffe0));
}

static void draw_block(struct superblock *block, enum weight_type type, struct random_state *random)
{
    const int bits = type == WEIGHT_Q4_K ? 4 : type == WEIGHT_Q5_K ? 5 : 6;
    const uint64_t mask = (1u << bits) - 1;
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i += 8) {
        uint64_t draw = random_u64(random);
        for (int k = 0; k < 8; k++, draw >>= 8)
            block->q[i + k] = (int8_t)((int)(draw & mask) - (type == WEIGHT_Q6_K ? 32 : 0));
    }
    uint64_t scales = random_u64(random);
    if (type == WEIGHT_Q6_K) {
        uint64_t more = random_u64(random);
        for (int p = 0; p < 16; p++, scales >>= 4, more >>= 4) {
            const int scale = 64 + (int)(scales & 15) * 4 + (int)(more & 3);
            block->scale[p] = (int8_t)(more & 4 ? scale : -scale);
        }
    } else {
        for (int p = 0; p < 8; p++, scales >>= 5) {
            block->scale[p] = (int8_t)(32 + (scales & 31));
            block->min[p] = (uint8_t)block->scale[p];
        }
    }
}

void make_random_blocks(enum weight_type type, uint8_t *out, size_t n, float scale,
                        struct random_state *random)
{
    const int steps = type == WEIGHT_Q4_K ? 16 : type == WEIGHT_Q5_K ? 32 : 64;
    const float scales = type == WEIGHT_Q6_K ? rms_of(64, 127) : rms_of(32, 63);
    const float integers =
        type == WEIGHT_Q6_K ? rms_of(-32, 31) : sqrtf((float)(steps * steps - 1) / 12.0f);
    const float d = short_half(scale / (scales * integers));
    struct superblock block = {.d = half_from_float(d)};

    if (type != WEIGHT_Q6_K)
        block.dmin = half_from_float(d * (float)(steps - 1) / 2.0f);
    for (size_t i = 0; i < n; i += SUPERBLOCK_ELEMENTS) {
        draw_block(&block, type, random);
        superblock_write(out, type, &block);
        out += weight_traits(type)->block_bytes;
    }
}
