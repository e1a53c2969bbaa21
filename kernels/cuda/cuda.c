/* cuda.c - the tables of NVIDIA GPUs. */
#include "kernels/attention/cuda/attend_device.h"
#include "kernels/cuda/blas.h"

static bool usable(void)
{
    return cuda_count(NULL) > 0;
}

static bool blas_usable(void)
{
    return cuda_blas_count(NULL) > 0;
}

/* What both tables have. */
#define SHARED                                                                                     \
    .device = "cuda", .attention = "cuda", .attention_device = &attention_cuda,                    \
    .close = cuda_close, .host_memory = false, .cuda_memory = true,                                \
    .memory_take = cuda_memory_take, .memory_give = cuda_memory_give, .host_take = cuda_host_take, \
    .host_give = cuda_host_give, .memory_available = cuda_memory_available, .upload = cuda_upload, \
    .download = cuda_download, .copy = cuda_copy, .clear = cuda_clear, .finish = cuda_finish,      \
    .read_rate = cuda_read_rate, .matrix_create = cuda_matrix_create,                              \
    .matrix_destroy = cuda_matrix_destroy, .embed = cuda_embed, .rms_norm = cuda_rms_norm,         \
    .turn = cuda_turn, .swiglu = cuda_swiglu, .geglu = cuda_geglu, .add = cuda_add,                \
    .add_bias = cuda_add_bias, .scale = cuda_scale, .soft_cap = cuda_soft_cap,                     \
    .gather = cuda_gather, .multiply_groups = cuda_multiply_groups, .combine = cuda_combine,       \
    .most_candidates = CUDA_MOST_CANDIDATES, .candidates = cuda_candidates,                        \
    .record_begin = cuda_record_begin, .record_end = cuda_record_end,                              \
    .recording_destroy = cuda_recording_destroy, .replay = cuda_replay

const struct kernels kernels_cuda = {
    SHARED,
    .name = "cuda",
    .usable = usable,
    .count = cuda_count,
    .open = cuda_open,
    .workspace_reserve = cuda_reserve,
    .prepare = cuda_prepare,
    .matmul = cuda_matmul,
};

const struct kernels kernels_cuda_blas = {
    SHARED,
    .name = "cuda-blas",
    .usable = blas_usable,
    .count = cuda_blas_count,
    .open = cuda_blas_open,
    .workspace_reserve = cuda_blas_reserve,
    .prepare = cuda_blas_prepare,
    .matmul = cuda_blas_matmul,
};
