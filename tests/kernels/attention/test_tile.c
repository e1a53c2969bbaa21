/* test_tile.c - every tile kernel against double precision, and all with the same bits, for every
 * shape and whatever the memory holds that a row must not see. */
#include "kernels/attention/tile.h"
#include "kernels/kernels.h"
#include "tests/cmocka.h"
#include "tests/kernels/attention/reference.h"

enum { MAX_VARIANTS = 8 };

static size_t usable_variants(const struct tile_kernels **variants)
{
    size_t n = 0;
    for (const struct kernels *const *k = kernels_all; *k != NULL; k++)
        if ((*k)->usable() && tile_kernels_find((*k)->name) != NULL)
            variants[n++] = tile_kernels_find((*k)->name);
    return n;
}

static void evaluate(const struct tile_kernels *kernels, const struct attend_shape *shape,
                     const void *tile, const float *q, uint32_t n_rows, const uint8_t *first,
                     const uint8_t *last, struct tile_partial out)
{
    const size_t bytes = tile_scratch_floats(shape->head_dim) * sizeof(float);
    float *scratch = aligned_alloc(64, (bytes + 63) / 64 * 64);
    const size_t query = tile_query_floats(shape->type, shape->head_dim);
    float *queries = malloc(n_rows * query * sizeof(float));
    for (uint32_t row = 0; row < n_rows; row++)
        tile_query_write(shape->type, shape->head_dim, queries + row * query,
                         q + (size_t)row * shape->head_dim);
    memset(scratch, 0xff, bytes); /* NaN: nothing may be read before it is written */
    const struct tile_call call = {.shape = shape,
                                   .q = queries,
                                   .n_rows = n_rows,
                                   .first = first,
                                   .last = last,
                                   .k = tile,
                                   .v = (const char *)tile +
                                        tile_bytes(shape->type, shape->head_dim) / 2,
                                   .next = tile,
                                   .scratch = scratch};
    kernels->attend(&call, out);
    free(queries);
    free(scratch);
}

/* Evaluates in every variant, all rows at once and each row alone: the same bits; compares with
 * double. tolerance: of o / l, for |v| <= 1. */
static void check_tile(const struct attend_shape *shape, const struct made_kv *kv, const float *q,
                       uint32_t n_rows, const uint8_t *first, const uint8_t *last, double tolerance)
{
    const struct tile_kernels *variants[MAX_VARIANTS];
    const size_t n_variants = usable_variants(variants), head_dim = shape->head_dim;
    const size_t n = partial_floats(n_rows, head_dim);
    float *expected = made_floats(n, 1.0f, 1), *out = made_floats(n, 1.0f, 2);

    for (size_t i = 0; i < n_variants; i++) {
        evaluate(variants[i], shape, kv->memory, q, n_rows, first, last,
                 tile_partial_at(i == 0 ? expected : out, n_rows, head_dim, 0));
        if (i > 0)
            assert_memory_equal(out, expected, n * sizeof(float));
        memset(out, 0, n * sizeof(float));
        for (uint32_t row = 0; row < n_rows; row += i == 0 ? 9 : 1) { /* the portable one is slow */
            evaluate(variants[i], shape, kv->memory, q + row * head_dim, 1,
                     first != NULL ? first + row : NULL, last != NULL ? last + row : NULL,
                     tile_partial_at(out, 1, head_dim, 0));
            const struct tile_partial all = tile_partial_at(expected, n_rows, head_dim, row);
            assert_memory_equal(&out[0], all.m, sizeof(float));
            assert_memory_equal(&out[1], all.l, sizeof(float));
            assert_memory_equal(&out[2], all.o, head_dim * sizeof(float));
        }
    }
    double m, l, o[512];
    for (uint32_t row = 0; row < n_rows; row += 1 + n_rows / 16) {
        const uint32_t from = first != NULL ? first[row] : 0;
        const uint32_t to = last != NULL ? last[row] : TILE_TOKENS;
        const struct tile_partial got = tile_partial_at(expected, n_rows, head_dim, row);
        reference_attend(kv, q + row * head_dim, from, to > from ? to : from, (double)shape->scale,
                         (double)shape->soft_cap, &m, &l, o);
        if (to <= from) {
            assert_true(got.m[0] == -INFINITY && got.l[0] == 0.0f);
            for (size_t d = 0; d < head_dim; d++)
                assert_true(got.o[d] == 0.0f);
            continue;
        }
        assert_true(fabs((double)got.m[0] - m) <= 1e-5 * (1 + fabs(m)));
        assert_true(fabs((double)got.l[0] - l) <= (tolerance + 1e-5) * l);
        for (size_t d = 0; d < head_dim; d++)
            assert_true(fabs((double)got.o[d] / (double)got.l[0] - o[d]) <= tolerance);
    }
    free(expected);
    free(out);
}

