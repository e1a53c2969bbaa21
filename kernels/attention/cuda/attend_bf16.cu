/* attend_bf16.cu - attention over bf16 KV by tensor cores. */
#include "kernels/attention/cuda/attend_mma.cuh"

DESCRIBE_MMA(bf16, MMA_BF16, KV_BF16)
