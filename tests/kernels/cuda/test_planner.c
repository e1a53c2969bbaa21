/* test_planner.c - attention's plans for a GPU, which are made on the host: who has which tiles. Needs no GPU. */
#include "kernels/attention/cuda/attend_planner.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum { MULTIPROCESSORS = 132, MOST_TILES = 700 };

static const struct attend_kernel kernel = {
    .type = KV_F16, .head_dim = 128, .rows = 8, .threads = 160, .partial_bytes = 5120};

/* As on a GPU of 132 multiprocessors with room for two thread blocks each. */
static struct planner planner_of(uint32_t group)
{
    struct planner planner = {
        .shape = {.type = KV_F16, .head_dim = 128, .group = group, .scale = 1.0f},
        .n_multiprocessors = MULTIPROCESSORS,
    };
    planner.variants.n = 1;
    planner.variants.all[0] = (struct variant){
        .kernel = &kernel, .configs = {{.n_blocks = 2 * MULTIPROCESSORS}}, .n_configs = 1};
    return planner;
}

static void *pages[MOST_TILES + 1];
static float result;

/* One token behind so many tiles, all of them held here. */
static struct attend_work work_of(const struct tile_range *range, uint32_t window)
{
    return (struct attend_work){
        .n_tokens = 1,
        .position = range->end * TILE_TOKENS + 5,
        .window = window,
        .source = {.page_tiles = 1, .pages = pages},
        .ranges = range,
        .n_ranges = range->end > 0,
        .own_tile = true,
        .final_out = &result,
    };
}

static void plan(struct planner *planner, const struct attend_work *works, size_t n)
{
    struct error error = {0};
    if (attend_planner_plan(planner, works, n, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void test_every_tile_has_one_thread_block(void **state)
{
    enum { N_WORKS = 40 };
    uint64_t random = 3;
    for (uint32_t round = 0; round < 50; round++) {
        struct planner planner = planner_of(4);
        struct attend_work works[N_WORKS];
        struct tile_range ranges[N_WORKS];
        uint8_t seen[N_WORKS][MOST_TILES + 1] = {{0}};
        const uint32_t n_works = round % N_WORKS + 1;
        for (uint32_t i = 0; i < n_works; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            const uint32_t some = (uint32_t)(random >> 33);
            ranges[i] = (struct tile_range){0, some % MOST_TILES};
            works[i] = work_of(&ranges[i], some % 3 == 0 ? 1 + some % 50000 : 0);
        }
        plan(&planner, works, n_works);
        const struct jobs *jobs = &planner.jobs;
        assert_true(jobs->n_shares <= 2 * MULTIPROCESSORS);
        for (uint32_t share = 0; share < jobs->n_shares; share++) {
            assert_true(jobs->shares[share] < jobs->shares[share + 1]);
            for (uint32_t i = jobs->shares[share]; i < jobs->shares[share + 1]; i++)
                for (uint32_t t = jobs->segments[i].begin; t < jobs->segments[i].end; t++)
                    seen[jobs->segments[i].output][t]++;
        }
        for (uint32_t i = 0; i < n_works; i++)
            for (uint32_t t = planner.plan.works[i].visible_from; t <= ranges[i].end; t++)
                assert_int_equal(seen[i][t], 1);
        attend_planner_clear(&planner);
    }
}

static void test_no_tiles_are_no_shares(void **state)
{
    struct planner planner = planner_of(4);
    const struct tile_range range = {0, 0};
    struct attend_work work = work_of(&range, 0);
    work.own_tile = false;
    work.final_out = NULL;
    work.out = &result;
    plan(&planner, &work, 0);
    assert_int_equal(planner.jobs.n_shares, 0);
    plan(&planner, &work, 1);
    assert_int_equal(planner.jobs.n_shares, 0);
    attend_planner_clear(&planner);
}

/* 8 KV heads of 512 tiles are 256 shares of 16, of which the last one of each head would be 5
 * parts and end last: it is what the other 8 thread blocks are for. */
static void test_newest_tiles_have_more_thread_blocks(void **state)
{
    enum { HEADS = 8 };
    struct planner planner = planner_of(4);
    const struct tile_range range = {0, 511};
    struct attend_work works[HEADS];
    for (uint32_t i = 0; i < HEADS; i++)
        works[i] = work_of(&range, 0);
    plan(&planner, works, HEADS);
    const struct jobs *jobs = &planner.jobs;
    assert_int_equal(jobs->n_shares, 2 * MULTIPROCESSORS);
    for (uint32_t share = 0; share < jobs->n_shares; share++) {
        const struct job_segment *first = &jobs->segments[jobs->shares[share]],
                                 *last = &jobs->segments[jobs->shares[share + 1] - 1];
        assert_true(last->end - first->begin <= (first == last ? 16 : 8));
    }
    attend_planner_clear(&planner);
}

/* 8 KV heads of 128 tiles are 128 shares for the 132 thread blocks whose pipelines are deepest:
 * more than those would leave all of them less room. */
static void test_pipelines_stay_deep(void **state)
{
    enum { HEADS = 8 };
    struct planner planner = planner_of(4);
    struct variant *variant = &planner.variants.all[0];
    variant->configs[1] = variant->configs[0];
    variant->configs[0].n_blocks = MULTIPROCESSORS;
    variant->n_configs = 2;
    const struct tile_range range = {0, 127};
    struct attend_work works[HEADS];
    for (uint32_t i = 0; i < HEADS; i++)
        works[i] = work_of(&range, 0);
    plan(&planner, works, HEADS);
    assert_in_range(planner.jobs.n_shares, 128, MULTIPROCESSORS);
    attend_planner_clear(&planner);
}

/* A fixed split is what lean schedules are compared with: it stays as it was asked for. */
static void test_a_fixed_split_is_left_alone(void **state)
{
    struct planner planner = planner_of(4);
    const struct tile_range range = {0, 511};
    const struct attend_work work = work_of(&range, 0);
    planner.n_parts = 16;
    plan(&planner, &work, 1);
    assert_int_equal(planner.jobs.n_shares, 16);
    attend_planner_clear(&planner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tile_has_one_thread_block),
        cmocka_unit_test(test_no_tiles_are_no_shares),
        cmocka_unit_test(test_newest_tiles_have_more_thread_blocks),
        cmocka_unit_test(test_pipelines_stay_deep),
        cmocka_unit_test(test_a_fixed_split_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
