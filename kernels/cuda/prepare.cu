/* prepare.cu - activations, once per row: to int8 in blocks of 32, to three bf16 parts each, or to two
 * f16 parts in blocks of 32. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/fused.cuh"
#include "kernels/cuda/product.h"

#include <cuda_fp16.h>

namespace
{

enum { THREADS = 256, BLOCK_THREADS = QUANTIZE_THREADS };

/* A thread has four values. */
__global__ void __launch_bounds__(THREADS)
    quantize(const float *x, uint32_t n_rows, uint32_t n_columns, struct cuda_quantized to)
{
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) / QUANTIZE_THREADS;
    const bool valid = i < (size_t)n_rows * to.n_blocks; /* all eight threads, or none */
    const uint32_t row = valid ? (uint32_t)(i / to.n_blocks) : 0;
    const uint32_t column = (valid ? (uint32_t)(i % to.n_blocks) : 0) * QUANT_PIECE +
                            threadIdx.x % QUANTIZE_THREADS * 4;
    chain_next();
    chain_wait();
    const float4 from = *(const float4 *)(x + (size_t)row * n_columns + column);
    const float v[4] = {from.x, from.y, from.z, from.w};
    quantize_four(to, v, row, column, valid);
}

/* A thread has two columns; behind the last one there are zeros. */
__global__ void __launch_bounds__(THREADS)
    cut_parts(const float *x, uint32_t n_rows, uint32_t n_columns, uint32_t n_padded,
              uint16_t *parts)
{
    const uint32_t n_pairs = n_padded / 2;
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (i >= (size_t)n_rows * n_pairs)
        return;
    const size_t row = i / n_pairs;
    const uint32_t column = (uint32_t)(i % n_pairs) * 2;
    const float *from = x + row * n_columns + column;
    float first = column < n_columns ? from[0] : 0, second = column + 1 < n_columns ? from[1] : 0;
#pragma unroll
    for (int part = X_PARTS - 1; part >= 0;
         part--) { /* from the largest, which is the last, down */
        const uint32_t both = __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
        *(uint32_t *)(parts + row * n_padded * X_PARTS + x_part_at(column, part, X_PARTS)) = both;
        first -= __uint_as_float(__float_as_uint(first) & 0xffff0000u);
        second -= __uint_as_float(__float_as_uint(second) & 0xffff0000u);
    }
}

/* A thread has four columns of a block; behind the last one there are zeros. */
__global__ void __launch_bounds__(THREADS)
    cut_halves(const float *x, uint32_t n_rows, uint32_t n_columns, uint32_t n_padded,
               uint16_t *halves, float *powers)
{
    const uint32_t n_blocks = n_padded / QUANT_PIECE;
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) / BLOCK_THREADS;
    const bool valid = i < (size_t)n_rows * n_blocks; /* all eight threads, or none */
    const uint32_t row = valid ? (uint32_t)(i / n_blocks) : 0;
    const uint32_t block = valid ? (uint32_t)(i % n_blocks) : 0;
    const uint32_t column = block * QUANT_PIECE + threadIdx.x % BLOCK_THREADS * 4;
    uint32_t largest = 0, part[X_HALVES][2];
    float v[4];

    chain_next();
    chain_wait();
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        v[j] = column + j < n_columns ? x[(size_t)row * n_columns + column + j] : 0.0f;
        largest = max(largest, __float_as_uint(v[j]) & 0x7fffffffu);
    }
#pragma unroll
    for (int step = BLOCK_THREADS / 2; step > 0; step /= 2)
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, step));

    /* 2^n takes the largest to [2^14, 2^15); 2^127 is the largest power that there is. */
    const uint32_t exponent = min(max(largest >> 23, 14u), 254u);
    const float up = __uint_as_float((268u - exponent) << 23);
    const float down =
        exponent > 14 ? __uint_as_float((exponent - 14u) << 23) : __uint_as_float(0x00400000u);
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const float a = v[2 * j] * up, b = v[2 * j + 1] * up;
        const __half2 large = __floats2half2_rn(a, b);
        const __half2 small = __floats2half2_rn(a - __low2float(large), b - __high2float(large));
        memcpy(&part[1][j], &large, sizeof(large));
        memcpy(&part[0][j], &small, sizeof(small));
    }
    if (!valid)
        return;
