/* model/huggingface/safetensors.h - reads one safetensors file.
 *
 *     u64 n, n bytes of JSON, tensor data
 * The JSON is an object: "name": {"dtype": "F32", "shape": [rows, columns], "data_offsets":
 * [begin, end]}, offsets from the beginning of the data; "__metadata__" holds texts.
 *
 * safetensors_open maps the file and checks everything before anything is handed out: the JSON's
 * length and syntax, each name, shape and offset, that a tensor has the bytes of its shape, and
 * that the data is tensors from the first to the last byte, none over another. Error texts begin
 * with the path. Outputs are untouched on failure; `error` may be NULL. */
#ifndef LONGSPAN_MODEL_HUGGINGFACE_SAFETENSORS_H
#define LONGSPAN_MODEL_HUGGINGFACE_SAFETENSORS_H

#include "model/model_entry.h"
#include "sys/sha256.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct safetensors; /* opaque; immutable after opening */

enum {
    SAFETENSORS_MOST_JSON_BYTES = 100000000, /* the format's own limit */
    SAFETENSORS_MOST_NAME_BYTES = 255
};

/* The caller ends *file with safetensors_close. STATUS_NOT_FOUND: no such file. STATUS_IO: it
 * cannot be read. STATUS_INVALID: anything in it does not hold together; the text says what.
 * STATUS_UNSUPPORTED: a tensor of a type that GGUF does not have, or of more than four dimensions.
 * STATUS_NO_MEMORY. */
enum status safetensors_open(struct safetensors **file, const char *path, struct error *error);

/* NULL is fine. */
void safetensors_close(struct safetensors *file);

const char *safetensors_path(const struct safetensors *file);
uint64_t safetensors_bytes(const struct safetensors *file);

/* Tensors `index` < count in the order of their data. Dimensions are the other way round than in
 * the file's shape: dims[0] is the row length, as everywhere here; no dimension is one of 1. */
size_t safetensors_count(const struct safetensors *file);
const struct model_tensor *safetensors_at(const struct safetensors *file, size_t index);

/* Adds the file's size, its JSON and the first 4 KiB of each tensor. */
void safetensors_hash(const struct safetensors *file, struct sha256 *hash);

#endif
