/* elementwise.cu - gates, caps and biases, in the steps of the CPU's tables; see also fused.cu and turn.cu.
 *
 * Exponentials are those of kernels/numeric.h, so that all have the CPU's bits. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/product.h"
#include "kernels/numeric.h"

namespace
{

enum { THREADS = 256 };

__global__ void __launch_bounds__(THREADS) geglu_values(float *gate, const float *up, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i < n)
        gate[i] = __fdiv_rn(gate[i], 1.0f + exp_f32(gelu_exponent_f32(gate[i]))) * up[i];
}

__global__ void __launch_bounds__(THREADS)
    add_bias_values(float *x, const float *bias, uint32_t n_columns, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i < n)
        x[i] += bias[i % n_columns];
}

__global__ void __launch_bounds__(THREADS) scale_values(float *x, float factor, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i < n)
        x[i] *= factor;
}

__global__ void __launch_bounds__(THREADS) soft_cap_values(float *x, float cap, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i < n)
        x[i] = cap * tanh_f32(__fdiv_rn(x[i], cap));
}

unsigned blocks_for(size_t n)
{
    return (unsigned)((n + THREADS - 1) / THREADS);
}

} // namespace

extern "C" void cuda_geglu(struct device *device, float *gate, const float *up, size_t n)
{
    if (n == 0)
        return;
    chain_launch(device, "geglu", geglu_values, blocks_for(n), THREADS, 0, gate, up, n);
}

extern "C" void cuda_add_bias(struct device *device, float *x, const float *bias, uint32_t n_rows,
                              uint32_t n_columns)
{
    const size_t n = (size_t)n_rows * n_columns;
    if (n == 0)
        return;
    chain_launch(device, "add_bias", add_bias_values, blocks_for(n), THREADS, 0, x, bias, n_columns,
                 n);
}

extern "C" void cuda_scale(struct device *device, float *x, float factor, size_t n)
{
    if (n == 0)
        return;
    chain_launch(device, "scale", scale_values, blocks_for(n), THREADS, 0, x, factor, n);
}

extern "C" void cuda_soft_cap(struct device *device, float *x, float cap, size_t n)
{
    if (n == 0)
        return;
    chain_launch(device, "soft_cap", soft_cap_values, blocks_for(n), THREADS, 0, x, cap, n);
}
