/* test_binding.c - machines that hwloc makes up, and this one: who gets which processors. */
#include "sys/binding.h"

#include "sys/seat.h"
#include "sys/topology.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The claims that are held so far, of processes as it were: locks are of open files. */
static struct binding *take(uint32_t n_lanes, const char *expected)
{
    struct binding *binding = NULL;
    struct error error;
    char text[64];
    assert_int_equal(binding_create(&binding, n_lanes, &error), STATUS_OK);
    binding_text(binding, text, sizeof(text));
    assert_string_equal(text, expected);
    return binding;
}

static void refuse(uint32_t n_lanes)
{
    struct binding *binding = NULL;
    struct error error;
    assert_int_equal(binding_create(&binding, n_lanes, &error), STATUS_EXHAUSTED);
    assert_null(binding);
}

static void test_cores_before_hardware_threads(void **state)
{
    setenv("HWLOC_SYNTHETIC", "node:1 core:4 pu:2", 1); /* core i: processors 2i and 2i + 1 */
    struct binding *two = take(2, "0,2");
    assert_int_equal(binding_processor(two, 0), 0);
    assert_int_equal(binding_processor(two, 1), 2);
    struct binding *others = take(2, "4,6");
    binding_destroy(two);
    two = take(2, "0,2"); /* what was given back */
    binding_destroy(two);
    /* more lanes than whole cores: first one each, then the second threads */
    struct binding *five = take(5, "0-3,5");
    refuse(2);
    binding_destroy(five);
    binding_destroy(others);
    binding_destroy(take(8, "0-7"));
    refuse(9);
}

static void test_lanes_of_a_process_share_a_numa_node(void **state)
{
    setenv("HWLOC_SYNTHETIC", "node:2 core:4 pu:1", 1);
    struct binding *one = take(1, "0");
    struct binding *three = take(3, "1-3"); /* the node that is left with the least */
    struct binding *two = take(2, "4-5");
    binding_destroy(one);
    binding_destroy(three);
    struct binding *six = take(6, "0-3,6-7"); /* no node has so many: several */
    binding_destroy(six);
    binding_destroy(two);
}

static void test_pages_of_lanes_on_several_nodes(void **state)
{
    void *memory = aligned_alloc(4096, 1 << 16);
    assert_non_null(memory);
    setenv("HWLOC_SYNTHETIC", "node:2 core:1 pu:1", 1);
    struct binding *both = take(2, "0-1");
    binding_spread(both, memory, 1 << 16); /* this machine is another one: only asked */
    binding_destroy(both);
    memset(memory, 1, 1 << 16);
    free(memory);
}

static void where(void *context, uint32_t lane, uint32_t n_lanes)
{
    topology_allowed(&((struct topology_mask *)context)[lane]);
}

static void test_lanes_are_pinned_apart_and_let_go(void **state)
{
    unsetenv("HWLOC_SYNTHETIC");
    struct topology_mask before, of[2], sum = {{0}};
    topology_allowed(&before);
    if (topology_count(&before) < 2)
        skip();
    struct thread_pool *pool = NULL;
    struct seat seat = {0};
    assert_int_equal(thread_pool_create(&pool, 2, NULL), STATUS_OK);
    seat_take(&seat, pool, 2, true);
    if (seat.binding == NULL) { /* a sandbox that lets nobody pin */
        thread_pool_destroy(pool);
        skip();
    }
    assert_int_equal(seat.sharing, SHARING_NONE);
    assert_non_null(strstr(seat.text, "on processors "));
    thread_pool_run(pool, where, of);
    for (uint32_t lane = 0; lane < 2; lane++) {
        assert_int_equal(topology_count(&of[lane]), 1);
        for (size_t i = 0; i < 128; i++)
            sum.bits[i] |= of[lane].bits[i];
    }
    assert_int_equal(topology_count(&sum), 2);

    seat_give(&seat);
    thread_pool_run(pool, where, of);
    assert_memory_equal(&of[0], &before, sizeof(before));
    assert_memory_equal(&of[1], &before, sizeof(before));

    seat_take(&seat, pool, 2, false);
    assert_string_equal(seat.text, "not pinned: as asked");
    seat_give(&seat);
    thread_pool_destroy(pool);
}

/* Two processes of a job, each with a lane for every processor: the same lanes are on the same
 * ones, also when a third job has claimed them. With fewer lanes they are the kernel's to move. */
static void test_lanes_of_a_crowded_host(void **state)
{
    unsetenv("HWLOC_SYNTHETIC");
    struct topology_mask before, *of;
    topology_allowed(&before);
    const uint32_t n = topology_count(&before);
    if (n < 2)
        skip();
    struct thread_pool *first = NULL, *second = NULL, *small = NULL;
    struct seat seats[3] = {0};
    struct binding *others = NULL;
    assert_non_null(of = calloc(2 * (size_t)n, sizeof(*of)));
    assert_int_equal(binding_create(&others, n, NULL), STATUS_OK);
    assert_int_equal(thread_pool_create(&first, n, NULL), STATUS_OK);
    assert_int_equal(thread_pool_create(&second, n, NULL), STATUS_OK);
    seat_take(&seats[0], first, 2 * n, true);
    if (seats[0].binding != NULL) { /* else a sandbox that lets nobody pin */
        thread_pool_run(first, where, of);
        thread_pool_unpin(first); /* the second pool's caller is this thread too */
        seat_take(&seats[1], second, 2 * n, true);
        thread_pool_run(second, where, of + n);
        assert_memory_equal(of, of + n, n * sizeof(*of));
        assert_int_equal(topology_count(&of[n - 1]), 1);
        assert_int_equal(seats[1].sharing, SHARING_IN_TURN);
        assert_non_null(strstr(seats[1].text, ", in turn with others"));
    }
    seat_give(&seats[1]);
    seat_give(&seats[0]);
    seat_take(&seats[0], first, 2 * n, false);
    assert_true(seats[0].binding == NULL && seats[0].sharing == SHARING_CROWDED);

    assert_int_equal(thread_pool_create(&small, n - 1, NULL), STATUS_OK);
    seat_take(&seats[2], small, 2 * n, true);
    assert_true(seats[2].binding == NULL && seats[2].sharing == SHARING_CROWDED);
    assert_non_null(strstr(seats[2].text, "not pinned: "));
    thread_pool_destroy(small);
    thread_pool_destroy(second);
    thread_pool_destroy(first);
    binding_destroy(others);
    free(of);
}

static void test_somebody_elses_file_is_refused(void **state)
{
    char path[FILE_PATH_BYTES + 64];
    struct binding *binding = NULL;
    struct error error;
    snprintf(path, sizeof(path), "%s/longspan-processors.%u", directory, (unsigned)geteuid());
    unlink(path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(binding_create(&binding, 1, &error), STATUS_IO);
    unlink(path);
}

/* Claims of this test alone. */
static int make_claims(void **state)
{
    return make_directory(state) == 0 ? setenv("TMPDIR", directory, 1) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores_before_hardware_threads),
        cmocka_unit_test(test_lanes_of_a_process_share_a_numa_node),
        cmocka_unit_test(test_pages_of_lanes_on_several_nodes),
        cmocka_unit_test(test_lanes_are_pinned_apart_and_let_go),
        cmocka_unit_test(test_lanes_of_a_crowded_host),
        cmocka_unit_test(test_somebody_elses_file_is_refused),
    };
    return cmocka_run_group_tests(tests, make_claims, remove_directory);
}
