/* descriptors.c - see descriptors.h. */
#include "sys/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

size_t descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    const rlim_t before = limit.rlim_cur;
    const rlim_t most = limit.rlim_max < DESCRIPTORS_ENOUGH ? limit.rlim_max : DESCRIPTORS_ENOUGH;
    if (before >= most)
        return before;
    limit.rlim_cur = most;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? most : before;
}

size_t descriptors_left(void)
{
    struct rlimit limit;
    DIR *open_ones = opendir("/proc/self/fd");
    if (open_ones == NULL && errno == EMFILE)
        return 0;
    if (open_ones == NULL || getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        if (open_ones != NULL)
            closedir(open_ones);
        return SIZE_MAX;
    }
    size_t n = 0;
    for (const struct dirent *entry; (entry = readdir(open_ones)) != NULL;)
        n += entry->d_name[0] != '.' &&
             strtoull(entry->d_name, NULL, 10) < limit.rlim_cur; /* others were inherited */
    closedir(open_ones);
    n--; /* the directory's own */
    return limit.rlim_cur > n ? limit.rlim_cur - n : 0;
}

/* The kernel gives the lowest number that is free. */
bool descriptors_are_few(size_t few)
{
    struct rlimit limit;
    const int lowest = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    if (lowest < 0)
        return errno == EMFILE;
    close(lowest);
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)lowest + few > limit.rlim_cur;
}

enum status descriptors_check(struct error *error)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS_LEAST)
        return STATUS_OK;
    return error_set(error, STATUS_EXHAUSTED,
                     "%llu files may be open (ulimit -n): each process needs %d, and some for each "
                     "other one: raise the limit",
                     (unsigned long long)limit.rlim_cur, DESCRIPTORS_LEAST);
}
