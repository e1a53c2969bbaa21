/* body.c - see body.h. */
#include "coordinator/http/body.h"

#include <inttypes.h>
#include <stdlib.h>

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

json_t *body_object(struct body *body, struct api_error *error)
{
    json_error_t where;
    if (body->text.n == 0) {
        api_error_set(error, 400, NULL, NULL, "the body is empty: send a JSON object");
        return NULL;
    }
    json_t *json = json_loadb(body->text.bytes, body->text.n, JSON_ALLOW_NUL, &where);
    free(body->text.bytes); /* a long prompt would be held for as long as it is tokenized */
    body->text = (struct text_buffer){0};
    if (json == NULL) {
        api_error_set(error, 400, NULL, NULL, "the body is no valid JSON: line %d, column %d: %s",
                      where.line, where.column, where.text);
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
