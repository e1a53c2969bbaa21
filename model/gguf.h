/* model/gguf.h - reads GGUF model files, versions 2 and 3, little endian.
 *
 * A GGUF file is a header, key-value metadata, tensor descriptions, padding, and tensor data:
 *     "GGUF" u32 version, u64 n_tensors, u64 n_keys
 *     n_keys    x { string key, u32 value type, value }
 *     n_tensors x { string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset }
 *     padding to `general.alignment` (32 if absent), then the data; offsets count from there
 * where a string is { u64 n_bytes, bytes } and an array value { u32 element type, u64 n, elements
 * }.
 *
 * gguf_open maps the file and checks everything before anything is handed out: magic, version, byte
 * order, each count, length, offset, product of dimensions and alignment against the size of the
 * file; duplicate keys and tensor names; tensors that overlap. So a `struct gguf` in hand means
 * that every pointer it gives lies inside the file. A file that another process truncates while it
 * is mapped raises SIGBUS when read, as with any mapping: replace model files by rename.
 *
 * A file without tensors (a vocabulary) is fine. A `struct gguf` is immutable after opening: any
 * number of threads may read it. All pointers that it gives (names, strings, data) are borrowed and
 * live until gguf_close, unless a function says that the caller frees them.
 * Error texts begin with the path. Outputs are untouched on failure; `error` may be NULL. */
#ifndef LONGSPAN_MODEL_GGUF_H
#define LONGSPAN_MODEL_GGUF_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf; /* opaque */

#define GGUF_MAX_DIMS          4
#define GGUF_MAX_KEY_BYTES     65535 /* the format's own limit */
#define GGUF_MAX_NAME_BYTES    64    /* of a tensor's name; the format's own limit */
#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_FINGERPRINT_BYTES 32

/* Element types of tensors, with the numbers that stand in the file. The numbers that are missing
 * here belonged to types that were withdrawn (4, 5) or are not known to us: a file that has one is
 * refused, because the size of such a tensor cannot be checked. */
enum gguf_type {
    GGUF_TYPE_F32 = 0,
    GGUF_TYPE_F16 = 1,
    GGUF_TYPE_Q4_0 = 2,
    GGUF_TYPE_Q4_1 = 3,
    GGUF_TYPE_Q5_0 = 6,
    GGUF_TYPE_Q5_1 = 7,
    GGUF_TYPE_Q8_0 = 8,
    GGUF_TYPE_Q8_1 = 9,
    GGUF_TYPE_Q2_K = 10,
    GGUF_TYPE_Q3_K = 11,
    GGUF_TYPE_Q4_K = 12,
    GGUF_TYPE_Q5_K = 13,
    GGUF_TYPE_Q6_K = 14,
    GGUF_TYPE_Q8_K = 15,
    GGUF_TYPE_IQ2_XXS = 16,
    GGUF_TYPE_IQ2_XS = 17,
    GGUF_TYPE_IQ3_XXS = 18,
    GGUF_TYPE_IQ1_S = 19,
    GGUF_TYPE_IQ4_NL = 20,
    GGUF_TYPE_IQ3_S = 21,
    GGUF_TYPE_IQ2_S = 22,
    GGUF_TYPE_IQ4_XS = 23,
    GGUF_TYPE_I8 = 24,
    GGUF_TYPE_I16 = 25,
    GGUF_TYPE_I32 = 26,
    GGUF_TYPE_I64 = 27,
    GGUF_TYPE_F64 = 28,
    GGUF_TYPE_IQ1_M = 29,
    GGUF_TYPE_BF16 = 30,
    GGUF_TYPE_Q4_0_4_4 = 31,
    GGUF_TYPE_Q4_0_4_8 = 32,
    GGUF_TYPE_Q4_0_8_8 = 33,
    GGUF_TYPE_TQ1_0 = 34,
    GGUF_TYPE_TQ2_0 = 35,
    GGUF_TYPE_IQ4_NL_4_4 = 36,
    GGUF_TYPE_IQ4_NL_4_8 = 37,
    GGUF_TYPE_IQ4_NL_8_8 = 38,
    GGUF_TYPE_MXFP4 = 39,
    GGUF_TYPE_COUNT
};

/* A type stores `block_elements` consecutive elements of a row in `block_bytes` bytes. */
struct gguf_type_traits {
    const char *name; /* "F32", "Q8_0"... */
    uint32_t block_elements, block_bytes;
};

/* NULL for a number that we do not know. Knowing a type (to show it) is not supporting it (to
 * compute with it): see weights.h. */
const struct gguf_type_traits *gguf_type_traits(enum gguf_type type);

/* The bytes of a tensor of these dimensions (dims[0] is the row length, contiguous in memory).
 * STATUS_INVALID: a zero, n_dims not 1 to 4, a row that is no whole number of blocks, or more than
 * 2^63 bytes. STATUS_UNSUPPORTED: unknown type. The error texts do not name the tensor. */
enum status gguf_tensor_bytes(uint64_t *n_bytes, enum gguf_type type, uint32_t n_dims,
                              const uint64_t *dims, struct error *error);

struct gguf_tensor {
    const char *name;             /* NUL-terminated */
    uint32_t n_dims;              /* 1 to 4 */
    uint64_t dims[GGUF_MAX_DIMS]; /* dims[0] varies fastest: a weight matrix is
                                     { n_columns (inputs), n_rows (outputs) }; 1 beyond n_dims */
    enum gguf_type type;
    uint64_t offset;  /* of the data, from the beginning of the file */
    uint64_t n_bytes; /* of the data */
    const void *data; /* in the mapping; aligned to the smaller of the file's
                         alignment (at least 8) and a page */
};

