/* test_partial.c - merging and folding against double precision, exact identities, and nodes that
 * do not make up a sequence. */
#include "kernels/attention/partial.h"
#include "kernels/attention/tile.h"
#include "kernels/kernels.h"
#include "tests/cmocka.h"
#include "tests/kernels/attention/reference.h"

enum { N_KEYS = 400, D = 24, N_ROWS = 37, MAX_TILES = 64 };

/* Scores and values of a row's keys; -INFINITY: not visible. */
struct keys {
    float score[N_ROWS][N_KEYS], v[N_KEYS][D];
};

static struct keys *made_keys(float scale, uint64_t seed)
{
    struct keys *keys = malloc(sizeof(*keys));
    for (int row = 0; row < N_ROWS; row++)
        for (int i = 0; i < N_KEYS; i++) {
            keys->score[row][i] = scale * random_unit(&seed);
            if (row % 4 == 1 && random_below(&seed, 3) > 0)
                keys->score[row][i] = -INFINITY;
            if (row % 8 == 6 || (row % 8 == 7 && i != 123))
                keys->score[row][i] = -INFINITY; /* nothing visible; one key visible */
        }
    for (int i = 0; i < N_KEYS; i++)
        for (int d = 0; d < D; d++)
            keys->v[i][d] = random_unit(&seed);
    return keys;
}

/* The partial of keys [begin, end), rounded to f32 from double. */
static void attend_keys(const struct keys *keys, int begin, int end, float *partial)
{
    for (size_t row = 0; row < N_ROWS; row++) {
        const struct tile_partial out = tile_partial_at(partial, N_ROWS, D, row);
        const float *score = keys->score[row];
        double l = 0, o[D] = {0}, m = (double)-INFINITY;
        for (int i = begin; i < end; i++)
            m = (double)score[i] > m ? (double)score[i] : m;
        for (int i = begin; i < end && m > (double)-INFINITY; i++) {
            const double p = exp((double)score[i] - m);
            l += p;
            for (int d = 0; d < D; d++)
                o[d] += p * (double)keys->v[i][d];
        }
        out.m[0] = (float)m;
        out.l[0] = (float)l;
        for (int d = 0; d < D; d++)
            out.o[d] = (float)o[d];
    }
}

static void check_near(const float *got, const float *expected)
{
    for (size_t row = 0; row < N_ROWS; row++) {
        const struct tile_partial a = tile_partial_at((float *)got, N_ROWS, D, row);
        const struct tile_partial b = tile_partial_at((float *)expected, N_ROWS, D, row);
        assert_true(a.m[0] == b.m[0]);
        if (b.l[0] == 0.0f) {
            assert_true(a.l[0] == 0.0f);
            continue;
        }
        /* a rounding of 6e-8 and e^x within 1e-7 for each of up to 20 merges */
        assert_true(fabsf(a.l[0] - b.l[0]) <= 4e-6f * b.l[0]);
        for (int d = 0; d < D; d++)
            assert_true(fabsf(a.o[d] / a.l[0] - b.o[d] / b.l[0]) <= 4e-6f);
    }
}

static void test_random_splits_agree_with_double_precision(void **state)
{
    static const float scales[] = {1.0f, 30.0f, 1e4f};
    static float whole[N_ROWS * (D + 2)], sum[N_ROWS * (D + 2)], part[N_ROWS * (D + 2)];
    uint64_t random = 5;
    for (int i = 0; i < 60; i++) {
        struct keys *keys = made_keys(scales[i % 3], (uint64_t)i);
        attend_keys(keys, 0, N_KEYS, whole);
        partial_clear(sum, N_ROWS, D);
        for (int begin = 0, end; begin < N_KEYS; begin = end) {
            end = begin + (int)random_below(&random, i % 2 ? 80 : N_KEYS); /* may be empty */
            end = end < N_KEYS ? end : N_KEYS;
            attend_keys(keys, begin, end, part);
            if (random_below(&random, 2)) {
                partial_merge(sum, part, N_ROWS, D);
            } else {
                partial_merge(part, sum, N_ROWS, D);
                memcpy(sum, part, sizeof(sum));
            }
        }
        check_near(sum, whole);
        free(keys);
    }
}

