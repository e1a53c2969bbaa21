/* coordinator/http/fields.h - typed fields of a JSON object that a client sent.
 *
 * A field that is absent or null leaves *value as it is. One of another type, or out of range, is a
 * 400 that names it. Fields that nobody asks for are ignored. */
#ifndef LONGSPAN_COORDINATOR_HTTP_FIELDS_H
#define LONGSPAN_COORDINATOR_HTTP_FIELDS_H

#include "coordinator/http/api_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The field; NULL: absent or null. Borrowed. */
const json_t *fields_get(const json_t *object, const char *name);

bool fields_bool(const json_t *object, const char *name, bool *value, struct api_error *error);

/* Whole numbers in [least, most]. */
bool fields_u32(const json_t *object, const char *name, uint32_t least, uint32_t most,
                uint32_t *value, struct api_error *error);
bool fields_i64(const json_t *object, const char *name, int64_t least, int64_t most, int64_t *value,
                struct api_error *error);

/* A number in [least, most]. */
bool fields_f32(const json_t *object, const char *name, double least, double most, float *value,
                struct api_error *error);

/* Borrowed from the object; may hold zeros: json_string_length tells. */
bool fields_text(const json_t *object, const char *name, const json_t **value,
                 struct api_error *error);

/* "a string", "an array"..., for messages. */
const char *fields_type_name(const json_t *value);

#endif
