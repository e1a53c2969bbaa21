/* sys/offer.h - the processor offered to others (sched_yield(2)) by who looks for something, unless
 * somebody takes it for long. */
#ifndef LONGSPAN_SYS_OFFER_H
#define LONGSPAN_SYS_OFFER_H

#include <stdbool.h>

/* True: the processor was offered; look again. False: look no more, sleep until woken.
 *
 * Who waits for us or is waited for gives the processor back within a layer's work. A program that
 * only computes keeps it for a whole turn of the kernel's (some milliseconds), each time; a sleeper
 * that is woken does not wait for such a turn's end. So once an offer was taken for longer than a
 * layer's work, this thread's next offers are declined, and then one is made again. */
bool offer_processor(void);

#endif
