/* cluster/copy_tensor.h - a tensor's bytes from one model to another, as they are. */
#ifndef LONGSPAN_CLUSTER_COPY_TENSOR_H
#define LONGSPAN_CLUSTER_COPY_TENSOR_H

#include "cluster/write_progress.h"
#include "model/gguf_writer.h"
#include "model/model_file.h"
#include "sys/status.h"

/* Writes the data of a tensor that was declared with the same type and shape, and lets go of it in
 * the source. Fails as gguf_writer_data. */
enum status copy_tensor(struct gguf_writer *writer, const struct model_file *file,
                        const struct model_tensor *tensor, struct write_progress *progress,
                        struct error *error);

#endif
