/* stack.c - see stack.h. */
#include "sys/stack.h"

#include <sys/resource.h>

enum { KIB = 1024 };

enum status stack_check(struct error *error)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK_LEAST)
        return STATUS_OK;
    return error_set(error, STATUS_EXHAUSTED,
                     "a stack may have %llu KiB (ulimit -s), %d are needed: raise the limit, with "
                     "`ulimit -s 8192` say",
                     (unsigned long long)limit.rlim_cur / KIB, STACK_LEAST / KIB);
}
