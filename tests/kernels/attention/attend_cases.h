/* tests/kernels/attention/attend_cases.h - what the executor of every device must do: be right
 * against double precision, and give the same bits whatever the lanes, the variant, the rows of a
 * call, the holders of the tiles and the works beside it. */
#ifndef LONGSPAN_TESTS_KERNELS_ATTENTION_ATTEND_CASES_H
#define LONGSPAN_TESTS_KERNELS_ATTENTION_ATTEND_CASES_H

#include "tests/emulator.h"
#include "tests/kernels/attention/place.h"
#include "tests/thread_sanitizer.h"

enum { MAX_RANGES = 40 };

/* A holder's part of a sequence's tiles. */
struct part {
    struct tile_range ranges[MAX_RANGES];
    size_t n_ranges;
};

static struct attend *attend_of(struct thread_pool *pool, const char *kernels,
                                const struct attend_shape *shape)
{
    struct attend *attend = NULL;
    struct error error = {0};
    const struct kernels *table = place.kernels;
    if ((table == NULL && kernels_choose(&table, kernels, &error) != STATUS_OK) ||
        attend_create(&attend, table, place.device, pool, shape, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    if (table->attention_device != NULL)
        table->attention_device->set_lanes(attend_device_state(attend), thread_pool_lanes(pool));
    return attend;
}

static struct thread_pool *pool_of(uint32_t n_lanes)
{
    struct thread_pool *pool = NULL;
    assert_int_equal(thread_pool_create(&pool, n_lanes, NULL), STATUS_OK);
    return pool;
}

static struct attend_shape shape_of(const struct made_kv *kv, uint32_t group)
{
    return (struct attend_shape){.type = kv->type,
                                 .head_dim = kv->head_dim,
                                 .group = group,
                                 .scale = 1.0f / sqrtf((float)kv->head_dim)};
}

/* One work for each part, and one for the own tile; folds them. out: [n_tokens][group][head_dim].
 */
static void attend_parts(struct attend *attend, const struct attend_shape *shape,
                         const struct made_kv *kv, const float *q, uint32_t position,
                         uint32_t n_tokens, uint32_t window, const struct part *parts,
                         size_t n_parts, bool together, float *out)
{
    const uint32_t n = position / TILE_TOKENS, n_rows = n_tokens * shape->group;
    const size_t row = (size_t)shape->group * shape->head_dim;
    struct attend_work *works = calloc(n_parts + 1, sizeof(*works));
    struct partial_fold *fold = malloc(sizeof(*fold));
    partial_fold_reset(fold, n, n_rows, shape->head_dim);

    for (size_t i = 0; i <= n_parts; i++) {
        works[i] = (struct attend_work){.q = q,
                                        .q_token_stride = row,
                                        .n_tokens = n_tokens,
                                        .position = position,
                                        .window = window,
                                        .source = made_kv_source(kv)};
        if (i < n_parts) {
            works[i].ranges = parts[i].ranges;
            works[i].n_ranges = parts[i].n_ranges;
        } else {
            works[i].own_tile = true;
        }
        const size_t n_floats = attend_out_floats(shape, &works[i]);
        works[i].out = malloc((n_floats + 1) * sizeof(float));
        memset(works[i].out, 0xff, n_floats * sizeof(float));
    }
    if (together)
        assert_int_equal(place_run(attend, shape, works, n_parts + 1), STATUS_OK);
    else
        for (size_t i = 0; i <= n_parts; i++)
            assert_int_equal(place_run(attend, shape, &works[i], 1), STATUS_OK);

    for (size_t i = 0; i < n_parts; i++) {
        struct tile_range nodes[MAX_RANGES * TREE_NODES_PER_RANGE];
        const size_t n_nodes = tree_nodes(n, parts[i].ranges, parts[i].n_ranges, nodes,
                                          sizeof(nodes) / sizeof(nodes[0]));
        for (size_t j = 0; j < n_nodes; j++)
            assert_true(partial_fold_add(
                fold, nodes[j], works[i].out + j * partial_floats(n_rows, shape->head_dim)));
    }
    assert_true(partial_fold_finish(fold, works[n_parts].out, out, row, shape->group));
    for (size_t i = 0; i <= n_parts; i++)
        free(works[i].out);
    free(works);
    free(fold);
}

/* Finished rows are those that folding gives. */
static void check_final_rows(struct attend *attend, const struct attend_shape *shape,
                             const struct made_kv *kv, const float *q, uint32_t position,
                             uint32_t n_tokens, uint32_t window, const float *folded)
{
    const struct tile_range before = {0, position / TILE_TOKENS};
    const size_t row = (size_t)shape->group * shape->head_dim;
    float *out = malloc(n_tokens * (row + 1) * sizeof(*out));
    const struct attend_work work = {.q = q,
                                     .q_token_stride = row,
                                     .n_tokens = n_tokens,
                                     .position = position,
                                     .window = window,
                                     .source = made_kv_source(kv),
                                     .ranges = &before,
                                     .n_ranges = before.end > 0,
                                     .own_tile = true,
                                     .final_out = out,
                                     .final_token_stride = row + 1};
    assert_int_equal(attend_out_floats(shape, &work), 0);
    assert_int_equal(place_run(attend, shape, &work, 1), STATUS_OK);
    for (uint32_t token = 0; token < n_tokens; token++)
        assert_memory_equal(out + token * (row + 1), folded + token * row, row * sizeof(*out));
    free(out);
}

static void attend_all(struct attend *attend, const struct attend_shape *shape,
                       const struct made_kv *kv, const float *q, uint32_t position,
                       uint32_t n_tokens, uint32_t window, float *out)
{
    const struct part whole = {{{0, position / TILE_TOKENS}}, position / TILE_TOKENS > 0};
    attend_parts(attend, shape, kv, q, position, n_tokens, window, &whole, 1, true, out);
    check_final_rows(attend, shape, kv, q, position, n_tokens, window, out);
}

static void check_against_double(const struct attend_shape *shape, const struct made_kv *kv,
                                 const float *q, uint32_t position, uint32_t n_tokens,
                                 uint32_t window, const float *out)
{
    double m, l, expected[512];
    for (uint32_t token = 0; token < n_tokens; token++)
        for (uint32_t g = 0; g < shape->group; g++) {
            const uint32_t end = position + token + 1;
            const size_t at = ((size_t)token * shape->group + g) * shape->head_dim;
            reference_attend(kv, q + at, window != 0 && end > window ? end - window : 0, end,
                             (double)shape->scale, (double)shape->soft_cap, &m, &l, expected);
            for (uint32_t d = 0; d < shape->head_dim; d++) /* |v| <= 1; scores up to 10 in f32 */
                assert_true(fabs((double)out[at + d] - expected[d]) < 2e-5);
        }
}

static void test_agrees_with_double_precision(void **state)
{
    thread_sanitizer_skips();
    static const struct {
        enum kv_type type;
        uint32_t head_dim, group, position, n_tokens, window;
        float soft_cap;
    } cases[] = {
        {KV_F16, 64, 4, 1000, 1, 0, 0},    {KV_F32, 64, 4, 1000, 1, 0, 0},
        {KV_F16, 32, 1, 640, 128, 0, 0},   {KV_F16, 128, 8, 2047, 1, 0, 0},
        {KV_F16, 96, 3, 700, 60, 0, 0},    {KV_F32, 40, 2, 300, 37, 0, 0},
        {KV_F16, 256, 2, 511, 1, 0, 0},    {KV_F16, 64, 64, 129, 3, 0, 0},
        {KV_F16, 32, 2, 1500, 30, 1, 0},   {KV_F16, 32, 2, 1500, 30, 100, 0},
        {KV_F16, 32, 2, 1530, 6, 128, 0},  {KV_F16, 32, 4, 1408, 128, 513, 0},
        {KV_F16, 64, 4, 900, 20, 0, 5.0f}, {KV_F16, 64, 4, 0, 128, 0, 0},
        {KV_F16, 64, 4, 0, 1, 0, 0},       {KV_F16, 64, 4, 127, 1, 0, 0},
        {KV_F16, 64, 4, 128, 1, 0, 0},     {KV_F16, 72, 5, 260, 90, 300, 0},
        {KV_BF16, 64, 4, 1000, 1, 0, 0},   {KV_BF16, 128, 8, 2047, 1, 0, 0},
        {KV_BF16, 96, 3, 700, 60, 0, 0},   {KV_BF16, 256, 2, 400, 100, 0, 0},
        {KV_BF16, 40, 2, 300, 37, 0, 0},   {KV_BF16, 160, 2, 1530, 6, 128, 0},
        {KV_Q8_0, 64, 4, 1000, 1, 0, 0},   {KV_Q8_0, 128, 8, 2047, 1, 0, 0},
        {KV_Q8_0, 96, 3, 700, 60, 0, 0},   {KV_Q8_0, 256, 2, 400, 100, 0, 0},
        {KV_Q8_0, 32, 2, 1500, 30, 1, 0},  {KV_Q8_0, 160, 2, 1530, 6, 128, 0},
        {KV_Q8_0, 64, 64, 129, 3, 0, 0},   {KV_Q8_0, 64, 4, 900, 20, 0, 5.0f},
        {KV_F16, 128, 4, 700, 60, 99, 0},  {KV_BF16, 128, 4, 700, 60, 99, 0},
        {KV_Q8_0, 128, 4, 700, 60, 99, 0}, {KV_Q8_0, 128, 9, 0, 20, 0, 5.0f},
    };
    struct thread_pool *pool = pool_of(2);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct made_kv *kv =
            place_kv_create(cases[i].type, cases[i].head_dim, cases[i].position + cases[i].n_tokens,
                            2, 4.0f, 100 + i);
        struct attend_shape shape = shape_of(kv, cases[i].group);
        shape.soft_cap = cases[i].soft_cap;
        const size_t n = (size_t)cases[i].n_tokens * shape.group * shape.head_dim;
        float *q = made_floats(n, 4.0f, i), *out = made_floats(n, 1.0f, 3);
        struct attend *attend = attend_of(pool, "auto", &shape);
        attend_all(attend, &shape, kv, q, cases[i].position, cases[i].n_tokens, cases[i].window,
                   out);
        check_against_double(&shape, kv, q, cases[i].position, cases[i].n_tokens, cases[i].window,
                             out);
        attend_destroy(attend);
        free(q);
        free(out);
        place_kv_destroy(kv);
    }
    thread_pool_destroy(pool);
}

static void test_same_bits_for_any_lanes_and_variant(void **state)
{
    static const uint32_t lanes[] = {1, 2, 3, 7};
    static const struct {
        enum kv_type type;
        uint32_t head_dim, group, position, n_tokens, window;
    } cases[] = {{KV_F16, 64, 4, 5000, 1, 0},     {KV_F16, 128, 8, 2000, 30, 0},
                 {KV_BF16, 64, 16, 900, 9, 0},    {KV_Q8_0, 256, 2, 900, 9, 0},
                 {KV_F16, 40, 3, 1500, 9, 0},     {KV_F16, 32, 1, 3000, 72, 1000},
                 {KV_BF16, 128, 4, 3000, 1, 0},   {KV_BF16, 96, 2, 1500, 40, 600},
                 {KV_Q8_0, 64, 4, 5000, 1, 0},    {KV_Q8_0, 128, 3, 1500, 9, 0},
                 {KV_Q8_0, 32, 1, 3000, 72, 1000}};
    const size_t each = THREAD_SANITIZER ? 5 : 1;
    thread_sanitizer_leaves_out("most kinds of rows by one to seven lanes");
    const size_t each_lanes = emulator_leaves_out("rows by two and seven lanes") ? 2 : 1;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c += each) {
        struct made_kv *kv = place_kv_create(cases[c].type, cases[c].head_dim,
                                             cases[c].position + cases[c].n_tokens, 2, 4.0f, c);
        const struct attend_shape shape = shape_of(kv, cases[c].group);
        const size_t n = (size_t)cases[c].n_tokens * shape.group * shape.head_dim;
        float *q = made_floats(n, 4.0f, c), *first = NULL;
        for (size_t l = 0; l < sizeof(lanes) / sizeof(lanes[0]); l += each_lanes)
            for (const struct kernels *const *k = kernels_all; *k != NULL; k++) {
                if (!(*k)->usable() || (place.kernels != NULL && k != kernels_all))
                    continue; /* a device has one variant */
                struct thread_pool *pool = pool_of(lanes[l]);
                struct attend *attend = attend_of(pool, (*k)->name, &shape);
                float *out = made_floats(n, 1.0f, 1);
                attend_all(attend, &shape, kv, q, cases[c].position, cases[c].n_tokens,
                           cases[c].window, out);
                if (first == NULL)
                    first = out;
                else {
                    assert_memory_equal(out, first, n * sizeof(float));
                    free(out);
                }
                attend_destroy(attend);
                thread_pool_destroy(pool);
            }
        free(first);
        free(q);
        place_kv_destroy(kv);
    }
}

