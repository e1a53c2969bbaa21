/* tiles.cu - K and V on their way into tiles: rounded to the KV type, put where attend_tile.h says.
 *
 * What every step does, rounding and write_listed, are links of the chain (kernels/cuda/chain.cuh), between the rotation of K
 * and attention. */
#include "kernels/attention/cuda/attend_device.h"
#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/attention/cuda/attend_tile.h"
#include "kernels/cuda/chain.cuh"

#include <cuda_fp16.h>

enum {
    THREADS = 256,
    WRITES = 512,      /* of one launch: their descriptions are its arguments */
    Q8_BLOCK = 34,     /* bytes: an f16 scale, 32 integers */
    MOST_BLOCKS = 1024 /* of a launch that strides */
};

/* ---- rounding, with the bits of kernels/quant ------------------------------------------------ */

static __device__ __forceinline__ uint16_t half_bits(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000) /* NaN keeps what fits of its payload */
        return (uint16_t)((bits >> 16 & 0x8000) | 0x7e00 | (bits >> 13 & 0x1ff));
    return __half_as_ushort(__float2half_rn(x));
}

static __device__ __forceinline__ uint16_t bfloat16_bits(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* K and V, n values of each: blockIdx.y. */
struct rounding {
    const float *from[2];
    void *to[2];
};

static __global__ void round_halves(const __grid_constant__ struct rounding rows, size_t n,
                                    bool bfloat16)
{
    const float *x = rows.from[blockIdx.y];
    uint16_t *out = (uint16_t *)rows.to[blockIdx.y];
    chain_next();
    chain_wait();
    for (size_t i = blockIdx.x * (size_t)THREADS + threadIdx.x; i < n;
         i += (size_t)gridDim.x * THREADS)
        out[i] = bfloat16 ? bfloat16_bits(x[i]) : half_bits(x[i]);
}

/* A warp has a block of 32. As fit_bytes in kernels/quant/block32_quantize.c. */
static __global__ void round_bytes(const __grid_constant__ struct rounding rows, size_t n_blocks)
{
    const float *x = rows.from[blockIdx.y];
    char *out = (char *)rows.to[blockIdx.y];
    const uint32_t lane = threadIdx.x % 32;
    chain_next();
    chain_wait();
    for (size_t i = (blockIdx.x * (size_t)THREADS + threadIdx.x) / 32; i < n_blocks;
         i += (size_t)gridDim.x * THREADS / 32) {
        const float value = x[i * 32 + lane];
        uint32_t bits = __float_as_uint(value) & 0x7fffffff;
        for (int other = 16; other > 0; other /= 2)
            bits = max(bits, __shfl_xor_sync(0xffffffff, bits, other));
        const bool finite = bits < 0x7f800000;
        const float d = fminf(__uint_as_float(bits) / 127.0f, 65504.0f);
        const float inverse = d >= 0x1p-126f ? 1.0f / d : 0.0f;
        const float scaled = fminf(fmaxf(value * inverse, -127.0f), 127.0f);
        const int whole = (int)scaled;
        const float rest = scaled - (float)whole;
        char *block = out + i * Q8_BLOCK;
        if (lane == 0)
            *(uint16_t *)block = finite ? half_bits(d) : (uint16_t)0x7e00;
        block[2 + lane] = finite ? (char)(whole + (rest >= 0.5f) - (rest <= -0.5f)) : (char)0;
    }
}

static uint32_t blocks_for(size_t n_threads)
{
    const size_t n = (n_threads + THREADS - 1) / THREADS;
    return n < MOST_BLOCKS ? (uint32_t)n : (uint32_t)MOST_BLOCKS;
}

void cuda_tiles_round(struct device *device, enum kv_type type, void *k_out, const float *k,
                      void *v_out, const float *v, size_t n)
{
    const struct rounding rows = {{k, v}, {k_out, v_out}};
    const dim3 grid(blocks_for(n), 2);
    if (n == 0)
        return;
    if (type == KV_F32)
        for (int i = 0; i < 2; i++)
            cuda_check(device,
                       cudaMemcpyAsync(rows.to[i], rows.from[i], n * sizeof(float),
                                       cudaMemcpyDeviceToDevice, cuda_stream(device)),
                       "a copy of K and V");
    else if (type == KV_Q8_0)
        chain_launch(device, "rounding K and V", round_bytes, grid, THREADS, 0, rows, n / 32);
    else
        chain_launch(device, "rounding K and V", round_halves, grid, THREADS, 0, rows, n,
                     type == KV_BF16);
}

/* ---- tiles ----------------------------------------------------------------------------------- */

struct tile_writes {
    struct tile_tokens writes[WRITES];
};

/* Where piece `piece` of K (0, 1) or V (2, 3) begins. */
static __device__ __forceinline__ char *piece_at(void *tile, uint32_t piece, size_t row_bytes)
{
    return (char *)tile + piece * PIECE_TOKENS * row_bytes;
}

/* Element d of a token, K or V, between a row and its tile. */
template <class element, bool to_tile>
static __device__ __forceinline__ void move_element(void *tile, void *row, uint32_t head_dim,
                                                    uint32_t token, uint32_t d, bool is_v)
{
    const uint32_t t = token % PIECE_TOKENS;
    element *piece =
        (element *)piece_at(tile, 2 * is_v + token / PIECE_TOKENS, head_dim * sizeof(element));
    element *at = piece + (is_v ? piece_v_at(head_dim, t, d) : piece_k_at(head_dim, t, d));
    if (to_tile)
        *at = ((const element *)row)[d];
    else
        ((element *)row)[d] = *at;
}

/* Likewise of q8_0, with the scale where the element begins a block. */
template <bool to_tile>
static __device__ __forceinline__ void move_byte(void *tile, char *row, uint32_t head_dim,
                                                 uint32_t token, uint32_t d, bool is_v)
{
    const uint32_t t = token % PIECE_TOKENS, block = d / SCALE_DIMS;
    char *piece = piece_at(tile, 2 * is_v + token / PIECE_TOKENS, head_dim / 32 * Q8_BLOCK);
    uint8_t *at =
        (uint8_t *)piece + (is_v ? piece_v_at(head_dim, t, d) : piece_k_at(head_dim, t, d));
    uint8_t *from = (uint8_t *)row + block * Q8_BLOCK + 2 + d % SCALE_DIMS;
    if (to_tile)
        *at = *from;
    else
        *from = *at;
    if (d % SCALE_DIMS != 0)
        return;
    uint16_t *scale =
        (uint16_t *)(piece + (size_t)PIECE_TOKENS * head_dim) +
        (is_v ? piece_v_scale_at(head_dim, t, block) : piece_k_scale_at(head_dim, t, block));
    uint8_t *row_scale = (uint8_t *)row + block * Q8_BLOCK; /* rows lie at any byte */
    if (to_tile) {
        *scale = (uint16_t)(row_scale[0] | row_scale[1] << 8);
    } else {
        row_scale[0] = (uint8_t)(*scale & 0xff);
        row_scale[1] = (uint8_t)(*scale >> 8);
    }
}

template <bool to_tile>
static __device__ void move_tokens(uint32_t type, uint32_t head_dim, size_t stride_bytes,
                                   const struct tile_tokens &tokens)
{
    const uint32_t n = tokens.n_tokens * head_dim;
    for (uint32_t i = threadIdx.x; i < 2 * n; i += THREADS) {
        const bool is_v = i >= n;
        const uint32_t index = i - is_v * n, token = index / head_dim, d = index % head_dim;
        char *row = (char *)(is_v ? tokens.v : tokens.k) + token * stride_bytes;
        if (type == KV_F32)
            move_element<float, to_tile>(tokens.tile, row, head_dim, tokens.first + token, d, is_v);
        else if (type == KV_Q8_0)
            move_byte<to_tile>(tokens.tile, row, head_dim, tokens.first + token, d, is_v);
        else
            move_element<uint16_t, to_tile>(tokens.tile, row, head_dim, tokens.first + token, d,
                                            is_v);
    }
}

static __global__ void __launch_bounds__(THREADS)
    write_tokens(const __grid_constant__ struct tile_writes writes, uint32_t type,
                 uint32_t head_dim, size_t stride_bytes)
{
    move_tokens<true>(type, head_dim, stride_bytes, writes.writes[blockIdx.x]);
}

/* Attention comes next, and may begin at once: it waits before it reads what is written here. */
static __global__ void __launch_bounds__(THREADS) write_listed(const struct write_list *list)
{
    chain_next();
    chain_wait();
    if (blockIdx.x < list->n)
        move_tokens<true>(list->type, list->head_dim, list->stride_bytes, list->writes[blockIdx.x]);
}

static __global__ void __launch_bounds__(THREADS)
    read_tokens(const struct tile_tokens tokens, uint32_t type, uint32_t head_dim,
                size_t stride_bytes)
{
    move_tokens<false>(type, head_dim, stride_bytes, tokens);
}

void cuda_tiles_write(struct device *device, enum kv_type type, uint32_t head_dim,
                      size_t stride_bytes, const struct tile_tokens *writes, size_t n_writes)
{
    struct tile_writes some;
    for (size_t first = 0; first < n_writes; first += WRITES) {
        const size_t left = n_writes - first, n = left < WRITES ? left : (size_t)WRITES;
        for (size_t i = 0; i < n; i++)
            some.writes[i] = writes[first + i];
        write_tokens<<<(uint32_t)n, THREADS, 0, cuda_stream(device)>>>(some, type, head_dim,
                                                                       stride_bytes);
        cuda_launched(device, "writing K and V");
    }
}

void cuda_tiles_write_listed(struct device *device, const struct write_list *list, uint32_t n)
{
    chain_launch(device, "writing K and V", write_listed, n, THREADS, 0, list);
}

void cuda_tiles_read(struct device *device, enum kv_type type, uint32_t head_dim,
                     size_t stride_bytes, const void *tile, uint32_t first, uint32_t n_tokens,
                     void *k, void *v)
{
    struct tile_tokens tokens;
    tokens.tile = (void *)tile;
    tokens.k = k;
    tokens.v = v;
    tokens.first = first;
    tokens.n_tokens = n_tokens;
    if (n_tokens == 0)
        return;
    read_tokens<<<1, THREADS, 0, cuda_stream(device)>>>(tokens, type, head_dim, stride_bytes);
    cuda_launched(device, "reading K and V");
}
