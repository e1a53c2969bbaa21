/* topology.c - sched_getaffinity, no library: kernels and tests link this everywhere. */
#include "sys/topology.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MASK_WORDS = sizeof(((struct topology_mask *)0)->bits) / sizeof(uint64_t) };

/* The kernel's mask is made of unsigned longs; cpu_set_t holds 1024 processors only, ours more. */
_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "a mask word is an unsigned long");

void topology_allowed(struct topology_mask *allowed)
{
    memset(allowed, 0, sizeof(*allowed));
    if (sched_getaffinity(0, sizeof(*allowed), (cpu_set_t *)(void *)allowed) != 0) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        for (long i = 0; i < (online > 0 ? online : 1) && i < MASK_WORDS * 64; i++)
            allowed->bits[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

static uint32_t mask_count(const struct topology_mask *mask)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MASK_WORDS; i++)
        count += (uint32_t)__builtin_popcountll(mask->bits[i]);
    return count;
}

uint32_t topology_processors(void)
{
    struct topology_mask allowed;
    topology_allowed(&allowed);
    const uint32_t count = mask_count(&allowed);
    return count > 0 ? count : 1;
}

enum status topology_pin(const struct topology_mask *allowed, uint32_t index, struct error *error)
{
    const uint32_t count = mask_count(allowed);
    if (count == 0)
        return error_set(error, STATUS_INVALID, "topology: no processor to pin a thread to");

    struct topology_mask one = {{0}};
    uint32_t left = index % count, processor = 0;
    for (uint32_t i = 0; i < MASK_WORDS * 64; i++)
        if ((allowed->bits[i / 64] >> (i % 64) & 1) != 0 && left-- == 0) {
            processor = i;
            break;
        }
    one.bits[processor / 64] = UINT64_C(1) << (processor % 64);
    if (sched_setaffinity(0, sizeof(one), (const cpu_set_t *)(const void *)&one) != 0)
        return error_set(error, STATUS_IO, "topology: cannot pin a thread to processor %u: %s",
                         processor, strerror(errno));
    return STATUS_OK;
}

void topology_host_name(char *name, size_t size)
{
    if (size == 0)
        return;
    if (gethostname(name, size) != 0 && errno != ENAMETOOLONG)
        name[0] = '\0';
    name[size - 1] = '\0';
    if (name[0] == '\0')
        snprintf(name, size, "localhost");
}
