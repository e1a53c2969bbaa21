/* cluster/logits_file.h - --dump-logits: raw f32 rows, prompt by prompt, step by step.
 *
 * Rows come in the order of steps, prompts mixed; they go to a temporary file beside the wanted one
 * as they come, and are put in order at the end. So memory holds only which row is whose. */
#ifndef LONGSPAN_CLUSTER_LOGITS_FILE_H
#define LONGSPAN_CLUSTER_LOGITS_FILE_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct logits_file; /* opaque */

/* The caller ends *file with logits_file_finish or logits_file_destroy. Fails like
 * file_not_made, or STATUS_NO_MEMORY. */
enum status logits_file_create(struct logits_file **file, const char *path, uint32_t n_prompts,
                               struct error *error);

/* One row of `n_bytes`. STATUS_PROTOCOL: empty, not of f32, or not as wide as the rows before.
 * STATUS_IO: e.g. disk full. STATUS_NO_MEMORY. */
enum status logits_file_add(struct logits_file *file, uint32_t prompt, const void *row,
                            size_t n_bytes, struct error *error);

/* Puts the rows in order under the wanted name, and frees; also on failure, when no file is left
 * (an older one stays as it was). STATUS_IO. */
enum status logits_file_finish(struct logits_file *file, struct error *error);

/* Leaves no file. NULL is fine. */
void logits_file_destroy(struct logits_file *file);

#endif
