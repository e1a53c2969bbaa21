/* coordinator/http/call.h - one HTTP request and its answer, for those who write handlers.
 *
 * A handler (routes.h) runs when the whole body has come, in one of MHD's threads. It answers with
 * one of the functions below and returns what they return:
 *
 *     static enum MHD_Result answer_models(struct call *call)
 *     {
 *         return call_json(call, 200, json_pack(...));
 *     }
 *
 * A handler that needs the coordinator's loop, or whose body takes long to read, starts an errand
 * (bridge.h) and leaves it in call->errand, and returns MHD_YES where stream_begun has put the
 * connection to sleep. It is called again when the errand has woken it; call->errand is then what it left there. The errand is
 * let go with the call. So is a question for the coordinator's status, in call->question
 * (status_source.h).
 *
 * Every answer carries the request's id; nothing here waits. */
#ifndef LONGSPAN_COORDINATOR_HTTP_CALL_H
#define LONGSPAN_COORDINATOR_HTTP_CALL_H

#include "coordinator/http/api_error.h"
#include "coordinator/http/body.h"
#include "coordinator/http/site.h"
#include "coordinator/http/stream.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct errand;          /* errand.h */
struct route;           /* routes.h */
struct status_question; /* status_source.h */

enum { CALL_ID_BYTES = 72, CALL_PATH_BYTES = 1024 };

struct call {
    struct site *site;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL: there is none */
    const char *allow;         /* what its path would take, where `route` is NULL; or NULL */
    struct api_error refusal;  /* known before the body came; http 0: none */
    char id[CALL_ID_BYTES];
    char method[16], path[CALL_PATH_BYTES]; /* as they came; cut */
    uint64_t began_us;
    struct body body; /* a handler may take it */
    struct errand *errand;
    struct status_question *question;
    unsigned status; /* that was answered; 0: none */
    bool is_whole;   /* it was received to its end */
    bool streams;    /* by call_stream */
    char note[160];  /* for the log: what a handler has to say of its work */
};

/* Takes the reference to `json`; NULL (no memory) is answered with 500. */
enum MHD_Result call_json(struct call *call, unsigned status, json_t *json);

enum MHD_Result call_error(struct call *call, const struct api_error *error);

struct call_header_line {
    const char *name, *value; /* name NULL ends a list of them */
};

/* Bytes that live as long as the process (not copied), under further headers; or that are
 * copied. */
enum MHD_Result call_static(struct call *call, const char *content_type,
                            const struct call_header_line *headers, const void *bytes, size_t n);
enum MHD_Result call_text(struct call *call, unsigned status, const char *content_type,
                          const char *text, size_t n);

/* Where there is --cors: what a browser asks before a page's request. All headers that the page
 * wants to send may come: OpenAI's client for JavaScript has a dozen of its own. */
enum MHD_Result call_preflight(struct call *call);

/* 200 and whatever is written to the stream. It must live until the call's end. */
enum MHD_Result call_stream(struct call *call, const char *content_type, struct stream *stream);

/* JSON in memory that malloc gave, and that is the answer's now. */
enum MHD_Result call_given_json(struct call *call, unsigned status, char *text);

/* A header of the request, or NULL. */
const char *call_header(const struct call *call, const char *name);

#endif
