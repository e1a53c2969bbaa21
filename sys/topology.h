/* sys/topology.h - the processors that this process may use, and the name of its host.
 *
 * Read from the kernel at every call, without state: an affinity mask (taskset, mpirun --bind-to,
 * a cpuset cgroup) counts, a processor that is offline does not. */
#ifndef LONGSPAN_SYS_TOPOLOGY_H
#define LONGSPAN_SYS_TOPOLOGY_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

/* Processors that the calling thread may run on. At least 1. */
uint32_t topology_processors(void);

/* The same as a mask, which says whether two processes share some. topology_confine: the calling
 * thread runs there only. STATUS_IO: the kernel refused. */
struct topology_mask {
    uint64_t bits[128]; /* 8192 processors, the kernel's largest number today */
};
void topology_allowed(struct topology_mask *allowed);
uint32_t topology_count(const struct topology_mask *mask);
enum status topology_confine(const struct topology_mask *mask);

/* "0-3,8", cut to `size` bytes with its final zero. */
void topology_text(const struct topology_mask *mask, char *text, size_t size);

/* The host's name, cut to `size` bytes with its final zero; "localhost" if the kernel has none. */
void topology_host_name(char *name, size_t size);

#endif
