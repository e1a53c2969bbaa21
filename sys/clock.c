/* clock.c - CLOCK_MONOTONIC, which neither NTP nor an administrator can set back. */
#include "sys/clock.h"

#include <time.h>

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_us(void)
{
    return clock_ns() / 1000u;
}

double clock_wall_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void clock_sleep_us(uint64_t duration_us)
{
    const struct timespec duration = {.tv_sec = (time_t)(duration_us / 1000000u),
                                      .tv_nsec = (long)(duration_us % 1000000u) * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, NULL);
}