static struct attend_shape shape_of(enum kv_type type, uint32_t head_dim)
{
    return (struct attend_shape){
        .type = type, .head_dim = head_dim, .group = 1, .scale = 1.0f / sqrtf((float)head_dim)};
}

static void test_every_shape_and_number_of_rows(void **state)
{
    static const uint32_t dims[] = {8, 32, 40, 64, 72, 80, 96, 112, 128, 160, 200, 256, 512};
    static const uint32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 17, 29, 64, TILE_BLOCK_ROWS};
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++)
        for (enum kv_type type = 0; (int)type < KV_TYPES; type++) {
            if (tile_check(type, dims[i], NULL) != STATUS_OK)
                continue;
            struct made_kv *kv = made_kv_create(type, dims[i], TILE_TOKENS, 1, 4.0f, i);
            const struct attend_shape shape = shape_of(type, dims[i]);
            float *q = made_floats((size_t)TILE_BLOCK_ROWS * dims[i], 4.0f, i + 50);
            for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++)
                if (rows[j] < 17 || dims[i] % 40 == 0 || dims[i] == 64)
                    check_tile(&shape, kv, q, rows[j], NULL, NULL, 1e-5);
            free(q);
            made_kv_destroy(kv);
        }
}

/* Rows see any part of the tile: causal, window, one token, none. */
static void test_rows_see_only_their_tokens(void **state)
{
    uint64_t random = 3;
    static const uint32_t dims[] = {32, 40, 64, 128};
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++)
        for (int round = 0; round < 24; round++) {
            /* Tokens from n_tokens on were never written: NaN. */
            const uint32_t n_tokens = round % 3 == 0 ? 128 : 1 + random_below(&random, 128);
            const uint32_t n_rows = 1 + random_below(&random, TILE_BLOCK_ROWS);
            const enum kv_type type = dims[i] == 40 ? KV_F16 : (enum kv_type)(round % KV_TYPES);
            struct made_kv *kv = made_kv_create(type, dims[i], n_tokens, 1, 4.0f, i);
            const struct attend_shape shape = shape_of(type, dims[i]);
            uint8_t first[TILE_BLOCK_ROWS], last[TILE_BLOCK_ROWS];
            float *q = made_floats((size_t)n_rows * dims[i], 4.0f, i);
            const uint32_t window = round % 2 ? 1 + random_below(&random, 40) : 128;
            for (uint32_t row = 0; row < n_rows; row++) {
                uint32_t end = round % 4 == 1 ? random_below(&random, n_tokens + 1)
                                              : row * n_tokens / n_rows + 1;
                end = end < n_tokens ? end : n_tokens;
                last[row] = (uint8_t)end;
                first[row] = (uint8_t)(end > window ? end - window : 0);
                if (round % 5 == 4 && row % 3 == 0)
                    first[row] = (uint8_t)(end + 1 < 128 ? end + 1 : 128); /* sees nothing */
            }
            check_tile(&shape, kv, q, n_rows, first, last, 1e-5);
            free(q);
            made_kv_destroy(kv);
        }
}

/* A masked token adds nothing, not even the sign of a zero: sums that are -0 stay -0. */
static void test_masked_tokens_leave_negative_zeros(void **state)
{
    struct made_kv *kv = made_kv_create(KV_F32, 32, TILE_TOKENS, 1, 1.0f, 1);
    const struct attend_shape shape = shape_of(KV_F32, 32);
    for (size_t i = 0; i < 128 * 32; i++) {
        kv->k[i] = i / 32 == 3 ? 100.0f : -100.0f;
        kv->v[i] = i / 32 < 3 ? -1e-45f : i / 32 == 3 ? -0.0f : 1.0f;
    }
    made_kv_store(kv);
    float q[17 * 32];
    uint8_t first[17] = {0}, last[17];
    for (size_t i = 0; i < 17 * 32; i++)
        q[i] = 0.01f;
    for (int row = 0; row < 17; row++)
        last[row] = (uint8_t)(3 + row);
    check_tile(&shape, kv, q, 17, first, last, 1e-5);

    /* Row 1 sees tokens 0 to 3: their sum rounds to -0, and token 4 would make it +0. */
    float out[17 * 34];
    const struct tile_partial partial = tile_partial_at(out, 17, 32, 0);
    evaluate(tile_kernels_fastest(), &shape, kv->memory, q, 17, first, last, partial);
    assert_true(partial.o[32] == 0.0f && signbit(partial.o[32]));
    made_kv_destroy(kv);
}

