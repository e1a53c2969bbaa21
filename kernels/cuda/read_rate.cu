/* read_rate.cu - how fast the device reads its memory: a sum over all of it that nobody wants.
 *
 * Each thread has four 16-byte loads in flight; the sum is written only if it is a value that zeros
 * never have, so that the compiler must keep the loads. */
#include "kernels/cuda/device.h"

#include <stdlib.h>

enum { THREADS = 256, LOADS = 4, BLOCKS_PER_SM = 8, MOST_PASSES = 64 };

__global__ void __launch_bounds__(THREADS) read_all(const uint4 *memory, size_t n, uint32_t *sink)
{
    const size_t step = (size_t)gridDim.x * THREADS;
    uint32_t sum = 0;
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    for (; i + (LOADS - 1) * step < n; i += LOADS * step) {
        uint4 v[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            v[j] = __ldcs(&memory[i + j * step]);
#pragma unroll
        for (int j = 0; j < LOADS; j++)
            sum |= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    for (; i < n; i += step)
        sum |= memory[i].x;
    if (sum == 0x9e3779b9u)
        *sink = sum;
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Milliseconds of one pass; 0: failed, and kept. */
static float pass(struct device *device, const uint4 *memory, size_t n, cudaEvent_t begin,
                  cudaEvent_t end)
{
    float ms = 0;
    cuda_check(device, cudaEventRecord(begin, cuda_stream(device)), "read rate");
    read_all<<<device->n_multiprocessors * BLOCKS_PER_SM, THREADS, 0, cuda_stream(device)>>>(
        memory, n, (uint32_t *)memory);
    cuda_launched(device, "read rate");
    cuda_check(device, cudaEventRecord(end, cuda_stream(device)), "read rate");
    if (!cuda_check(device, cudaEventSynchronize(end), "read rate") ||
        !cuda_check(device, cudaEventElapsedTime(&ms, begin, end), "read rate"))
        return 0;
    return ms;
}

extern "C" double cuda_read_rate(struct device *device, size_t bytes, uint32_t budget_ms)
{
    const size_t n = bytes / sizeof(uint4);
    void *memory;
    cudaEvent_t begin = NULL, end = NULL;
    float ms[MOST_PASSES], spent = 0;
    int passes = 0;
    if (n == 0 || cuda_memory_take(device, &memory, n * sizeof(uint4), NULL) != STATUS_OK)
        return 0;
    cuda_clear(device, memory, n * sizeof(uint4));
    if (cuda_check(device, cudaEventCreate(&begin), "read rate") &&
        cuda_check(device, cudaEventCreate(&end), "read rate") &&
        pass(device, (const uint4 *)memory, n, begin, end) > 0) /* the first one warms up */
        while (passes < MOST_PASSES && (passes < 3 || spent < budget_ms)) {
            const float one = pass(device, (const uint4 *)memory, n, begin, end);
            if (!(one > 0))
                break;
            ms[passes++] = one;
            spent += one;
        }
    if (begin != NULL)
        cudaEventDestroy(begin);
    if (end != NULL)
        cudaEventDestroy(end);
    cuda_memory_give(device, memory);
    if (passes == 0)
        return 0;
    qsort(ms, passes, sizeof(ms[0]), ascending);
    return n * sizeof(uint4) / (ms[passes / 2] * 1e-3);
}
