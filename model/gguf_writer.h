/* model/gguf_writer.h - writes GGUF files, version 3, little endian.
 *
 * Call in this order:
 *     gguf_writer_create, gguf_writer_add_* (keys), gguf_writer_declare (tensors),
 *     gguf_writer_data (the bytes of each tensor in the order of declaration, in any pieces),
 *     gguf_writer_finish (or gguf_writer_destroy, which abandons).
 * Bytes go to a temporary file in the folder of `path`, which gguf_writer_finish renames over
 * `path`: a reader never sees half a file. It has no name until then, so that neither a failure nor
 * a signal leaves one behind; only where the file system knows no files without names (NFS), it is
 * `path` + ".tmp-" + process id from the beginning, and a signal leaves that.
 *
 * The first failure sticks: every later call returns it again, so a caller may check only some
 * calls and gguf_writer_finish. Keys and tensors are held in memory until the first data or finish;
 * tensor data is not. The same calls write the same bytes. One thread. */
#ifndef LONGSPAN_MODEL_GGUF_WRITER_H
#define LONGSPAN_MODEL_GGUF_WRITER_H

#include "model/model_entry.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gguf_writer; /* opaque */

/* Opens the temporary file. The caller ends *writer with gguf_writer_finish or gguf_writer_destroy.
 * STATUS_INVALID: a folder or a device is there, whose place the file would take. Else as
 * file_not_made, or STATUS_NO_MEMORY. */
enum status gguf_writer_create(struct gguf_writer **writer, const char *path, struct error *error);

/* Removes the temporary file and frees. NULL is fine. */
void gguf_writer_destroy(struct gguf_writer *writer);

/* Keys. STATUS_INVALID: a name that is empty, too long or already there, or after the first data;
 * `general.alignment` (the writer uses 32 always). STATUS_NO_MEMORY. */
enum status gguf_writer_add_u16(struct gguf_writer *writer, const char *name, uint16_t value,
                                struct error *error);
enum status gguf_writer_add_u32(struct gguf_writer *writer, const char *name, uint32_t value,
                                struct error *error);
enum status gguf_writer_add_i32(struct gguf_writer *writer, const char *name, int32_t value,
                                struct error *error);
enum status gguf_writer_add_f32(struct gguf_writer *writer, const char *name, float value,
                                struct error *error);
enum status gguf_writer_add_bool(struct gguf_writer *writer, const char *name, bool value,
                                 struct error *error);
enum status gguf_writer_add_string(struct gguf_writer *writer, const char *name, const char *value,
                                   struct error *error); /* value: NUL-terminated */

/* An array of `n` strings of any bytes. */
enum status gguf_writer_add_strings(struct gguf_writer *writer, const char *name,
                                    const struct model_string *values, size_t n,
                                    struct error *error);

/* An array of `n` numbers of one type, packed, in this machine's layout (bool: one byte, 0 or 1).
 * STATUS_INVALID also: a type that is string or array. */
enum status gguf_writer_add_array(struct gguf_writer *writer, const char *name,
                                  enum gguf_value_type element_type, const void *values, size_t n,
                                  struct error *error);

/* A key that the writer sets itself, or not at all: general.alignment. */
bool gguf_writer_is_own_key(const char *name);

/* Copies an entry (of any type) of a file that was read, e.g. its `tokenizer.*` keys. */
enum status gguf_writer_copy_key(struct gguf_writer *writer, const struct model_key *key,
                                 struct error *error);

/* Announces a tensor; dims[0] is the row length. STATUS_INVALID: after the first data, duplicate or
 * bad name, bad dimensions (gguf_tensor_bytes). */
enum status gguf_writer_declare(struct gguf_writer *writer, const char *name, enum gguf_type type,
                                uint32_t n_dims, const uint64_t *dims, struct error *error);

/* Appends bytes of tensor data. Pieces may be cut anywhere, except that one piece belongs to one
 * tensor: the next begins when the announced bytes of the last one are complete (padding is written
 * by itself). STATUS_INVALID: more bytes than the current tensor lacks. STATUS_IO: e.g. disk full.
 */
enum status gguf_writer_data(struct gguf_writer *writer, const void *data, size_t n_bytes,
                             struct error *error);

/* Completes the file, flushes it to the disk, renames it to `path`, and frees the writer, also on
 * failure (the temporary file is then gone, an older `path` untouched). STATUS_INVALID: a tensor
 * lacks bytes. STATUS_IO. */
enum status gguf_writer_finish(struct gguf_writer *writer, struct error *error);

#endif
