/* coordinator/steps.h - a scheduled step as the message that rank 0 gets. */
#ifndef LONGSPAN_COORDINATOR_STEPS_H
#define LONGSPAN_COORDINATOR_STEPS_H

#include "coordinator/cluster.h"
#include "coordinator/placement.h"
#include "coordinator/reports.h"
#include "coordinator/scheduler.h"

struct steps; /* opaque: memory for building */

/* STATUS_NO_MEMORY. */
enum status steps_create(struct steps **steps, uint32_t max_segments, struct error *error);
void steps_destroy(struct steps *steps);

/* [max_segments], for the caller to fill before steps_send: what each segment shall bring. */
struct reports_want *steps_wants(struct steps *steps);

/* To rank 0 of the cluster. Fails like control_send. */
enum status steps_send(struct steps *steps, const struct cluster *cluster,
                       const struct scheduler_step *step, const struct scheduler *scheduler,
                       const struct placement *placement, struct error *error);

#endif
