/* model/gguf.h - reads one GGUF file, version 2 or 3, little endian.
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
 * that every pointer it gives lies inside the file.
 *
 * For model_file.c, which looks names up and joins files; everybody else opens a model with
 * model_open. Error texts begin with the path. Outputs are untouched on failure; `error` may be
 * NULL. */
#ifndef LONGSPAN_MODEL_GGUF_H
#define LONGSPAN_MODEL_GGUF_H

#include "model/model_entry.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct gguf; /* opaque; immutable after opening */

#define GGUF_MAX_KEY_BYTES     65535 /* the format's own limit */
#define GGUF_MAX_NAME_BYTES    64    /* of a tensor's name; the format's own limit */
#define GGUF_DEFAULT_ALIGNMENT 32
#define GGUF_FINGERPRINT_BYTES 32

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

/* Entries `index` < count, in file order. */
size_t gguf_key_count(const struct gguf *gguf);
const struct model_key *gguf_key_at(const struct gguf *gguf, size_t index);
size_t gguf_tensor_count(const struct gguf *gguf);
const struct model_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index);

/* SHA-256 over the file's size, everything before the tensor data, and the first 4 KiB of each
 * tensor in file order. */
void gguf_fingerprint(const struct gguf *gguf, uint8_t fingerprint[GGUF_FINGERPRINT_BYTES]);

#endif
