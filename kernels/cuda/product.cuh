/* kernels/cuda/product.cuh - what products of blocks and of floats share: spans, folding, launching.
 *
 * A `Terms` type says how a warp makes one span's sum; the two kernels here say which warp makes
 * which, and add the sums up, always in the same order:
 *     narrow   few rows. A block takes one panel; its warps divide the spans among them; sums meet
 *              in shared memory, where each output's are added by one thread.
 *     wide     many rows. A warp takes a panel and WIDE_ROWS rows and goes through all spans
 *              itself; the four warps of a block read the same activations.
 * Terms provides, for TILES tiles of ROW_TILE rows from tile `first_tile` on (AHEAD: weights come
 * from memory and are fetched before they are needed):
 *     template <int TILES, bool AHEAD>
 *     static __device__ void add_span(float acc[TILES][4], const struct cuda_product &p,
 *                                     const uint4 *panel, uint32_t begin, uint32_t end,
 *                                     uint32_t first_tile, uint32_t lane);
 * acc is a fragment: outputs lane / 4 and lane / 4 + 8, rows 2 (lane % 4) and one more. */
#ifndef LONGSPAN_KERNELS_CUDA_PRODUCT_CUH
#define LONGSPAN_KERNELS_CUDA_PRODUCT_CUH

#include "kernels/cuda/product.h"

enum {
    NARROW_THREADS = 256, /* at most; at least NARROW_LEAST */
    NARROW_LEAST = 128,   /* one thread for each output of a panel and row of a tile */
    TREE_LEVELS = 4,      /* 2^3 segments and their sum */
    ROUND_SUMS = 64,      /* spans times tiles whose sums are in shared memory at once: 32 KiB */
    TILE_SUMS = ROW_TILE * PANEL_OUTPUTS,
};

__device__ __forceinline__ void put_words(uint32_t *words, uint4 v)
{
    words[0] = v.x;
    words[1] = v.y;
    words[2] = v.z;
    words[3] = v.w;
}

/* N words: whole vectors, or a part of one. Weights pass once, and need no place in the first-level
 * cache. */
template <int N>
__device__ __forceinline__ void load_weights(uint32_t *words, const uint32_t *at)
{
    if constexpr (N == 1)
        asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(words[0]) : "l"(at));
    else if constexpr (N == 2)
        asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];"
            : "=r"(words[0]), "=r"(words[1])
            : "l"(at));
    else
        asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
            : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
            : "l"(at));
}

/* ---- spans and their tree ---------------------------------------------------------------------- */

__device__ __forceinline__ uint32_t segment_spans(const struct cuda_spans &s, uint32_t segment)
{
    const uint32_t begin = segment > 0 ? s.segment_end[segment - 1] : 0;
    return (s.segment_end[segment] - begin + s.width - 1) / s.width;
}

__device__ __forceinline__ void span_at(const struct cuda_spans &s, uint32_t span, uint32_t *begin,
                                        uint32_t *end)
{
    uint32_t segment = 0, from = 0;
    for (; segment + 1 < s.n_segments && span >= segment_spans(s, segment); segment++)
        span -= segment_spans(s, segment);
    from = segment > 0 ? s.segment_end[segment - 1] : 0;
    *begin = from + span * s.width;
    *end = min(*begin + s.width, s.segment_end[segment]);
}

/* Adds up the spans' sums of one output, in order, and segments as a binary counter: two finished
 * siblings are added at once. `state` is this output's own memory, numbers `STEP` apart: the segment's
 * sum so far, then one waiting sum for each level. */
template <int STEP>
struct tree {
    float *state;

    __device__ __forceinline__ void take(float sum, bool first, bool last, uint32_t segment)
    {
        if (!first)
            sum = state[0] + sum;
        state[0] = sum;
        if (!last)
            return;
        int level = 1;
        for (; segment & 1; segment >>= 1, level++)
            sum = state[level * STEP] + sum;
        state[level * STEP] = sum;
    }

    /* What has no sibling is added from the smallest up. */
    __device__ __forceinline__ float total(uint32_t n_segments) const
    {
        int level = 1;
        for (; !(n_segments & 1); n_segments >>= 1)
            level++;
        float sum = state[level * STEP];
        while (n_segments >>= 1) {
            level++;
            if (n_segments & 1)
                sum = state[level * STEP] + sum;
        }
        return sum;
    }
};

/* ---- few rows ---------------------------------------------------------------------------------- */

