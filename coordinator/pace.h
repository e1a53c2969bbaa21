/* coordinator/pace.h - keeps steps at about the time that --step-target-ms says.
 *
 * What a step takes is measured from its sending, or from the report of the step before when that
 * came later, to its own report: with a pipeline, that is the time of the slowest stage. A sequence
 * that decodes is in one of `depth` steps, so a step may take the depth-th part of the target.
 *
 * No clock of its own: the caller says what time it is. */
#ifndef LONGSPAN_COORDINATOR_PACE_H
#define LONGSPAN_COORDINATOR_PACE_H

#include "coordinator/scheduler.h"
#include "sys/status.h"

#include <stdint.h>

struct pace; /* opaque */

/* target_ms 0: steps have `chunk` prompt tokens, whatever they take. STATUS_NO_MEMORY. */
enum status pace_create(struct pace **pace, uint32_t target_ms, uint32_t chunk, uint32_t depth,
                        struct error *error);
void pace_destroy(struct pace *pace);

/* A step leaves. */
void pace_sent(struct pace *pace, const struct scheduler_step *step,
               const struct scheduler *scheduler, uint64_t now_us);

/* The oldest step in flight was reported by all. The scheduler's budget follows. */
void pace_reported(struct pace *pace, struct scheduler *scheduler, uint64_t now_us);

#endif
