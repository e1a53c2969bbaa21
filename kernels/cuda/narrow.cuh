/* kernels/cuda/narrow.cuh - products of few rows: weights are read once, and always on their way.
 *
 * A block takes panels, of one matrix after the other, its warps the spans of a panel in turn. A warp
 * copies its weights itself, some stages ahead, also of the block's next panel, into a ring in shared
 * memory that no other warp uses, so that nothing but the end of a panel makes warps wait for each other,
 * and what is on its way is bound by shared memory, not by registers. Where threads need few registers a product leaves room on a
 * multiprocessor: the next one is there too, with its first stages on their way, while this one still
 * computes (chain.cuh).
 * Spans' sums meet in shared memory, where each output's are added by one thread.
 *
 * Terms provides, for ROWS rows at most, in TILES tiles of ROW_TILE rows:
 *     static constexpr uint32_t SPAN;                             columns of a span
 *     static constexpr uint32_t STAGE_COLUMNS, STAGE_VECTORS;     of a panel, side by side
 *     static constexpr bool WHOLE_STAGES; a panel has as many columns as its stages
 *     static constexpr int LEAN_ROWS;     up to which a thread needs few registers:
 *     static constexpr int LEAN_BOUND, LEAN_BLOCKS;   so many times as many threads have a multiprocessor's
 *     template <int ROWS>
 *     struct early;           activations of a stage that are read before its weights are there, the span's
 *                             first ones when it is made
 *     template <int TILES, int ROWS>
 *     static __device__ void add_stage(float acc[TILES][4], const struct cuda_product &p,
 *                                      const uint4 *stage, early<ROWS> &x, uint32_t column,
 *                                      uint32_t begin, uint32_t end, uint32_t lane);
 * which adds the stage's columns, from `column` on, that lie in [begin, end), and reads x of the next stage. */
#ifndef LONGSPAN_KERNELS_CUDA_NARROW_CUH
#define LONGSPAN_KERNELS_CUDA_NARROW_CUH

#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/narrow.h"
#include "kernels/cuda/span.cuh"

/* ---- the ring ---------------------------------------------------------------------------------- */

/* Until the oldest of the `n` stages that are on their way is there. */
__device__ __forceinline__ void oldest_wait(uint32_t n)
{
    if (n == 2) /* large matrices, for which all blocks of a multiprocessor are there */
        copies_wait<1>();
    else if (n >= 6)
        copies_wait<5>();
    else if (n == 5)
        copies_wait<4>();
    else if (n == 4)
        copies_wait<3>();
    else if (n == 3)
        copies_wait<2>();
    else
        copies_wait<0>();
}

/* The stages of one warp, span after span, panel after panel. Columns are counted in vectors of a panel. */
template <class Terms>
struct stages {
    const uint4 *middle; /* of the panel's first stage: copies reach 2 KiB to both sides */
    uint32_t panel, span, at, end;
    static constexpr uint32_t VECTORS = Terms::STAGE_VECTORS, MIDDLE = VECTORS / 2;

    __device__ __forceinline__ void begin(const struct cuda_product &p, uint32_t lane)
    {
        span = thread_again() / CUDA_LANES;
        panel = span < p.spans.n_spans ? blockIdx.x : p.n_panels; /* this warp has none */
        enter_panel(p, lane);
        enter_span(p);
    }

    __device__ __forceinline__ void enter_panel(const struct cuda_product &p, uint32_t lane)
    {
        if (panel < p.n_panels)
            middle = panel_at(p, outputs_of(p, panel), panel) + lane + MIDDLE;
    }

    __device__ __forceinline__ void enter_span(const struct cuda_product &p)
    {
        span_at<Terms::SPAN>(p.spans, span, &at, &end);
        at = at / Terms::STAGE_COLUMNS * VECTORS;
        end = (end + Terms::STAGE_COLUMNS - 1) / Terms::STAGE_COLUMNS * VECTORS;
    }

