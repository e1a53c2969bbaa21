/* model/gguf_split.h - a model in several GGUF files, as large ones are distributed:
 *     NAME-00001-of-00005.gguf ... NAME-00005-of-00005.gguf
 * Each part says which it is: split.no (from 0), split.count, and split.tensors.count, the tensors
 * of all parts together. The first part has all other keys. A tensor lies whole in one part. */
#ifndef LONGSPAN_MODEL_GGUF_SPLIT_H
#define LONGSPAN_MODEL_GGUF_SPLIT_H

#include "model/gguf.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GGUF_SPLIT_MOST = 65535 }; /* split.no and split.count are u16 */

struct gguf_split {
    struct gguf **parts; /* [n], in order; a file that is not split is one part */
    size_t n;
};

/* Opens the file and, where it says that it is a part, all others beside it. The caller ends *split
 * with gguf_split_close. Fails as gguf_open, which names the part. STATUS_NOT_FOUND: a part is not
 * there. STATUS_INVALID also: names and keys that do not fit together, another count of parts, or
 * of tensors, than the keys say. That no tensor is in two parts is for the caller to see. */
enum status gguf_split_open(struct gguf_split *split, const char *path, struct error *error);
void gguf_split_close(struct gguf_split *split);

/* "split.no" and its like, which say nothing about the model. */
bool gguf_split_is_key(const char *name);

/* "PREFIX-00002-of-00005.gguf" for index 1 of 5. The caller frees it; NULL: no memory. */
char *gguf_split_path(const char *prefix, size_t index, size_t n);

/* As gguf_fingerprint; of several parts the hash of theirs. */
void gguf_split_fingerprint(const struct gguf_split *split,
                            uint8_t fingerprint[GGUF_FINGERPRINT_BYTES]);

#endif
