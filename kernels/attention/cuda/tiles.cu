/* tiles.cu - K and V, rounded to the KV type, on their way into tiles: put where attend_tile.h says.
 *
 * What every step does is a link of the chain (kernels/cuda/chain.cuh), between what makes K and V and attention. */
#include "kernels/attention/cuda/attend_device.h"
#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/attention/cuda/attend_tile.h"
#include "kernels/cuda/chain.cuh"

enum {
    THREADS = 256,
    WRITES = 127, /* of one launch, more take several: their descriptions are its arguments */
    ARGUMENTS =
        4096, /* bytes: what every compiler and driver takes, and all of them travel with a launch */
    Q8_BLOCK = 34 /* bytes: an f16 scale, 32 integers */
};

struct tile_writes {
    struct tile_tokens writes[WRITES];
};
static_assert(sizeof(struct tile_writes) + 2 * sizeof(uint32_t) + sizeof(size_t) <= ARGUMENTS,
              "write_tokens");

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
        (uint8_t *)piece + (is_v ? piece_v_at(head_dim, t, d) : piece_k_byte_at(head_dim, t, d));
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
    chain_next();
    chain_wait();
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
        chain_launch(device, "writing K and V", write_tokens, (uint32_t)n, THREADS, 0, some, type,
                     head_dim, stride_bytes);
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
