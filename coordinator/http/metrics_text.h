/* coordinator/http/metrics_text.h - a StatusReply, and what the HTTP server knows of itself, in the
 * text format of Prometheus, for GET /metrics.
 *
 * Text format 0.0.4 (content type METRICS_TEXT_TYPE). Every name begins with "longspan_"; what each
 * means is said in its HELP line and in docs/operations.md. A cluster that is not ready has only
 * what is known of it: the processes. Pure. */
#ifndef LONGSPAN_COORDINATOR_HTTP_METRICS_TEXT_H
#define LONGSPAN_COORDINATOR_HTTP_METRICS_TEXT_H

#include "coordinator/http/tally.h"
#include "proto/longspan.pb-c.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

#define METRICS_TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics_http {
    const struct tally *tally;
    uint32_t running, waiting; /* requests, as the bridge counts them */
    uint64_t body_bytes;       /* as body.h counts them */
};

/* The caller frees *text. STATUS_NO_MEMORY. */
enum status metrics_text(const Longspan__StatusReply *reply, const struct metrics_http *http,
                         char **text, size_t *bytes, struct error *error);

#endif
