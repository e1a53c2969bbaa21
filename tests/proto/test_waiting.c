/* test_waiting.c - the ladder ends at its deadline, and costs little when nothing happens. */
#include "proto/waiting.h"

#include "sys/clock.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <time.h>

static uint64_t processor_time_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

static void test_a_passed_deadline_waits_for_nothing(void **state)
{
    struct waiting waiting;
    waiting_begin(&waiting, 0, 50);
    assert_int_equal(waiting_pause(&waiting), STATUS_TIMEOUT);
    waiting_begin(&waiting, clock_us(), 0);
    assert_int_equal(waiting_pause(&waiting), STATUS_TIMEOUT);
}

static void test_the_deadline_ends_the_wait_and_idle_waits_sleep(void **state)
{
    static const uint32_t spins[] = {0, 50};
    for (size_t i = 0; i < 2; i++) {
        struct waiting waiting;
        const uint64_t begin = clock_us(), busy = processor_time_us();
        waiting_begin(&waiting, begin + 300000, spins[i]);
        unsigned n_pauses = 0;
        while (waiting_pause(&waiting) == STATUS_OK)
            n_pauses++;
        assert_true(clock_us() - begin >= 300000);
        assert_true(n_pauses > 0);
        assert_true(processor_time_us() - busy < 30000); /* a tenth: the foot of the ladder */
    }
}

static void test_progress_starts_the_ladder_again(void **state)
{
    enum { N_ROUNDS = 100, IDLE_SLEEP_US = 10000, LONG_AGO_US = 5000000 };
    struct waiting waiting;
    waiting_begin(&waiting, UINT64_MAX, 1000000);
    const uint64_t begin = clock_us();
    for (int i = 0; i < N_ROUNDS; i++) {
        waiting.began_us = clock_us() - LONG_AGO_US; /* the next rung would be a long sleep */
        waiting_reset(&waiting);
        assert_int_equal(waiting_pause(&waiting), STATUS_OK);
    }
    assert_true(clock_us() - begin < (uint64_t)N_ROUNDS * IDLE_SLEEP_US);
    assert_true(waiting.deadline_us == UINT64_MAX);
}

static void test_spinning_depends_on_the_processors(void **state)
{
    unsetenv("LONGSPAN_SPIN_US");
    assert_int_equal(waiting_spin_us(1), 50);
    assert_int_equal(waiting_spin_us(100000), 0);
    setenv("LONGSPAN_SPIN_US", "7", 1);
    assert_int_equal(waiting_spin_us(1), 7);
    assert_int_equal(waiting_spin_us(100000), 7);
    setenv("LONGSPAN_SPIN_US", "soon", 1);
    assert_int_equal(waiting_spin_us(1), 50);
    unsetenv("LONGSPAN_SPIN_US");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_passed_deadline_waits_for_nothing),
        cmocka_unit_test(test_the_deadline_ends_the_wait_and_idle_waits_sleep),
        cmocka_unit_test(test_progress_starts_the_ladder_again),
        cmocka_unit_test(test_spinning_depends_on_the_processors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
