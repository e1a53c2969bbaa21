/* types.c - what the numbers of types mean, and the way from a type to its format. */
#include "kernels/quant/types.h"

#include "kernels/quant/block32.h"
#include "kernels/quant/superblock.h"

#include <assert.h>
#include <string.h>

const enum weight_type weight_types[WEIGHT_TYPES] = {
    WEIGHT_F32,  WEIGHT_F16,  WEIGHT_BF16, WEIGHT_Q8_0, WEIGHT_Q4_0, WEIGHT_Q4_1,
    WEIGHT_Q5_0, WEIGHT_Q5_1, WEIGHT_Q4_K, WEIGHT_Q5_K, WEIGHT_Q6_K,
};

const struct weight_traits *weight_traits(enum weight_type type)
{
    static const struct weight_traits traits[] = {
        [WEIGHT_F32] = {"F32", 1, 4},       [WEIGHT_F16] = {"F16", 1, 2},
        [WEIGHT_Q4_0] = {"Q4_0", 32, 18},   [WEIGHT_Q4_1] = {"Q4_1", 32, 20},
        [WEIGHT_Q5_0] = {"Q5_0", 32, 22},   [WEIGHT_Q5_1] = {"Q5_1", 32, 24},
        [WEIGHT_Q8_0] = {"Q8_0", 32, 34},   [WEIGHT_Q4_K] = {"Q4_K", 256, 144},
        [WEIGHT_Q5_K] = {"Q5_K", 256, 176}, [WEIGHT_Q6_K] = {"Q6_K", 256, 210},
        [WEIGHT_BF16] = {"BF16", 1, 2},
    };
    if ((unsigned)type >= sizeof(traits) / sizeof(traits[0]) || traits[type].name == NULL)
        return NULL;
    return &traits[type];
}

size_t weight_row_bytes(enum weight_type type, uint32_t n)
{
    const struct weight_traits *traits = weight_traits(type);
    assert(traits != NULL && n % traits->block_elements == 0);
    return (size_t)(n / traits->block_elements) * traits->block_bytes;
}

void weight_dequantize(enum weight_type type, float *out, const void *x, size_t n)
{
    const struct weight_traits *traits = weight_traits(type);
    const uint8_t *bytes = x;
    uint16_t half;

    assert(traits != NULL && n % traits->block_elements == 0);
    if (type == WEIGHT_F32)
        memcpy(out, x, n * sizeof(*out));
    for (size_t i = 0; type == WEIGHT_F16 && i < n; i++) {
        memcpy(&half, bytes + 2 * i, sizeof(half));
        out[i] = half_to_float(half);
    }
    for (size_t i = 0; type == WEIGHT_BF16 && i < n; i++) {
        memcpy(&half, bytes + 2 * i, sizeof(half));
        out[i] = bfloat16_to_float(half);
    }
    for (size_t i = 0; block32_holds(type) && i < n; i += BLOCK32_ELEMENTS)
        block32_dequantize(out + i, type, bytes + i / BLOCK32_ELEMENTS * traits->block_bytes);
    for (size_t i = 0; superblock_holds(type) && i < n; i += SUPERBLOCK_ELEMENTS)
        superblock_dequantize(out + i, type, bytes + i / SUPERBLOCK_ELEMENTS * traits->block_bytes);
}

void weight_quantize(enum weight_type type, void *out, const float *x, size_t n)
{
    const struct weight_traits *traits = weight_traits(type);
    uint8_t *bytes = out;

    assert(traits != NULL && n % traits->block_elements == 0);
    if (type == WEIGHT_F32)
        memcpy(out, x, n * sizeof(*x));
    for (size_t i = 0; type == WEIGHT_F16 && i < n; i++) {
        const uint16_t half = half_from_float(x[i]);
        memcpy(bytes + 2 * i, &half, sizeof(half));
    }
    for (size_t i = 0; type == WEIGHT_BF16 && i < n; i++) {
        const uint16_t half = bfloat16_from_float(x[i]);
        memcpy(bytes + 2 * i, &half, sizeof(half));
    }
    for (size_t i = 0; block32_holds(type) && i < n; i += BLOCK32_ELEMENTS)
        block32_quantize(bytes + i / BLOCK32_ELEMENTS * traits->block_bytes, type, x + i);
    for (size_t i = 0; superblock_holds(type) && i < n; i += SUPERBLOCK_ELEMENTS)
        superblock_quantize(bytes + i / SUPERBLOCK_ELEMENTS * traits->block_bytes, type, x + i);
}
