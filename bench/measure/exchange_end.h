/* bench/measure/exchange_end.h - one process asks, another one gives back what it got: the two ends
 * of every way in which a worker and an attention node can talk, and of plain ZeroMQ.
 *
 * Messages have two frames, as ours have, but for plain ZeroMQ, whose have one. */
#ifndef LONGSPAN_BENCH_MEASURE_EXCHANGE_END_H
#define LONGSPAN_BENCH_MEASURE_EXCHANGE_END_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum exchange_kind {
    EXCHANGE_RING,  /* shared memory, set up over the endpoint */
    EXCHANGE_WIRE,  /* our sockets: DEALER and ROUTER, looked at for a while before sleeping */
    EXCHANGE_PLAIN, /* a PAIR of blocking sockets, as ZeroMQ's manual has it */
    EXCHANGE_KINDS
};

struct exchange_end; /* opaque */

/* The asking end, connected. `spin_us` as for wire_poll. */
enum status exchange_connect(struct exchange_end **end, enum exchange_kind kind,
                             const char *endpoint, uint32_t spin_us, struct error *error);
void exchange_close(struct exchange_end *end); /* the echo ends too */

/* One message there and back. Its bytes are compared now and then. */
enum status exchange_once(struct exchange_end *end, size_t bytes, struct error *error);

/* Waits for a message that never comes, as a process does that has nothing to do. */
void exchange_idle(struct exchange_end *end, uint64_t duration_us);

/* The answering end: listens at the endpoint, then answers until it is told to end. Writes one byte
 * to `ready` when it listens. */
enum status exchange_echo(enum exchange_kind kind, const char *endpoint, uint32_t spin_us,
                          int ready, struct error *error);

#endif