/* Scores that are huge, equal, zero, subnormal, or alone. A score of 1e4 carries an error of some
 * 1e-7 of itself where it is not exact (q8_0: the product of two scales), and so does its
 * weight. */
static void check_extreme_scores(enum kv_type type, uint32_t head_dim)
{
    uint64_t random = 4;
    const struct attend_shape shape = {
        .type = type, .head_dim = head_dim, .group = 1, .scale = 1.0f};
    const double huge = type == KV_Q8_0 ? 5e-3 : 1e-5;
    struct made_kv *kv = made_kv_create(type, head_dim, TILE_TOKENS, 1, 0.0f, 1);
    float *q = calloc((size_t)20 * head_dim, sizeof(float));
    for (size_t row = 0; row < 20; row++)
        q[row * head_dim] = 1.0f; /* the score is k's first dimension */
    for (int kind = 0; kind < 7; kind++) {
        for (uint32_t t = 0; t < TILE_TOKENS; t++) {
            float *k = kv->k + (size_t)t * head_dim;
            memset(k, 0, head_dim * sizeof(float));
            switch (kind) {
            case 0: /* huge, both signs */
                *k = random_below(&random, 2) ? 1e4f : -1e4f;
                break;
            case 1: /* huge and close to each other: exact in f32 */
                *k = 1e4f - (float)random_below(&random, 64) / 64.0f;
                break;
            case 2: /* all equal */
                *k = -7.25f;
                break;
            case 3: /* all equal and zero, of both signs */
                *k = random_below(&random, 2) ? 0.0f : -0.0f;
                break;
            case 4: /* weights that are subnormal */
                *k = t == 50 ? 0.0f : -88.0f - (float)random_below(&random, 16);
                break;
            case 5: /* one visible score, all others weigh nothing */
                *k = t == 127 ? 9e3f : -9e3f;
                break;
            default: /* subnormal scores */
                *k = (float)random_below(&random, 100) * 1e-41f;
            }
            for (uint32_t d = 0; d < head_dim; d++)
                kv->v[(size_t)t * head_dim + d] =
                    kind == 4 ? random_unit(&random) * 1e-38f : random_unit(&random);
        }
        made_kv_store(kv);
        check_tile(&shape, kv, q, 20, NULL, NULL, kind < 2 ? huge : 1e-5);
        check_tile(&shape, kv, q, 3, NULL, NULL, kind < 2 ? huge : 1e-5);
    }
    free(q);
    made_kv_destroy(kv);
}

static void test_extreme_scores(void **state)
{
    static const uint32_t dims[] = {32, 64, 96, 128, 160, 256};
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++)
        for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++)
            check_extreme_scores(type, dims[i]);
}

/* Rows of q8_0 that no quantizer makes: any integers, -128 too, and scales from subnormal to large.
 * A peer may send them. */
static void test_any_blocks_of_q8_0(void **state)
{
    enum { D = 96, ROW = D / 32 * 34 };
    uint64_t random = 8;
    const struct attend_shape shape = shape_of(KV_Q8_0, D);
    struct made_kv *kv = made_kv_create(KV_Q8_0, D, TILE_TOKENS, 1, 1.0f, 1);
    for (uint32_t t = 0; t < TILE_TOKENS; t++) {
        unsigned char rows[2][ROW];
        for (int which = 0; which < 2; which++) {
            for (int i = 0; i < ROW; i++)
                rows[which][i] = random_below(&random, 4) == 0
                                     ? 0x80
                                     : (unsigned char)random_below(&random, 256);
            for (int block = 0; block < D / 32; block++) { /* at most 2^-7: values up to 1 */
                const uint16_t scale = (uint16_t)random_below(&random, 0x2001);
                memcpy(rows[which] + block * 34, &scale, sizeof(scale));
            }
        }
        kv_widen(KV_Q8_0, kv->k + t * D, rows[0], D);
        kv_widen(KV_Q8_0, kv->v + t * D, rows[1], D);
        tile_write(kv->memory, KV_Q8_0, D, t, 1, rows[0], rows[1], ROW);
    }
    float *q = made_floats(40 * D, 4.0f, 5);
    check_tile(&shape, kv, q, 4, NULL, NULL, 1e-5);
    check_tile(&shape, kv, q, 40, NULL, NULL, 1e-5);
    free(q);
    made_kv_destroy(kv);
}

/* Each value within half a step of the largest of its block; a block that has none is zeros; what
 * is no number stays visible. */
