/* topology.c - masks of the kernel; cores and NUMA nodes are hwloc's (binding.c). */
#include "sys/topology.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
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

uint32_t topology_count(const struct topology_mask *mask)
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
    const uint32_t count = topology_count(&allowed);
    return count > 0 ? count : 1;
}

enum status topology_confine(const struct topology_mask *mask)
{
    const cpu_set_t *set = (const void *)mask;
    return sched_setaffinity(0, sizeof(*mask), set) == 0 ? STATUS_OK : STATUS_IO;
}

static bool has(const struct topology_mask *mask, uint32_t i)
{
    return i < MASK_WORDS * 64 && (mask->bits[i / 64] >> (i % 64) & 1) != 0;
}

void topology_text(const struct topology_mask *mask, char *text, size_t size)
{
    size_t used = 0;
    snprintf(text, size, "%s", "");
    for (uint32_t i = 0; i < MASK_WORDS * 64 && used < size; i++) {
        if (!has(mask, i) || (i > 0 && has(mask, i - 1)))
            continue;
        uint32_t last = i;
        while (has(mask, last + 1))
            last++;
        used += (size_t)snprintf(text + used, size - used, last > i ? "%s%u-%u" : "%s%u",
                                 used > 0 ? "," : "", i, last);
    }
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
