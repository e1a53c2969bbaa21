/* offer.c - see offer.h. */
#include "sys/offer.h"

#include "sys/clock.h"

#include <sched.h>
#include <stdint.h>

enum {
    LONG_US = 2500, /* SHARING_IN_TURN_US and some */
    RETRY = 64      /* of so many offers one may lose such a turn */
};

bool offer_processor(void)
{
    static _Thread_local uint32_t n_declined;
    if (n_declined > 0) {
        n_declined--;
        return false;
    }
    const uint64_t began = clock_us();
    sched_yield();
    if (clock_us() - began <= LONG_US)
        return true;
    n_declined = RETRY;
    return false;
}