static void test_queries_of_q8_0(void **state)
{
    enum { D = 128 };
    float q[D], made[D];
    for (int d = 0; d < D; d++)
        q[d] = d < 32   ? 1e30f * (float)(d - 16)
               : d < 64 ? 0.0f
               : d < 96 ? 1e-40f
                        : (float)d - 111.5f;
    tile_query_write(KV_Q8_0, D, made, q);
    const struct tile_q8_query query = tile_q8_query(made, D);
    for (int block = 0; block < D / 32; block++) {
        int32_t sum = 0;
        for (int d = block * 32; d < block * 32 + 32; d++) {
            assert_true(query.q[d] >= -127);
            assert_true(fabs((double)query.q[d] * (double)query.scale[block] - (double)q[d]) <=
                        0.5001 * (double)query.scale[block] + 1e-37);
            sum += query.q[d];
        }
        assert_int_equal(query.offset[block], -128 * sum);
    }
    assert_true(query.scale[0] > 0 && query.scale[1] == 0 && query.scale[2] == 0);

    struct made_kv *kv = made_kv_create(KV_Q8_0, D, TILE_TOKENS, 1, 1.0f, 1);
    const struct attend_shape shape = shape_of(KV_Q8_0, D);
    const struct tile_kernels *variants[MAX_VARIANTS];
    const size_t n_variants = usable_variants(variants);
    for (size_t i = 0; i < 2 * n_variants; i++) {
        float out[D + 2];
        q[70] = i % 2 ? NAN : INFINITY;
        evaluate(variants[i / 2], &shape, kv->memory, q, 1, NULL, NULL,
                 tile_partial_at(out, 1, D, 0));
        assert_true(isnan(out[1]));
    }
    made_kv_destroy(kv);
}

static void test_soft_cap(void **state)
{
    static const float caps[] = {1.0f, 30.0f, 1e4f};
    for (size_t i = 0; i < 3; i++)
        for (uint32_t n_rows = 2; n_rows <= 32; n_rows += 30) {
            const enum kv_type type = i == 1 ? KV_Q8_0 : KV_F16;
            struct made_kv *kv = made_kv_create(type, 64, TILE_TOKENS, 1, 8.0f, i);
            struct attend_shape shape = shape_of(type, 64);
            uint8_t first[32], last[32];
            shape.soft_cap = caps[i];
            float *q = made_floats(32 * 64, 8.0f, i);
            for (uint32_t row = 0; row < n_rows; row++) {
                first[row] = (uint8_t)row;
                last[row] = (uint8_t)(90 + row);
            }
            /* tanh is within 2e-7 of cap, and scores of 1e4 carry no more digits than that */
            check_tile(&shape, kv, q, n_rows, NULL, NULL, 1e-5 + 4e-7 * (double)caps[i]);
            check_tile(&shape, kv, q, n_rows, first, last, 1e-5 + 4e-7 * (double)caps[i]);
            free(q);
            made_kv_destroy(kv);
        }
}

static void test_read_gives_back_what_was_written(void **state)
{
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++) {
        enum { D = 160 };
        const size_t row = kv_row_bytes(type, D), stride = row + 24;
        char *tile = aligned_alloc(64, tile_bytes(type, D));
        char k[50 * 700], v[50 * 700], k_back[50 * 700] = {0}, v_back[50 * 700] = {0};
        assert_int_equal(tile_bytes(type, D), 2 * TILE_TOKENS * row);
        for (size_t i = 0; i < sizeof(k); i++) {
            k[i] = (char)(i * 7);
            v[i] = (char)(i * 11 + 3);
        }
        memset(tile, 0x55, tile_bytes(type, D));
        tile_write(tile, type, D, 61, 50, k, v, stride);
        tile_read(tile, type, D, 61, 50, k_back, v_back, stride);
        for (size_t i = 0; i < 50; i++) {
            assert_memory_equal(k + i * stride, k_back + i * stride, row);
            assert_memory_equal(v + i * stride, v_back + i * stride, row);
        }
        tile_read(tile, type, D, 111, 17, k_back, v_back, stride);
        for (size_t i = 0; i < 17 * stride; i++) /* nothing beyond was touched */
            assert_true(i % stride >= row || v_back[i] == 0x55);
        free(tile);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape_and_number_of_rows),
        cmocka_unit_test(test_rows_see_only_their_tokens),
        cmocka_unit_test(test_masked_tokens_leave_negative_zeros),
        cmocka_unit_test(test_extreme_scores),
        cmocka_unit_test(test_any_blocks_of_q8_0),
        cmocka_unit_test(test_queries_of_q8_0),
        cmocka_unit_test(test_soft_cap),
        cmocka_unit_test(test_read_gives_back_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
