/* kernels/attention/cuda/attend_device.h - attention on NVIDIA GPUs, for the table kernels_cuda. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_DEVICE_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_DEVICE_H

#include "kernels/attention/device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct write_list; /* attend_launch.h */

extern const struct attention_device attention_cuda;

/* For measurements, of a state that attention_cuda.create made: at most so many thread blocks per
 * multiprocessor, each with a pipeline of at most so many stages; shares cut at multiples of `unit` tiles,
 * a power of two; 0: as they come. Same bits. STATUS_UNSUPPORTED: no kernel fits so. */
enum status cuda_attend_tune(void *state, uint32_t n_blocks, uint32_t n_stages, uint32_t unit,
                             struct error *error);

/* tiles.cu: the functions of the table that move K and V. */
void cuda_tiles_write(struct device *device, enum kv_type type, uint32_t head_dim,
                      size_t stride_bytes, const struct tile_tokens *writes, size_t n_writes);
/* What a prepared call's list has, n of them or less; on the device. */
void cuda_tiles_write_listed(struct device *device, const struct write_list *list, uint32_t n);
void cuda_tiles_read(struct device *device, enum kv_type type, uint32_t head_dim,
                     size_t stride_bytes, const void *tile, uint32_t first, uint32_t n_tokens,
                     void *k, void *v);

#ifdef __cplusplus
}
#endif

#endif