template <class Terms, int TILES>
__global__ void __launch_bounds__(NARROW_THREADS, TILES == 1 ? 2 : 1)
    product_narrow(const __grid_constant__ struct cuda_product p)
{
    extern __shared__ float sums[]; /* [span of this round][row][output], then the trees' state */
    const uint32_t lane = threadIdx.x % CUDA_LANES, warp = threadIdx.x / CUDA_LANES;
    const uint32_t n_warps = blockDim.x / CUDA_LANES;
    const uint4 *panel = (const uint4 *)p.weights + blockIdx.x * p.panel_vectors;
    float *state = sums + p.round_spans * (TILES * TILE_SUMS) + threadIdx.x;
    uint32_t segment = 0, in_segment = 0, of_segment = segment_spans(p.spans, 0);

    for (uint32_t round = 0; round < p.spans.n_spans; round += p.round_spans) {
        const uint32_t round_end = min(round + p.round_spans, p.spans.n_spans);
        for (uint32_t span = round + warp; span < round_end; span += n_warps) {
            float acc[TILES][4] = {};
            uint32_t begin, end;
            span_at(p.spans, span, &begin, &end);
            Terms::template add_span<TILES, true>(acc, p, panel, begin, end, 0, lane);
            float *to = sums + (span - round) * (TILES * TILE_SUMS) +
                        2 * (lane % 4) * PANEL_OUTPUTS + lane / 4;
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    to[tile * TILE_SUMS + i % 2 * PANEL_OUTPUTS + i / 2 * 8] = acc[tile][i];
        }
        __syncthreads();
        for (uint32_t span = round; span < round_end; span++) {
            const float *from = sums + (span - round) * (TILES * TILE_SUMS) + threadIdx.x;
            for (int tile = 0; tile < TILES && threadIdx.x < TILE_SUMS; tile++)
                tree<TILES * TILE_SUMS>{state + tile * TILE_SUMS}.take(
                    from[tile * TILE_SUMS], in_segment == 0, in_segment + 1 == of_segment, segment);
            if (++in_segment == of_segment && segment + 1 < p.spans.n_segments) {
                segment++;
                in_segment = 0;
                of_segment = segment_spans(p.spans, segment);
            }
        }
        __syncthreads();
    }
    const uint32_t output = blockIdx.x * PANEL_OUTPUTS + threadIdx.x % PANEL_OUTPUTS;
    for (int tile = 0; tile < TILES; tile++) {
        const uint32_t row = tile * ROW_TILE + threadIdx.x / PANEL_OUTPUTS;
        if (threadIdx.x < TILE_SUMS && row < p.n_rows && output < p.n_outputs)
            p.y[row * p.y_stride + output] =
                tree<TILES * TILE_SUMS>{state + tile * TILE_SUMS}.total(p.spans.n_segments);
    }
}

/* ---- many rows --------------------------------------------------------------------------------- */

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
    const uint32_t n_panels = (p.n_outputs + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS;
    const uint32_t n_groups = (n_panels + WIDE_WARPS - 1) / WIDE_WARPS;
    const uint32_t n_row_blocks = (p.n_rows + WIDE_ROWS - 1) / WIDE_ROWS;
    float4 *pending = (float4 *)p.pending +
                      (size_t)blockIdx.x * (TREE_LEVELS * WIDE_TILES * WIDE_THREADS) + threadIdx.x;

    /* Blocks that run at the same time share weights: row blocks go by first. */
    for (uint32_t job = blockIdx.x; job < n_groups * n_row_blocks; job += gridDim.x) {
        const uint32_t panel_index = job / n_row_blocks * WIDE_WARPS + warp;
        const uint32_t first_tile = job % n_row_blocks * WIDE_TILES;
        if (panel_index >= n_panels)
            continue;
        const uint4 *panel = (const uint4 *)p.weights + panel_index * p.panel_vectors;
        float sum[WIDE_TILES][4];
        uint32_t begin = 0;
        for (uint32_t segment = 0; segment < p.spans.n_segments; segment++) {
            const uint32_t segment_end = p.spans.segment_end[segment];
            for (bool first = true; begin < segment_end; first = false) {
                const uint32_t end = min(begin + p.spans.width, segment_end);
                float acc[WIDE_TILES][4] = {};
                Terms::template add_span<WIDE_TILES, false>(acc, p, panel, begin, end, first_tile,
                                                            lane);
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
                const uint32_t output = panel_index * PANEL_OUTPUTS + lane / 4 + i / 2 * 8;
                if (row < p.n_rows && output < p.n_outputs)
                    p.y[row * p.y_stride + output] = sum[tile][i];
            }
    }
}

/* ---- launching --------------------------------------------------------------------------------- */

template <class Terms, int TILES>
void launch_narrow(struct device *device, const struct cuda_product *product)
{
    struct cuda_product p = *product;
    const uint32_t n_panels = (p.n_outputs + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS;
    const uint32_t fit = ROUND_SUMS / TILES, most = NARROW_THREADS / CUDA_LANES;
    p.round_spans = fit < p.spans.n_spans ? fit : p.spans.n_spans;
    /* as few turns as the largest block allows, evenly */
    const uint32_t turns = (p.round_spans + most - 1) / most;
    uint32_t threads = (p.round_spans + turns - 1) / turns * CUDA_LANES;
    if (threads < NARROW_LEAST)
        threads = NARROW_LEAST;
    product_narrow<Terms, TILES>
        <<<n_panels, threads, (p.round_spans + 1 + TREE_LEVELS) * TILES * TILE_SUMS * sizeof(float),
           device->stream>>>(p);
}

template <class Terms>
void launch_wide(struct device *device, const struct cuda_product *p)
{
    const size_t n_panels = (p->n_outputs + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS;
    const size_t jobs = (n_panels + WIDE_WARPS - 1) / WIDE_WARPS *
                        ((p->n_rows + (size_t)WIDE_ROWS - 1) / WIDE_ROWS);
    const size_t most = (size_t)device->n_multiprocessors * WIDE_BLOCKS_PER_SM;
    product_wide<Terms>
        <<<(unsigned)(jobs < most ? jobs : most), WIDE_THREADS, 0, device->stream>>>(*p);
}

template <class Terms>
void launch(struct device *device, const struct cuda_product *p)
{
    if (p->n_rows <= ROW_TILE)
        launch_narrow<Terms, 1>(device, p);
    else if (p->n_rows <= 2 * ROW_TILE)
        launch_narrow<Terms, 2>(device, p);
    else if (p->n_rows <= NARROW_ROWS)
        launch_narrow<Terms, NARROW_ROWS / ROW_TILE>(device, p);
    else
        launch_wide<Terms>(device, p);
}

#endif
