/* copy_tensor.c - a piece at a time, so that the line about large files moves. */
#include "cluster/copy_tensor.h"

enum { PIECE_BYTES = 16 << 20 };

enum status copy_tensor(struct gguf_writer *writer, const struct model_file *file,
                        const struct model_tensor *tensor, struct write_progress *progress,
                        struct error *error)
{
    const uint64_t n_experts = tensor->dims[2], n_bytes = tensor->n_bytes / n_experts;
    enum status status = STATUS_OK;
    for (uint64_t expert = 0; status == STATUS_OK && expert < n_experts; expert++) {
        const uint8_t *data = model_tensor_expert(file, tensor, expert);
        for (uint64_t at = 0; status == STATUS_OK && at < n_bytes; at += PIECE_BYTES) {
            const uint64_t n = n_bytes - at < PIECE_BYTES ? n_bytes - at : PIECE_BYTES;
            status = gguf_writer_data(writer, data + at, n, error);
            write_progress_add(progress, n);
        }
    }
    model_tensor_release(file, tensor);
    return status;
}
