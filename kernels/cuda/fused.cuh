/* kernels/cuda/fused.cuh - calls that wait for the next one, and become one kernel with it.
 *
 * A decode step is made of short kernels, each of which costs some 2 us, however little it does. So sums,
 * norms and SwiGLU are not launched at once: device->waiting remembers them. A sum, the norm of the same
 * rows and their quantization are one kernel then, and so are SwiGLU and its quantization. Whatever is not
 * so continued is launched as it is, before any other work: chain_launch and cuda_stream see to it.
 * Same bits as one after the other. */
#ifndef LONGSPAN_KERNELS_CUDA_FUSED_CUH
#define LONGSPAN_KERNELS_CUDA_FUSED_CUH

#include "kernels/cuda/device.h"
#include "kernels/cuda/quantize.cuh"

/* Quantizes x with what waits, if that ends with x; else false, and nothing was done. */
bool cuda_quantize_waiting(struct device *device, const float *x, uint32_t n_rows,
                           uint32_t n_columns, const struct cuda_quantized &to);

#endif
