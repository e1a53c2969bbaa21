/* kernels/attention/cuda/attend_device.h - attention on NVIDIA GPUs, for the table kernels_cuda. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_DEVICE_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_DEVICE_H

#include "kernels/attention/device.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct attention_device attention_cuda;

/* For comparisons, of what attention_cuda.create gave: merges a node's tiles as they come, whatever the
 * tree says. Other bits, and no promise about them. */
void attend_cuda_any_order(void *state, bool any_order);

/* Thread blocks that a call can fill the device with, for calls of so many rows a work. */
uint32_t attend_cuda_blocks(void *state, uint32_t n_rows);

/* At most that many of them from the next run on; 0: all. The bits do not depend on it. */
void attend_cuda_limit_blocks(void *state, uint32_t n_blocks);

/* tiles.cu: the functions of the table that move K and V. */
void cuda_tiles_round(struct device *device, enum kv_type type, void *out, const float *x,
                      size_t n);
void cuda_tiles_write(struct device *device, enum kv_type type, uint32_t head_dim,
                      size_t stride_bytes, const struct tile_tokens *writes, size_t n_writes);
void cuda_tiles_read(struct device *device, enum kv_type type, uint32_t head_dim,
                     size_t stride_bytes, const void *tile, uint32_t first, uint32_t n_tokens,
                     void *k, void *v);

#ifdef __cplusplus
}
#endif

#endif
