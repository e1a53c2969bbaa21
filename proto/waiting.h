/* proto/waiting.h - the ladder of a loop that must look at several things in turn.
 *
 * A loop that progresses both MPI and ZeroMQ cannot block in either. It asks each once, then calls
 * waiting_pause: which pauses for a bounded time (the answer is on its way), then yields, then
 * sleeps, longer and longer (nobody works). A reply costs no wake-up, an idle process no core.
 *
 *     struct waiting waiting;
 *     waiting_begin(&waiting, clock_us() + 30000000, waiting_spin_us(n_busy_threads));
 *     while (!done(...))
 *         if (progress(...))
 *             waiting_reset(&waiting);
 *         else if (waiting_pause(&waiting) != STATUS_OK)
 *             return error_set(error, STATUS_TIMEOUT, ...);
 *
 * Loops that wait for sockets only use wire_poll, which spins and then truly blocks. */
#ifndef LONGSPAN_PROTO_WAITING_H
#define LONGSPAN_PROTO_WAITING_H

#include "sys/sharing.h"
#include "sys/status.h"

#include <stdint.h>

/* Fields belong to waiting.c. */
struct waiting {
    uint64_t deadline_us, began_us;
    uint32_t spin_us;
};

/* `deadline_us`: a time of clock_us; UINT64_MAX never passes. */
void waiting_begin(struct waiting *waiting, uint64_t deadline_us, uint32_t spin_us);

/* After progress: the ladder starts at its foot again. The deadline stays. */
void waiting_reset(struct waiting *waiting);

/* One rung. At most 2 ms, after a second without progress at most 10 ms.
 * STATUS_TIMEOUT: the deadline has passed; nothing was waited for. */
enum status waiting_pause(struct waiting *waiting);

/* What the next rung would be: 0: look again at once; otherwise how long to sleep. For a loop that
 * sleeps in wire_poll instead of waiting_pause, so that a message ends the sleep. */
uint64_t waiting_sleep_us(const struct waiting *waiting);

/* How long to spin on a host where `n_busy` threads of ours want processors: 50, or 0 when there
 * are fewer than that. LONGSPAN_SPIN_US in the environment, if it is a number, wins. */
uint32_t waiting_spin_us(uint32_t n_busy);

/* How long to look for an answer of another process in wire_poll, which offers the processor
 * between two looks: 300, longer than the longest round trip on one host; where its maker needs our
 * processor, as sharing.h says. LONGSPAN_SPIN_US wins here too. */
uint32_t waiting_answer_us(enum sharing sharing);

#endif
