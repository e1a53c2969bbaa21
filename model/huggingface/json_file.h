/* model/huggingface/json_file.h - JSON objects of a model's directory. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_JSON_FILE_H
#define LONGSPAN_MODEL_HUGGINGFACE_JSON_FILE_H

#include "sys/status.h"

#include <jansson.h>
#include <stdint.h>

/* Reads an object; the caller ends *root with json_decref. Strict: UTF-8, no name twice, nothing
 * behind it, a bounded depth. `text`, NULL or freed by the caller: the file as it is, *n_bytes of
 * it. STATUS_NOT_FOUND: no such file. STATUS_INVALID: no JSON object (the text has line and
 * reason), or more than max_bytes. STATUS_IO, STATUS_NO_MEMORY. */
enum status json_file_read(json_t **root, const char *path, uint64_t max_bytes, char **text,
                           size_t *n_bytes, struct error *error);

/* The same of a text; `name` is for error texts. */
enum status json_text_read(json_t **root, const char *text, size_t n_bytes, const char *name,
                           struct error *error);

#endif
