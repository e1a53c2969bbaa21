/* sys/stack.h - whether the stack that the shell allows is enough.
 *
 * `ulimit -s` is the room of the first thread and of every other one, ours and those of libraries.
 * Whoever runs out of it ends by a segmentation fault, which says nothing. */
#ifndef LONGSPAN_SYS_STACK_H
#define LONGSPAN_SYS_STACK_H

#include "sys/status.h"

/* What every program can do with: a thread of the coordinator takes the most, for JSON that is nested as
 * deep as its reader allows (tests/integration/test_limits.py). What CUDA's libraries take has not been
 * measured. */
enum { STACK_LEAST = 512 << 10 };

/* `main` calls it, before anything that may be deep. STATUS_EXHAUSTED: less than STACK_LEAST; with
 * what to do. */
enum status stack_check(struct error *error);

#endif
