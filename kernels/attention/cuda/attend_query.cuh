/* kernels/attention/cuda/attend_query.cuh - rows of q as what tensor cores multiply: numbers in parts, or int8.
 *
 * A warp has one row block of 8 rows at a time; of row lane / 4 a lane has 8 of each 32 dimensions, and leaves
 * them in shared memory as the fragment that it, or its like in another warp, will multiply. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_QUERY_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_QUERY_CUH

#include "kernels/attention/cuda/attend_ring.cuh"

/* ---- numbers in parts ---- */

static __device__ __forceinline__ uint32_t pair_of(uint16_t low, uint16_t high)
{
    return (uint32_t)low | (uint32_t)high << 16;
}

static __device__ __forceinline__ __half2 halves(uint32_t pair)
{
    __half2 two;
    memcpy(&two, &pair, sizeof(two));
    return two;
}

static __device__ __forceinline__ uint32_t bits_of(__half2 x)
{
    uint32_t pair;
    memcpy(&pair, &x, sizeof(pair));
    return pair;
}

/* x = high + low, to 22 bits, and y; as pairs. */
static __device__ __forceinline__ void split_pair(float x, float y, uint32_t *high, uint32_t *low)
{
    const __half2 h = __floats2half2_rn(x, y);
    const float2 back = __half22float2(h);
    const __half2 l = __floats2half2_rn(__fsub_rn(x, back.x), __fsub_rn(y, back.y));
    *high = pair_of(__half_as_ushort(__low2half(h)), __half_as_ushort(__high2half(h)));
    *low = pair_of(__half_as_ushort(__low2half(l)), __half_as_ushort(__high2half(l)));
}

/* Weights of f16, at most 1, are multiplied by this, and what they sum by its inverse. */
#define WEIGHT_SCALE 16384.0f

static __device__ __forceinline__ void split_weights(float p, float q, uint32_t *high,
                                                     uint32_t *low)
{
    split_pair(__fmul_rn(p, WEIGHT_SCALE), __fmul_rn(q, WEIGHT_SCALE), high, low);
}

/* x = part 0 + part 1 + part 2, to 24 bits. */
static __device__ __forceinline__ void split_bf16(float x, uint16_t part[3])
{
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const __nv_bfloat16 b = __float2bfloat16_rn(x);
        part[i] = __bfloat16_as_ushort(b);
        x = __fsub_rn(x, __bfloat162float(b));
    }
}

/* A power of two that brings numbers of which the largest has these bits, without sign, below 2^15; and
 * its inverse. NaN for the first where the largest is no number or infinite. */
static __device__ __forceinline__ void power_for(uint32_t bits, float *power, float *inverse)
{
    const uint32_t exponent = bits >> 23 < 24 ? 24 : bits >> 23;
    *power = bits >= 0x7f800000 ? __int_as_float(0x7fc00000)
                                : __int_as_float((int)((268 - exponent) << 23));
    *inverse = __int_as_float((int)((exponent - 14) << 23));
}

/* sum += a b, of f16 or bf16. */
template <int TYPE>
static __device__ __forceinline__ void add_product(float (&sum)[4], uint4 a, uint32_t b0,
                                                   uint32_t b1)
{
    const uint32_t rows[4] = {a.x, a.y, a.z, a.w}, columns[2] = {b0, b1};
    if (TYPE == MMA_F16)
        mma_f16(sum, rows, columns);
    else
        mma_bf16(sum, rows, columns);
}

/* Third parts of bf16 as an operand: rows 0 to 7. */
static __device__ __forceinline__ uint4 third_rows(uint32_t low, uint32_t high)
{
    return make_uint4(low, 0, high, 0);
}

/* sum += what a lane has of 32 numbers: of rows in parts, 16 and 16, and of bf16 their third parts. */
template <int TYPE>
static __device__ __forceinline__ void add_products(float (&sum)[4], uint4 a0, uint4 a1,
                                                    uint4 thirds, uint4 b)
{
    add_product<TYPE>(sum, a0, b.x, b.y);
    if (TYPE == MMA_BF16)
        add_product<TYPE>(sum, third_rows(thirds.x, thirds.y), b.x, b.y);
    add_product<TYPE>(sum, a1, b.z, b.w);
    if (TYPE == MMA_BF16)
        add_product<TYPE>(sum, third_rows(thirds.z, thirds.w), b.z, b.w);
}

/* The largest of the four lanes that have a row together. */
static __device__ __forceinline__ uint32_t largest_of_row(uint32_t x)
{
    x = max(x, __shfl_xor_sync(0xffffffff, x, 1));
    return max(x, __shfl_xor_sync(0xffffffff, x, 2));
}

/* ---- rows ---- */

/* Place: a kernel's, with a warp's row blocks at block(b) and their scales at scales(b). */
template <class Place>
struct mma_query : Place {
    using place = Place;
    using shape = typename place::shape;
    using place::block;
    using place::c;
    using place::g;
    using place::lane;
    using place::loaded;
    using place::row;
    using place::scales;
    enum { TYPE = shape::KIND, D = shape::DIMS, BLOCKS = shape::ROW_BLOCKS };

