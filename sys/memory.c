/* memory.c - mmap without reservation, and the numbers of /proc and /sys/fs/cgroup. */
#include "sys/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* 2 MiB on x86-64 and most of arm64: an alignment that a kernel with others only ignores. */
static const size_t huge_page_bytes = (size_t)2 << 20;

static size_t page_bytes(void)
{
    const long bytes = sysconf(_SC_PAGESIZE);
    return bytes > 0 ? (size_t)bytes : 4096;
}

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

enum status memory_reserve(void **base, size_t bytes, struct error *error)
{
    if (bytes == 0)
        return error_set(error, STATUS_INVALID, "memory: 0 bytes cannot be reserved");
    const size_t slack = bytes >= huge_page_bytes ? huge_page_bytes : 0;
    char *start = MAP_FAILED;
    if (bytes <= SIZE_MAX / 2) {
        start = mmap(NULL, round_up(bytes, page_bytes()) + slack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    } else {
        errno = ENOMEM;
    }
    if (start == MAP_FAILED)
        return error_set(error, STATUS_NO_MEMORY,
                         "memory: cannot reserve %zu bytes of address space: %s; ask for less, or "
                         "raise `ulimit -v`",
                         bytes, strerror(errno));
    if (slack != 0) {
        /* Cut the slack off both ends: what stays begins on a huge page. */
        const size_t whole = round_up(bytes, page_bytes());
        const size_t before = round_up((uintptr_t)start, slack) - (uintptr_t)start;
        if (before != 0)
            munmap(start, before);
        if (before != slack)
            munmap(start + before + whole, slack - before);
        start += before;
        madvise(start, whole, MADV_HUGEPAGE); /* advice: a kernel without it says EINVAL */
    }
    *base = start;
    return STATUS_OK;
}

void memory_release(void *base, size_t bytes)
{
    if (base != NULL)
        munmap(base, round_up(bytes, page_bytes()));
}

/* The number behind `key` in a file of "key number" lines; NULL: the file's first number. */
static bool read_number(const char *path, const char *key, uint64_t *number)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;
    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        const size_t skip = key == NULL ? 0 : strlen(key);
        if (key != NULL && (strncmp(line, key, skip) != 0 || strchr(": \t", line[skip]) == NULL))
            continue;
        unsigned long long value;
        found = sscanf(line + skip, key == NULL ? "%llu" : "%*[: \t]%llu", &value) == 1;
        if (found)
            *number = value;
        if (key == NULL)
            break;
    }
    fclose(file);
    return found;
}

/* The names under which the two versions of control groups keep the same three numbers. */
struct cgroup_files {
    const char *mount, *limit, *used, *reclaimable;
};
static const struct cgroup_files cgroup_v2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                              "inactive_file"};
static const struct cgroup_files cgroup_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                              "memory.usage_in_bytes", "total_inactive_file"};

/* Of a group, and of all above it: a limit may sit at any level. UINT64_MAX: no limit. */
struct group_memory {
    uint64_t limit, left;
};

static const struct group_memory no_limit = {.limit = UINT64_MAX, .left = UINT64_MAX};

static struct group_memory least_of(struct group_memory a, struct group_memory b)
{
    return (struct group_memory){.limit = a.limit < b.limit ? a.limit : b.limit,
                                 .left = a.left < b.left ? a.left : b.left};
}

/* One group's own; a limit that is "max" is not a number. */
static struct group_memory own_memory(const struct cgroup_files *files, const char *group)
{
    char path[4600];
    struct group_memory memory = no_limit;
    uint64_t used, reclaimable = 0;
    snprintf(path, sizeof(path), "%s%s/%s", files->mount, group, files->limit);
    if (!read_number(path, NULL, &memory.limit))
        return no_limit;
    memory.left = memory.limit;
    snprintf(path, sizeof(path), "%s%s/%s", files->mount, group, files->used);
    if (!read_number(path, NULL, &used))
        return memory;
    snprintf(path, sizeof(path), "%s%s/memory.stat", files->mount, group);
    read_number(path, files->reclaimable, &reclaimable); /* file pages go when others need room */
    used -= reclaimable < used ? reclaimable : used;
    memory.left = memory.limit > used ? memory.limit - used : 0;
    return memory;
}

/* In a container the path is the host's and does not exist here, and the last turn, "", finds the
 * container's own group. */
static struct group_memory memory_upwards(const struct cgroup_files *files, char *group)
{
    struct group_memory least = no_limit;
    for (;;) {
        least = least_of(least, own_memory(files, group));
        char *slash = strrchr(group, '/');
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

static struct group_memory control_groups_memory(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[4200];
    struct group_memory least = no_limit;
    if (file == NULL)
        return least;
    while (fgets(line, sizeof(line), file) != NULL) { /* "0::/user.slice", "4:memory:/job" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL)
            continue;
        *group++ = '\0';
        const struct cgroup_files *files = NULL;
        if (strcmp(line, "0:") == 0 || strcmp(controllers, ":") == 0)
            files = &cgroup_v2;
        else if (strcmp(controllers, ":memory") == 0)
            files = &cgroup_v1;
        if (files != NULL)
            least = least_of(least, memory_upwards(files, group));
    }
    fclose(file);
    return least;
}

void memory_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

uint64_t memory_available_bytes(void)
{
    uint64_t kib;
    if (!read_number("/proc/meminfo", "MemAvailable", &kib))
        return 0;
    const uint64_t left = control_groups_memory().left;
    return kib * 1024 < left ? kib * 1024 : left;
}

uint64_t memory_total_bytes(void)
{
    uint64_t kib;
    if (!read_number("/proc/meminfo", "MemTotal", &kib))
        return 0;
    const uint64_t limit = control_groups_memory().limit;
    return kib * 1024 < limit ? kib * 1024 : limit;
}

uint64_t memory_resident_bytes(void)
{
    uint64_t kib;
    return read_number("/proc/self/status", "VmRSS", &kib) ? kib * 1024 : 0;
}

uint64_t memory_peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}
