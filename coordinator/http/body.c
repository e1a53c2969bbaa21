/* body.c - see body.h. */
#include "coordinator/http/body.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Of a body of `n` bytes. */
static uint64_t counted(uint64_t n)
{
    return n > BODY_FREE_BYTES ? n - BODY_FREE_BYTES : 0;
}

static bool count(struct body *body, uint64_t n)
{
    struct body_limits *limits = body->limits;
    const uint64_t more = counted(n) - body->n_counted;
    if (atomic_fetch_add(&limits->held, more) + more > limits->all && more > 0) {
        atomic_fetch_sub(&limits->held, more);
        return false;
    }
    body->n_counted += more;
    return true;
}

bool body_add(struct body *body, struct body_limits *limits, const char *data, size_t n,
              struct api_error *error)
{
    body->limits = limits;
    bool good = true;
    if (body->text.n + n > limits->each)
        good = body_too_large(limits, error);
    else if (!count(body, body->text.n + n))
        good = api_error_set(error, 503, NULL, "unavailable",
                             "the requests that are being sent and read have all the %" PRIu64
                             " bytes that they may have together (--http-bodies): try again later",
                             limits->all);
    else if (!text_buffer_add(&body->text, data, n))
        good = api_error_set(error, 503, NULL, "unavailable", "no memory for the body");
    if (!good)
        body_drop(body);
    return good;
}

bool body_too_large(const struct body_limits *limits, struct api_error *error)
{
    return api_error_set(error, 413, NULL, "body_too_large",
                         "the body has more than %" PRIu64 " bytes", limits->each);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The text, handed to jansson piece by piece: between pieces there is time to end. */
struct pieces {
    const char *at, *end;
    const atomic_bool *stop;
    bool stopped, in_string, escaped;
    size_t n_containers;
};

/* Counts where objects and arrays begin. What is no JSON may be miscounted, and is refused anyway. */
static void count_containers(struct pieces *p, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char c = bytes[i];
        if (p->escaped)
            p->escaped = false;
        else if (c == '"')
            p->in_string = !p->in_string;
        else if (p->in_string)
            p->escaped = c == '\\';
        else
            p->n_containers += c == '{' || c == '[';
    }
}

static size_t next_piece(void *to, size_t most, void *closure)
{
    struct pieces *p = closure;
    const size_t left = (size_t)(p->end - p->at), n = left < most ? left : most;
    p->stopped = p->stop != NULL && atomic_load(p->stop);
    if (p->stopped || n == 0)
        return 0; /* the end of what there is to read */
    count_containers(p, p->at, n);
    if (p->n_containers > BODY_MOST_CONTAINERS)
        return 0;
    memcpy(to, p->at, n);
    p->at += n;
    return n;
}

/* Why there is no JSON, or none that we take. */
static void explain(const struct pieces *p, const json_error_t *where, struct api_error *error)
{
    if (p->stopped)
        api_error_set(error, 503, NULL, "unavailable", "nobody waits for the answer any more");
    else if (p->n_containers > BODY_MOST_CONTAINERS)
        api_error_set(error, 400, NULL, NULL, "the body has more than %d objects and arrays",
                      BODY_MOST_CONTAINERS);
    else
        api_error_set(error, 400, NULL, NULL, "the body is no valid JSON: line %d, column %d: %s",
                      where->line, where->column, where->text);
}

json_t *body_object(struct body *body, const atomic_bool *stop, struct api_error *error)
{
    json_error_t where;
    if (body->text.n == 0) {
        api_error_set(error, 400, NULL, NULL, "the body is empty: send a JSON object");
        return NULL;
    }
    struct pieces pieces = {
        .at = body->text.bytes, .end = body->text.bytes + body->text.n, .stop = stop};
    json_t *json = json_load_callback(next_piece, &pieces, JSON_ALLOW_NUL, &where);
    free(body->text.bytes); /* a long prompt would be held for as long as it is tokenized */
    body->text = (struct text_buffer){0};
    if (json == NULL) {
        explain(&pieces, &where, error);
        return NULL;
    }
    if (!json_is_object(json)) {
        json_decref(json);
        api_error_set(error, 400, NULL, NULL, "the body must be a JSON object");
        return NULL;
    }
    return json;
}

void body_drop(struct body *body)
{
    if (body->limits != NULL)
        atomic_fetch_sub(&body->limits->held, body->n_counted);
    free(body->text.bytes);
    *body = (struct body){0};
}
