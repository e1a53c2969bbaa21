/* coordinator/http/status_source.h - the coordinator's status for HTTP handlers.
 *
 * A client of the coordinator's loop like any other, with a thread and a socket of its own. The
 * loop answers when it has finished the message it is at; meanwhile the connections that asked
 * sleep, and the threads that carry streams do not wait for it. Whoever asks while a question is
 * under way gets its answer, and what is younger than STATUS_SOURCE_AGE_MS is told again: many
 * pages and scrapers cost the loop no more than one.
 *
 * A handler asks once, and is called again when there is an answer:
 *
 *     if (call->question == NULL)
 *         call->question = status_source_ask(call->site->status, call->connection);
 *     if (!status_question_answered(call->question))
 *         return MHD_YES;
 *     reply = status_question_reply(call->question, &error);
 *
 * The question is let go with the call. */
#ifndef LONGSPAN_COORDINATOR_HTTP_STATUS_SOURCE_H
#define LONGSPAN_COORDINATOR_HTTP_STATUS_SOURCE_H

#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "sys/status.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

enum { STATUS_SOURCE_AGE_MS = 250, STATUS_SOURCE_WAIT_MS = 2000 };

struct status_source;   /* opaque; any thread may ask */
struct status_question; /* opaque; of one call */

/* `endpoint`: where the coordinator's socket listens inside. `wire` is borrowed. `wait_ms`: for the
 * loop's answer; STATUS_SOURCE_WAIT_MS but in tests. STATUS_NO_MEMORY, or as wire_socket_open. */
enum status status_source_create(struct status_source **source, struct wire_context *wire,
                                 const char *endpoint, uint32_t wait_ms, struct error *error);

/* Answers every question (each wakes its connection) with STATUS_CANCELLED, and later ones at once:
 * from then on no connection sleeps for it. NULL is fine. */
void status_source_close(struct status_source *source);

/* Once nobody asks any more. NULL is fine. */
void status_source_destroy(struct status_source *source);

/* Asks for this connection. NULL: no memory. */
struct status_question *status_source_ask(struct status_source *source,
                                          struct MHD_Connection *connection);

/* ---- only inside MHD's callbacks; a question that is NULL is one that had no memory */

/* True: there is a reply or an error. False: not yet, and the connection is suspended. */
bool status_question_answered(struct status_question *question);

/* Of one that is answered: what the loop said, until status_question_end. NULL: *error says why.
 * STATUS_TIMEOUT: the loop did not answer in time. STATUS_CANCELLED: the server ends.
 * STATUS_PROTOCOL, STATUS_NO_MEMORY, STATUS_IO. */
const Longspan__StatusReply *status_question_reply(const struct status_question *question,
                                                   struct error *error);

/* The call ends, answered or not: its connection is not touched any more. */
void status_question_end(struct status_question *question);

#endif
