/* tests/coordinator/http/sleeper.h - a connection that is suspended and resumed, without a server:
 * this program's MHD_suspend_connection and MHD_resume_connection come before libmicrohttpd's.
 *
 * Every sleep has to end in one wake, and a connection that is awake is not woken. */
#ifndef LONGSPAN_TESTS_COORDINATOR_HTTP_SLEEPER_H
#define LONGSPAN_TESTS_COORDINATOR_HTTP_SLEEPER_H

#include "tests/proto/wire_fixture.h"

#include <microhttpd.h>
#include <pthread.h>

struct sleeper {
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool asleep;
};
#define SLEEPER                                                                                    \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER                       \
    }

static inline struct MHD_Connection *sleeper_connection(struct sleeper *sleeper)
{
    return (struct MHD_Connection *)sleeper;
}

void MHD_suspend_connection(struct MHD_Connection *connection)
{
    struct sleeper *sleeper = (struct sleeper *)connection;
    pthread_mutex_lock(&sleeper->lock);
    assert_false(sleeper->asleep);
    sleeper->asleep = true;
    pthread_mutex_unlock(&sleeper->lock);
}

void MHD_resume_connection(struct MHD_Connection *connection)
{
    struct sleeper *sleeper = (struct sleeper *)connection;
    pthread_mutex_lock(&sleeper->lock);
    assert_true(sleeper->asleep);
    sleeper->asleep = false;
    pthread_cond_signal(&sleeper->woken);
    pthread_mutex_unlock(&sleeper->lock);
}

/* Returns once it is awake. */
static inline void sleeper_wait(struct sleeper *sleeper)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_US / 1000000;
    pthread_mutex_lock(&sleeper->lock);
    int error = 0;
    while (sleeper->asleep && error == 0)
        error = pthread_cond_timedwait(&sleeper->woken, &sleeper->lock, &end);
    pthread_mutex_unlock(&sleeper->lock);
    assert_int_equal(error, 0);
}

#endif
