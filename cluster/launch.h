/* cluster/launch.h - child processes: started, listened to, and ended, all of them, whatever
 * happens.
 *
 * Each child leads a process group of its own, so that a Ctrl-C in the terminal reaches this
 * program alone, which then ends the others in order. A child gets SIGTERM from the kernel when
 * this program dies, also by SIGKILL. What children leave behind (ranks of a killed mpirun) is
 * inherited by this process and ended too.
 *
 * Children read nothing (or a pipe that ends with us) and write to one pipe each, standard output
 * and error alike; the last lines are kept for messages. One that talks has its standard output in
 * a pipe of its own, which the caller reads. One descriptor tells that something happened: a child
 * died, said something, or a signal came. One thread: the main one, because the kernel's promise is
 * about the thread that forked. */
#ifndef LONGSPAN_CLUSTER_LAUNCH_H
#define LONGSPAN_CLUSTER_LAUNCH_H

#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAUNCH_TAIL_BYTES = 4096, LAUNCH_MOST = 6200 };

struct launch; /* opaque */

enum launch_show {
    LAUNCH_SHOW_WARNINGS, /* lines with ": warning: " go to standard error as they come, except
                             those with ": warning: request ", which the request's own end tells */
    LAUNCH_SHOW_ALL,
    LAUNCH_SHOW_NOTHING,
};

/* From here on SIGINT, SIGTERM, SIGHUP and SIGCHLD are blocked, and read from the descriptor: call
 * it before any thread is created. The caller ends *launch with launch_destroy. STATUS_NO_MEMORY:
 * or no more descriptors. */
enum status launch_create(struct launch **launch, enum launch_show show, struct error *error);

/* Ends everybody (launch_end) if that was not done, and restores the signals. NULL is fine. */
void launch_destroy(struct launch *launch);

enum launch_flags {
    LAUNCH_NEEDS_INPUT = 1 << 0, /* standard input is a pipe that stays open until the end */
    LAUNCH_LEAVES = 1 << 1,      /* ends by itself soon after others were told to */
    LAUNCH_SHOWN = 1 << 2,       /* all that it says is shown, but with LAUNCH_SHOW_NOTHING */
    LAUNCH_TALKS = 1 << 3,       /* standard input and output are the caller's: launch_pipes */
    LAUNCH_FIRST = 1 << 4, /* is told to end before the others, which it has something to tell */
};

/* Starts `words` (argv, found on PATH unless it has a slash); `label` is for messages, and copied.
 * STATUS_UNREACHABLE: the program cannot be executed. STATUS_EXHAUSTED: more than LAUNCH_MOST. */
enum status launch_start(struct launch *launch, const char *label, char *const *words,
                         unsigned flags, struct error *error);

/* Children that were started: the next one's index. */
uint32_t launch_count(const struct launch *launch);

/* What a child with LAUNCH_TALKS reads and says, non-blocking; -1: closed. They stay launch's. */
struct launch_pipes {
    int to, from;
};
struct launch_pipes launch_pipes(const struct launch *launch, uint32_t index);

/* Readable when launch_progress has something to do. */
int launch_descriptor(const struct launch *launch);

/* Reads what children said, collects those that died, takes signals. Never waits. */
void launch_progress(struct launch *launch);

/* The signal that asked us to end, the first one of launch_n_signals; 0: none. */
int launch_signal(const struct launch *launch);
uint32_t launch_n_signals(const struct launch *launch);

/* As if none had come: the caller took it for another wish than to end. */
void launch_forget_signals(struct launch *launch);

/* Sends a signal to the index-th child that was started, unless it has died; and says whether it
 * has. */
void launch_tell(struct launch *launch, uint32_t index, int number);
bool launch_has_died(const struct launch *launch, uint32_t index);

/* The first child that died, in the order of dying. False: all live. `code`: its exit status, or
 * 128 + the signal. The strings live until
 * the next such call. */
struct launch_death {
    const char *label;
    int code;
    unsigned flags; /* as it was started with */
    const char
        *tail; /* its last lines; where some say ": error: ", only those; "": they were shown */
    const char *said; /* the newest LAUNCH_TAIL_BYTES of all that it said */
};
bool launch_first_death(struct launch *launch, struct launch_death *death);

/* The same of one child, which has died; of one that lives, what it has said so far and code -1. */
void launch_told(struct launch *launch, uint32_t index, struct launch_death *death);

/* The last whole line that a child said; "" if none. Lives until the next call. */
const char *launch_latest(const struct launch *launch, uint32_t index);

/* Ends all children, at most 3 s later: `gently` first tells those that do not leave by themselves,
 * by the end of their standard input where they have one, and waits up to 0.7 s; then SIGTERM to all;
 * SIGKILL 1.5 s after that. What they say from SIGTERM on is shown only with LAUNCH_SHOW_ALL. */
void launch_end(struct launch *launch, bool gently);

#endif
