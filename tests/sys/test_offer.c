/* test_offer.c - beside a thread that only computes, offers end. */
#include "sys/clock.h"
#include "sys/offer.h"
#include "tests/cmocka.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { OFFERS = 2000, LOOKS = 20, LONG_US = 3000 };

/* All threads made after this run on one processor. */
static void onto_one_processor(cpu_set_t *before)
{
    cpu_set_t one;
    assert_int_equal(sched_getaffinity(0, sizeof(*before), before), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, before)) {
            CPU_SET(i, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static void *compute(void *stop)
{
    while (!atomic_load_explicit((atomic_bool *)stop, memory_order_relaxed))
        continue;
    return NULL;
}

/* Whether a turn of the kernel's is long: it is the kernel's to say. */
static bool turns_are_long(void)
{
    uint32_t n_long = 0;
    for (int i = 0; i < LOOKS; i++) {
        const uint64_t began = clock_us();
        sched_yield();
        n_long += clock_us() - began > LONG_US;
    }
    return n_long > LOOKS / 5; /* after a long turn the kernel lets two offers pass */
}

static void test_who_only_computes_ends_the_offers(void **state)
{
    pthread_t thread;
    atomic_bool stop = false;
    cpu_set_t before;
    onto_one_processor(&before);
    assert_int_equal(pthread_create(&thread, NULL, compute, &stop), 0);
    const bool long_turns = turns_are_long();
    uint32_t n_declined = 0;
    for (uint32_t i = 0; i < OFFERS; i++)
        n_declined += !offer_processor();
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    if (!long_turns) {
        print_message("the kernel's turns take less than %d us here\n", LONG_US);
        skip();
    }
    assert_true(n_declined > OFFERS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_only_computes_ends_the_offers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
