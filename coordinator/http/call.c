/* call.c - see call.h. */
#include "coordinator/http/call.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_cors(const struct call *call, struct MHD_Response *response)
{
    const char *origin = call->site->options->cors;
    if (origin == NULL)
        return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(response, "Access-Control-Expose-Headers", "x-request-id, Retry-After");
    if (strcmp(origin, "*") != 0)
        MHD_add_response_header(response, "Vary", "Origin");
}

static enum MHD_Result answer(struct call *call, unsigned status, const char *content_type,
                              struct MHD_Response *response)
{
    if (response == NULL)
        return MHD_NO; /* no memory: the connection is closed */
    MHD_add_response_header(response, "x-request-id", call->id);
    if (content_type != NULL)
        MHD_add_response_header(response, "Content-Type", content_type);
    if (status == 405 && call->allow != NULL)
        MHD_add_response_header(response, "Allow", call->allow);
    if (status == 401)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 429 || status == 503)
        MHD_add_response_header(response, "Retry-After", "1");
    add_cors(call, response);
    const enum MHD_Result result = MHD_queue_response(call->connection, status, response);
    MHD_destroy_response(response);
    if (result == MHD_YES)
        call->status = status;
    return result;
}

static const char no_memory[] = "{\"error\":{\"message\":\"no memory for the answer\",\"type\":"
                                "\"server_error\",\"param\":null,\"code\":null}}";

enum MHD_Result call_json(struct call *call, unsigned status, json_t *json)
{
    /* Nine digits bring every float back. */
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(json);
    if (text == NULL)
        return call_text(call, 500, "application/json", no_memory, strlen(no_memory));
    return call_given_json(call, status, text);
}

enum MHD_Result call_error(struct call *call, const struct api_error *error)
{
    if (call->note[0] == '\0')
        snprintf(call->note, sizeof(call->note), "%.150s", error->message);
    for (char *c = call->note; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?'; /* the client's words are in it, and it becomes a line of the log */
    return call_json(call, error->http, api_error_json(error));
}

enum MHD_Result call_static(struct call *call, const char *content_type,
                            const struct call_header_line *headers, const void *bytes, size_t n)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(n, (void *)bytes, MHD_RESPMEM_PERSISTENT);
    for (; response != NULL && headers->name != NULL; headers++)
        MHD_add_response_header(response, headers->name, headers->value);
    return answer(call, 200, content_type, response);
}

enum MHD_Result call_text(struct call *call, unsigned status, const char *content_type,
                          const char *text, size_t n)
{
    return answer(call, status, content_type,
                  MHD_create_response_from_buffer(n, (void *)text, MHD_RESPMEM_MUST_COPY));
}

enum MHD_Result call_given_json(struct call *call, unsigned status, char *text)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        free(text);
    return answer(call, status, "application/json", response);
}

/* Names of headers, with commas between them. */
static bool is_header_list(const char *text)
{
    for (; *text != '\0'; text++)
        if (!isalnum((unsigned char)*text) && strchr("-_, ", *text) == NULL)
            return false;
    return true;
}

enum MHD_Result call_preflight(struct call *call)
{
    const char *asked = call_header(call, "Access-Control-Request-Headers");
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response != NULL) {
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        MHD_add_response_header(response, "Access-Control-Allow-Headers",
                                asked != NULL && is_header_list(asked)
                                    ? asked
                                    : "Authorization, Content-Type, x-request-id");
        MHD_add_response_header(response, "Access-Control-Max-Age", "86400");
    }
    return answer(call, 204, NULL, response);
}

enum MHD_Result call_stream(struct call *call, const char *content_type, struct stream *stream)
{
    enum { BLOCK_BYTES = 16384 };
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, stream_read, stream, NULL);
    if (response != NULL) {
        MHD_add_response_header(response, "Cache-Control", "no-cache");
        MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* proxies: pass it on */
    }
    const enum MHD_Result result = answer(call, 200, content_type, response);
    if (result == MHD_YES) {
        call->streams = true;
        atomic_fetch_add(&call->site->tally.streams, 1);
    }
    return result;
}

const char *call_header(const struct call *call, const char *name)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
}
