/* coordinator/http/body.h - what a client sent, as it comes in and until it has been read; and how
 * much of that all requests together may hold.
 *
 * The first BODY_FREE_BYTES of a body are not counted, so that a short request has a place whatever
 * long ones there are; the rest counts as it arrives. Reading a body takes a multiple of it for a
 * while, but only DESK_THREADS long ones are read at a time (desk.h). Any thread, one at a time for
 * a body. */
#ifndef LONGSPAN_COORDINATOR_HTTP_BODY_H
#define LONGSPAN_COORDINATOR_HTTP_BODY_H

#include "coordinator/http/api_error.h"
#include "sys/text_buffer.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BODY_FREE_BYTES = 16384,
    BODY_MOST_CONTAINERS = 1 << 20, /* objects and arrays: "{}" takes many times its length */
};

struct body_limits {
    uint64_t each, all; /* bytes of one, and of what counts of all, at most */
    atomic_ullong held; /* what counts now */
};

/* Zeros: empty. */
struct body {
    struct body_limits *limits; /* of what counts; NULL: nothing was added */
    struct text_buffer text;
    uint64_t n_counted;
};

/* One part more. False: *error says why: 413 where it is too long, 503 where there is no room for
 * it. The body is empty then. */
bool body_add(struct body *body, struct body_limits *limits, const char *data, size_t n,
              struct api_error *error);

/* Writes the 413. Returns false. */
bool body_too_large(const struct body_limits *limits, struct api_error *error);

/* What it has, as a JSON object, or a 400 in *error and NULL; a 503 soon after *stop is set (NULL: it
 * never is). The caller's reference; the text is gone, and counts until body_drop, since what it
 * says is there still. */
json_t *body_object(struct body *body, const atomic_bool *stop, struct api_error *error);

/* Empty again, and not counted. */
void body_drop(struct body *body);

#endif