#pragma unroll
    for (uint32_t p = 0; p < X_HALVES; p++)
#pragma unroll
        for (uint32_t j = 0; j < 2; j++)
            *(uint32_t *)(halves + (size_t)row * n_padded * X_HALVES +
                          x_part_at(column + 2 * j, p, X_HALVES)) = part[p][j];
    if (threadIdx.x % BLOCK_THREADS == 0)
        powers[x_power_at(block, row, n_blocks)] = down;
}

unsigned blocks_for(size_t n_threads)
{
    return (unsigned)((n_threads + THREADS - 1) / THREADS);
}

} // namespace

extern "C" void cuda_prepare(struct device *device, const float *x, uint32_t n_rows,
                             uint32_t n_columns, uint32_t types)
{
    struct cuda_activations *to = &device->x;
    const uint32_t rows = cuda_round_up(n_rows, ROW_TILE);
    const uint32_t wide = cuda_round_up(n_columns, 64), pairs = cuda_round_up(n_columns, 32);
    const size_t n_scales = (size_t)rows * (n_columns / QUANT_PIECE) * 2;
    const size_t n_powers = (size_t)rows * (pairs / QUANT_PIECE);
    const bool halves = types >> WEIGHT_F16 & 1;
    const bool parts = types >> WEIGHT_F32 & 1 || types >> WEIGHT_BF16 & 1;
    bool quantized = false;
    to->n_rows = n_rows;
    to->n_columns = n_columns;
    to->types = types;
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        quantized = quantized ||
                    (types >> weight_types[t] & 1 && cuda_format(weight_types[t]).low_bits > 0);
    if (n_rows == 0)
        return;
    if ((quantized && ((size_t)rows * wide > to->quantized_bytes ||
                       n_scales * sizeof(float) > to->scales_bytes)) ||
        (parts && (size_t)rows * pairs * X_PARTS * 2 > to->parts_bytes) ||
        (halves && ((size_t)rows * pairs * X_HALVES * 2 > to->halves_bytes ||
                    n_powers * sizeof(float) > to->powers_bytes))) {
        cuda_fail(device, STATUS_INVALID, "no workspace was reserved for %u rows of %u columns",
                  n_rows, n_columns);
        return;
    }
    if (quantized && (uintptr_t)x % sizeof(float4) != 0) {
        cuda_fail(device, STATUS_INVALID, "activations to quantize do not begin at 16 bytes");
        return;
    }
    const struct cuda_quantized quants = {(uint8_t *)to->quantized, wide, (float *)to->scales,
                                          n_columns / QUANT_PIECE};
    if (quantized && !parts && !halves &&
        cuda_quantize_waiting(device, x, n_rows, n_columns, quants))
        return;
    if (quantized)
        chain_launch(device, "quantization of activations", quantize,
                     blocks_for((size_t)n_rows * quants.n_blocks * BLOCK_THREADS), THREADS, 0, x,
                     n_rows, n_columns, quants);
    if (parts)
        chain_launch(device, "parts of activations", cut_parts,
                     blocks_for((size_t)n_rows * pairs / 2), THREADS, 0, x, n_rows, n_columns,
                     pairs, (uint16_t *)to->parts);
    if (halves)
        chain_launch(device, "halves of activations", cut_halves,
                     blocks_for((size_t)n_rows * (pairs / QUANT_PIECE) * BLOCK_THREADS), THREADS, 0,
                     x, n_rows, n_columns, pairs, (uint16_t *)to->halves, (float *)to->powers);
}
