/* test_superblock.c - values against golden blocks, the format's text, and its corners. */
#include "kernels/quant/superblock.h"

#include "tests/kernels/quant/golden.h"
#include "tests/kernels/quant/quant_tests.h"

static const enum weight_type types[] = {WEIGHT_Q4_K, WEIGHT_Q5_K, WEIGHT_Q6_K};
enum { N_TYPES = sizeof(types) / sizeof(types[0]), MOST_BYTES = 210 };

static void test_golden_blocks(void **state)
{
    int n_found = 0;
    for (size_t g = 0; g < sizeof(golden_blocks) / sizeof(golden_blocks[0]); g++) {
        const struct golden *golden = &golden_blocks[g];
        float values[SUPERBLOCK_ELEMENTS];
        if (!superblock_holds(golden->type))
            continue;
        n_found++;
        superblock_dequantize(values, golden->type, golden->bytes);
        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            assert_int_equal(bits_of(values[i]), golden->values[i]);
    }
    assert_int_equal(n_found, N_TYPES);
}

/* ---- the places of bits, as the formats say them --------------------------------------------- */

/* Of Q4_K and Q5_K: bit `bit` of scale (or minimum) s is this bit of the twelve packed bytes. */
static void packed_place(int s, int bit, bool minimum, int *byte, int *at)
{
    if (s < 4) {
        *byte = s + (minimum ? 4 : 0);
        *at = bit;
    } else if (bit < 4) {
        *byte = s + 4;
        *at = bit + (minimum ? 4 : 0);
    } else {
        *byte = s - 4 + (minimum ? 4 : 0);
        *at = bit + 2;
    }
}

/* All integers 1: Q4_K 0x11, Q5_K also, with no fifth bit. */
static void test_every_bit_of_packed_scales(void **state)
{
    for (int t = 0; t < 2; t++)
        for (int which = 0; which < 8 * 6 * 2; which++) {
            const int s = which % 8, bit = which / 8 % 6;
            const bool minimum = which >= 48;
            uint8_t bytes[MOST_BYTES] = {0};
            float values[SUPERBLOCK_ELEMENTS];
            int byte, at;
            put_half(bytes, 0x3c00);     /* d: 1 */
            put_half(bytes + 2, 0x4000); /* dmin: 2 */
            memset(bytes + (types[t] == WEIGHT_Q4_K ? 16 : 48), 0x11, 128);
            packed_place(s, bit, minimum, &byte, &at);
            bytes[4 + byte] = (uint8_t)(1 << at);
            superblock_dequantize(values, types[t], bytes);
            for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++) {
                const float worth = minimum ? -2.0f * (float)(1 << bit) : (float)(1 << bit);
                assert_true(values[i] == (i / 32 == s ? worth : 0.0f));
            }
        }
}

/* Which weight a bit of the integers belongs to, and what it is worth. False: not of an integer. */
static bool place_of(enum weight_type type, int byte, int bit, int *weight, int *worth)
{
    const int low = type == WEIGHT_Q4_K ? 16 : type == WEIGHT_Q5_K ? 48 : 0;
    if (byte >= low && byte < low + 128) {
        const int i = byte - low, half = bit / 4;
        *weight = type == WEIGHT_Q6_K ? i / 64 * 128 + half * 64 + i % 64
                                      : i / 32 * 64 + half * 32 + i % 32;
        *worth = 1 << bit % 4;
        return true;
    }
    if (type == WEIGHT_Q5_K && byte >= 16 && byte < 48) {
        *weight = 32 * bit + byte - 16;
        *worth = 16;
        return true;
    }
    if (type == WEIGHT_Q6_K && byte >= 128 && byte < 192) {
        const int i = byte - 128;
        *weight = i / 32 * 128 + bit / 2 * 32 + i % 32;
        *worth = 16 << bit % 2;
        return true;
    }
    return false;
}

