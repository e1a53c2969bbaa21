/* tests/coordinator/give_back_gate.h - memory_give_back waits at a gate: this program's malloc_trim
 * comes before glibc's.
 *
 * What a test gets while it holds the gate did not wait for memory to be given back. */
#ifndef LONGSPAN_TESTS_COORDINATOR_GIVE_BACK_GATE_H
#define LONGSPAN_TESTS_COORDINATOR_GIVE_BACK_GATE_H

#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>

static pthread_mutex_t give_back_gate = PTHREAD_MUTEX_INITIALIZER;
static sem_t given_back; /* once for each time; sem_init is the test's */

int malloc_trim(size_t pad)
{
    (void)pad;
    pthread_mutex_lock(&give_back_gate);
    pthread_mutex_unlock(&give_back_gate);
    return sem_post(&given_back) == 0;
}

/* Memory was given back, and not again. Nothing where the C library has no malloc_trim. */
static inline int given_back_once(void)
{
#ifdef __GLIBC__
    return sem_wait(&given_back) == 0 && sem_trywait(&given_back) != 0;
#else
    return 1;
#endif
}

#endif
