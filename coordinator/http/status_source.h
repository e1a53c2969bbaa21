/* coordinator/http/status_source.h - the coordinator's status for HTTP handlers.
 *
 * A client of the coordinator's loop like any other, with a socket of its own. The answer comes when the loop
 * has finished the message it is at, which is sooner than people can see; a handler waits for that in its
 * thread. What is younger than STATUS_SOURCE_AGE_MS is told again, so that many pages and scrapers cost the loop
 * no more than one. */
#ifndef LONGSPAN_COORDINATOR_HTTP_STATUS_SOURCE_H
#define LONGSPAN_COORDINATOR_HTTP_STATUS_SOURCE_H

#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "sys/status.h"

enum { STATUS_SOURCE_AGE_MS = 250, STATUS_SOURCE_WAIT_MS = 2000 };

struct status_source; /* opaque; any thread may use it */

/* `endpoint`: where the coordinator's socket listens inside. `wire` is borrowed. STATUS_NO_MEMORY, or as
 * wire_socket_open. */
enum status status_source_create(struct status_source **source, struct wire_context *wire,
                                 const char *endpoint, struct error *error);
/* Once nobody uses it any more. NULL is fine. */
void status_source_destroy(struct status_source *source);

/* Lends the status to this thread alone, until status_source_give; others wait meanwhile. A failure lends
 * nothing. STATUS_TIMEOUT: the loop did not answer in time. STATUS_PROTOCOL, STATUS_NO_MEMORY, STATUS_IO. */
enum status status_source_take(struct status_source *source, const Longspan__StatusReply **reply,
                               struct error *error);
void status_source_give(struct status_source *source);

#endif
