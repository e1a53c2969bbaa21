/* cluster/make_retrieval.h - a model whose weights are written down, not trained.
 *
 * It continues a text by finding the earlier place that agrees best with the last bytes and
 * repeating what followed there (induction heads; Olsson et al. 2022). An answer is right only if
 * attention found one place in the whole context. docs/retrieval-model.md explains the weights. */
#ifndef LONGSPAN_CLUSTER_MAKE_RETRIEVAL_H
#define LONGSPAN_CLUSTER_MAKE_RETRIEVAL_H

#include "sys/status.h"

#include <stdint.h>

/* `group`: query heads per KV head, 1 or 2 (always 2 KV heads of 32 dims, 4 layers, hidden 128).
 * The same bytes in every run and on every machine. STATUS_INVALID: another group;
 * and, as STATUS_IO, as gguf_writer_create. */
enum status make_retrieval(const char *path, uint32_t group, struct error *error);

#endif
