/* test_thread_pool.c - every lane runs exactly once, and sees the caller's writes. */
#include "sys/clock.h"
#include "sys/thread_pool.h"
#include "sys/topology.h"
#include "tests/cmocka.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_TESTED_LANES = 32 };

struct tally {
    uint32_t input;                   /* plain: the pool must order it */
    uint32_t calls[MAX_TESTED_LANES]; /* plain, one writer each */
    uint32_t n_lanes_seen;
};

static void count_call(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct tally *tally = context;
    tally->calls[lane] += tally->input;
    if (lane == n_lanes - 1)
        tally->n_lanes_seen = n_lanes;
}

static struct thread_pool *pool_of(uint32_t n_lanes)
{
    struct thread_pool *pool = NULL;
    struct error error;
    assert_int_equal(thread_pool_create(&pool, n_lanes, &error), STATUS_OK);
    return pool;
}

static void test_every_lane_runs_once_per_run(void **state)
{
    static const uint32_t lanes[] = {1, 2, 3, 8, MAX_TESTED_LANES};
    for (size_t i = 0; i < sizeof(lanes) / sizeof(lanes[0]); i++) {
        struct thread_pool *pool = pool_of(lanes[i]);
        struct tally tally = {0};
        assert_int_equal(thread_pool_lanes(pool), lanes[i]);
        uint32_t sum = 0;
        for (uint32_t run = 1; run <= 50; run++) {
            tally.input = run;
            sum += run;
            thread_pool_run(pool, count_call, &tally);
            for (uint32_t lane = 0; lane < lanes[i]; lane++)
                assert_int_equal(tally.calls[lane], sum);
        }
        assert_int_equal(tally.n_lanes_seen, lanes[i]);
        thread_pool_destroy(pool);
    }
}

static void test_zero_lanes_means_the_processors_of_the_process(void **state)
{
    struct thread_pool *pool = pool_of(0);
    assert_int_equal(thread_pool_lanes(pool), topology_processors());
    thread_pool_destroy(pool);
}

static void test_ten_thousand_short_runs(void **state)
{
    struct thread_pool *pool = pool_of(2);
    struct tally tally = {.input = 1};
    for (uint32_t run = 0; run < 10000; run++)
        thread_pool_run(pool, count_call, &tally);
    assert_int_equal(tally.calls[0], 10000);
    assert_int_equal(tally.calls[1], 10000);
    thread_pool_destroy(pool);
}

static uint64_t processor_time_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

/* Lanes that slept must wake up again, and must have slept: the time is the event here. */
static void test_idle_lanes_sleep_and_wake(void **state)
{
    struct thread_pool *pool = pool_of(4);
    struct tally tally = {.input = 1};
    for (uint32_t round = 0; round < 3; round++) {
        thread_pool_run(pool, count_call, &tally);
        const uint64_t begin = processor_time_us();
        clock_sleep_us(100000);
        assert_true(processor_time_us() - begin < 50000); /* spinning would be 4 x 100,000 */
    }
    thread_pool_run(pool, count_call, &tally);
    for (uint32_t lane = 0; lane < 4; lane++)
        assert_int_equal(tally.calls[lane], 4);
    thread_pool_destroy(pool);
}

static void test_spin_time_from_the_environment(void **state)
{
    struct thread_pool *pool = NULL;
    struct error error;
    static const char *const bad[] = {"soon", "-1", "5us", "99999999999999999999", "1000001"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        setenv("LONGSPAN_SPIN_US", bad[i], 1);
        assert_int_equal(thread_pool_create(&pool, 2, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, bad[i]));
        assert_null(pool);
    }
    static const char *const good[] = {"0", "3", ""};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        setenv("LONGSPAN_SPIN_US", good[i], 1);
        pool = pool_of(3);
        struct tally tally = {.input = 1};
        for (uint32_t run = 0; run < 200; run++)
            thread_pool_run(pool, count_call, &tally);
        assert_int_equal(tally.calls[2], 200);
        thread_pool_destroy(pool);
        pool = NULL;
    }
    unsetenv("LONGSPAN_SPIN_US");
}

