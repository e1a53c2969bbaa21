/* kernels/cuda/quantize.cuh - activations to int8 in blocks of 32, as the CPU's quantize_block in the same steps
 * (kernels/cpu/elementwise.h). */
#ifndef LONGSPAN_KERNELS_CUDA_QUANTIZE_CUH
#define LONGSPAN_KERNELS_CUDA_QUANTIZE_CUH

#include "kernels/cuda/panel.h"

enum { QUANTIZE_THREADS = 8 }; /* that share a block: lanes side by side, four values each */

/* Where a row block's numbers go; see panel.h. */
struct cuda_quantized {
    uint8_t *values;
    size_t row_bytes;
    float *scales;
    uint32_t n_blocks; /* of a row */
};

/* All lanes of a warp call it, those that are not valid with any numbers. */
__device__ __forceinline__ void quantize_four(const struct cuda_quantized &to, const float v[4],
                                              uint32_t row, uint32_t column, bool valid)
{
    uint32_t largest = 0, bytes = 0;
    int sum = 0;
#pragma unroll
    for (int j = 0; j < 4; j++)
        largest = max(largest, __float_as_uint(v[j]) & 0x7fffffffu);
#pragma unroll
    for (int step = QUANTIZE_THREADS / 2; step > 0; step /= 2)
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, step));

    float scale = 0;
    if (largest >= 0x7f800000u) { /* not finite */
        scale = __uint_as_float(0x7fc00000u);
    } else if (largest >= 0x0d800000u) { /* 2^-100; less is as good as zero */
        const float maximum = __uint_as_float(largest);
        const float inverse = __fdiv_rn(127.0f, maximum);
        scale = __fdiv_rn(maximum, 127.0f);
#pragma unroll
        for (int j = 0; j < 4; j++) { /* 1.5 * 2^23: rounds to an integer */
            const float shifted = __fadd_rn(__fmul_rn(v[j], inverse), 12582912.0f);
            const int q = __float_as_int(shifted) - 0x4b400000;
            bytes |= ((uint32_t)q & 255u) << 8 * j;
            sum += q;
        }
    }
#pragma unroll
    for (int step = QUANTIZE_THREADS / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (!valid)
        return;
    *(uint32_t *)(to.values + row * to.row_bytes + x_quant_at(column)) = bytes;
    if (column % QUANT_PIECE == 0) {
        float *scales = to.scales + x_scale_at(column / QUANT_PIECE, row, to.n_blocks);
        scales[0] = scale;
        scales[2] = __fmul_rn(scale, (float)sum);
    }
}

#endif
