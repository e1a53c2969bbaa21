/* attend_f16.cu - attention over f16 KV by tensor cores. */
#include "kernels/attention/cuda/attend_mma.cuh"

DESCRIBE_MMA(f16, MMA_F16, KV_F16)
