/* cluster/split_model.h - one model in several GGUF files: `longspan model split`.
 *
 * For places that limit the size of a file. The parts are named PREFIX-00001-of-00005.gguf and so
 * on; any of them names the model (model/gguf_split.h). */
#ifndef LONGSPAN_CLUSTER_SPLIT_MODEL_H
#define LONGSPAN_CLUSTER_SPLIT_MODEL_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct split_model_options {
    uint64_t max_bytes; /* of tensor data in a part; a larger tensor is alone in its part */
    FILE *progress;     /* NULL, or a terminal for a line about large files */
};

/* *n_parts: how many were written. Tensors keep their order and bytes. STATUS_INVALID: no tensors
 * in it, or more than 65535 parts. Fails also as model_open and gguf_writer_finish. On failure the
 * parts that were written are removed again. */
enum status split_model(const char *source, const char *prefix,
                        const struct split_model_options *options, size_t *n_parts,
                        struct error *error);

#endif
