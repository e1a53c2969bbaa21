/* turn.cu - q, k and v on their way from their products to attention: biases, norms of heads, rotation, rounding of k and v to
 * the KV type, in the steps of the CPU's tables.
 *
 * A warp has some heads of a row, of any of the arrays: one where there are few rows, so that nothing is done one after the
 * other; more where there are many, since a pair's sine is made once for all of them. No kernel writes positions, so that the
 * first sines are made while the products still run. They are those of kernels/numeric.h, so that rotations have the CPU's
 * bits; of norms see fused.cu. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/product.h"
#include "kernels/numeric.h"

#include <cuda_fp16.h>

namespace
{

enum {
    Q8_BLOCK = 34, /* bytes: an f16 scale, 32 integers */
    WARPS = 4,
    PAIRS_AHEAD = 4,       /* of a lane */
    ARRAYS = 3,            /* of one launch */
    MOST_ROWS = 32768,     /* likewise */
    MOST_HEADS = 8,        /* of a warp */
    WARPS_IN_PARALLEL = 32 /* of a multiprocessor, before a warp has more than one head */
};

struct turning {
    struct heads of[ARRAYS];
    uint32_t first_head[ARRAYS]; /* of all; UINT32_MAX: there is no such array */
    uint32_t n_heads;            /* of a row in all arrays */
    uint32_t n_each;             /* of a warp */
    uint32_t first_row, head_dim, n_pairs;
    bool neox;
    const uint32_t *positions;
    const double *frequency;
    double magnitude;
    float epsilon;
};

__device__ __forceinline__ uint32_t array_of(const struct turning &p, uint32_t head)
{
    uint32_t array = 0;
#pragma unroll
    for (int i = 1; i < ARRAYS; i++)
        array += head >= p.first_head[i];
    return array;
}

/* x += bias, then its norm; a lane has every 32nd value. */
__device__ __forceinline__ void norm_head(float *x, const float *bias, const float *weight,
                                          uint32_t n, float epsilon, uint32_t lane)
{
    double sum = 0;
    for (uint32_t i = lane; i < n; i += CUDA_LANES) {
        const float value = bias != NULL ? x[i] + bias[i] : x[i];
        x[i] = value;
        sum = __fma_rn((double)value, (double)value, sum); /* a square is exact in double */
    }
    if (weight == NULL)
        return;
#pragma unroll
    for (int step = CUDA_LANES / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    const float scale = (float)(1.0 / sqrt(sum / n + (double)epsilon));
    for (uint32_t i = lane; i < n; i += CUDA_LANES)
        x[i] = x[i] * scale * weight[i];
}

/* ---- rounding, with the bits of kernels/quant ---- */

__device__ __forceinline__ uint16_t half_bits(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000) /* NaN keeps what fits of its payload */
        return (uint16_t)((bits >> 16 & 0x8000) | 0x7e00 | (bits >> 13 & 0x1ff));
    return __half_as_ushort(__float2half_rn(x));
}

__device__ __forceinline__ uint16_t bfloat16_bits(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A block of 32, a value in each lane. As fit_bytes in kernels/quant/block32_quantize.c. */
__device__ __forceinline__ void round_block(char *block, float value, uint32_t lane)
{
    uint32_t bits = __float_as_uint(value) & 0x7fffffff;
#pragma unroll
    for (int other = CUDA_LANES / 2; other > 0; other /= 2)
        bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, other));
    const bool finite = bits < 0x7f800000;
    const float d = fminf(__uint_as_float(bits) / 127.0f, 65504.0f);
    const float inverse = d >= 0x1p-126f ? 1.0f / d : 0.0f;
    const float scaled = fminf(fmaxf(value * inverse, -127.0f), 127.0f);
    const int whole = (int)scaled;
    const float rest = scaled - (float)whole;
    if (lane == 0)
        *(uint16_t *)block = finite ? half_bits(d) : (uint16_t)0x7e00;
    block[2 + lane] = finite ? (char)(whole + (rest >= 0.5f) - (rest <= -0.5f)) : (char)0;
}

/* Head number `head` of all rows of `of`. */
__device__ __forceinline__ void round_head(const struct heads &of, size_t head, uint32_t n,
                                           uint32_t lane)
{
    const float *x = of.x + head * n;
    if (of.type == KV_Q8_0)
        for (uint32_t i = lane; i < n; i += CUDA_LANES)
            round_block((char *)of.rounded + (head * n + i) / CUDA_LANES * Q8_BLOCK, x[i], lane);
    else if (of.type == KV_F32)
        for (uint32_t i = lane; i < n; i += CUDA_LANES)
            ((float *)of.rounded)[head * n + i] = x[i];
    else
        for (uint32_t i = lane; i < n; i += CUDA_LANES)
            ((uint16_t *)of.rounded)[head * n + i] =
                of.type == KV_BF16 ? bfloat16_bits(x[i]) : half_bits(x[i]);
}

/* ---- rotation ---- */

struct angle {
    float cosine, sine;
};

__device__ __forceinline__ struct angle angle_of(const struct turning &p, uint32_t row,
                                                 uint32_t pair)
{
    double s, c;
    struct angle angle;
    sincos_f64((double)p.positions[row] * p.frequency[pair], &s, &c);
    angle.cosine = (float)(c * p.magnitude);
    angle.sine = (float)(s * p.magnitude);
    return angle;
}

