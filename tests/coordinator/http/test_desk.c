/* test_desk.c - errands are read in the desk's threads; memory is given back after that, when
 * nothing waits. */
#include "coordinator/http/desk.h"

#include "sys/memory.h"
#include "tests/cmocka.h"
#include "tests/coordinator/give_back_gate.h"

#include <time.h>

static sem_t done;

static enum errand_outcome read_nothing(struct errand *errand)
{
    (void)errand;
    return ERRAND_ANSWERED;
}

static void tell_done(void *context, struct errand *errand)
{
    assert_int_equal(errand->outcome, ERRAND_ANSWERED);
    errand->n_unread = 0; /* it is not the desk's any more */
    sem_post(context);
}

static void test_memory_is_given_back_after_what_was_read_is_handed_on(void **state)
{
    static const struct errand_kind kind = {.read = read_nothing};
    struct errand errands[2];
    struct desk *desk = NULL;
    (void)state;
    sem_init(&done, 0, 0);
    sem_init(&given_back, 0, 0);
    assert_int_equal(desk_create(&desk, tell_done, &done, NULL), STATUS_OK);
    pthread_mutex_lock(&give_back_gate);
    errand_open(&errands[0], &kind, 1, -1);
    errands[0].n_unread = MEMORY_MUCH_TEXT_BYTES;
    desk_give(desk, &errands[0]);
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    const int waited = sem_timedwait(&done, &end);
    pthread_mutex_unlock(&give_back_gate);
    assert_int_equal(waited, 0);
    assert_true(given_back_once());

    errand_open(&errands[1], &kind, 2, -1);
    errands[1].n_unread = MEMORY_MUCH_TEXT_BYTES - 1;
    desk_give(desk, &errands[1]);
    assert_int_equal(sem_wait(&done), 0);
    desk_destroy(desk);
    assert_int_not_equal(sem_trywait(&given_back), 0); /* it was not worth it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_given_back_after_what_was_read_is_handed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