/* A block whose d and scales are 1. */
static void unit_block(uint8_t bytes[MOST_BYTES], enum weight_type type)
{
    memset(bytes, 0, MOST_BYTES);
    put_half(bytes + (type == WEIGHT_Q6_K ? 208 : 0), 0x3c00);
    if (type == WEIGHT_Q6_K) {
        memset(bytes + 192, 1, 16);
    } else {
        memset(bytes + 4, 1, 4);  /* scales 0 to 3 */
        memset(bytes + 12, 1, 4); /* scales 4 to 7 */
    }
}

static void test_every_bit_of_the_integers(void **state)
{
    for (int t = 0; t < N_TYPES; t++) {
        int n_bits = 0;
        for (int byte = 0; byte < (int)weight_traits(types[t])->block_bytes; byte++)
            for (int bit = 0; bit < 8; bit++) {
                uint8_t bytes[MOST_BYTES];
                float values[SUPERBLOCK_ELEMENTS];
                int weight, worth;
                unit_block(bytes, types[t]);
                if (!place_of(types[t], byte, bit, &weight, &worth))
                    continue;
                n_bits++;
                bytes[byte] = (uint8_t)(1 << bit);
                superblock_dequantize(values, types[t], bytes);
                const float base = types[t] == WEIGHT_Q6_K ? -32.0f : 0.0f;
                for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
                    assert_true(values[i] == base + (i == weight ? (float)worth : 0.0f));
            }
        assert_int_equal(n_bits, 256 * (4 + t));
    }
}

static void test_q6_k_scales_belong_to_sixteen_weights(void **state)
{
    for (int s = 0; s < 16; s++) {
        uint8_t bytes[MOST_BYTES] = {0};
        float values[SUPERBLOCK_ELEMENTS];
        put_half(bytes + 208, 0xbc00); /* -1 */
        bytes[192 + s] = 0x80;         /* -128 */
        superblock_dequantize(values, WEIGHT_Q6_K, bytes);
        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            assert_true(values[i] == (i / 16 == s ? 128.0f * -32.0f : 0.0f));
    }
}

/* ---- corners --------------------------------------------------------------------------------- */

