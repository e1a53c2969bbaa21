/* waiting.c - see waiting.h. */
#include "proto/waiting.h"

#include "sys/clock.h"
#include "sys/offer.h"
#include "sys/parse.h"
#include "sys/spin.h"
#include "sys/topology.h"

#include <stdlib.h>

enum {
    SPIN_US = 50, /* an exchange over shared memory; over tcp it only saves the wake-up */
    ANSWER_US = 300,
    YIELD_US = 200,      /* as long as a plain round trip on one host, under load */
    SHORTEST_SLEEP = 50, /* the kernel's timer slack: less is not possible */
    LONGEST_SLEEP = 2000,
    LONGEST_IDLE_SLEEP = 10000,
    IDLE_US = 1000000,
    SLEEP_SHARE = 16, /* a sleep is this part of the time waited: it adds 6% at most */
    MAX_SPIN_US = 1000000
};

void waiting_begin(struct waiting *waiting, uint64_t deadline_us, uint32_t spin_us)
{
    waiting->deadline_us = deadline_us;
    waiting->spin_us = spin_us;
    waiting_reset(waiting);
}

void waiting_reset(struct waiting *waiting)
{
    waiting->began_us = clock_us();
}

/* Grows with the time waited: a sleep that nothing interrupts is this much too long at most. */
static uint64_t sleep_us(uint64_t waited)
{
    const uint64_t longest = waited < IDLE_US ? LONGEST_SLEEP : LONGEST_IDLE_SLEEP;
    const uint64_t sleep = waited / SLEEP_SHARE;
    return sleep < SHORTEST_SLEEP ? SHORTEST_SLEEP : sleep > longest ? longest : sleep;
}

enum status waiting_pause(struct waiting *waiting)
{
    const uint64_t now = clock_us();
    const uint64_t waited = now - waiting->began_us;
    if (now >= waiting->deadline_us)
        return STATUS_TIMEOUT;
    if (waited < waiting->spin_us) {
        spin_pause();
    } else if (waited >= (uint64_t)waiting->spin_us + YIELD_US || !offer_processor()) {
        const uint64_t sleep = sleep_us(waited), left = waiting->deadline_us - now;
        clock_sleep_us(sleep < left ? sleep : left);
    }
    return STATUS_OK;
}

uint64_t waiting_sleep_us(const struct waiting *waiting)
{
    const uint64_t waited = clock_us() - waiting->began_us;
    return waited < waiting->spin_us ? 0 : sleep_us(waited);
}

static uint32_t chosen_us(uint32_t spin_us)
{
    const char *text = getenv("LONGSPAN_SPIN_US");
    if (text != NULL) /* left as it is by what is not a number: thread_pool_create refuses that */
        parse_u32("LONGSPAN_SPIN_US", text, 0, MAX_SPIN_US, &spin_us, NULL);
    return spin_us;
}

uint32_t waiting_spin_us(uint32_t n_busy)
{
    return chosen_us(n_busy > topology_processors() ? 0 : SPIN_US);
}

uint32_t waiting_answer_us(enum sharing sharing)
{
    static const uint32_t us[] = {[SHARING_NONE] = ANSWER_US,
                                  [SHARING_IN_TURN] = SHARING_IN_TURN_US,
                                  [SHARING_CROWDED] = SHARING_CROWDED_US};
    return chosen_us(us[sharing]);
}