static void test_empty_partial_is_the_identity(void **state)
{
    float empty[N_ROWS * (D + 2)], a[N_ROWS * (D + 2)], before[N_ROWS * (D + 2)];
    struct keys *keys = made_keys(1e4f, 3);
    attend_keys(keys, 0, N_KEYS, before);
    before[2 * N_ROWS + 5] = -0.0f; /* bits, not values */
    partial_clear(empty, N_ROWS, D);
    assert_true(empty[0] == -INFINITY && empty[N_ROWS] == 0.0f && empty[2 * N_ROWS] == 0.0f);

    memcpy(a, before, sizeof(a));
    partial_merge(a, empty, N_ROWS, D);
    assert_memory_equal(a, before, sizeof(a));
    memcpy(a, empty, sizeof(a));
    partial_merge(a, before, N_ROWS, D);
    for (size_t row = 0; row < N_ROWS; row++) /* rows that are empty in both keep a's */
        if (before[row] > -INFINITY) {
            assert_memory_equal(a + 2 * N_ROWS + row * D, before + 2 * N_ROWS + row * D,
                                D * sizeof(float));
            assert_memory_equal(a + row, before + row, sizeof(float));
            assert_memory_equal(a + N_ROWS + row, before + N_ROWS + row, sizeof(float));
        }
    partial_clear(a, N_ROWS, D);
    partial_merge(a, empty, N_ROWS, D);
    assert_memory_equal(a, empty, sizeof(a));
    free(keys);
}

static void test_all_variants_merge_to_the_same_bits(void **state)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct keys *keys = made_keys(seed % 3 ? 8.0f : 1e4f, seed);
        float expected[N_ROWS * (D + 2)], a[N_ROWS * (D + 2)], b[N_ROWS * (D + 2)];
        const struct tile_partial pa = tile_partial_at(a, N_ROWS, D, 0);
        const struct tile_partial pb = tile_partial_at(b, N_ROWS, D, 0);
        attend_keys(keys, 150, N_KEYS, b);
        for (const struct kernels *const *k = kernels_all; *k != NULL; k++) {
            if (!(*k)->usable())
                continue;
            attend_keys(keys, 0, 150, a);
            tile_kernels_find((*k)->name)->merge(pa, pb, N_ROWS, D);
            if (k == kernels_all)
                memcpy(expected, a, sizeof(a));
            assert_memory_equal(a, expected, sizeof(a));
        }
        free(keys);
    }
}

/* Four at once, in every variant: any of them may be empty, all rows or one. */
static void test_four_merged_at_once_are_three_merges(void **state)
{
    enum { FLOATS = N_ROWS * (D + 2) };
    static float parts[4][FLOATS], four[4][FLOATS], pairs[4][FLOATS];
    struct keys *keys = made_keys(8.0f, 5);
    for (int i = 0; i < 4; i++)
        attend_keys(keys, i * N_KEYS / 4, (i + 1) * N_KEYS / 4, parts[i]);
    for (uint32_t empty = 0; empty < 1u << 5; empty++) {
        for (int i = 0; i < 4; i++) {
            struct tile_partial part = tile_partial_at(pairs[i], N_ROWS, D, 0);
            memcpy(pairs[i], parts[i], sizeof(pairs[i]));
            for (size_t row = 0; row < N_ROWS && (empty >> i & 1) != 0; row++) {
                if (empty >> 4 != 0 && row != N_ROWS / 2)
                    continue; /* that row only */
                part.m[row] = -INFINITY;
                part.l[row] = 0.0f;
                memset(part.o + row * D, 0, D * sizeof(float));
            }
        }
        memcpy(four, pairs, sizeof(four));
        partial_merge(pairs[0], pairs[1], N_ROWS, D);
        partial_merge(pairs[2], pairs[3], N_ROWS, D);
        partial_merge(pairs[0], pairs[2], N_ROWS, D);
        for (const struct kernels *const *k = kernels_all; *k != NULL; k++) {
            float copies[4][FLOATS];
            struct tile_partial at[4];
            if (!(*k)->usable())
                continue;
            memcpy(copies, four, sizeof(copies));
            for (int i = 0; i < 4; i++)
                at[i] = tile_partial_at(copies[i], N_ROWS, D, 0);
            tile_kernels_find((*k)->name)->merge_four(at, N_ROWS, D);
            assert_memory_equal(copies[0], pairs[0], sizeof(pairs[0]));
        }
    }
    free(keys);
}

