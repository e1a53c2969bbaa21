/* kernels/cuda/wide.cuh - products of many rows: a warp takes a panel and WIDE_ROWS rows and goes
 * through all spans itself; the four warps of a block read the same activations.
 *
 * Terms provides SPAN, the columns of a span, and, for TILES tiles of ROW_TILE rows from tile `first_tile` on:
 *     template <int TILES>
 *     static __device__ void add_span(float acc[TILES][4], const struct cuda_product &p,
 *                                     const uint4 *panel, uint32_t begin, uint32_t end,
 *                                     uint32_t first_tile, uint32_t lane); */
#ifndef LONGSPAN_KERNELS_CUDA_WIDE_CUH
#define LONGSPAN_KERNELS_CUDA_WIDE_CUH

#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/span.cuh"

enum { WIDE_TILES = WIDE_ROWS / ROW_TILE, WIDE_THREADS = WIDE_WARPS * CUDA_LANES };

/* As tree::take and tree::total, with pending sums in memory that only this thread touches. */
__device__ __forceinline__ void wide_take(float4 *pending, uint32_t segment,
                                          float sum[WIDE_TILES][4])
{
    int level = 0;
    for (; segment >> level & 1; level++)
#pragma unroll
        for (int tile = 0; tile < WIDE_TILES; tile++) {
            const float4 left = pending[(level * WIDE_TILES + tile) * WIDE_THREADS];
            sum[tile][0] = left.x + sum[tile][0];
            sum[tile][1] = left.y + sum[tile][1];
            sum[tile][2] = left.z + sum[tile][2];
            sum[tile][3] = left.w + sum[tile][3];
        }
#pragma unroll
    for (int tile = 0; tile < WIDE_TILES; tile++)
        pending[(level * WIDE_TILES + tile) * WIDE_THREADS] =
            make_float4(sum[tile][0], sum[tile][1], sum[tile][2], sum[tile][3]);
}

__device__ __forceinline__ void wide_total(const float4 *pending, uint32_t n_segments,
                                           float sum[WIDE_TILES][4])
{
    bool any = false;
    for (int level = 0; level < TREE_LEVELS; level++) {
        if (!(n_segments >> level & 1))
            continue;
#pragma unroll
        for (int tile = 0; tile < WIDE_TILES; tile++) {
            const float4 v = pending[(level * WIDE_TILES + tile) * WIDE_THREADS];
            sum[tile][0] = any ? v.x + sum[tile][0] : v.x;
            sum[tile][1] = any ? v.y + sum[tile][1] : v.y;
            sum[tile][2] = any ? v.z + sum[tile][2] : v.z;
            sum[tile][3] = any ? v.w + sum[tile][3] : v.w;
        }
        any = true;
    }
}

template <class Terms>
__global__ void __launch_bounds__(WIDE_THREADS, 2)
    product_wide(const __grid_constant__ struct cuda_product p)
{
    const uint32_t lane = threadIdx.x % CUDA_LANES, warp = threadIdx.x / CUDA_LANES;
    const uint32_t n_groups = (p.n_panels + WIDE_WARPS - 1) / WIDE_WARPS;
    const uint32_t n_row_blocks = (p.n_rows + WIDE_ROWS - 1) / WIDE_ROWS;
    float4 *pending = (float4 *)p.pending +
                      (size_t)blockIdx.x * (TREE_LEVELS * WIDE_TILES * WIDE_THREADS) + threadIdx.x;

    chain_next();
    chain_wait();
    /* Blocks that run at the same time share weights: row blocks go by first. */
    for (uint32_t job = blockIdx.x; job < n_groups * n_row_blocks; job += gridDim.x) {
        const uint32_t panel_index = job / n_row_blocks * WIDE_WARPS + warp;
        const uint32_t first_tile = job % n_row_blocks * WIDE_TILES;
        if (panel_index >= p.n_panels)
            continue;
        const struct cuda_outputs &to = outputs_of(p, panel_index);
        const uint4 *panel = panel_at(p, to, panel_index);
        float sum[WIDE_TILES][4];
        uint32_t begin = 0;
        for (uint32_t segment = 0; segment < p.spans.n_segments; segment++) {
            const uint32_t segment_end = p.spans.segment_end[segment];
            for (bool first = true; begin < segment_end; first = false) {
                const uint32_t end = min(begin + Terms::SPAN, segment_end);
                float acc[WIDE_TILES][4] = {};
                Terms::template add_span<WIDE_TILES>(acc, p, panel, begin, end, first_tile, lane);
#pragma unroll
                for (int tile = 0; tile < WIDE_TILES; tile++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        sum[tile][i] = first ? acc[tile][i] : sum[tile][i] + acc[tile][i];
                begin = end;
            }
            if (p.spans.n_segments > 1)
                wide_take(pending, segment, sum);
        }
        if (p.spans.n_segments > 1)
            wide_total(pending, p.spans.n_segments, sum);
#pragma unroll
        for (int tile = 0; tile < WIDE_TILES; tile++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint32_t row = (first_tile + tile) * ROW_TILE + 2 * (lane % 4) + i % 2;
                const uint32_t output =
                    (panel_index - to.first_panel) * PANEL_OUTPUTS + lane / 4 + i / 2 * 8;
                if (row < p.n_rows && output < to.n_outputs)
                    to.y[row * to.y_stride + output] = sum[tile][i];
            }
    }
}

template <class Terms>
void launch_wide(struct device *device, const struct cuda_product *p)
{
    const size_t jobs = ((size_t)p->n_panels + WIDE_WARPS - 1) / WIDE_WARPS *
                        ((p->n_rows + (size_t)WIDE_ROWS - 1) / WIDE_ROWS);
    const size_t most = (size_t)device->n_multiprocessors * WIDE_BLOCKS_PER_SM;
    chain_launch(device, "a product of many rows", product_wide<Terms>,
                 (unsigned)(jobs < most ? jobs : most), WIDE_THREADS, 0, *p);
}

#endif