    /* One group of copies, which is empty after the last stage. Lanes that have no vector in the stage's last copy
     * repeat one of another lane, which takes less than to leave them out. */
    __device__ __forceinline__ void fetch(const struct cuda_product &p, uint4 *to, uint32_t lane)
    {
        constexpr uint32_t WHOLE = VECTORS / CUDA_LANES * CUDA_LANES,
                           LAST = WHOLE < VECTORS ? VECTORS - WHOLE : CUDA_LANES;
        static_assert(LAST >= CUDA_LANES / 2, "lanes that repeat have a vector");
        if (panel < p.n_panels) {
            const uint4 *from = middle + at - MIDDLE;
            to += lane;
            if (Terms::WHOLE_STAGES || at + VECTORS <= p.panel_vectors) {
#pragma unroll
                for (uint32_t v = 0; v < WHOLE; v += CUDA_LANES)
                    copy_vector(to + v, from + v);
                if (WHOLE < VECTORS) {
                    const uint32_t last = WHOLE - lane / LAST * (CUDA_LANES / 2);
                    copy_vector(to + last, middle + (at + last) - MIDDLE);
                }
            } else {
#pragma unroll 1
                for (uint32_t v = 0; at + v + lane < p.panel_vectors; v += CUDA_LANES)
                    copy_vector(to + v, from + v);
            }
            at += VECTORS;
            if (at >= end) {
                span += blockDim.x / CUDA_LANES;
                if (span >= p.spans.n_spans) {
                    span = thread_again() / CUDA_LANES;
                    panel += gridDim.x;
                    enter_panel(p, lane);
                }
                enter_span(p);
            }
        }
        copies_commit();
    }
};

/* ---- the kernel -------------------------------------------------------------------------------- */

/* Registers for so many threads of a multiprocessor that it has work while some of them wait. */
template <class Terms, int ROWS>
__global__ void __launch_bounds__(ROWS <= Terms::LEAN_ROWS ? Terms::LEAN_BOUND : NARROW_THREADS,
                                  ROWS <= Terms::LEAN_ROWS ? Terms::LEAN_BLOCKS
                                  : ROWS <= 2 * ROW_TILE   ? 2
                                                           : 1)
    product_narrow(const __grid_constant__ struct cuda_product p)
{
    constexpr int TILES = (ROWS + ROW_TILE - 1) / ROW_TILE;
    extern __shared__ uint4
        shared[]; /* rings, then [span of this round][row][output], then trees */
    const uint32_t lane = threadIdx.x % CUDA_LANES, n_warps = blockDim.x / CUDA_LANES;
    constexpr uint32_t STAGE_BYTES = Terms::STAGE_VECTORS * VECTOR_BYTES;
    const uint32_t ring_bytes = p.n_stages * STAGE_BYTES;
    char *ring = (char *)shared + threadIdx.x / CUDA_LANES * ring_bytes;
    float *sums = (float *)((char *)shared + n_warps * ring_bytes);
    float *states = sums + p.round_spans * (TILES * TILE_SUMS);
    uint32_t at = 0; /* in the ring */
    stages<Terms> ahead;

    chain_next();
    if (p.weights_are_new)
        chain_wait();
    ahead.begin(p, lane);
    for (; at < ring_bytes; at += STAGE_BYTES)
        ahead.fetch(p, (uint4 *)(ring + at), lane);
    at = 0;
    chain_wait();

    for (uint32_t panel = blockIdx.x; panel < p.n_panels; panel += gridDim.x) {
        uint32_t segment = 0, in_segment = 0, of_segment = segment_spans<Terms::SPAN>(p.spans, 0);
        for (uint32_t round = 0; round < p.spans.n_spans; round += p.round_spans) {
            const uint32_t round_end = min(round + p.round_spans, p.spans.n_spans);
            for (uint32_t span = round + thread_again() / CUDA_LANES; span < round_end;
                 span += n_warps) {
                float acc[TILES][4] = {};
                uint32_t begin, end;
                span_at<Terms::SPAN>(p.spans, span, &begin, &end);
                uint32_t column = begin / Terms::STAGE_COLUMNS * Terms::STAGE_COLUMNS;
                typename Terms::template early<ROWS> x(p, column, begin, end,
                                                       thread_again() % CUDA_LANES);
                uint32_t left = (end - column + Terms::STAGE_COLUMNS - 1) / Terms::STAGE_COLUMNS;
#pragma unroll 1
                for (; left > 0; left--) {
                    uint4 *stage = (uint4 *)(ring + at);
                    oldest_wait(p.n_stages);
                    __syncwarp(); /* the other lanes' copies are there too */
                    Terms::template add_stage<TILES, ROWS>(acc, p, stage, x, column, begin, end,
                                                           lane);
                    __syncwarp(); /* all have read what is overwritten */
                    ahead.fetch(p, stage, lane);
                    at = at + STAGE_BYTES < ring_bytes ? at + STAGE_BYTES : 0;
                    column += Terms::STAGE_COLUMNS;
                }
                const uint32_t same_lane = thread_again() % CUDA_LANES;
                float *to = sums + (span - round) * (TILES * TILE_SUMS) +
                            2 * (same_lane % 4) * PANEL_OUTPUTS + same_lane / 4;
#pragma unroll
                for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        to[tile * TILE_SUMS + i % 2 * PANEL_OUTPUTS + i / 2 * 8] = acc[tile][i];
            }
            __syncthreads();
            const uint32_t thread = thread_again();
            float *state = states + thread;
            for (uint32_t span = round; span < round_end; span++) {
                const float *from = sums + (span - round) * (TILES * TILE_SUMS) + thread;
                for (int tile = 0; tile < TILES && thread < TILE_SUMS; tile++)
                    tree<TILES * TILE_SUMS>{state + tile * TILE_SUMS}.take(
                        from[tile * TILE_SUMS], in_segment == 0, in_segment + 1 == of_segment,
                        segment);
                if (++in_segment == of_segment && segment + 1 < p.spans.n_segments) {
                    segment++;
                    in_segment = 0;
                    of_segment = segment_spans<Terms::SPAN>(p.spans, segment);
                }
            }
            __syncthreads();
        }
        const struct cuda_outputs &to = outputs_of(p, panel);
        const uint32_t thread = thread_again();
        const uint32_t output = (panel - to.first_panel) * PANEL_OUTPUTS + thread % PANEL_OUTPUTS;
        float *state = states + thread;
        for (int tile = 0; tile < TILES; tile++) {
            const uint32_t row = tile * ROW_TILE + thread / PANEL_OUTPUTS;
            if (thread < TILE_SUMS && row < p.n_rows && output < to.n_outputs)
                to.y[row * to.y_stride + output] =
                    tree<TILES * TILE_SUMS>{state + tile * TILE_SUMS}.total(p.spans.n_segments);
        }
    }
}

