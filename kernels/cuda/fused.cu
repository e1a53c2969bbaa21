/* fused.cu - sums, norms and SwiGLU, alone or with what follows them. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/fused.cuh"
#include "kernels/cuda/product.h"
#include "kernels/numeric.h"

namespace
{

enum { THREADS = 256, MOST_NORM_THREADS = 1024 };

/* Four values, or as many as there are; vectors: all fours are whole and aligned. */
__device__ __forceinline__ void load_four(float v[4], const float *from, uint32_t n, bool vectors)
{
    if (vectors) {
        const float4 all = *(const float4 *)from;
        v[0] = all.x;
        v[1] = all.y;
        v[2] = all.z;
        v[3] = all.w;
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        v[i] = i < n ? from[i] : 0.0f;
}

__device__ __forceinline__ void store_four(float *to, const float v[4], uint32_t n, bool vectors)
{
    if (vectors) {
        *(float4 *)to = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        if (i < n)
            to[i] = v[i];
}

struct norm {
    float *y, *x; /* x is written where there is a sum */
    const float *addend, *weight;
    uint32_t n; /* of a row */
    float epsilon;
    bool vectors;
    struct cuda_quantized to;
};

/* Of a row of n: four values each, so that the order of the sum depends on n only. */
unsigned norm_threads(uint32_t n)
{
    return n > 4 * MOST_NORM_THREADS ? (unsigned)MOST_NORM_THREADS
                                     : cuda_round_up((n + 3) / 4, CUDA_LANES);
}

/* One row a block. The sum of squares is added in double, in an order of our own: of the 53 bits in
 * which it may differ from the CPU's in the last ones, the scale keeps 24. */
template <bool ADDS, bool QUANTIZES>
__global__ void __launch_bounds__(MOST_NORM_THREADS)
    norm_rows(const __grid_constant__ struct norm p)
{
    __shared__ double sums[MOST_NORM_THREADS / CUDA_LANES];
    const uint32_t row = blockIdx.x, lane = threadIdx.x % CUDA_LANES, n = p.n;
    const size_t first = (size_t)row * n;
    const uint32_t mine = (threadIdx.x - lane) * 4; /* where the warp begins: it stays together */
    double sum = 0;
    chain_next();
    chain_wait();
    for (uint32_t begin = mine; begin < n; begin += 4 * blockDim.x) {
        const uint32_t at = begin + 4 * lane;
        float v[4], w[4];
        if (at >= n)
            continue;
        load_four(v, p.x + first + at, n - at, p.vectors);
        if (ADDS) {
            load_four(w, p.addend + first + at, n - at, p.vectors);
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] += w[i];
            store_four(p.x + first + at, v, n - at, p.vectors);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum = __fma_rn((double)v[i], (double)v[i], sum); /* a square is exact in double */
    }
#pragma unroll
    for (int step = CUDA_LANES / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0)
        sums[threadIdx.x / CUDA_LANES] = sum;
    __syncthreads();
    sum = lane < blockDim.x / CUDA_LANES ? sums[lane] : 0.0;
#pragma unroll
    for (int step = CUDA_LANES / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    const float scale = (float)(1.0 / sqrt(sum / n + (double)p.epsilon));
    for (uint32_t begin = mine; begin < n; begin += 4 * blockDim.x) {
        const uint32_t at = begin + 4 * lane;
        float v[4] = {0, 0, 0, 0}, w[4];
        if (at < n) {
            load_four(v, p.x + first + at, n - at, p.vectors);
            load_four(w, p.weight + at, n - at, p.vectors);
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] = v[i] * scale * w[i];
            store_four(p.y + first + at, v, n - at, p.vectors);
        }
        if (QUANTIZES)
            quantize_four(p.to, v, row, at, at < n);
    }
}

__device__ __forceinline__ float swiglu(float gate, float up)
{
    return __fdiv_rn(gate, 1.0f + exp_f32(-gate)) * up;
}

__global__ void __launch_bounds__(THREADS) swiglu_values(float *gate, const float *up, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i < n)
        gate[i] = swiglu(gate[i], up[i]);
}

/* n: a multiple of 32; aligned. */
__global__ void __launch_bounds__(THREADS)
    swiglu_quantize(float *gate, const float *up, size_t n, uint32_t n_columns,
                    const struct cuda_quantized to)
{
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * 4;
    float v[4] = {0, 0, 0, 0}, w[4];
    chain_next();
    chain_wait();
    if (i < n) {
        load_four(v, gate + i, 4, true);
        load_four(w, up + i, 4, true);
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = swiglu(v[j], w[j]);
        store_four(gate + i, v, 4, true);
    }
    quantize_four(to, v, (uint32_t)(i / n_columns), (uint32_t)(i % n_columns), i < n);
}

__global__ void __launch_bounds__(THREADS) add_values(float *x, const float *y, size_t n)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i < n)
        x[i] += y[i];
}