/* `scale`: of all packed bytes, or Q6_K's scales; `fill`: of all bytes of integers. By hand. */
static void test_extreme_scales(void **state)
{
    static const struct {
        enum weight_type type;
        uint16_t d, dmin;
        uint8_t scale, fill;
        float value;
    } cases[] = {
        {WEIGHT_Q4_K, 0x0001, 0x0000, 0xff, 0xff, 945 * 0x1p-24f}, /* 63 * 15 least subnormals */
        {WEIGHT_Q4_K, 0x0001, 0x0001, 0xff, 0xff, 882 * 0x1p-24f}, /* 945 - 63 */
        {WEIGHT_Q4_K, 0x7bff, 0x7bff, 0xff, 0xff, 65504.0f * 882.0f},
        {WEIGHT_Q4_K, 0x7bff, 0x0001, 0xff, 0xff, 65504.0f * 945.0f}, /* 63 * 2^-24 is lost */
        {WEIGHT_Q4_K, 0x8000, 0x0000, 0xff, 0xff, -0.0f},             /* -0 - 0 */
        {WEIGHT_Q4_K, 0x0000, 0x8000, 0xff, 0xff, 0.0f},              /* 0 - -0 */
        {WEIGHT_Q4_K, 0x8000, 0x8000, 0xff, 0xff, 0.0f},              /* -0 - -0 */
        {WEIGHT_Q4_K, 0x3c00, 0x3c00, 0xff, 0x00, -63.0f},
        {WEIGHT_Q4_K, 0x7c00, 0x0000, 0xff, 0xff, INFINITY},
        {WEIGHT_Q4_K, 0x7c00, 0x0000, 0x00, 0xff, NAN}, /* infinity times scale 0 */
        {WEIGHT_Q4_K, 0x3c00, 0x7c00, 0xff, 0xff, -INFINITY},
        {WEIGHT_Q4_K, 0x3c00, 0x7e00, 0x00, 0x00, NAN},
        {WEIGHT_Q5_K, 0x0001, 0x8001, 0xff, 0xff, 2016 * 0x1p-24f}, /* 63 * 31 + 63 */
        {WEIGHT_Q5_K, 0x7bff, 0xfbff, 0xff, 0xff, 65504.0f * 2016.0f},
        {WEIGHT_Q5_K, 0x7bff, 0x0000, 0xff, 0xff, 65504.0f * 1953.0f},
        {WEIGHT_Q5_K, 0x7bff, 0x3c00, 0xff, 0xff, 127929248.0f}, /* 127929312 - 63, to 8s */
        {WEIGHT_Q6_K, 0x0001, 0, 0x80, 0x00, 4096 * 0x1p-24f},   /* -128 * -32 */
        {WEIGHT_Q6_K, 0x7bff, 0, 0x80, 0x00, 65504.0f * 4096.0f},
        {WEIGHT_Q6_K, 0x7bff, 0, 0x7f, 0xff, 65504.0f * 3937.0f}, /* 127 * 31: 23 bits */
        {WEIGHT_Q6_K, 0x8000, 0, 0x01, 0x00, 0.0f},               /* -0 * 1 * -32 */
        {WEIGHT_Q6_K, 0x0000, 0, 0xff, 0x00, 0.0f},               /* 0 * -1 * -32 */
        {WEIGHT_Q6_K, 0x0000, 0, 0xff, 0xff, -0.0f},              /* 0 * -1 * 31 */
        {WEIGHT_Q6_K, 0x7c00, 0, 0x00, 0xff, NAN},
        {WEIGHT_Q6_K, 0xfc00, 0, 0x01, 0x00, INFINITY},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const bool q6 = cases[c].type == WEIGHT_Q6_K;
        uint8_t bytes[MOST_BYTES];
        float values[SUPERBLOCK_ELEMENTS];
        memset(bytes, cases[c].fill, sizeof(bytes));
        memset(bytes + (q6 ? 192 : 4), cases[c].scale, q6 ? 16 : 12);
        put_half(bytes + (q6 ? 208 : 0), cases[c].d);
        if (!q6)
            put_half(bytes + 2, cases[c].dmin);
        superblock_dequantize(values, cases[c].type, bytes);
        for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
            if (!same_value(values[i], cases[c].value))
                fail_msg("case %zu, weight %d: %a, not %a", c, i, (double)values[i],
                         (double)cases[c].value);
    }
}

/* The sign of a zero is that of (d scale) q, not of d (scale q). */
static void test_the_sign_of_a_zero(void **state)
{
    uint8_t bytes[MOST_BYTES];
    float values[SUPERBLOCK_ELEMENTS];
    memset(bytes, 0, 128);
    memset(bytes + 128, 0xaa, 64); /* upper bits 2: q = 32 - 32 = 0 */
    memset(bytes + 192, 0xff, 16); /* -1 */
    put_half(bytes + 208, 0x3c00);
    superblock_dequantize(values, WEIGHT_Q6_K, bytes);
    for (int i = 0; i < SUPERBLOCK_ELEMENTS; i++)
        assert_true(same_value(values[i], -0.0f));
}

static void test_blocks_are_written_as_they_were_read(void **state)
{
    uint64_t seed = 4;
    for (int round = 0; round < 2000; round++)
        for (int t = 0; t < N_TYPES; t++) {
            uint8_t bytes[MOST_BYTES], again[MOST_BYTES];
            struct superblock block;
            for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t)random_u32(&seed);
            memset(again, 0xaa, sizeof(again));
            superblock_read(&block, types[t], bytes);
            superblock_write(again, types[t], &block);
            assert_memory_equal(again, bytes, weight_traits(types[t])->block_bytes);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_blocks),
        cmocka_unit_test(test_every_bit_of_packed_scales),
        cmocka_unit_test(test_every_bit_of_the_integers),
        cmocka_unit_test(test_q6_k_scales_belong_to_sixteen_weights),
        cmocka_unit_test(test_extreme_scales),
        cmocka_unit_test(test_the_sign_of_a_zero),
        cmocka_unit_test(test_blocks_are_written_as_they_were_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
