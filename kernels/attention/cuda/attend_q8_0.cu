/* attend_q8_0.cu - attention over q8_0 KV by tensor cores. */
#include "kernels/attention/cuda/attend_mma.cuh"

DESCRIBE_MMA(q8_0, MMA_Q8, KV_Q8_0)
