/* attend_q8_0.cu - attention over q8_0 KV by tensor cores. */
#include "kernels/attention/cuda/attend_mma.cuh"
#include "kernels/attention/cuda/attend_rows.cuh"
#include "kernels/attention/cuda/attend_rows_q8.cuh"

extern "C" const struct attend_kernel *attend_kernels_q8_0(size_t *n)
{
    static const struct attend_kernel kernels[] = {
        describe_mma<MMA_Q8, 64, 1, 4>(KV_Q8_0),  describe_mma<MMA_Q8, 64, 2, 2>(KV_Q8_0),
        describe_rows<rows_q8<64>>(KV_Q8_0),      describe_mma<MMA_Q8, 128, 1, 4>(KV_Q8_0),
        describe_mma<MMA_Q8, 128, 2, 1>(KV_Q8_0), describe_rows<rows_q8<128>>(KV_Q8_0),
        describe_mma<MMA_Q8, 256, 1, 2>(KV_Q8_0), describe_mma<MMA_Q8, 256, 2, 0>(KV_Q8_0),
    };
    *n = sizeof(kernels) / sizeof(kernels[0]);
    return kernels;
}
