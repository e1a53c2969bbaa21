/* round.cu - weights out of their panels, and activations, as bf16 in rows: what cuBLASLt multiplies.
 *
 * A warp takes a chunk of a panel (two pieces of floats); a lane writes what it has of a row side by
 * side. Rows are as long as chunks fill, so that what pads a panel is written too: zeros. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/quant_weights.cuh"

#include <cuda_bf16.h>

namespace
{

enum { THREADS = 256, WARPS = THREADS / CUDA_LANES };

__device__ __forceinline__ uint32_t pair_of(float first, float second)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof(bits));
    return bits;
}

__global__ void __launch_bounds__(THREADS)
    round_rows(uint32_t *to, const float *x, uint32_t n_rows, uint32_t n_columns, uint32_t width)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    const size_t row = i / (width / 2);
    const uint32_t column = (uint32_t)(i % (width / 2)) * 2;
    chain_next();
    chain_wait();
    if (row >= n_rows)
        return;
    const float *from = x + row * n_columns + column;
    to[i] = pair_of(column < n_columns ? from[0] : 0, column + 1 < n_columns ? from[1] : 0);
}

template <int TYPE>
__global__ void __launch_bounds__(THREADS)
    round_blocks(__nv_bfloat16 *to, const uint4 *panels, size_t n_chunks, uint32_t of_panel,
                 uint32_t width)
{
    constexpr struct cuda_format F = format_of<TYPE>::get();
    constexpr int HALVES = weights<TYPE, 2>::HALVES;
    constexpr float unshift = 1.0f / (1 << piece_shift(F));
    const size_t chunk = (size_t)blockIdx.x * WARPS + threadIdx.x / CUDA_LANES;
    const uint32_t lane = threadIdx.x % CUDA_LANES;
    chain_next();
    chain_wait();
    if (chunk >= n_chunks)
        return;
    __nv_bfloat16 *out = to + chunk / of_panel * PANEL_OUTPUTS * width +
                         chunk % of_panel * CHUNK_COLUMNS + lane / 4 * width + lane % 4 * 4;
#pragma unroll 1
    for (int pair = 0; pair < CHUNK_PIECES; pair += 2) {
        weights<TYPE, 2> w;
        w.load(panels + chunk * chunk_vectors(F), pair, lane);
#pragma unroll
        for (int piece = 0; piece < 2; piece++) {
            uint32_t a[4];
            float scale[2][HALVES], min[2] = {0, 0};
            w.unpack(a, piece);
            w.scales(scale[0], &min[0], pair, piece, 0);
            w.scales(scale[1], &min[1], pair, piece, 1);
#pragma unroll
            for (int r = 0; r < 4; r++) {
                const float by = scale[r % 2][HALVES == 2 ? r / 2 : 0] * unshift;
                float v[4];
#pragma unroll
                for (int b = 0; b < 4; b++)
                    v[b] = __fmaf_rn(by, (float)(int8_t)(a[r] >> 8 * b), min[r % 2]);
                *(uint2 *)(out + (size_t)(r % 2) * 8 * width + (pair + piece) * QUANT_PIECE +
                           r / 2 * 16) = make_uint2(pair_of(v[0], v[1]), pair_of(v[2], v[3]));
            }
        }
    }
}

template <int TYPE>
__global__ void __launch_bounds__(THREADS)
    round_floats(__nv_bfloat16 *to, const uint4 *panels, size_t n_pieces, uint32_t of_panel,
                 uint32_t width)
{
    constexpr int WORDS = TYPE == WEIGHT_F32 ? 8 : 4;
    const size_t piece = (size_t)blockIdx.x * WARPS + threadIdx.x / CUDA_LANES;
    const uint32_t lane = threadIdx.x % CUDA_LANES;
    chain_next();
    chain_wait();
    if (piece >= n_pieces)
        return;
    __nv_bfloat16 *out = to + piece / of_panel * PANEL_OUTPUTS * width +
                         piece % of_panel * FLOAT_PIECE + lane / 4 * width + lane % 4 * 2;
    uint32_t words[WORDS];
#pragma unroll
    for (int v = 0; v < WORDS / 4; v++)
        put_words(words + 4 * v, panels[piece * (WORDS / 4 * CUDA_LANES) + v * CUDA_LANES + lane]);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        uint32_t bits = words[r];
        if constexpr (TYPE == WEIGHT_F32)
            bits = pair_of(__uint_as_float(words[2 * r]), __uint_as_float(words[2 * r + 1]));
        else if constexpr (TYPE == WEIGHT_F16)
            bits = pair_of(half_of(words, 2 * r), half_of(words, 2 * r + 1));
        *(uint32_t *)(out + (size_t)(r % 2) * 8 * width + r / 2 * 8) = bits;
    }
}

unsigned blocks_for(size_t n, size_t of_block)
{
    return (unsigned)((n + of_block - 1) / of_block);
}

} // namespace

/* Whole chunks, of any type. */
extern "C" uint32_t cuda_blas_columns(uint32_t n_columns)
{
    return cuda_round_up(n_columns, CHUNK_COLUMNS);
}

extern "C" void cuda_round_activations(struct device *device, void *to, const float *x,
                                       uint32_t n_rows, uint32_t n_columns)
{
    const uint32_t width = cuda_blas_columns(n_columns);
    chain_launch(device, "activations as bf16", round_rows,
                 blocks_for((size_t)n_rows * (width / 2), THREADS), THREADS, 0, (uint32_t *)to, x,
                 n_rows, n_columns, width);
}

extern "C" void cuda_round_weights(struct device *device, void *to, enum weight_type type,
                                   const void *panels, uint32_t n_columns, size_t first, size_t n)
{
    const uint32_t width = cuda_blas_columns(n_columns);
    const size_t vectors = panel_vectors(type, n_columns);
    const uint4 *from = (const uint4 *)panels + first * vectors;
    const uint32_t chunks = width / CHUNK_COLUMNS,
                   pieces = cuda_round_up(n_columns, 2 * FLOAT_PIECE) / FLOAT_PIECE;
    const char *what = "weights as bf16";
    __nv_bfloat16 *rows = (__nv_bfloat16 *)to;
    if (cuda_format(type).low_bits == 0 && pieces * FLOAT_PIECE < width)
        cuda_clear(device, to, n * PANEL_OUTPUTS * width * sizeof(*rows));
    switch (type) {
#define CASE(name, low, high, is_signed, min, super)                                               \
    case name:                                                                                     \
        chain_launch(device, what, round_blocks<name>, blocks_for(n *chunks, WARPS), THREADS, 0,   \
                     rows, from, n *chunks, chunks, width);                                        \
        break;
        CUDA_QUANT_FORMATS(CASE)
#undef CASE
    case WEIGHT_F32:
        chain_launch(device, what, round_floats<WEIGHT_F32>, blocks_for(n * pieces, WARPS), THREADS,
                     0, rows, from, n * pieces, pieces, width);
        break;
    case WEIGHT_F16:
        chain_launch(device, what, round_floats<WEIGHT_F16>, blocks_for(n * pieces, WARPS), THREADS,
                     0, rows, from, n * pieces, pieces, width);
        break;
    default:
        chain_launch(device, what, round_floats<WEIGHT_BF16>, blocks_for(n * pieces, WARPS),
                     THREADS, 0, rows, from, n * pieces, pieces, width);
        break;
    }
}
