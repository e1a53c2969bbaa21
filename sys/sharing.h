/* sys/sharing.h - who else wants the processors of a process's lanes, and so how long its waits
 * look for what they wait for before they sleep in the kernel.
 *
 * A wake-up of another processor takes 20 to 40 us on a virtual machine (--trace: from where a lane
 * could begin to its `run`), so processes that answer each other within a step should not sleep in
 * between. Looking costs nothing where nobody else wants the processor. Where somebody does, it
 * costs nothing if each look is followed by an offer of the processor (sched_yield(2)): then the
 * process that has work runs, and as soon as that one waits in turn, the first runs again, without
 * being woken. */
#ifndef LONGSPAN_SYS_SHARING_H
#define LONGSPAN_SYS_SHARING_H

enum sharing {
    SHARING_NONE,    /* a processor for each lane */
    SHARING_IN_TURN, /* a processor for each lane of this process, on which lanes of other processes
                        of the job run too, while this one waits for them: a worker and an attention
                        node, each on all processors */
    SHARING_CROWDED, /* more lanes than processors: the kernel moves them about */
};

enum {
    /* As long as the other's turn: a layer's attention over 32k tokens (bench-1b), its products. */
    SHARING_IN_TURN_US = 2000,
    /* A thread that looks for longer may keep the kernel from moving one with work here. */
    SHARING_CROWDED_US = 200
};

#endif