static void check_chunks(enum kv_type type, uint32_t head_dim, size_t n_windows)
{
    static const uint32_t windows[] = {0, 1, 130, 700};
    struct made_kv *kv = place_kv_create(type, head_dim, 1280, 2, 4.0f, 5);
    const struct attend_shape shape = shape_of(kv, 4);
    const size_t row = (size_t)shape.group * shape.head_dim;
    struct thread_pool *pool = pool_of(3);
    struct attend *attend = attend_of(pool, "auto", &shape);
    float *q = made_floats(128 * row, 4.0f, 6);
    for (size_t w = 0; w < n_windows; w++) {
        float *chunk = made_floats(128 * row, 1.0f, 1), *one = made_floats(128 * row, 1.0f, 2);
        attend_all(attend, &shape, kv, q, 1152, 128, windows[w], chunk);
        for (uint32_t at = 0, n; at < 128; at += n) {
            n = at < 20 ? 1 : at < 40 ? 7 : 128 - at < 44 ? 128 - at : 44;
            attend_all(attend, &shape, kv, q + at * row, 1152 + at, n, windows[w], one + at * row);
        }
        assert_memory_equal(chunk, one, 128 * row * sizeof(float));
        free(chunk);
        free(one);
    }
    free(q);
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

static void test_same_bits_token_by_token_and_in_chunks(void **state)
{
    thread_sanitizer_leaves_out("windows and heads of 128, token by token and in chunks");
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++)
        check_chunks(type, 64, THREAD_SANITIZER ? 1 : 4);
    if (THREAD_SANITIZER)
        return;
    check_chunks(KV_F16, 128, 1);
    check_chunks(KV_BF16, 128, 1);
    check_chunks(KV_Q8_0, 128, 2);
}

