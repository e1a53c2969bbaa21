/* test_binding.c - machines that hwloc makes up, and this one: who gets which processors. */
#include "sys/binding.h"

#include "sys/file.h"
#include "sys/seat.h"
#include "sys/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[FILE_PATH_BYTES];

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
    (void)state;
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
    (void)state;
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
    (void)state;
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
    (void)n_lanes;
    topology_allowed(&((struct topology_mask *)context)[lane]);
}

static void test_lanes_are_pinned_apart_and_let_go(void **state)
{
    (void)state;
    unsetenv("HWLOC_SYNTHETIC");
    struct topology_mask before, of[2], sum = {{0}};
    topology_allowed(&before);
    if (topology_count(&before) < 2)
        skip();
    struct thread_pool *pool = NULL;
    struct seat seat = {0}, second = {0};
    assert_int_equal(thread_pool_create(&pool, 2, NULL), STATUS_OK);
    seat_take(&seat, pool, 2, true);
    if (seat.binding == NULL) { /* a sandbox that lets nobody pin */
        thread_pool_destroy(pool);
        skip();
    }
    assert_false(seat.crowded);
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
    seat_take(&second, pool, topology_count(&before) + 1, true); /* others of the job */
    assert_true(second.crowded && second.binding == NULL);
    assert_non_null(strstr(second.text, "not pinned: "));
    seat_give(&second);
    thread_pool_destroy(pool);
}

static void test_somebody_elses_file_is_refused(void **state)
{
    (void)state;
    char path[FILE_PATH_BYTES + 64];
    struct binding *binding = NULL;
    struct error error;
    snprintf(path, sizeof(path), "%s/longspan-processors.%u", directory, (unsigned)geteuid());
    unlink(path);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(binding_create(&binding, 1, &error), STATUS_IO);
    unlink(path);
}

static int make_directory(void **state)
{
    (void)state;
    if (file_make_temporary(directory, NULL) != STATUS_OK)
        return -1;
    return setenv("TMPDIR", directory, 1); /* claims of this test alone */
}

static int remove_directory(void **state)
{
    (void)state;
    return file_remove_temporary(directory, NULL) == STATUS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores_before_hardware_threads),
        cmocka_unit_test(test_lanes_of_a_process_share_a_numa_node),
        cmocka_unit_test(test_pages_of_lanes_on_several_nodes),
        cmocka_unit_test(test_lanes_are_pinned_apart_and_let_go),
        cmocka_unit_test(test_somebody_elses_file_is_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
