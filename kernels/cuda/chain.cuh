/* kernels/cuda/chain.cuh - kernels of one stream, of which the next one begins before the last one ends.
 *
 * A decode step is a chain of short kernels, and what lies between two of them is lost: the end of
 * the first one, in which ever fewer blocks run, a launch, and the time until the first weights
 * arrive. From compute capability 9.0 on a kernel that is launched here may start as soon as all
 * blocks of the one before have started (programmatic dependent launch, CUDA C++ Programming Guide):
 * it calls chain_next at once, so that the same goes for its successor; does what depends on no other
 * kernel, such as fetching weights; and calls chain_wait before it reads or writes anything that
 * another kernel writes or reads. Every kernel launched here calls both, in all its threads: so that
 * one that has waited knows that all before it are done, not only the last one.
 * What was written before must be read with plain loads after chain_wait: not through __ldg, nor through pointers that are
 * __restrict__, of which compilers make the same load, and move it ahead of the wait. */
#ifndef LONGSPAN_KERNELS_CUDA_CHAIN_CUH
#define LONGSPAN_KERNELS_CUDA_CHAIN_CUH

#include "kernels/cuda/device.h"
#include "kernels/cuda/machine.cuh"

/* One launch on the device's stream, behind the calls that wait (fused.cuh); a failure is kept under `what`. */
template <class... Parameters, class... Arguments>
void chain_launch(struct device *device, const char *what, void (*kernel)(Parameters...), dim3 grid,
                  dim3 block, size_t shared_bytes, Arguments... arguments)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = cuda_stream(device);
    config.attrs = &attribute;
    config.numAttrs = device->compute_capability >= 90 ? 1 : 0;
    cuda_check(device, cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), what);
}

#endif