/* Every stripe to a random holder. */
static size_t deal(uint32_t n_tiles, uint64_t *random, struct part *parts)
{
    const size_t n_parts = 1 + random_below(random, 4);
    const uint32_t stripe = 1 + random_below(random, n_tiles / 12 + 8);
    memset(parts, 0, n_parts * sizeof(*parts));
    for (uint32_t at = 0, end; at < n_tiles; at = end) {
        end = at + 1 + random_below(random, 2 * stripe);
        end = end < n_tiles ? end : n_tiles;
        struct part *part = &parts[random_below(random, (uint32_t)n_parts)];
        if (part->n_ranges > 0 && part->ranges[part->n_ranges - 1].end == at)
            part->ranges[part->n_ranges - 1].end = end;
        else if (part->n_ranges < MAX_RANGES)
            part->ranges[part->n_ranges++] = (struct tile_range){at, end};
        else
            end = at; /* full: ask another one */
    }
    return n_parts;
}

static void test_same_bits_for_any_holders(void **state)
{
    static const uint32_t positions[] = {300 * 128 + 5, 255 * 128 + 100, 37 * 128, 11 * 128 + 127};
    const uint32_t n_rounds = THREAD_SANITIZER ? 4 : 12;
    uint64_t random = 9;
    thread_sanitizer_leaves_out("most ways to deal tiles to holders");
    for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
        const uint32_t position = positions[i], n = position / TILE_TOKENS;
        const enum kv_type type = (enum kv_type)(i % KV_TYPES);
        struct made_kv *kv = place_kv_create(type, place.head_dim, position + 1, 2, 6.0f, i);
        const struct attend_shape shape = shape_of(kv, 2);
        float expected[2 * 128], out[2 * 128];
        const size_t n_floats = 2 * (size_t)place.head_dim;
        float *q = made_floats(n_floats, 6.0f, i);
        for (uint32_t round = 0; round < n_rounds; round++) {
            const uint32_t window = round % 4 == 3 ? position / 2 : 0;
            struct thread_pool *pool = pool_of(1 + random_below(&random, 4));
            struct attend *attend = attend_of(pool, "auto", &shape);
            struct part parts[4];
            const size_t n_parts = deal(n, &random, parts);
            attend_all(attend, &shape, kv, q, position, 1, window, expected);
            attend_parts(attend, &shape, kv, q, position, 1, window, parts, n_parts, round % 2,
                         out);
            assert_memory_equal(out, expected, n_floats * sizeof(*out));
            if (round > 9)
                check_against_double(&shape, kv, q, position, 1, window, expected);
            attend_destroy(attend);
            thread_pool_destroy(pool);
        }
        free(q);
        place_kv_destroy(kv);
    }
}

