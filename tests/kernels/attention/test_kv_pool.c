/* test_kv_pool.c - every page is had by one user at a time and none is lost; long planes lie in
 * runs, short ones close together. */
#include "kernels/attention/kv_pool.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <string.h>

enum { PAGE_BYTES = 128, MOST_PAGES = 64 };

/* As a KV holder does it. */
struct plane {
    char *pages[MOST_PAGES];
    uint32_t n;
};

static struct kv_pool *pool_of(uint64_t n_pages)
{
    struct kv_pool *pool = NULL;
    assert_int_equal(STATUS_OK, kv_pool_create(&pool, NULL, n_pages, PAGE_BYTES, NULL));
    return pool;
}

static void grow(struct kv_pool *pool, struct plane *plane)
{
    assert_true(kv_pool_promise(pool, 1));
    plane->pages[plane->n] = kv_pool_take(pool, plane->n > 0 ? plane->pages[plane->n - 1] : NULL,
                                          plane->n >= KV_POOL_RUN);
    plane->n++;
}

/* Pages that do not follow the one before them, where both should be in one run. */
static uint32_t breaks(const struct plane *plane, uint32_t from)
{
    uint32_t n = 0;
    for (uint32_t i = from + 1; i < plane->n; i++)
        n += i % KV_POOL_RUN != 0 && plane->pages[i] != plane->pages[i - 1] + PAGE_BYTES;
    return n;
}

static void test_planes_that_grow_in_turns_lie_in_runs(void **state)
{
    enum { PLANES = 8, PAGES = 10 * KV_POOL_RUN };
    struct kv_pool *pool = pool_of(PLANES * PAGES);
    struct plane planes[PLANES] = {0};
    for (uint32_t page = 0; page < PAGES; page++)
        for (uint32_t i = 0; i < PLANES; i++)
            grow(pool, &planes[i]);
    for (uint32_t i = 0; i < PLANES; i++) /* its first pages lie among other planes' */
        assert_int_equal(0, breaks(&planes[i], KV_POOL_RUN));
    assert_false(kv_pool_promise(pool, 1));
    kv_pool_destroy(pool);
}

static void test_short_planes_touch_no_more_than_they_need(void **state)
{
    enum { PLANES = 6 * KV_POOL_RUN };
    struct kv_pool *pool = pool_of(100 * PLANES);
    void *base = NULL;
    size_t bytes = 0;
    kv_pool_memory(pool, &base, &bytes);
    for (uint32_t i = 0; i < PLANES; i++) {
        struct plane plane = {0};
        grow(pool, &plane);
        assert_true(plane.pages[0] < (char *)base + PLANES * PAGE_BYTES);
    }
    kv_pool_destroy(pool);
}

static void test_runs_are_broken_when_pages_are_scarce(void **state)
{
    for (uint32_t n_pages = 1; n_pages <= 5 * KV_POOL_RUN + 3; n_pages++) {
        struct kv_pool *pool = pool_of(n_pages);
        struct plane plane[2] = {0};
        for (uint32_t i = 0; i < n_pages; i++) /* the second begins when the first holds a run */
            grow(pool, &plane[i > KV_POOL_RUN && i % 3 == 0]);
        assert_int_equal(n_pages, kv_pool_taken(pool));
        assert_false(kv_pool_promise(pool, 1));
        kv_pool_destroy(pool);
    }
}

static void test_a_run_given_back_is_a_run_again(void **state)
{
    enum { PAGES = 3 * KV_POOL_RUN };
    struct kv_pool *pool = pool_of(PAGES);
    for (uint32_t round = 0; round < 3; round++) {
        struct plane plane = {0};
        while (plane.n < PAGES)
            grow(pool, &plane);
        assert_int_equal(0, breaks(&plane, 0));
        for (uint32_t i = 0; i < PAGES; i++)
            kv_pool_give(pool, plane.pages[(7 * i + round) % PAGES]);
        assert_int_equal(0, kv_pool_taken(pool));
    }
    kv_pool_destroy(pool);
}

/* Each page carries its owner's mark: nobody else may have written there. */
static void test_random_planes_share_no_page(void **state)
{
    enum { PLANES = 12, PAGES = 131, ROUNDS = 20000 };
    struct kv_pool *pool = pool_of(PAGES);
    struct plane planes[PLANES] = {0};
    struct random_state random;
    random_seed(&random, 7);
    uint64_t taken = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t who = (uint32_t)random_below(&random, PLANES);
        struct plane *plane = &planes[who];
        if (random_below(&random, 40) == 0) {
            for (; plane->n > 0; plane->n--, taken--)
                kv_pool_give(pool, plane->pages[plane->n - 1]);
        } else if (taken < PAGES && plane->n < MOST_PAGES) {
            grow(pool, plane);
            memset(plane->pages[plane->n - 1], (int)who, PAGE_BYTES);
            taken++;
        }
        assert_int_equal(taken, kv_pool_taken(pool));
        for (uint32_t i = 0; i < plane->n; i++)
            assert_int_equal(who, (uint8_t)plane->pages[i][PAGE_BYTES - 1]);
    }
    kv_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planes_that_grow_in_turns_lie_in_runs),
        cmocka_unit_test(test_short_planes_touch_no_more_than_they_need),
        cmocka_unit_test(test_runs_are_broken_when_pages_are_scarce),
        cmocka_unit_test(test_a_run_given_back_is_a_run_again),
        cmocka_unit_test(test_random_planes_share_no_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
