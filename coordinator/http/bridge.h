/* coordinator/http/bridge.h - the one thread through which HTTP requests reach the coordinator's
 * loop.
 *
 * It owns a DEALER to the coordinator's socket, as any client does; so one thread owns the
 * scheduler, and nothing is locked there. An errand is one RunRequest and what becomes of its
 * events:
 *
 *     an MHD thread         the bridge's thread                      the coordinator's
 *     bridge_submit  ─────▶ read by the desk, if it has to be
 *                           queued, then sent: RunRequest ─────────▶ serving.c
 *     (suspended)           errand->kind->take(event) ◀──────────── RunEvent...
 *     answers        ◀───── wakes the connection
 *     bridge_abandon ─────▶ RunCancel ─────────────────────────────▶ pages are freed
 *
 * While a connection is suspended nobody reads its socket, so the bridge watches it: a client that
 * hangs up (also one that shuts down only its sending side) cancels its errand, in whatever phase
 * it is. */
#ifndef LONGSPAN_COORDINATOR_HTTP_BRIDGE_H
#define LONGSPAN_COORDINATOR_HTTP_BRIDGE_H

#include "coordinator/http/api_error.h"
#include "coordinator/http/errand.h"
#include "proto/wire_context.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct bridge; /* opaque */

/* Errands that the coordinator has, and that are read or wait for a place there, at most. */
struct bridge_limits {
    uint32_t running, queued;
};

/* `endpoint`: where the coordinator's socket listens inside (wire_socket_listen_inside). `wire` and
 * `log` are borrowed. STATUS_NO_MEMORY, or as wire_socket_open. */
enum status bridge_create(struct bridge **bridge, struct wire_context *wire, const char *endpoint,
                          const struct bridge_limits *limits, const struct log *log,
                          struct error *error);

/* Loses every errand (each wakes its connection), and takes no more; returns once there is none.
 * NULL is fine. */
void bridge_close(struct bridge *bridge);

/* After bridge_close, once nobody calls any more: ends the thread. NULL is fine. */
void bridge_destroy(struct bridge *bridge);

/* Any thread: a number for the next RunRequest, never used before. */
uint64_t bridge_number(struct bridge *bridge);

/* Any thread. The bridge becomes a user of the errand. False: 429, the queue is full; 503, it was
 * closed. */
bool bridge_submit(struct bridge *bridge, struct errand *errand, struct api_error *error);

/* Any thread: whoever waited for it has gone. Nothing happens to an errand that has ended. */
void bridge_abandon(struct bridge *bridge, const struct errand *errand);

/* Errands that the coordinator has, and that are read or wait for a place there. Any thread. */
uint32_t bridge_running(const struct bridge *bridge);
uint32_t bridge_queued(const struct bridge *bridge);

#endif
