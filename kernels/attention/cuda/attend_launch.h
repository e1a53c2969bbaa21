/* kernels/attention/cuda/attend_launch.h - the attention kernels as the host sees them.
 *
 * Variants by KV type, head_dim and rows of a row block; each takes a call's header in device memory, and the
 * number of stages of its pipeline. The header: a struct attend_launch, WRITES_AT behind it a struct write_list,
 * LAUNCH_BYTES behind it the starts of all thread blocks. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_LAUNCH_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_LAUNCH_H

#include "kernels/attention/cuda/attend_jobs.h"
#include "kernels/attention/device.h"
#include "kernels/quant/kv_type.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a kernel is told, in device memory: a launch that was recorded in a CUDA graph finds there what
 * was prepared last. All pointers are device memory. */
struct attend_launch {
    const struct job_output *outputs;
    const struct job_segment *segments;
    const struct job_join *joins;
    const uint32_t *shares, *merges;
    uint32_t *pending;
    const char *const *pages;
    float2 *parts;  /* scratch memory of all parts */
    float2 *levels; /* of all thread blocks: n_levels each, the last of them for prefixes */
    uint32_t n_levels;
    uint32_t n_near; /* of them in shared memory, behind the pipeline (attend_rows.cuh) */
    uint32_t n_shares;
    uint32_t group, head_dim, type;
    uint32_t group_inverse; /* 2^16 / group, rounded up */
    float scale, soft_cap;
    float cap_factor; /* of a soft cap: 2 log2(e) / soft_cap */
    bool any_order;   /* for comparisons: tiles are merged as they come, whatever the tree says */
};

/* Stages of a pipeline. At least the two pieces that are wanted at the same time. */
enum { LEAST_STAGES = 2, MOST_STAGES = 16 };

/* Tokens that are written to tiles before the call. */
struct write_list {
    const struct tile_tokens *writes; /* device memory */
    size_t stride_bytes;
    uint32_t n, type, head_dim;
};

enum { WRITES_AT = 192, LAUNCH_BYTES = 256 };

/* A variant, for one launch configuration of which stages are to be chosen. */
struct attend_kernel {
    const void *function;
    enum kv_type type;
    uint32_t head_dim; /* 0: any, and any type */
    uint32_t rows;     /* of a row block, at most */
    uint32_t threads;
    uint32_t fixed_bytes;   /* of shared memory; and for each stage of its pipeline: */
    uint32_t stage_bytes;   /* 0: it has none */
    uint32_t partial_bytes; /* of a part, and of a level of the tree */
    uint32_t near_levels;   /* that shared memory may hold behind the pipeline, at most */
};

/* Of one type, fewest rows first. */
const struct attend_kernel *attend_kernels_f16(size_t *n);
const struct attend_kernel *attend_kernels_bf16(size_t *n);
const struct attend_kernel *attend_kernels_q8_0(size_t *n);
const struct attend_kernel *attend_kernels_any(size_t *n);

#ifdef __cplusplus
}
#endif

#endif
