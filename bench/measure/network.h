/* bench/measure/network.h - networks of our own to measure across: two namespaces with a rate limit
 * between them, and a relay that delays. */
#ifndef LONGSPAN_BENCH_MEASURE_NETWORK_H
#define LONGSPAN_BENCH_MEASURE_NETWORK_H

#include "sys/status.h"

#include <stdint.h>
#include <sys/types.h>

/* The address of the process that has called network_leave, for the one that has called
 * network_join. */
#define NETWORK_FAR_HOST "10.231.77.2"

/* Moves this process into a network namespace of its own, which ends with it. STATUS_UNSUPPORTED:
 * only root may, or the kernel has none. */
enum status network_leave(struct error *error);

/* Connects the namespace of `process` with ours by a pair of virtual interfaces, each with a token
 * bucket (tc tbf) of that rate. STATUS_UNSUPPORTED: no root, ip(8), tc(8) or tbf. */
enum status network_join(pid_t process, uint32_t megabits_per_s, struct error *error);

/* A process that takes one TCP connection on loopback at port `from`, and passes what it reads to
 * port `to` and back, each piece `delay_us` after it came. Ends with its parent. Writes one byte to
 * `ready` when it listens. */
void network_relay(uint16_t from, uint16_t to, uint32_t delay_us, int ready);

#endif
