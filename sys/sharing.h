/* sys/sharing.h - who else wants the processors of a process's lanes. How its waits are made
 * follows from it: every wait looks for a bounded time for what it waits for, then sleeps in the
 * kernel.
 *
 * A wake-up of another processor takes 20 to 40 us on a virtual machine (--trace: from where a lane
 * could begin to its `run`), so that processes that answer each other within a step should not
 * sleep in between. Looking costs nothing where nobody else wants the processor; where somebody
 * does, it costs nothing if each look offers the processor (sched_yield(2)): then whoever computes
 * has it, and as soon as that one waits in turn, its partner runs again, without being woken. */
#ifndef LONGSPAN_SYS_SHARING_H
#define LONGSPAN_SYS_SHARING_H

enum sharing {
    SHARING_NONE,    /* a processor for each lane */
    SHARING_IN_TURN, /* a processor for each lane, where lanes of other processes of the job run when
                        these wait for them: a worker and an attention node on all processors */
    SHARING_CROWDED, /* more lanes than processors: the kernel moves them about */
};

enum {
    /* As long as the other's turn: a layer's attention over 32k tokens (bench-1b), its products. */
    SHARING_IN_TURN_US = 2000,
    /* Who looks for longer may keep the kernel from moving somebody with work here. */
    SHARING_CROWDED_US = 200
};

#endif