    /* Row g's dimensions, 8 of each 32; 0 where there is no such row. */
    __device__ __forceinline__ void read_row(const struct attend_launch &launch,
                                             const struct job_output &output, uint32_t r,
                                             float (&x)[D / 4])
    {
        const uint32_t row = output.row_begin + r;
        const float *q = output.q + row / launch.group * output.q_token_stride +
                         (size_t)(row % launch.group) * D + 8 * c;
#pragma unroll
        for (int i = 0; i < D / 4; i++)
            x[i] = r < output.n_rows ? q[i / 8 * 32 + i % 8] : 0.0f;
    }

    /* The first position sees least behind, the last one least before. */
    static __device__ __forceinline__ struct loaded_rows loaded_of(const struct job_output &output)
    {
        const uint32_t last = output.last_position, window = output.window;
        const uint32_t first = window != 0 && last >= window ? (last - window) / TOKENS + 1 : 0;
        const uint32_t end = (output.first_position + 1) / TOKENS;
        return {output.n_rows, first, end > first ? end - first : 0};
    }

    __device__ __forceinline__ void load_rows(const struct attend_launch &launch,
                                              const struct job_output &output)
    {
        if (threadIdx.x == 0)
            *loaded() = loaded_of(output);
#pragma unroll 1
        for (uint32_t b = place::first_block(); b < BLOCKS; b += place::BLOCK_STEP) {
            float x[D / 4];
            read_row(launch, output, row(0, (int)b), x);
            if (TYPE == MMA_Q8)
                quantize_row(launch, b, x);
            else if (TYPE == MMA_F16)
                split_row(launch, b, x);
            else
                split_row_thrice(launch, b, x);
        }
    }

    __device__ __forceinline__ void split_row(const struct attend_launch &launch, uint32_t b,
                                              const float (&x)[D / 4])
    {
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < D / 4; i++)
            largest = max(largest, (uint32_t)__float_as_int(x[i]) & 0x7fffffff);
        float power, inverse;
        power_for(largest_of_row(largest), &power, &inverse);
        if (c == 0)
            scales((int)b)[g] = __fmul_rn(launch.scale, inverse);
        uint4 *to = (uint4 *)block((int)b);
#pragma unroll
        for (int k = 0; k < D / 16; k++) { /* dimensions 4 k to 4 k + 3 of the thread's */
            uint4 parts;
            split_pair(__fmul_rn(x[4 * k], power), __fmul_rn(x[4 * k + 1], power), &parts.x,
                       &parts.y);
            split_pair(__fmul_rn(x[4 * k + 2], power), __fmul_rn(x[4 * k + 3], power), &parts.z,
                       &parts.w);
            to[k * 32 + lane] = parts;
        }
    }

    __device__ __forceinline__ void split_row_thrice(const struct attend_launch &launch, uint32_t b,
                                                     const float (&x)[D / 4])
    {
        if (c == 0)
            scales((int)b)[g] = launch.scale;
        uint4 *to = (uint4 *)block((int)b);
        uint2 *third = (uint2 *)(block((int)b) + shape::Q);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
            uint16_t part[4][3];
#pragma unroll
            for (int i = 0; i < 4; i++)
                split_bf16(x[4 * k + i], part[i]);
            to[k * 32 + lane] =
                make_uint4(pair_of(part[0][0], part[1][0]), pair_of(part[0][1], part[1][1]),
                           pair_of(part[2][0], part[3][0]), pair_of(part[2][1], part[3][1]));
            third[k * 32 + lane] =
                make_uint2(pair_of(part[0][2], part[1][2]), pair_of(part[2][2], part[3][2]));
        }
    }

    /* As tile_query_write (kernels/attention/tile.c). A warp's two row blocks are rows 0 to 7 and 8 to 15
     * of one operand; where there is one, the others are zeros. Scores' scale is in those of the
     * blocks of 32. */
    __device__ __forceinline__ void quantize_row(const struct attend_launch &launch, uint32_t b,
                                                 const float (&x)[D / 4])
    {
        uint32_t *to = (uint32_t *)block(0) + b;
#pragma unroll
        for (int k = 0; k < D / 32; k++) {
            uint32_t bits = 0;
#pragma unroll
            for (int i = 0; i < 8; i++)
                bits = max(bits, (uint32_t)__float_as_int(x[8 * k + i]) & 0x7fffffff);
            bits = largest_of_row(bits);
            const float largest = __int_as_float((int)bits);
            const bool finite = bits < 0x7f800000;
            const bool some = finite && largest >= 0x1p-100f;
            const float inverse = some ? __fdiv_rn(127.0f, largest) : 0.0f;
            uint32_t packed[2] = {0, 0};
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int value = some ? __float2int_rn(__fmul_rn(x[8 * k + i], inverse)) : 0;
                packed[i / 4] |= ((uint32_t)value & 0xff) << (i % 4 * 8);
            }
            uint32_t *lanes = to + (k * 32 + lane) * 4;
            lanes[0] = packed[0];
            lanes[2] = packed[1];
            if (BLOCKS == 1)
                lanes[1] = lanes[3] = 0;
            if (c == 0)
                scales((int)b)[k * 8 + g] =
                    !finite ? __int_as_float(0x7fc00000)
                    : some  ? __fmul_rn(__fdiv_rn(largest, 127.0f), launch.scale)
                            : 0.0f;
        }
    }
};

#endif