/* A pair of heads [first, end). */
__device__ __forceinline__ void turn_pair(const struct turning &p, uint32_t row, uint32_t first,
                                          uint32_t end, uint32_t pair, struct angle angle)
{
    const uint32_t at = p.neox ? pair : 2 * pair, other = p.neox ? pair + p.n_pairs : at + 1;
    for (uint32_t head = first; head < end; head++) {
        const uint32_t array = array_of(p, head);
        const struct heads &of = p.of[array];
        if (!of.turn)
            continue;
        float *x = of.x + ((size_t)row * of.n_heads + head - p.first_head[array]) * p.head_dim;
        const float a = x[at], b = x[other];
        x[at] = __fmaf_rn(a, angle.cosine, -(b * angle.sine));
        x[other] = __fmaf_rn(a, angle.sine, b * angle.cosine);
    }
}

/* Whether any of these heads is rotated: v's are not, and no sines are made for them. */
__device__ __forceinline__ bool turns(const struct turning &p, uint32_t first, uint32_t end)
{
    bool any = false;
#pragma unroll
    for (uint32_t i = 0; i < ARRAYS; i++)
        any |= p.of[i].turn && p.first_head[i] < end && first < p.first_head[i] + p.of[i].n_heads;
    return any;
}

/* ---- the kernel ---- */

__global__ void __launch_bounds__(WARPS *CUDA_LANES)
    turn_heads(const __grid_constant__ struct turning p)
{
    const uint32_t lane = threadIdx.x, row = p.first_row + blockIdx.y;
    const uint32_t first = (blockIdx.x * WARPS + threadIdx.y) * p.n_each;
    const uint32_t end = min(first + p.n_each, p.n_heads);
    struct angle ahead[PAIRS_AHEAD] = {};
    chain_next();
    if (turns(p, first, end))
#pragma unroll
        for (uint32_t i = 0; i < PAIRS_AHEAD; i++)
            if (lane + i * CUDA_LANES < p.n_pairs)
                ahead[i] = angle_of(p, row, lane + i * CUDA_LANES);
    chain_wait();
    if (first >= end)
        return;
    for (uint32_t head = first; head < end; head++) {
        const uint32_t array = array_of(p, head), own = head - p.first_head[array];
        const struct heads &of = p.of[array];
        if (of.bias != NULL || of.norm != NULL)
            norm_head(of.x + ((size_t)row * of.n_heads + own) * p.head_dim,
                      of.bias != NULL ? of.bias + (size_t)own * p.head_dim : NULL, of.norm,
                      p.head_dim, p.epsilon, lane);
    }
    __syncwarp(); /* what other lanes have written is there */
#pragma unroll
    for (uint32_t i = 0; i < PAIRS_AHEAD; i++)
        if (lane + i * CUDA_LANES < p.n_pairs)
            turn_pair(p, row, first, end, lane + i * CUDA_LANES, ahead[i]);
    for (uint32_t pair = lane + PAIRS_AHEAD * CUDA_LANES; pair < p.n_pairs; pair += CUDA_LANES)
        turn_pair(p, row, first, end, pair, angle_of(p, row, pair));
    __syncwarp();
    for (uint32_t head = first; head < end; head++) {
        const uint32_t array = array_of(p, head);
        const struct heads &of = p.of[array];
        if (of.rounded != NULL)
            round_head(of, (size_t)row * of.n_heads + head - p.first_head[array], p.head_dim, lane);
    }
}

/* ---- launching ---- */

/* Arrays [0, n) of heads, to which there is something to do. */
void take_arrays(struct turning *p, const struct heads *heads, uint32_t n)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (heads[i].n_heads == 0 ||
            (heads[i].bias == NULL && heads[i].norm == NULL && heads[i].rounded == NULL &&
             !(heads[i].turn && p->n_pairs > 0)))
            continue;
        p->of[taken] = heads[i];
        p->first_head[taken++] = p->n_heads;
        p->n_heads += heads[i].n_heads;
    }
    for (; taken < ARRAYS; taken++)
        p->first_head[taken] = UINT32_MAX;
}

void launch_turning(struct device *device, struct turning *p, uint32_t n_rows)
{
    const size_t each =
        (size_t)n_rows * p->n_heads / ((size_t)device->n_multiprocessors * WARPS_IN_PARALLEL);
    p->n_each = each < 1 ? 1 : each < MOST_HEADS ? (uint32_t)each : (uint32_t)MOST_HEADS;
    const uint32_t of_block = WARPS * p->n_each;
    for (; p->first_row < n_rows; p->first_row += MOST_ROWS) {
        const uint32_t left = n_rows - p->first_row;
        const dim3 grid((p->n_heads + of_block - 1) / of_block,
                        left < MOST_ROWS ? left : (uint32_t)MOST_ROWS),
            block(CUDA_LANES, WARPS);
        chain_launch(device, "biases, norms and rotation of heads", turn_heads, grid, block, 0, *p);
    }
}

} // namespace

extern "C" void cuda_turn(struct device *device, const struct heads *heads, uint32_t n,
                          const struct turn *turn)
{
    for (uint32_t first = 0; first < n; first += ARRAYS) {
        struct turning p = {};
        p.head_dim = turn->head_dim;
        p.epsilon = turn->epsilon;
        if (turn->rope != NULL) {
            p.n_pairs = turn->rope->n_dims / 2;
            p.neox = turn->rope->neox;
            p.frequency = turn->rope->frequency;
            p.magnitude = turn->rope->magnitude;
        }
        take_arrays(&p, heads + first, n - first < ARRAYS ? n - first : (uint32_t)ARRAYS);
        if (turn->n_rows == 0 || p.n_heads == 0)
            continue;
        if (p.n_pairs > 0 && (p.positions = (const uint32_t *)cuda_indices(
                                  device, CUDA_POSITIONS, turn->positions,
                                  turn->n_rows * sizeof(*turn->positions))) == NULL)
            return;
        launch_turning(device, &p, turn->n_rows);
    }
}
