/* sys/clock.h - monotonic time, and deadlines made of it. */
#ifndef LONGSPAN_SYS_CLOCK_H
#define LONGSPAN_SYS_CLOCK_H

#include <stdint.h>

/* Microseconds (nanoseconds) of CLOCK_MONOTONIC: comparable within one host only. */
uint64_t clock_us(void);
uint64_t clock_ns(void);

/* Sleeps at least that long, unless a signal comes first. */
void clock_sleep_us(uint64_t duration_us);

#endif