/* ---- launching --------------------------------------------------------------------------------- */

/* Warps of the kernel that a multiprocessor has registers for; 0: failed, and kept. Once for each kernel and
 * device, as it then may use half of a multiprocessor's shared memory, and wants as much of it as there is, as all
 * others do: kernels that want different shares do not run together. */
template <class Terms, int ROWS>
uint32_t narrow_warps(struct device *device)
{
    uint8_t *warps =
        &device->narrow_warps[(ROWS + ROW_TILE - 1) / ROW_TILE - (ROWS == 1)][Terms::WEIGHT];
    const void *kernel = (const void *)product_narrow<Terms, ROWS>;
    int n_blocks = 0;
    if (*warps == 0 &&
        cuda_check(device,
                   cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        (int)(device->shared_bytes / 2)),
                   "shared memory of a product") &&
        cuda_check(device,
                   cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                        cudaSharedmemCarveoutMaxShared),
                   "shared memory of a product") &&
        cuda_check(
            device,
            cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n_blocks, kernel, NARROW_LEAST, 0),
            "registers of a product")) {
        *warps = (uint8_t)min(n_blocks * (NARROW_LEAST / CUDA_LANES), UINT8_MAX);
        if (*warps == 0)
            cuda_fail(device, STATUS_UNSUPPORTED, "a product's kernel needs too many registers");
    }
    return *warps;
}

template <class Terms, int ROWS>
void launch_narrow(struct device *device, const struct cuda_product *product)
{
    struct cuda_product p = *product;
    struct narrow_product narrow;
    narrow.n_panels = p.n_panels;
    narrow.n_spans = p.spans.n_spans;
    narrow.n_segments = p.spans.n_segments;
    narrow.n_tiles = (ROWS + ROW_TILE - 1) / ROW_TILE;
    narrow.lean = ROWS <= Terms::LEAN_ROWS;
    narrow.n_warps = narrow_warps<Terms, ROWS>(device);
    narrow.stage_bytes = Terms::STAGE_VECTORS * VECTOR_BYTES;
    if (narrow.n_warps == 0)
        return;
    const struct narrow_spread spread =
        narrow_spread(&narrow, (uint32_t)device->n_multiprocessors, device->shared_bytes);
    p.round_spans = spread.round_spans;
    p.n_stages = spread.n_stages;
    chain_launch(device, "a product of few rows", product_narrow<Terms, ROWS>, spread.n_blocks,
                 spread.n_warps * CUDA_LANES, spread.shared_bytes, p);
}

#endif