/* Partials of `n_tiles` tiles of few keys each, as the aligned nodes and prefixes of any holders.
 */
static void value_of(const struct keys *keys, uint32_t n_tiles, struct tile_range node, float *out)
{
    struct tile_range ranges[TREE_MAX_DEPTH];
    float *stack = malloc(TREE_MAX_DEPTH * N_ROWS * (D + 2) * sizeof(float));
    uint32_t top = 0;
    for (uint32_t tile = node.begin; tile < node.end; tile++) {
        ranges[top] = (struct tile_range){tile, tile + 1};
        attend_keys(keys, (int)tile * 6, (int)tile * 6 + 6, stack + top * N_ROWS * (D + 2));
        for (top++; top >= 2 && tree_joins(n_tiles, ranges[top - 2], ranges[top - 1]); top--) {
            partial_merge(stack + (top - 2) * N_ROWS * (D + 2),
                          stack + (top - 1) * N_ROWS * (D + 2), N_ROWS, D);
            ranges[top - 2].end = ranges[top - 1].end;
        }
    }
    assert_int_equal(top, 1);
    memcpy(out, stack, N_ROWS * (D + 2) * sizeof(float));
    free(stack);
}

static void test_fold_gives_the_same_bits_for_any_nodes(void **state)
{
    struct keys *keys = made_keys(5.0f, 8);
    struct partial_fold *fold = malloc(sizeof(*fold));
    float(*parts)[N_ROWS * (D + 2)] = malloc(MAX_TILES * sizeof(*parts));
    float own[N_ROWS * (D + 2)], expected[N_ROWS][D], out[N_ROWS][D];
    uint64_t random = 6;
    attend_keys(keys, 390, 400, own);
    for (int round = 0; round < 40; round++) {
        const uint32_t n = round == 0 ? 1 : 1 + random_below(&random, MAX_TILES);
        const struct tile_range all = {0, n};
        partial_fold_reset(fold, n, N_ROWS, D);
        value_of(keys, n, all, parts[0]);
        assert_true(partial_fold_add(fold, all, parts[0]));
        assert_true(partial_fold_finish(fold, own, expected[0], D, 1));

        /* Cut anywhere, add in any order. */
        struct tile_range nodes[MAX_TILES];
        size_t n_nodes = 0;
        for (uint32_t at = 0; at < n;) {
            const struct tile_range range = {at, at + 1 + random_below(&random, n - at)};
            n_nodes += tree_nodes(n, &range, 1, nodes + n_nodes, MAX_TILES - n_nodes);
            at = range.end;
        }
        for (size_t i = 0; i < n_nodes; i++) {
            const size_t other = i + random_below(&random, (uint32_t)(n_nodes - i));
            const struct tile_range swap = nodes[i];
            nodes[i] = nodes[other];
            nodes[other] = swap;
        }
        partial_fold_reset(fold, n, N_ROWS, D);
        for (size_t i = 0; i < n_nodes; i++) {
            value_of(keys, n, nodes[i], parts[i]);
            assert_true(partial_fold_add(fold, nodes[i], parts[i]));
        }
        assert_true(partial_fold_finish(fold, own, out[0], D, 1));
        assert_memory_equal(out, expected, sizeof(out));
    }
    free(keys);
    free(parts);
    free(fold);
}

