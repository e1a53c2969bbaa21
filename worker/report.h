/* worker/report.h - what a rank tells the coordinator: that it is ready, and how each step went. */
#ifndef LONGSPAN_WORKER_REPORT_H
#define LONGSPAN_WORKER_REPORT_H

#include "sys/status.h"
#include "worker/attention.h"
#include "worker/link.h"
#include "worker/results.h"
#include "worker/step.h"

#include <stdint.h>

struct report; /* opaque: memory for messages, and the traffic already reported */

struct report_config {
    struct link *link; /* borrowed */
    uint64_t job;
    uint32_t rank, n_holders;
    bool answers; /* this rank, shard 0 of the last stage, brings the results */
};

/* The caller ends *report with report_destroy. STATUS_NO_MEMORY. */
enum status report_create(struct report **report, const struct report_config *config,
                          struct error *error);
void report_destroy(struct report *report);

/* WorkerReady; with failure->status not STATUS_OK, that this rank could not load (the numbers are
 * left out). */
struct report_ready {
    uint64_t weight_bytes, working_bytes, resident_bytes, local_kv_bytes;
    double load_s;
};
enum status report_send_ready(struct report *report, const struct report_ready *ready,
                              const struct error *failure, struct error *error);

/* StepDone. Errors are those of the step, of its segments, of attention and of the results (a row
 * that is no distribution). The rank that answers adds one result for each segment that wants one,
 * in order; that of a failed segment is empty, and it has no whole row. The whole rows are one
 * frame, one after the other; they are closed up in place when some are left out. `attention` may
 * be NULL when no segment took part. */
enum status report_send_step(struct report *report, const struct step *step,
                             const struct attention *attention, struct results *results,
                             uint64_t compute_us, struct error *error);

/* A StepDone that says that the step of this message failed as a whole; NULL: a message that nobody
 * can read, of step 0. */
enum status report_send_failure(struct report *report, const Longspan__Step *message,
                                const struct error *failure, struct error *error);

#endif