static void test_too_many_lanes_are_refused(void **state)
{
    struct thread_pool *pool = NULL;
    struct error error;
    assert_int_equal(thread_pool_create(&pool, 1025, &error), STATUS_INVALID);
    assert_null(pool);
    thread_pool_destroy(NULL);
}

static void test_shares_cover_everything_once_and_evenly(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 7, 64, 100, 1000, SIZE_MAX - 1, SIZE_MAX};
    static const size_t grains[] = {1, 3, 16, 1024};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t j = 0; j < sizeof(grains) / sizeof(grains[0]); j++)
            for (uint32_t n_lanes = 1; n_lanes <= 9; n_lanes++) {
                const size_t n = sizes[i], grain = grains[j];
                size_t expected = 0, smallest = SIZE_MAX, largest = 0;
                for (uint32_t lane = 0; lane < n_lanes; lane++) {
                    size_t begin, end;
                    thread_pool_share(n, grain, lane, n_lanes, &begin, &end);
                    assert_true(begin == expected && begin <= end && end <= n);
                    assert_true(begin == n || begin % grain == 0);
                    const size_t pieces = (end - begin) / grain + ((end - begin) % grain != 0);
                    smallest = pieces < smallest ? pieces : smallest;
                    largest = pieces > largest ? pieces : largest;
                    expected = end;
                }
                assert_true(expected == n);
                assert_true(largest - smallest <= 1);
            }
}

struct taking {
    atomic_size_t next;
    size_t end, n, grain;
    atomic_uint *taken; /* [end] how often each item was */
};

static void take_all(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct taking *taking = context;
    size_t begin, stop;
    while (thread_pool_take(&taking->next, taking->end, taking->n, taking->grain, &begin, &stop))
        for (size_t i = begin; i < stop; i++)
            atomic_fetch_add(&taking->taken[i], 1);
}

static void test_lanes_take_everything_once(void **state)
{
    enum { MOST = 1000 };
    static const size_t begins[] = {0, 1, 999, 1000}, parts[] = {1, 2, 8}, grains[] = {1, 7, 5000};
    static atomic_uint taken[MOST];
    struct thread_pool *pool;
    assert_int_equal(thread_pool_create(&pool, 3, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        for (size_t j = 0; j < sizeof(parts) / sizeof(parts[0]); j++)
            for (size_t k = 0; k < sizeof(grains) / sizeof(grains[0]); k++) {
                struct taking taking = {
                    .end = MOST, .n = parts[j], .grain = grains[k], .taken = taken};
                atomic_init(&taking.next, begins[i]);
                memset(taken, 0, sizeof(taken));
                thread_pool_run(pool, take_all, &taking);
                for (size_t item = 0; item < MOST; item++)
                    assert_int_equal(taken[item], item >= begins[i]);
            }
    thread_pool_destroy(pool);
}

static void test_pieces_that_are_taken_become_smaller(void **state)
{
    static const size_t expected[] = {48, 24, 12, 8, 4, 4}; /* half of what is left, by fours */
    atomic_size_t next;
    size_t begin, stop, at = 0;
    atomic_init(&next, 0);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_true(thread_pool_take(&next, 100, 2, 4, &begin, &stop));
        assert_int_equal(begin, at);
        assert_int_equal(stop - begin, expected[i]);
        at = stop;
    }
    assert_int_equal(at, 100);
    assert_false(thread_pool_take(&next, 100, 2, 4, &begin, &stop));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_lane_runs_once_per_run),
        cmocka_unit_test(test_zero_lanes_means_the_processors_of_the_process),
        cmocka_unit_test(test_ten_thousand_short_runs),
        cmocka_unit_test(test_idle_lanes_sleep_and_wake),
        cmocka_unit_test(test_spin_time_from_the_environment),
        cmocka_unit_test(test_too_many_lanes_are_refused),
        cmocka_unit_test(test_shares_cover_everything_once_and_evenly),
        cmocka_unit_test(test_lanes_take_everything_once),
        cmocka_unit_test(test_pieces_that_are_taken_become_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
