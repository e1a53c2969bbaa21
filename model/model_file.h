/* model/model_file.h - a model's keys and tensors, wherever they come from.
 *
 * A model is one GGUF file, or several (NAME-00001-of-00005.gguf, any of which names it), or a
 * directory as Hugging Face's transformers saves it (huggingface/hf_directory.h), whose keys and
 * tensors then have the names and meaning that they have in GGUF files.
 *
 * Opening checks everything before anything is handed out (gguf.h), so that every pointer that a
 * `struct model_file` gives lies inside its file. A file that another process truncates while it is
 * mapped raises SIGBUS when read (sys/bus_error.h), as with any mapping: replace model files by
 * rename.
 *
 * A model without tensors (a vocabulary) is fine. A `struct model_file` is immutable after opening:
 * any number of threads may read it. All pointers that it gives (names, strings, data) are borrowed
 * and live until model_close, unless a function says that the caller frees them.
 * Error texts begin with the path. Outputs are untouched on failure; `error` may be NULL. */
#ifndef LONGSPAN_MODEL_MODEL_FILE_H
#define LONGSPAN_MODEL_MODEL_FILE_H

#include "model/model_entry.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct model_file; /* opaque */

#define MODEL_FINGERPRINT_BYTES 32

/* Maps and checks the file or directory. The caller ends *file with model_close. Fails as
 * gguf_split_open or hf_directory_open. STATUS_INVALID also: a tensor is in two of the files. */
enum status model_open(struct model_file **file, const char *path, struct error *error);

/* Unmaps; all pointers from this file die. NULL is fine. */
void model_close(struct model_file *file);

const char *model_path(const struct model_file *file);   /* as given to model_open */
const char *model_format(const struct model_file *file); /* "GGUF 3", "safetensors"; for people */
uint64_t model_bytes(const struct model_file *file);     /* of all its parts */

/* The files that it was read from: what another host needs to open it. */
size_t model_part_count(const struct model_file *file);
const struct model_part *model_part_at(const struct model_file *file, size_t index);

/* Its Hugging Face directory, for what stands there beside keys and tensors (tokenizer.json);
 * NULL: it is none. */
const char *model_directory(const struct model_file *file);

/* SHA-256 over each file's size, everything before the tensor data, and the first 4 KiB of each
 * tensor in file order; of a directory over config.json too. Two processes that agree hold the same
 * model for every practical purpose (not against an adversary who keeps the head of every tensor),
 * and neither reads it all. */
void model_fingerprint(const struct model_file *file, uint8_t fingerprint[MODEL_FINGERPRINT_BYTES]);

/* ---- metadata ------------------------------------------------------------------------------- */

size_t model_key_count(const struct model_file *file);

/* Entry `index` < model_key_count, in file order. */
const struct model_key *model_key_at(const struct model_file *file, size_t index);

/* NULL: absent. */
const struct model_key *model_key_find(const struct model_file *file, const char *name);

/* Typed getters. STATUS_NOT_FOUND: the key is absent (a usual case: keys with defaults; the error
 * text names key and file). STATUS_INVALID: it is there with another type, or an integer that does
 * not fit. Any integer type is taken for u32, u64 and i32 where the value fits; f32 also takes f64;
 * bool takes only bool. */
enum status model_get_u32(const struct model_file *file, const char *name, uint32_t *value,
                          struct error *error);
enum status model_get_u64(const struct model_file *file, const char *name, uint64_t *value,
                          struct error *error);
enum status model_get_f32(const struct model_file *file, const char *name, float *value,
                          struct error *error);
enum status model_get_bool(const struct model_file *file, const char *name, bool *value,
                           struct error *error);
enum status model_get_string(const struct model_file *file, const char *name,
                             struct model_string *value, struct error *error);

/* Arrays. *values is allocated (not NULL even when *n is 0); the caller frees it. The strings
 * inside are borrowed. i32s takes any integer type where each value fits. Also STATUS_NO_MEMORY. */
enum status model_get_strings(const struct model_file *file, const char *name,
                              struct model_string **values, size_t *n, struct error *error);
enum status model_get_f32s(const struct model_file *file, const char *name, float **values,
                           size_t *n, struct error *error);
enum status model_get_i32s(const struct model_file *file, const char *name, int32_t **values,
                           size_t *n, struct error *error);

/* ---- tensors -------------------------------------------------------------------------------- */

size_t model_tensor_count(const struct model_file *file);

/* Tensor `index` < model_tensor_count, in file order. */
const struct model_tensor *model_tensor_at(const struct model_file *file, size_t index);

/* NULL: absent. */
const struct model_tensor *model_tensor_find(const struct model_file *file, const char *name);

/* Matrix `expert` < dims[2] of a tensor of three dimensions, one matrix per expert; `expert` 0 of
 * any other tensor is its data. Files may hold experts apart, so this is the only way to them. */
const void *model_tensor_expert(const struct model_file *file, const struct model_tensor *tensor,
                                uint64_t expert);

/* The tensor's pages need not stay in this process's memory: whoever has copied its data says so.
 * The data can still be read; it comes from the file again. */
void model_tensor_release(const struct model_file *file, const struct model_tensor *tensor);

#endif
