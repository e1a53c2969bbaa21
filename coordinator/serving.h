/* coordinator/serving.h - requests on a cluster that is ready: reserve, step, sample, answer, free.
 *
 *     request ─▶ sequences ─▶ admitted: Reserve ─▶ acknowledged ─▶ steps ─▶ reported by all ranks
 *        ▲                                                                      │ sample
 *        └── RunProgress, RunToken, RunFinished, RunDone ◀─────────────────────┘
 *     finished, failed or cancelled ─▶ named in a step's `closed` ─▶ reported by all ─▶ Free
 *
 * What fails in a segment fails its request; what fails in a step's reports, or does not come in
 * time, is a failure of these functions, and ends the job. */
#ifndef LONGSPAN_COORDINATOR_SERVING_H
#define LONGSPAN_COORDINATOR_SERVING_H

#include "coordinator/cluster.h"
#include "coordinator/control.h"
#include "coordinator/early.h"
#include "coordinator/metrics.h"
#include "coordinator/placement.h"
#include "coordinator/reports.h"
#include "coordinator/request.h"
#include "coordinator/scheduler.h"
#include "model/tokenizer.h"
#include "sys/log.h"
#include "sys/status.h"
#include "sys/trace.h"

#include <stdbool.h>
#include <stdint.h>

struct serving; /* opaque */

/* A client that does not ping for so long counts as gone, and its requests are cancelled. */
enum { SERVING_CLIENT_SILENCE_US = 10000000 };

/* Drops requests that came early, whose client was silent for so long. */
void serving_drop_silent(struct early *early, struct control *control, uint64_t now_us);

/* All arguments are borrowed; `cluster` is READY; `trace`: of this thread, or NULL.
 * STATUS_NO_MEMORY. */
enum status serving_create(struct serving **serving, struct cluster *cluster,
                           struct control *control, const struct tokenizer *tokenizer,
                           const struct log *log, struct trace_track *trace, struct error *error);
void serving_destroy(struct serving *serving);

/* A bad request is answered with its failure, which is none of ours. */
void serving_request(struct serving *serving, const struct frames_peer *client,
                     const Longspan__RunRequest *message, uint64_t now_us);
void serving_cancel(struct serving *serving, const struct frames_peer *client, uint64_t number);
/* All of its requests. */
void serving_client_left(struct serving *serving, const struct frames_peer *client);
void serving_client_heard(struct serving *serving, const struct frames_peer *client,
                          uint64_t now_us);

void serving_node_stored(struct serving *serving, uint32_t node,
                         const Longspan__NodeStored *stored);
void serving_reserve_reply(struct serving *serving, uint32_t node,
                           const Longspan__ReserveReply *reply);
enum status serving_step_done(struct serving *serving, uint32_t rank,
                              const Longspan__StepDone *done, struct frames *frames,
                              uint64_t now_us, struct error *error);

/* One of them can be read when serving_pump should be called. */
enum { SERVING_DESCRIPTORS = 2 };
void serving_descriptors(const struct serving *serving, int descriptors[SERVING_DESCRIPTORS]);

/* Sends what can be sent: call it after every message. */
enum status serving_pump(struct serving *serving, uint64_t now_us, struct error *error);

/* Deadlines: of reservations and clients (their requests fail), of steps (a failure that names the
 * ranks). Call at least twice a second. */
enum status serving_tick(struct serving *serving, uint64_t now_us, struct error *error);

/* Nothing that attention nodes could store is still to be closed. */
bool serving_closed(const struct serving *serving);

/* A step is in flight. */
bool serving_stepping(const struct serving *serving);

/* What status_reply.h shows of it. Borrowed until the next call of a function here. */
struct serving_view {
    const struct request *requests; /* the newest first */
    const struct scheduler *scheduler;
    const struct placement *placement;
    const struct reports *reports;
    const struct metrics *metrics;
};
struct serving_view serving_view(const struct serving *serving);

/* Tells every client that its request fails. */
void serving_fail_all(struct serving *serving, enum status status, const char *text);

#endif
