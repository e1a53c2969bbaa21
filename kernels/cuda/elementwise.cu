/* elementwise.cu - rotation, gates, caps and biases, in the steps of the CPU's tables; see also fused.cu.
 *
 * Sines and exponentials are those of kernels/numeric.h, so that all have the CPU's bits. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/product.h"
#include "kernels/numeric.h"

namespace
{

enum { THREADS = 256 };

/* ---- rotation ---------------------------------------------------------------------------------- */

/* A thread turns one pair of all heads of a row; its sine is made once. */
__global__ void __launch_bounds__(THREADS)
    rotate_rows(float *x, const uint32_t *positions, const double *frequency, uint32_t n_heads,
                uint32_t head_dim, uint32_t n_pairs, bool neox, double magnitude)
{
    const uint32_t pair = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    double s, c;
    chain_next();
    chain_wait();
    if (pair >= n_pairs)
        return;
    sincos_f64((double)positions[row] * frequency[pair], &s, &c);
    const float cosine = (float)(c * magnitude), sine = (float)(s * magnitude);
    const uint32_t first = neox ? pair : 2 * pair, second = neox ? pair + n_pairs : first + 1;
    for (uint32_t head = threadIdx.y; head < n_heads; head += blockDim.y) {
        float *values = x + ((size_t)row * n_heads + head) * head_dim;
        const float a = values[first], b = values[second];
        values[first] = __fmaf_rn(a, cosine, -(b * sine));
        values[second] = __fmaf_rn(a, sine, b * cosine);
    }
}

/* ---- values ------------------------------------------------------------------------------------ */

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

extern "C" void cuda_rotate(struct device *device, float *x, const uint32_t *positions,
                            uint32_t n_rows, uint32_t n_heads, uint32_t head_dim,
                            const struct rope *rope)
{
    const uint32_t PAIRS = 32, HEADS = 4, MOST_ROWS = 32768; /* of one launch */
    const uint32_t n_pairs = rope->n_dims / 2;
    if (n_rows == 0 || n_pairs == 0)
        return;
    const uint32_t *rows = (const uint32_t *)cuda_indices(device, CUDA_POSITIONS, positions,
                                                          n_rows * sizeof(*positions));
    if (rows == NULL)
        return;
    for (uint32_t row = 0; row < n_rows; row += MOST_ROWS) {
        const uint32_t n = n_rows - row < MOST_ROWS ? n_rows - row : MOST_ROWS;
        const dim3 grid((n_pairs + PAIRS - 1) / PAIRS, n), block(PAIRS, HEADS);
        chain_launch(device, "rotate", rotate_rows, grid, block, 0,
                     x + (size_t)row * n_heads * head_dim, rows + row, rope->frequency, n_heads,
                     head_dim, n_pairs, rope->neox, (double)rope->magnitude);
    }
}

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