unsigned blocks_for(size_t n)
{
    return (unsigned)((n + THREADS - 1) / THREADS);
}

bool aligned(const void *a, const void *b, const void *c, const void *d)
{
    return ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) % sizeof(float4) == 0;
}

/* The norm that waits, with its sum if there is one. */
void launch_norm(struct device *device, const struct cuda_waiting &w,
                 const struct cuda_quantized *to)
{
    struct norm p = {};
    p.y = w.normed;
    p.x = (float *)w.norm_x;
    p.addend = w.adds ? w.addend : NULL;
    p.weight = w.weight;
    p.n = w.n_columns;
    p.epsilon = w.epsilon;
    p.vectors = w.n_columns % 4 == 0 && aligned(p.y, p.x, p.addend, p.weight);
    if (to != NULL)
        p.to = *to;
    chain_launch(device, "rms_norm",
                 w.adds       ? to != NULL ? norm_rows<true, true> : norm_rows<true, false>
                       : to != NULL ? norm_rows<false, true>
                              : norm_rows<false, false>,
                 w.n_rows, norm_threads(w.n_columns), 0, p);
}

} // namespace

extern "C" void cuda_flush(struct device *device)
{
    const struct cuda_waiting w = device->waiting;
    device->waiting.adds = device->waiting.norms = device->waiting.swiglus = false;
    if (w.norms)
        launch_norm(device, w, NULL);
    else if (w.adds)
        chain_launch(device, "add", add_values, blocks_for(w.n_added), THREADS, 0, w.sum, w.addend,
                     w.n_added);
    if (w.swiglus)
        chain_launch(device, "swiglu", swiglu_values, blocks_for(w.n_gate), THREADS, 0, w.gate,
                     w.up, w.n_gate);
}

bool cuda_quantize_waiting(struct device *device, const float *x, uint32_t n_rows,
                           uint32_t n_columns, const struct cuda_quantized &to)
{
    const struct cuda_waiting w = device->waiting;
    const size_t n = (size_t)n_rows * n_columns;
    if (w.norms && w.normed == x && w.n_rows == n_rows && w.n_columns == n_columns) {
        device->waiting.adds = device->waiting.norms = false;
        launch_norm(device, w, &to);
        return true;
    }
    if (w.swiglus && w.gate == x && w.n_gate == n && aligned(w.gate, w.up, NULL, NULL)) {
        device->waiting.swiglus = false;
        chain_launch(device, "swiglu", swiglu_quantize, blocks_for(n / 4), THREADS, 0, w.gate, w.up,
                     n, n_columns, to);
        return true;
    }
    return false;
}

extern "C" void cuda_add(struct device *device, float *x, const float *y, size_t n)
{
    cuda_flush(device);
    if (n == 0)
        return;
    device->waiting.adds = true;
    device->waiting.sum = x;
    device->waiting.addend = y;
    device->waiting.n_added = n;
}

extern "C" void cuda_rms_norm(struct device *device, float *y, const float *x, const float *weight,
                              uint32_t n_rows, uint32_t n_columns, float epsilon)
{
    struct cuda_waiting *w = &device->waiting;
    if (w->norms || w->swiglus ||
        (w->adds && (w->sum != x || w->n_added != (size_t)n_rows * n_columns)))
        cuda_flush(device);
    if (n_rows == 0)
        return;
    w->norms = true;
    w->normed = y;
    w->norm_x = x;
    w->weight = weight;
    w->n_rows = n_rows;
    w->n_columns = n_columns;
    w->epsilon = epsilon;
}

extern "C" void cuda_swiglu(struct device *device, float *gate, const float *up, size_t n)
{
    cuda_flush(device);
    if (n == 0)
        return;
    device->waiting.swiglus = true;
    device->waiting.gate = gate;
    device->waiting.up = up;
    device->waiting.n_gate = n;
}
