/* sys/clock.h - monotonic time, and deadlines made of it; the time of day, for people. */
#ifndef LONGSPAN_SYS_CLOCK_H
#define LONGSPAN_SYS_CLOCK_H

#include <stdint.h>

/* Microseconds (nanoseconds) of CLOCK_MONOTONIC: comparable within one host only. */
uint64_t clock_us(void);
uint64_t clock_ns(void);

/* Seconds since 1970, which may be set back: for showing, never for waiting. */
double clock_wall_s(void);

/* Sleeps at least that long, unless a signal comes first. */
void clock_sleep_us(uint64_t duration_us);

#endif
