/* attend_bf16.cu - attention over bf16 KV by tensor cores. */
#include "kernels/attention/cuda/attend_mma.cuh"
#include "kernels/attention/cuda/attend_rows.cuh"
#include "kernels/attention/cuda/attend_rows_float.cuh"

extern "C" const struct attend_kernel *attend_kernels_bf16(size_t *n)
{
    static const struct attend_kernel kernels[] = {
        describe_mma<MMA_BF16, 64, 1, 4>(KV_BF16),
        describe_mma<MMA_BF16, 64, 2, 2>(KV_BF16),
        describe_rows<rows_float<MMA_BF16, 64, 1>>(KV_BF16),
        describe_mma<MMA_BF16, 128, 1, 4>(KV_BF16),
        describe_mma<MMA_BF16, 128, 2, 1>(KV_BF16),
        describe_rows<rows_float<MMA_BF16, 128, 1>>(KV_BF16),
        describe_mma<MMA_BF16, 256, 1, 2>(KV_BF16),
        describe_mma<MMA_BF16, 256, 2, 0>(KV_BF16),
    };
    *n = sizeof(kernels) / sizeof(kernels[0]);
    return kernels;
}