static void test_fold_writes_rows_where_they_belong(void **state)
{
    struct partial_fold fold;
    float own[6 * (2 + 2)], out[100];
    for (int i = 0; i < 100; i++)
        out[i] = 77.0f;
    for (size_t row = 0; row < 6; row++) {
        const struct tile_partial p = tile_partial_at(own, 6, 2, row);
        p.m[0] = row == 4 ? -INFINITY : 1.0f;
        p.l[0] = row == 4 ? 0.0f : 2.0f;
        p.o[0] = row == 4 ? 0.0f : (float)row;
        p.o[1] = 0.0f;
    }
    partial_fold_reset(&fold, 0, 6, 2);
    assert_true(partial_fold_finish(&fold, own, out, 40, 3));
    for (int row = 0; row < 6;
         row++) /* token row / 3, head row % 3; a row that sees nothing is 0 */
        assert_true(out[row / 3 * 40 + row % 3 * 2] == (row == 4 ? 0.0f : (float)row / 2.0f));
    assert_true(out[6] == 77.0f && out[39] == 77.0f && out[46] == 77.0f);
}

static void test_fold_refuses_what_is_not_the_sequence(void **state)
{
    static const struct {
        uint32_t n, n_nodes;
        struct tile_range nodes[4];
    } cases[] = {
        {8, 0, {{0, 0}}},                 /* nothing */
        {8, 1, {{0, 4}}},                 /* the end is missing */
        {8, 1, {{4, 8}}},                 /* the beginning */
        {8, 2, {{0, 4}, {6, 8}}},         /* a gap */
        {8, 2, {{0, 8}, {4, 8}}},         /* twice */
        {8, 2, {{0, 4}, {0, 4}}},         /* twice the same */
        {8, 2, {{0, 8}, {8, 16}}},        /* too much */
        {8, 1, {{0, 16}}},                /* more than there is */
        {8, 2, {{0, 3}, {3, 8}}},         /* not nodes of the tree */
        {12, 2, {{0, 10}, {10, 12}}},     /* neither */
        {8, 3, {{0, 4}, {4, 4}, {4, 8}}}, /* an empty one */
        {8, 2, {{4, 0}, {0, 8}}},         /* nonsense */
        {0, 1, {{0, 1}}},                 /* past where there is none */
    };
    struct partial_fold *fold = malloc(sizeof(*fold));
    float own[4], parts[4][4], out[2] = {7.0f, 7.0f};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        partial_clear(own, 1, 2);
        partial_fold_reset(fold, cases[i].n, 1, 2);
        for (uint32_t j = 0; j < cases[i].n_nodes; j++) {
            partial_clear(parts[j], 1, 2);
            assert_true(partial_fold_add(fold, cases[i].nodes[j], parts[j]));
        }
        assert_false(partial_fold_finish(fold, own, out, 2, 1));
        assert_true(out[0] == 7.0f && out[1] == 7.0f);
    }
    partial_fold_reset(fold, 0, 1, 2);
    assert_false(partial_fold_finish(fold, NULL, out, 2, 1));

    partial_fold_reset(fold, 10000, 1, 2);
    for (uint32_t i = 0; i < 512; i++)
        assert_true(partial_fold_add(fold, (struct tile_range){i, i + 1}, parts[0]));
    assert_false(partial_fold_add(fold, (struct tile_range){512, 513}, parts[0]));
    free(fold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_splits_agree_with_double_precision),
        cmocka_unit_test(test_empty_partial_is_the_identity),
        cmocka_unit_test(test_all_variants_merge_to_the_same_bits),
        cmocka_unit_test(test_four_merged_at_once_are_three_merges),
        cmocka_unit_test(test_fold_gives_the_same_bits_for_any_nodes),
        cmocka_unit_test(test_fold_writes_rows_where_they_belong),
        cmocka_unit_test(test_fold_refuses_what_is_not_the_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
