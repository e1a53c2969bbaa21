/* kernels/cuda/span.cuh - panels of several matrices, columns in spans, and the order in which the
 * spans' sums are added.
 *
 * Shared by the kernels for few rows (narrow.cuh) and for many (wide.cuh). WIDTH, of a span, is a constant: a division by a
 * number that is not takes as long as a stage of a product. */
#ifndef LONGSPAN_KERNELS_CUDA_SPAN_CUH
#define LONGSPAN_KERNELS_CUDA_SPAN_CUH

#include "kernels/cuda/product.h"

enum { TREE_LEVELS = 4 }; /* 2^3 segments and their sum */

/* The matrix that has the panel. */
__device__ __forceinline__ const struct cuda_outputs &outputs_of(const struct cuda_product &p,
                                                                 uint32_t panel)
{
    uint32_t matrix = 0;
#pragma unroll
    for (int i = 1; i < CUDA_MATRICES; i++)
        matrix += panel >= p.matrices[i].first_panel;
    return p.matrices[matrix];
}

__device__ __forceinline__ const uint4 *panel_at(const struct cuda_product &p,
                                                 const struct cuda_outputs &matrix, uint32_t panel)
{
    return (const uint4 *)matrix.weights + (panel - matrix.first_panel) * p.panel_vectors;
}

template <uint32_t WIDTH>
__device__ __forceinline__ uint32_t segment_spans(const struct cuda_spans &s, uint32_t segment)
{
    const uint32_t begin = segment > 0 ? s.segment_end[segment - 1] : 0;
    return (s.segment_end[segment] - begin + WIDTH - 1) / WIDTH;
}

template <uint32_t WIDTH>
__device__ __forceinline__ void span_at(const struct cuda_spans &s, uint32_t span, uint32_t *begin,
                                        uint32_t *end)
{
    uint32_t segment = 0, from = 0;
    for (; segment + 1 < s.n_segments && span >= segment_spans<WIDTH>(s, segment); segment++)
        span -= segment_spans<WIDTH>(s, segment);
    from = segment > 0 ? s.segment_end[segment - 1] : 0;
    *begin = from + span * WIDTH;
    *end = min(*begin + WIDTH, s.segment_end[segment]);
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

#endif
