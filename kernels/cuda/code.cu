/* code.cu - for which architecture the code was made that this GPU runs.
 *
 * A program has machine code for some GPUs, and PTX, of which the driver makes code for later ones.
 * That keeps to what it was made for: where kernels ask __CUDA_ARCH__ what there is, as those of
 * chain.cuh do, the host must go by the answer, not by what the GPU could do. So a build for 8.0
 * runs on a GPU of 9.0, without a chain. */
#include "kernels/cuda/device.h"

static __global__ void nothing(void)
{
}

extern "C" enum status cuda_code_architecture(const struct device *device, int *architecture,
                                              struct error *error)
{
    struct cudaFuncAttributes attributes;
    const cudaError_t result = cudaFuncGetAttributes(&attributes, (const void *)nothing);
    if (result != cudaSuccess) {
        (void)cudaGetLastError();
        return error_set(error, STATUS_UNSUPPORTED,
                         "cuda: this program has no code for this GPU (%s); build it with "
                         "CUDA_ARCHS=%d",
                         cudaGetErrorString(result), device->compute_capability);
    }
    *architecture = attributes.ptxVersion;
    return STATUS_OK;
}
