/* sys/offer.h - a thread that waits by looking offers its processor to others (sched_yield(2)),
 * unless somebody keeps it for long. */
#ifndef LONGSPAN_SYS_OFFER_H
#define LONGSPAN_SYS_OFFER_H

#include <stdbool.h>

/* True: the processor was offered; look again. False: look no more, sleep until woken.
 *
 * Another process of the job gives the processor back within a layer's work, for then it waits in
 * turn. A program that only computes keeps it for a whole time slice (some milliseconds), each
 * time, while a sleeper that is woken does not have to wait for the end of the slice. So once an
 * offer was taken for longer than a layer's work, this thread makes none for a while, and then
 * tries again. */
bool offer_processor(void);

#endif
