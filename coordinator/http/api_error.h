/* coordinator/http/api_error.h - what a client is told that asked for something it cannot have.
 *
 * The shape is OpenAI's: {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}; param
 * names the field that is wrong, and is null where there is none, as is code. */
#ifndef LONGSPAN_COORDINATOR_HTTP_API_ERROR_H
#define LONGSPAN_COORDINATOR_HTTP_API_ERROR_H

#include "sys/status.h"

#include <jansson.h>
#include <stdbool.h>

enum { API_ERROR_PARAM_BYTES = 96, API_ERROR_TEXT_BYTES = 1024 };

struct api_error {
    unsigned http; /* the status of the answer: 400...; 0: no error */
    const char *code;
    char param[API_ERROR_PARAM_BYTES]; /* "": null */
    char message[API_ERROR_TEXT_BYTES];
};

/* Writes it and returns false, so that `return api_error_set(...)` reads well. `param` and `code`
 * may be NULL; `code` is a literal, or outlives the error. */
bool api_error_set(struct api_error *error, unsigned http, const char *param, const char *code,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

/* 400 for a field of the request. */
bool api_error_field(struct api_error *error, const char *param, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A failure of ours, or of the coordinator, as an answer: bad input is 400, a full queue 429, a
 * coordinator that ends 503, everything else 500. */
bool api_error_from(struct api_error *error, enum status status, const char *text);

/* The object. NULL: no memory. */
json_t *api_error_json(const struct api_error *error);

#endif