/* Types of metadata values, with the numbers that stand in the file. */
enum gguf_value_type {
    GGUF_VALUE_U8 = 0,
    GGUF_VALUE_I8 = 1,
    GGUF_VALUE_U16 = 2,
    GGUF_VALUE_I16 = 3,
    GGUF_VALUE_U32 = 4,
    GGUF_VALUE_I32 = 5,
    GGUF_VALUE_F32 = 6,
    GGUF_VALUE_BOOL = 7,
    GGUF_VALUE_STRING = 8,
    GGUF_VALUE_ARRAY = 9,
    GGUF_VALUE_U64 = 10,
    GGUF_VALUE_I64 = 11,
    GGUF_VALUE_F64 = 12,
    GGUF_VALUE_COUNT
};

/* "u32", "string", ...; "unknown" for a number outside the enum. */
const char *gguf_value_type_name(enum gguf_value_type type);

/* Bytes in the file; not NUL-terminated, may hold NULs and need not be UTF-8. */
struct gguf_string {
    const char *data;
    size_t n_bytes;
};

bool gguf_string_equals(struct gguf_string string, const char *text);

/* One metadata entry. `data` is unaligned: copy values out with memcpy. */
struct gguf_key {
    const char *name;                  /* NUL-terminated, no NUL inside */
    enum gguf_value_type type;         /* GGUF_VALUE_ARRAY for arrays */
    enum gguf_value_type element_type; /* of an array; else the same as type */
    uint64_t n;                        /* elements of an array; else 1 */
    const uint8_t *data;               /* the first element's bytes, or a string's length */
    uint64_t n_bytes;                  /* of all elements, as stored */
};

/* Maps and checks the file. The caller ends *gguf with gguf_close.
 * STATUS_NOT_FOUND: no such file. STATUS_IO: it cannot be read or mapped. STATUS_INVALID: empty,
 * not a GGUF file, truncated, or anything in it does not hold together; the text says what and
 * where. STATUS_UNSUPPORTED: another GGUF version, big endian, an unknown tensor type, nested
 * arrays. STATUS_NO_MEMORY. */
enum status gguf_open(struct gguf **gguf, const char *path, struct error *error);

/* Unmaps; all pointers from this gguf die. NULL is fine. */
void gguf_close(struct gguf *gguf);

const char *gguf_path(const struct gguf *gguf); /* as given to gguf_open */
uint64_t gguf_file_bytes(const struct gguf *gguf);
uint32_t gguf_version(const struct gguf *gguf); /* 2 or 3 */
uint64_t gguf_data_offset(
    const struct gguf *gguf); /* where tensor data begins; file size if none */

/* ---- metadata ------------------------------------------------------------------------------- */

size_t gguf_key_count(const struct gguf *gguf);

/* Entry `index` < gguf_key_count, in file order. */
const struct gguf_key *gguf_key_at(const struct gguf *gguf, size_t index);

/* NULL: absent. */
const struct gguf_key *gguf_key_find(const struct gguf *gguf, const char *name);

/* Typed getters. STATUS_NOT_FOUND: the key is absent (a usual case: keys with defaults; the error
 * text names key and file). STATUS_INVALID: it is there with another type, or an integer that does
 * not fit. Any integer type is taken for u32, u64 and i32 where the value fits; f32 also takes f64;
 * bool takes only bool. */
enum status gguf_get_u32(const struct gguf *gguf, const char *name, uint32_t *value,
                         struct error *error);
enum status gguf_get_u64(const struct gguf *gguf, const char *name, uint64_t *value,
                         struct error *error);
enum status gguf_get_f32(const struct gguf *gguf, const char *name, float *value,
                         struct error *error);
enum status gguf_get_bool(const struct gguf *gguf, const char *name, bool *value,
                          struct error *error);
enum status gguf_get_string(const struct gguf *gguf, const char *name, struct gguf_string *value,
                            struct error *error);

/* Arrays. *values is allocated (not NULL even when *n is 0); the caller frees it. The strings
 * inside are borrowed. i32s takes any integer type where each value fits. Also STATUS_NO_MEMORY. */
enum status gguf_get_strings(const struct gguf *gguf, const char *name, struct gguf_string **values,
                             size_t *n, struct error *error);
enum status gguf_get_f32s(const struct gguf *gguf, const char *name, float **values, size_t *n,
                          struct error *error);
enum status gguf_get_i32s(const struct gguf *gguf, const char *name, int32_t **values, size_t *n,
                          struct error *error);

/* ---- tensors -------------------------------------------------------------------------------- */

size_t gguf_tensor_count(const struct gguf *gguf);

/* Tensor `index` < gguf_tensor_count, in file order. */
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index);

/* NULL: absent. */
const struct gguf_tensor *gguf_tensor_find(const struct gguf *gguf, const char *name);

/* The tensor's pages need not stay in this process's memory: whoever has copied its data says so.
 * The data can still be read; it comes from the file again. */
void gguf_tensor_release(const struct gguf *gguf, const struct gguf_tensor *tensor);

/* SHA-256 over the file's size, everything before the tensor data, and the first 4 KiB of each
 * tensor in file order: two processes that agree hold the same file for every practical purpose
 * (not against an adversary who keeps the head of every tensor), and neither reads it all. */
void gguf_fingerprint(const struct gguf *gguf, uint8_t fingerprint[GGUF_FINGERPRINT_BYTES]);

#endif