/* How often works are cut, and by how many lanes; 0 parts: as the schedule likes. */
struct cut_case {
    uint32_t lanes, n_parts;
};

/* Ragged works, decode and prefill: each alone, and then all in one call, cut in every way. */
static void check_beside_others(enum kv_type type, const struct cut_case *cuts, size_t n_cuts)
{
    enum { N_WORKS = 9 };
    uint64_t random = 77;
    struct made_kv *kv = place_kv_create(type, place.head_dim, 6000, 1, 4.0f, 1);
    const struct attend_shape shape = shape_of(kv, 2);
    float *q = made_floats(128 * 2 * place.head_dim, 4.0f, 2);
    struct thread_pool *alone_pool = pool_of(1);
    struct attend *alone = attend_of(alone_pool, "scalar", &shape);
    struct attend_work works[N_WORKS];
    struct tile_range ranges[N_WORKS][2];
    size_t n_floats[N_WORKS];
    float *expected[N_WORKS];
    for (size_t i = 0; i < N_WORKS; i++) {
        const uint32_t n = 3 + random_below(&random, 40);
        const uint32_t in_tile = random_below(&random, 128);
        ranges[i][0] = (struct tile_range){0, 1 + random_below(&random, n - 2)};
        ranges[i][1] = (struct tile_range){ranges[i][0].end + 1, n};
        works[i] = (struct attend_work){
            .q = q,
            .q_token_stride = 2 * place.head_dim,
            .n_tokens = i % 3 == 0 ? 128 - in_tile : 1,
            .position = n * TILE_TOKENS + in_tile,
            .window = i % 4 == 1 ? 200 : 0,
            .source = made_kv_source(kv),
            .ranges = ranges[i],
            .n_ranges = i % 5 == 4 ? 0 : 1 + (ranges[i][1].begin < n),
            .own_tile = i % 2,
        };
        n_floats[i] = attend_out_floats(&shape, &works[i]);
        expected[i] = calloc(n_floats[i] + 1, sizeof(float));
        works[i].out = expected[i];
        assert_int_equal(place_run(alone, &shape, &works[i], 1), STATUS_OK);
    }
    for (size_t cut = 0; cut < n_cuts; cut++) {
        struct thread_pool *pool = pool_of(cuts[cut].lanes);
        struct attend *attend = attend_of(pool, "auto", &shape);
        for (size_t i = 0; i < N_WORKS; i++)
            works[i].out = calloc(n_floats[i] + 1, sizeof(float));
        attend_set_parts(attend, cuts[cut].n_parts);
        assert_int_equal(place_run(attend, &shape, works, N_WORKS), STATUS_OK);
        for (size_t i = 0; i < N_WORKS; i++) {
            assert_memory_equal(works[i].out, expected[i], n_floats[i] * sizeof(float));
            free(works[i].out);
        }
        attend_destroy(attend);
        thread_pool_destroy(pool);
    }
    for (size_t i = 0; i < N_WORKS; i++)
        free(expected[i]);
    attend_destroy(alone);
    thread_pool_destroy(alone_pool);
    free(q);
    place_kv_destroy(kv);
}

