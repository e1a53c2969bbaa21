/* sys/seat.h - where a process's lanes run, and how long they may wait awake.
 *
 * Lanes that have a processor each are pinned (binding.h) and spin while they wait for each other.
 * Where all lanes of a job on one host are more than its processors, a process with as many lanes
 * as processors is pinned too, a lane on each: the kernel would put two lanes on one now and then,
 * and the run would take twice as long; it shares the processors in turn (sharing.h). A process
 * with fewer lanes, and one that finds processors claimed, is left to the kernel, which can share
 * them out. */
#ifndef LONGSPAN_SYS_SEAT_H
#define LONGSPAN_SYS_SEAT_H

#include "sys/status.h"
#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: none. */
struct seat {
    struct binding *binding; /* NULL: not pinned */
    struct thread_pool *pool;
    enum sharing sharing;
    char text[128]; /* for logs: "on processors 0-3", "not pinned: 3 lanes on 2 processors" */
};

/* Seats the lanes of `pool`, which does not run; the caller is its lane 0. `n_host_lanes`: of all
 * processes of the job that may use the same processors, this one too. `pin` false: nothing is
 * pinned. Never fails: without a processor each, lanes go where the kernel puts them. The caller
 * ends it with seat_give, before the pool. */
void seat_take(struct seat *seat, struct thread_pool *pool, uint32_t n_host_lanes, bool pin);

/* Lanes may run anywhere again. Zeroed is fine. */
void seat_give(struct seat *seat);

/* Memory that all lanes will read, before it is touched: over the NUMA nodes of the lanes. */
void seat_spread(const struct seat *seat, void *base, size_t bytes);

#endif
