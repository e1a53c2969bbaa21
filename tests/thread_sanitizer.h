/* tests/thread_sanitizer.h - what tests leave out where ThreadSanitizer watches.
 *
 * It looks at who touches what and when, not at numbers, and makes arithmetic some twenty times
 * slower. So a program does under it all that differs in threads, and of what differs in numbers
 * only a part; it says which it leaves out, in lines that tests/run.sh shows. */
#ifndef LONGSPAN_TESTS_THREAD_SANITIZER_H
#define LONGSPAN_TESTS_THREAD_SANITIZER_H

#include "tests/cmocka.h"

#include <stdio.h>

#ifndef __has_feature /* clang's; gcc has the other macro */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
enum { THREAD_SANITIZER = 1 };
#else
enum { THREAD_SANITIZER = 0 };
#endif

/* For a test of which the threads do no more than those of others in its program: it ends here. */
static inline void thread_sanitizer_skips(void)
{
    if (THREAD_SANITIZER)
        skip();
}

/* Says that a test goes on without these. */
static inline void thread_sanitizer_leaves_out(const char *cases)
{
    if (THREAD_SANITIZER)
        printf("# left out under ThreadSanitizer: %s\n", cases);
}

#endif
