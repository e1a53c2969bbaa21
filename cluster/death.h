/* cluster/death.h - how a process that was started here ended: in words, and as our exit code. */
#ifndef LONGSPAN_CLUSTER_DEATH_H
#define LONGSPAN_CLUSTER_DEATH_H

#include "cluster/launch.h"
#include "sys/status.h"

enum { DEATH_WORDS_BYTES = 512 };

/* "ended with exit status 4", and the like, with the remedy where it said something that has one
 * (trouble.h). Returns the exit code that it makes ours: its own where
 * it is one of our programs', 3 where it could not be started or reached, 4 otherwise. */
int death_explain(const struct launch_death *death, char words[DEATH_WORDS_BYTES]);

/* The same as a failure: prints its last lines on standard error, and says who and how, and `more`,
 * which others said of it ("": nothing). One of our programs that ended because of an error has
 * said why: that is the failure then, or nothing (a text that is empty) where it was shown as it
 * came. STATUS_FAILED. */
enum status death_report(const struct launch_death *death, const char *more, int *exit_code,
                         struct error *error);

#endif
