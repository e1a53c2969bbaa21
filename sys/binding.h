/* sys/binding.h - processors for lanes, of which no other process of ours takes any.
 *
 * hwloc knows cores, their hardware threads and NUMA nodes; lanes get a core each before any core
 * gets two, and one NUMA node together where one has room. Only processors that the process may use
 * count (taskset, mpirun --bind-to, cpusets).
 *
 * Ranks, attention nodes and other jobs of a user on one host find each other by claims: a
 * processor is a byte of ${TMPDIR:-/tmp}/longspan-processors.UID, and who pins to it holds a lock
 * on that byte (fcntl, open file description locks), which the kernel gives back whatever ends the
 * process. */
#ifndef LONGSPAN_SYS_BINDING_H
#define LONGSPAN_SYS_BINDING_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct binding; /* opaque: claimed processors, one for each lane */

/* Claims `n_lanes` processors of those that the calling thread may use. The caller ends *binding
 * with binding_destroy. STATUS_EXHAUSTED: not so many are free, nothing is claimed.
 * STATUS_UNSUPPORTED: hwloc does not know this machine. STATUS_IO: the file of claims.
 * STATUS_NO_MEMORY. */
enum status binding_create(struct binding **binding, uint32_t n_lanes, struct error *error);

/* The same without claims: processors that others may have too, in the same order for all who share
 * as many. STATUS_EXHAUSTED: there are fewer. */
enum status binding_share(struct binding **binding, uint32_t n_lanes, struct error *error);

/* Gives the processors back; threads stay where they are. NULL is fine. */
void binding_destroy(struct binding *binding);

/* The processor of a lane, as the kernel counts. */
uint32_t binding_processor(const struct binding *binding, uint32_t lane);

/* Keeps the calling thread on the lane's processor. False: no memory, or the kernel refused. */
bool binding_pin(const struct binding *binding, uint32_t lane);

/* "0-3,8": all lanes' processors; cut to `size` bytes with the final zero. */
void binding_text(const struct binding *binding, char *text, size_t size);

/* Memory that all lanes read, before it is touched: its pages go round over the NUMA nodes of the
 * lanes. On one NUMA node nothing is asked of the kernel. Memory is where it is when that fails. */
void binding_spread(const struct binding *binding, void *base, size_t bytes);

#endif
