/* model/model_entry.h - a key and a tensor of a model, as every reader of model files gives them.
 *
 * What pointers point to belongs to the reader. */
#ifndef LONGSPAN_MODEL_MODEL_ENTRY_H
#define LONGSPAN_MODEL_MODEL_ENTRY_H

#include "model/gguf_type.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes in the file; not NUL-terminated, may hold NULs and need not be UTF-8. */
struct model_string {
    const char *data;
    size_t n_bytes;
};

bool model_string_equals(struct model_string string, const char *text);

/* One metadata entry, its value as a GGUF file stores it: numbers in this machine's layout, a
 * string as { u64 n_bytes, bytes }, elements of an array one behind the other. */
struct model_key {
    const char *name;                  /* NUL-terminated, no NUL inside */
    enum gguf_value_type type;         /* GGUF_VALUE_ARRAY for arrays */
    enum gguf_value_type element_type; /* of an array; else the same as type */
    uint64_t n;                        /* elements of an array; else 1 */
    const uint8_t *data;               /* the first element's bytes, or a string's length;
                                          unaligned: copy values out with memcpy */
    uint64_t n_bytes;                  /* of all elements, as stored */
};

/* The value of an integer of any type. STATUS_INVALID: another type, or it does not fit. `path` is
 * for the error text. */
enum status model_key_u32(const struct model_key *key, const char *path, uint32_t *value,
                          struct error *error);

struct model_tensor {
    const char *name;             /* NUL-terminated */
    uint32_t n_dims;              /* 1 to 4 */
    uint64_t dims[GGUF_MAX_DIMS]; /* dims[0] varies fastest: a weight matrix is
                                     { n_columns (inputs), n_rows (outputs) }; 1 beyond n_dims */
    enum gguf_type type;
    uint64_t offset;  /* of the data, from the beginning of its file */
    uint64_t n_bytes; /* of the data */
    const void *data; /* in the mapping. Aligned for its type in a GGUF file; at any byte in a
                         safetensors file: copy values out with memcpy. NULL: experts that lie apart
                         (model_tensor_expert) */
};

/* A file that a model was read from. */
struct model_part {
    const char *path;
    uint64_t n_bytes;
    size_t n_tensors;
};

#endif
