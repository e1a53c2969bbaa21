/* turn.cu - q, k and v on their way from their products to attention: biases, norms of heads, rotation, in the steps of the
 * CPU's tables.
 *
 * A warp has some heads of a row, of any of the arrays: one where there are few rows, so that nothing is done one after the
 * other; more where there are many, since a pair's sine is made once for all of them. Sines are those of kernels/numeric.h, so
 * that rotations have the CPU's bits; of norms see fused.cu. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/product.h"
#include "kernels/numeric.h"

namespace
{

enum {
    WARPS = 4,
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
    uint32_t head_dim, n_pairs;
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

__global__ void __launch_bounds__(WARPS *CUDA_LANES)
    turn_heads(const __grid_constant__ struct turning p)
{
    const uint32_t lane = threadIdx.x, row = blockIdx.y;
    const uint32_t first = (blockIdx.x * WARPS + threadIdx.y) * p.n_each;
    const uint32_t end = min(first + p.n_each, p.n_heads);
    chain_next();
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
    for (uint32_t pair = lane; pair < p.n_pairs; pair += CUDA_LANES) {
        double s, c;
        sincos_f64((double)p.positions[row] * p.frequency[pair], &s, &c);
        const float cosine = (float)(c * p.magnitude), sine = (float)(s * p.magnitude);
        const uint32_t at = p.neox ? pair : 2 * pair, other = p.neox ? pair + p.n_pairs : at + 1;
        for (uint32_t head = first; head < end; head++) {
            const uint32_t array = array_of(p, head);
            const struct heads &of = p.of[array];
            if (!of.turn)
                continue;
            float *x = of.x + ((size_t)row * of.n_heads + head - p.first_head[array]) * p.head_dim;
            const float a = x[at], b = x[other];
            x[at] = __fmaf_rn(a, cosine, -(b * sine));
            x[other] = __fmaf_rn(a, sine, b * cosine);
        }
    }
}

/* Arrays [0, n) of heads, to which there is something to do. */
void take_arrays(struct turning *p, const struct heads *heads, uint32_t n)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (heads[i].n_heads == 0 ||
            (heads[i].bias == NULL && heads[i].norm == NULL && !(heads[i].turn && p->n_pairs > 0)))
            continue;
        p->of[taken] = heads[i];
        p->first_head[taken++] = p->n_heads;
        p->n_heads += heads[i].n_heads;
    }
    for (; taken < ARRAYS; taken++)
        p->first_head[taken] = UINT32_MAX;
}

} // namespace

extern "C" void cuda_turn(struct device *device, const struct heads *heads, uint32_t n,
                          const uint32_t *positions, uint32_t n_rows, uint32_t head_dim,
                          const struct rope *rope, float epsilon)
{
    for (uint32_t first = 0; first < n; first += ARRAYS) {
        struct turning p = {};
        p.head_dim = head_dim;
        p.epsilon = epsilon;
        if (rope != NULL) {
            p.n_pairs = rope->n_dims / 2;
            p.neox = rope->neox;
            p.frequency = rope->frequency;
            p.magnitude = rope->magnitude;
        }
        take_arrays(&p, heads + first, n - first < ARRAYS ? n - first : (uint32_t)ARRAYS);
        if (n_rows == 0 || p.n_heads == 0)
            continue;
        if (p.n_pairs > 0)
            p.positions = (const uint32_t *)cuda_indices(device, CUDA_POSITIONS, positions,
                                                         n_rows * sizeof(*positions));
        if (p.n_pairs > 0 && p.positions == NULL)
            return;
        const size_t each =
            (size_t)n_rows * p.n_heads / ((size_t)device->n_multiprocessors * WARPS_IN_PARALLEL);
        p.n_each = each < 1 ? 1 : each < MOST_HEADS ? (uint32_t)each : (uint32_t)MOST_HEADS;
        const uint32_t of_block = WARPS * p.n_each;
        for (uint32_t row = 0; row < n_rows; row += MOST_ROWS) {
            const uint32_t n_here = n_rows - row < MOST_ROWS ? n_rows - row : (uint32_t)MOST_ROWS;
            const dim3 grid((p.n_heads + of_block - 1) / of_block, n_here),
                block(CUDA_LANES, WARPS);
            chain_launch(device, "biases, norms and rotation of heads", turn_heads, grid, block, 0,
                         p);
            for (uint32_t i = 0; i < ARRAYS; i++)
                p.of[i].x += (size_t)n_here * p.of[i].n_heads * head_dim;
            if (p.n_pairs > 0)
                p.positions += n_here;
        }
    }
}