static void test_same_bits_beside_other_works(void **state)
{
    static const struct cut_case cuts[] = {{1, 0}, {3, 0}, {5, 0}, {7, 0}};
    check_beside_others(KV_F32, cuts, 4);
    check_beside_others(KV_Q8_0, cuts, 4);
}

/* A schedule is who does what, not what is done. */
static void test_same_bits_for_a_fixed_split(void **state)
{
    static const struct cut_case cuts[] = {{7, 1},  {1, 4}, {3, 16}, {5, 64},
                                           {7, 32}, {5, 8}, {1, 2},  {3, 2}};
    check_beside_others(KV_F16, cuts, 5);
    check_beside_others(KV_BF16, cuts + 3, 5);
}

/* Of one tile some tokens are behind the rows, or before their window: what they hold is multiplied
 * by no weight of 0. */
static void check_unseen_tokens(enum kv_type type, uint32_t n_tokens, uint32_t window)
{
    enum { POSITION = 200, GROUP = 4, N = 300, D = 64 };
    struct made_kv *kv = place_kv_create(type, D, N, 2, 4.0f, 5);
    const struct attend_shape shape = shape_of(kv, GROUP);
    struct thread_pool *pool = pool_of(2);
    struct attend *attend = attend_of(pool, "auto", &shape);
    const size_t n_floats = (size_t)n_tokens * GROUP * D;
    float *q = made_floats(n_floats, 4.0f, 6);
    float *clean = made_floats(n_floats, 1.0f, 1), *out = made_floats(n_floats, 1.0f, 2);
    attend_all(attend, &shape, kv, q, POSITION, n_tokens, window, clean);
    for (uint32_t t = 0; t < N; t++)
        for (uint32_t d = 0; d < D; d++)
            if (t >= POSITION + n_tokens || (window != 0 && t + window <= POSITION)) {
                kv->k[t * D + d] = d % 2 ? NAN : INFINITY;
                kv->v[t * D + d] = t % 2 ? NAN : -INFINITY;
            }
    place_kv_store(kv);
    attend_all(attend, &shape, kv, q, POSITION, n_tokens, window, out);
    assert_memory_equal(out, clean, n_floats * sizeof(*out));
    free(q);
    free(clean);
    free(out);
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

static void test_tokens_that_no_row_sees_may_hold_anything(void **state)
{
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++)
        for (uint32_t n_tokens = 1; n_tokens <= 20; n_tokens += 19) {
            check_unseen_tokens(type, n_tokens, 0);
            check_unseen_tokens(type, n_tokens, 50);
        }
}

