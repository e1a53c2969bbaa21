/* attention_node/serve_memory.h - copies between messages and a device with memory of its own.
 *
 * Rows come in frames and partials leave in frames, which are host memory. A device that computes
 * in host memory uses the frames themselves, and these functions do nothing. For others
 *     appended k, v   are copied to pinned memory, where they stay until the device has them, so that
 *                     the frame can go at once; appends wait for nobody
 *     q               is uploaded from its frame, which stays until the answer
 *     partials        are downloaded for all queries of a run at once
 * One thread. */
#ifndef LONGSPAN_ATTENTION_NODE_SERVE_MEMORY_H
#define LONGSPAN_ATTENTION_NODE_SERVE_MEMORY_H

#include "kernels/attention/kv_holder.h"
#include "kernels/device_buffer.h"

struct serve_memory {
    const struct kernels *kernels;
    struct device *device;
    struct device_buffer rows_host, rows; /* appended, on their way */
    size_t rows_used;
    struct device_buffer q, partials, partials_host; /* of one run */
};

/* The device outlives it. */
void serve_memory_open(struct serve_memory *memory, const struct kernels *kernels,
                       struct device *device);
/* Zeroed is fine. */
void serve_memory_close(struct serve_memory *memory);

/* k and v of `bytes` each, for kv_holder_append of `holder`: *k and *v become device memory that
 * stays until serve_memory_finish. STATUS_NO_MEMORY, or what the device says. */
enum status serve_memory_rows(struct serve_memory *memory, struct kv_holder *holder, const void **k,
                              const void **v, size_t bytes, struct error *error);

/* Room for the q and the partials of a run, which is the first since serve_memory_finish. */
enum status serve_memory_run(struct serve_memory *memory, size_t q_bytes, size_t partials_bytes,
                             struct error *error);

/* Waits until all that was asked of the device is done; what was lent here is void. */
enum status serve_memory_finish(struct serve_memory *memory, struct kv_holder *holder,
                                struct error *error);

#endif
