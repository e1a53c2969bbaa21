/* sys/thread_pool.h - the lanes of one process: threads that run one function together.
 *
 * Between two runs a lane spins for a bounded time (pause, then yield), then sleeps on a futex, so
 * that back-to-back runs start in about a microsecond and an idle process costs nothing. Where
 * others want the processors too (sharing.h), lanes hardly spin and yield for longer. Lane 0 is the
 * caller's thread.
 * Where lanes run is seat.h's business.
 * A pool belongs to one thread: only its creator calls run and destroy. */
#ifndef LONGSPAN_SYS_THREAD_POOL_H
#define LONGSPAN_SYS_THREAD_POOL_H

#include "sys/sharing.h"
#include "sys/status.h"
#include "sys/trace.h"

#ifndef __cplusplus
#include <stdatomic.h>
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct thread_pool; /* opaque */

/* n_lanes 0: as many as this process may use processors. The caller owns *pool.
 * STATUS_INVALID: more than 1024 lanes. STATUS_NO_MEMORY: a thread cannot be started. */
enum status thread_pool_create(struct thread_pool **pool, uint32_t n_lanes, struct error *error);

/* Processors that the creator of the pool could use then. */
uint32_t thread_pool_processors(const struct thread_pool *pool);

/* From now on lanes wait so. LONGSPAN_SPIN_US in the environment wins over how long they spin. Not
 * during a run. Without this call it is SHARING_CROWDED when the pool alone has more lanes than
 * processors. */
void thread_pool_set_sharing(struct thread_pool *pool, enum sharing sharing);

/* Every lane, the caller too, may run where the creator could. */
void thread_pool_unpin(struct thread_pool *pool);

/* From now on lanes record their runs, on tracks "lane 1", "lane 2"... of `trace`, and the caller,
 * on its own, how long it waits for them ("wait for lanes"). Between two runs, once. NULL is fine.
 */
void thread_pool_trace(struct thread_pool *pool, struct trace *trace, struct trace_track *caller);

/* Waits for the threads to end. NULL is fine. */
void thread_pool_destroy(struct thread_pool *pool);

uint32_t thread_pool_lanes(const struct thread_pool *pool);

/* Calls function(context, lane, n_lanes) once on every lane; returns when all have returned. What
 * the caller wrote before is seen by every lane, and what lanes wrote is seen after. */
void thread_pool_run(struct thread_pool *pool,
                     void (*function)(void *context, uint32_t lane, uint32_t n_lanes),
                     void *context);

/* An even share of `n` items in pieces of `grain` items: [*begin, *end) for this lane. */
void thread_pool_share(size_t n, size_t grain, uint32_t lane, uint32_t n_lanes, size_t *begin,
                       size_t *end);

#ifndef __cplusplus /* .cu files see this header, and have no atomic types of C */
/* For work that lanes take from one another: [*next, end), of which this call takes the n-th part
 * of what is left, in whole grains and one at least, as [*begin, *stop). Pieces become smaller, so
 * that a lane that is slower for a while holds up nobody (guided self-scheduling, Polychronopoulos
 * and Kuck 1987). False: nothing is left. */
bool thread_pool_take(atomic_size_t *next, size_t end, size_t n, size_t grain, size_t *begin,
                      size_t *stop);
#endif

#endif
