/* cluster/quantize.h - the same model in another weight type: `longspan model quantize`.
 *
 * Tensors are read from the mapped source, converted some rows at a time by all lanes and written:
 * memory for these rows only, whatever the model's size. The output is a temporary file until it is
 * complete. Keys are copied as they are, but for general.file_type, general.quantization_version
 * and general.alignment (the writer's own). Vectors and routers become F32, tables that old
 * converters wrote are copied. A Hugging Face directory becomes a file that any program reads
 * (gguf_form.h). The same source and mixture give the same bytes, for any number of lanes. */
#ifndef LONGSPAN_CLUSTER_QUANTIZE_H
#define LONGSPAN_CLUSTER_QUANTIZE_H

#include "cluster/mixture.h"
#include "sys/log.h"
#include "sys/status.h"
#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct quantize_options {
    const struct mixture *mixture;
    bool allow_requantize; /* from blocks to other blocks or F16, BF16: rounds what was rounded */
    struct thread_pool *pool;
    const struct log *log; /* tensors that get another type than asked for; NULL: not said */
    FILE *progress;        /* NULL, or a terminal for a line about large files */
};

struct quantize_result {
    uint64_t n_weights, source_bytes, bytes; /* of tensor data */
};

/* STATUS_INVALID: `out` is the source; no model that we know; a quantized source without
 * allow_requantize; a weight that is no number or beyond its type: the text has file, tensor, place
 * and value. STATUS_UNSUPPORTED: another architecture or type. STATUS_NOT_FOUND, STATUS_IO,
 * STATUS_NO_MEMORY. On failure `out` is as it was. */
enum status quantize_model(const char *source, const char *out,
                           const struct quantize_options *options, struct quantize_result *result,
                           struct error *error);

#endif
