/* coordinator/http/bridge.h - the one thread through which HTTP requests reach the coordinator's
 * loop.
 *
 * It owns a DEALER to the coordinator's socket, as any client does; so one thread owns the
 * scheduler, and nothing is locked there. A job is one RunRequest and what becomes of its events:
 *
 *     an MHD thread         the bridge's thread                      the coordinator's
 *     bridge_submit  ─────▶ queued, then sent: RunRequest ─────────▶ serving.c
 *     (suspended)           job->kind->take(event)  ◀────────────── RunEvent...
 *     answers        ◀───── wakes the connection
 *     bridge_abandon ─────▶ RunCancel ─────────────────────────────▶ pages are freed
 *
 * While a connection is suspended nobody reads its socket, so the bridge watches it: a client that hangs up
 * (also one that shuts down only its sending side) cancels its job, in whatever phase it is. */
#ifndef LONGSPAN_COORDINATOR_HTTP_BRIDGE_H
#define LONGSPAN_COORDINATOR_HTTP_BRIDGE_H

#include "coordinator/http/api_error.h"
#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bridge; /* opaque */
struct job;

/* What a job does with what happens to it, in the bridge's thread; `destroy` in that of the last
 * user. */
struct job_kind {
    /* False: the client does not take it, and the job is cancelled. */
    bool (*take)(struct job *job, const Longspan__RunEvent *event);
    /* It ends without an event: its client has gone, or the server ends. */
    void (*lost)(struct job *job, enum status status, const char *text);
    /* In MHD's thread: the connection ends, and must not be woken any more. */
    void (*detach)(struct job *job);
    void (*destroy)(struct job *job);
};

/* The first member of what makes use of it. */
struct job {
    const struct job_kind *kind;
    uint64_t number;  /* RunRequest.request, set by job_open */
    int descriptor;   /* of the client's connection, to be watched */
    uint8_t *message; /* a packed Control with the RunRequest; the job's, freed once sent */
    size_t n_bytes;
    atomic_uint n_users;
    /* the bridge's */
    struct job *next;
    bool sent;
};

/* A new job has one user: the caller. */
void job_open(struct job *job, const struct job_kind *kind, struct bridge *bridge, int descriptor);
/* One user less; the last one destroys it. NULL is fine. */
void job_release(struct job *job);

struct bridge_limits {
    uint32_t running, queued; /* jobs with the coordinator, and in the queue before it, at most */
};

/* `endpoint`: where the coordinator's socket listens inside (wire_socket_listen_inside). `wire` and
 * `log` are borrowed. STATUS_NO_MEMORY, or as wire_socket_open. */
enum status bridge_create(struct bridge **bridge, struct wire_context *wire, const char *endpoint,
                          const struct bridge_limits *limits, const struct log *log,
                          struct error *error);

/* Loses every job (each wakes its connection), and takes no more; returns once there is none. NULL
 * is fine. */
void bridge_close(struct bridge *bridge);

/* After bridge_close, once nobody calls any more: ends the thread. NULL is fine. */
void bridge_destroy(struct bridge *bridge);

/* Any thread. The bridge becomes a user of the job. False: 429, the queue is full; 503, it was
 * closed. */
bool bridge_submit(struct bridge *bridge, struct job *job, struct api_error *error);

/* Any thread: whoever waited for it has gone. Nothing happens to a job that has ended. */
void bridge_abandon(struct bridge *bridge, const struct job *job);

/* Jobs that the coordinator has, and that wait for a place there. Any thread. */
uint32_t bridge_running(const struct bridge *bridge);
uint32_t bridge_queued(const struct bridge *bridge);

#endif
