/* coordinator/http/server.h - the HTTP server of the coordinator: OpenAI's API and what else has a
 * path (routes.c).
 *
 * libmicrohttpd's threads read requests and write answers; the bridge (bridge.h) carries what needs
 * the model to the coordinator's loop, as a client like any other. A connection that waits for the
 * model is suspended and costs no thread.
 *
 * Hostile input: bodies, connections, requests at once and waiting time are bounded
 * (http_options.h); a request that is malformed gets a 4xx or a closed connection. */
#ifndef LONGSPAN_COORDINATOR_HTTP_SERVER_H
#define LONGSPAN_COORDINATOR_HTTP_SERVER_H

#include "coordinator/http/http_options.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "proto/wire_context.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

#define SERVER_ENDPOINT "inproc://http" /* where the coordinator's socket listens inside */

struct server; /* opaque */

struct server_model {
    const struct model_file *file; /* for its chat templates; not needed after server_open */
    const struct tokenizer *tokenizer;
    uint32_t vocab;
    const char *path; /* of the file */
    const char *name; /* general.name */
};

/* Listens and answers at once; what needs the model gets 503 until server_ready. All arguments are
 * borrowed until server_close. `n_reserved`: descriptors that others will need; connections take
 * none of them. STATUS_EXHAUSTED: no more can be open. STATUS_INVALID, STATUS_NOT_FOUND, STATUS_UNSUPPORTED: an address, a
 * key file or a chat template that cannot be; an address that other hosts reach, without a key
 * file. STATUS_UNREACHABLE: the address is in use. STATUS_NO_MEMORY. */
enum status server_open(struct server **server, const struct http_options *options,
                        const struct server_model *model, uint32_t n_reserved,
                        struct wire_context *wire, const struct log *log, struct error *error);

/* The cluster is ready; a sequence may have max_tokens. */
void server_ready(struct server *server, uint32_t max_tokens);

/* From now on what needs the model gets 503, and /health says so. Requests that run go on. */
void server_drain(struct server *server);

/* Every request has been answered, to its last byte; for those that are still being sent, a few
 * seconds after server_drain are enough. */
bool server_drained(const struct server *server);

/* Ends what runs; who reads has its last bytes, of who does not, a moment is waited for. NULL is
 * fine. Before the coordinator's socket and context are closed. */
void server_close(struct server *server);

#endif
