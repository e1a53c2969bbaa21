/* descriptors.c - see descriptors.h. */
#include "sys/descriptors.h"

#include <sys/resource.h>

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