static void test_nothing_to_do_is_fine(void **state)
{
    struct made_kv *kv = place_kv_create(KV_F16, 32, 200, 2, 1.0f, 1);
    const struct attend_shape shape = shape_of(kv, 1);
    struct thread_pool *pool = pool_of(2);
    struct attend *attend = attend_of(pool, "auto", &shape);
    float q[32] = {0}, out[40] = {0};
    const struct attend_work idle = {.q = q,
                                     .q_token_stride = 32,
                                     .n_tokens = 1,
                                     .position = 150,
                                     .source = made_kv_source(kv),
                                     .out = out};
    assert_int_equal(place_run(attend, &shape, NULL, 0), STATUS_OK);
    assert_int_equal(attend_out_floats(&shape, &idle), 0);
    assert_int_equal(place_run(attend, &shape, &idle, 1), STATUS_OK);

    /* A node that lies before the window is the empty partial. */
    const struct tile_range range = {0, 1};
    struct attend_work before = idle;
    before.ranges = &range;
    before.n_ranges = 1;
    before.window = 10;
    assert_int_equal(place_run(attend, &shape, &before, 1), STATUS_OK);
    assert_true(out[0] == -INFINITY && out[1] == 0.0f && out[2] == 0.0f);
    attend_destroy(attend);
    thread_pool_destroy(pool);
    place_kv_destroy(kv);
}

#define ATTEND_CASES                                                                               \
    cmocka_unit_test(test_agrees_with_double_precision),                                           \
        cmocka_unit_test(test_same_bits_for_any_lanes_and_variant),                                \
        cmocka_unit_test(test_same_bits_token_by_token_and_in_chunks),                             \
        cmocka_unit_test(test_same_bits_for_any_holders),                                          \
        cmocka_unit_test(test_same_bits_beside_other_works),                                       \
        cmocka_unit_test(test_same_bits_for_a_fixed_split),                                        \
        cmocka_unit_test(test_tokens_that_no_row_sees_may_hold_anything),                          \
        cmocka_unit_test(test_nothing_to_do_is_fine)

#endif
