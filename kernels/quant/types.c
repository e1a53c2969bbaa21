/* types.c - conversions bit by bit, in integers: the same on every machine, and fast enough for
 * loading and for tests. The kernels use the processor's own conversions, which agree. */
#include "kernels/quant/types.h"

#include <assert.h>
#include <math.h>
#include <string.h>

const struct weight_traits *weight_traits(enum weight_type type)
{
    static const struct weight_traits f32 = {"F32", 1, 4}, f16 = {"F16", 1, 2},
                                      q8_0 = {"Q8_0", 32, 34};
    switch (type) {
    case WEIGHT_F32:
        return &f32;
    case WEIGHT_F16:
        return &f16;
    case WEIGHT_Q8_0:
        return &q8_0;
    }
    return NULL;
}

size_t weight_row_bytes(enum weight_type type, uint32_t n)
{
    const struct weight_traits *traits = weight_traits(type);
    assert(traits != NULL && n % traits->block_elements == 0);
    return (size_t)(n / traits->block_elements) * traits->block_bytes;
}

const char *kv_type_name(enum kv_type type)
{
    switch (type) {
    case KV_F32:
        return "f32";
    case KV_F16:
        return "f16";
    }
    return NULL;
}

bool kv_type_parse(enum kv_type *type, const char *name)
{
    for (enum kv_type candidate = KV_F32; candidate <= KV_F16; candidate++)
        if (strcmp(name, kv_type_name(candidate)) == 0) {
            *type = candidate;
            return true;
        }
    return false;
}

size_t kv_type_bytes(enum kv_type type)
{
    return type == KV_F16 ? 2 : 4;
}

uint16_t half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) /* NaN: quiet, and keep what fits of its payload, as processors do */
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x1ff));
    if (bits >= 0x477ff000) /* 65520, half way to 2^16, rounds to infinity */
        return (uint16_t)(sign | 0x7c00);
    uint32_t half, rest, tie; /* the result before rounding, what is cut off, half a unit of it */
    if (bits >= 0x38800000) { /* 2^-14: normal */
        half = (bits - 0x38000000) >> 13;
        rest = bits & 0x1fff;
        tie = 0x1000;
    } else if (bits > 0x33000000) { /* above 2^-25, half the least subnormal */
        const uint32_t mantissa = (bits & 0x7fffff) | 0x800000, shift = 126 - (bits >> 23);
        half = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1);
        tie = 1u << (shift - 1);
    } else {
        return sign;
    }
    half += rest > tie || (rest == tie && (half & 1)); /* a carry into the exponent is right */
    return (uint16_t)(sign | half);
}

/* One block: d = max|x| / 127 in f32 makes the integers; it is stored rounded to half. */
static void quantize_q8_0(uint8_t *block, const float *x)
{
    float largest = 0.0f;
    for (int i = 0; i < 32; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    const float scale = largest / 127.0f;
    float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    if (!(inverse <= 0x1p127f))
        inverse = 0.0f; /* largest below 2^-121: its half is 0 anyway */
    const uint16_t half = half_from_float(scale);
    memcpy(block, &half, sizeof(half));
    for (int i = 0; i < 32; i++) {
        const float q = roundf(x[i] * inverse);
        const int8_t byte = q >= -127.0f && q <= 127.0f ? (int8_t)q : 0; /* 0 for NaN */
        memcpy(block + 2 + i, &byte, 1);
    }
}

void weight_quantize(enum weight_type type, void *out, const float *x, size_t n)
{
    uint8_t *bytes = out;
    assert(weight_traits(type) != NULL && n % weight_traits(type)->block_elements == 0);
    if (type == WEIGHT_F32)
        memcpy(out, x, n * sizeof(*x));
    else if (type == WEIGHT_F16)
        for (size_t i = 0; i < n; i++) {
            const uint16_t half = half_from_float(x[i]);
            memcpy(bytes + 2 * i, &half, sizeof(half));
        }
    else if (type == WEIGHT_Q8_0)
        for (size_t i = 0; i < n / 32; i++)
            quantize_q8_0(bytes + 34 * i, x + 32 * i);
}

void weight_dequantize(enum weight_type type, float *out, const void *x, size_t n)
{
    const uint8_t *bytes = x;
    uint16_t half;
    assert(weight_traits(type) != NULL && n % weight_traits(type)->block_elements == 0);
    if (type == WEIGHT_F32)
        memcpy(out, x, n * sizeof(*out));
    else if (type == WEIGHT_F16)
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, bytes + 2 * i, sizeof(half));
            out[i] = half_to_float(half);
        }
    else if (type == WEIGHT_Q8_0)
        for (size_t i = 0; i < n; i++) {
            int8_t q;
            memcpy(&half, bytes + i / 32 * 34, sizeof(half));
            memcpy(&q, bytes + i / 32 * 34 + 2 + i % 32, 1);
            out[i] = (float)q * half_to_float(half);
        }
}
