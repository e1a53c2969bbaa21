/* cluster/standard_output.h - what a command prints, and a reader who has seen enough (`| head`).
 *
 * SIGPIPE is ignored, so that a command ends what it started. One that nobody reads any more ends
 * without a word, with the exit code that the signal would have given: main.c sees to that. */
#ifndef LONGSPAN_CLUSTER_STANDARD_OUTPUT_H
#define LONGSPAN_CLUSTER_STANDARD_OUTPUT_H

#include "cluster/launch.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdbool.h>

/* Has everything been written? STATUS_IO: no. */
enum status standard_output_flush(struct error *error);

/* Waits until it takes some more, as a pager that nobody turns does not. Signals are blocked: a
 * write that waits would keep them from being seen. STATUS_CANCELLED: one came. STATUS_TIMEOUT: it
 * still takes nothing after `timeout_ms`. */
enum status standard_output_await(struct launch *launch, int timeout_ms);

/* Something could not be written since nobody reads any more. */
bool standard_output_is_unread(void);

/* Logs why a command failed; nothing where that is why. */
void standard_output_log_failure(const struct log *log, const struct error *error);

#endif
