/* kernels/attention/cuda/attend_place.cuh - where attend_mma.cuh's numbers lie in shared memory, and the warp that brings
 * pieces: `empty` hears of one that all others are done with. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_PLACE_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_PLACE_CUH

#include "kernels/attention/cuda/attend_ring.cuh"

/* Sizes in bytes of what lies in shared memory, for the kernel and for whoever launches it. */
template <int TYPE, int D, int BLOCKS, int NEAR>
struct mma_shape : mma_sizes<TYPE, D> {
    using sizes = mma_sizes<TYPE, D>;
    enum {
        ROW_BLOCKS = BLOCKS, /* of a warp */
        ALL_BLOCKS = BLOCKS,
        THREADS = 128,
        COPY_THREADS = 32,
        /* of a row block: q, weights */
        P_PART = 8 * TOKENS * 2, /* one of 2 or 3 parts; for q8_0 two are one array of f32 */
        P = P_PART * (TYPE == MMA_BF16 ? 3 : 2),
        MAXIMA = 4 * 8 * 4,
        BLOCK = sizes::Q + sizes::Q_THIRD + P + sizes::Q_SCALES + 2 * MAXIMA,
        PARTIAL = stored<BLOCKS, D / 16>::FLOAT2S * THREADS * 8,
        NEAR_BEHIND = 0,
        /* Where they lie: row blocks, near levels, what mma_ring has. */
        AT_LEVELS = ALL_BLOCKS * BLOCK,
        AT_LAST = AT_LEVELS + NEAR * PARTIAL,
        FIXED = (AT_LAST + RING_BYTES + 127) / 128 * 128
    };
};

/* Thread blocks per multiprocessor that registers must suffice for: as many as shared memory has room for. */
constexpr int least_blocks(int type, int d, int blocks)
{
    if (d > 128)
        return 1;
    if (blocks > 1 || (d > 64 && type != MMA_Q8))
        return 2;
    return 3;
}

/* Of one thread. */
template <int TYPE, int D, int BLOCKS, int NEAR>
struct mma_place : mma_ring<mma_shape<TYPE, D, BLOCKS, NEAR>> {
    using shape = mma_shape<TYPE, D, BLOCKS, NEAR>;
    using ring = mma_ring<shape>;
    using ring::c;
    using ring::full;
    using ring::g;
    using ring::lane;
    using ring::memory;
    using ring::n_stages;
    using ring::next_stage;
    using ring::parity;
    using ring::pieces;
    using ring::stage;
    enum { BLOCK_STEP = 4 }; /* from one of the warp's row blocks of q to the next */

    uint32_t warp; /* 0 to 3; 4 copies */

    __device__ __forceinline__ void begin(uint32_t stages)
    {
        warp = threadIdx.x / 32;
        if (threadIdx.x == 0)
            for (uint32_t i = 0; i < stages; i++)
                mbarrier_init(&empty()[i], shape::THREADS / 32);
        ring::begin(stages);
    }
    __device__ __forceinline__ static uint64_t *empty()
    {
        return (uint64_t *)ring::more_barriers();
    }
    __device__ __forceinline__ static uint32_t n_near(const struct attend_launch &)
    {
        return NEAR;
    }
    __device__ __forceinline__ static float2 *near_levels()
    {
        return (float2 *)(memory() + shape::AT_LEVELS);
    }
    __device__ __forceinline__ uint32_t row(uint32_t, int i) const
    {
        return (uint32_t)i * 8 + g;
    }
    __device__ __forceinline__ uint32_t first_block() const
    {
        return warp;
    }
    __device__ __forceinline__ uint32_t dim(uint32_t, int j) const
    {
        return warp * (D / 4) + j / 2 * 8 + 2 * c + j % 2;
    }
    __device__ __forceinline__ bool writes_row(uint32_t) const
    {
        return warp == 0 && c == 0;
    }

    /* ---- a row block's shared memory ---- */

    __device__ __forceinline__ char *block(int b) const
    {
        return memory() + b * shape::BLOCK;
    }
    __device__ __forceinline__ char *weights(int b) const
    {
        return block(b) + shape::Q + shape::Q_THIRD;
    }
    __device__ __forceinline__ float *scales(int b) const /* of q */
    {
        return (float *)(weights(b) + shape::P);
    }
    __device__ __forceinline__ float *maxima(int b) const /* [4 warps][8] */
    {
        return (float *)((char *)scales(b) + shape::Q_SCALES);
    }
    __device__ __forceinline__ float *sums(int b) const
    {
        return maxima(b) + 32;
    }

    /* ---- pieces ---- */

    __device__ __forceinline__ void leave_piece()
    {
        __syncwarp();
        if (lane == 0)
            mbarrier_arrive(&empty()[stage]);
        next_stage();
    }
    __device__ __forceinline__ void leave_pieces() /* two */
    {
        leave_piece();
        leave_piece();
    }

    __device__ __forceinline__ void copy_tile(const char *tile)
    {
        for (int piece = 0; piece < TILE_PIECES; piece++) {
            mbarrier_wait(&empty()[stage], parity);
            copy_piece(pieces() + (size_t)stage * shape::PIECE, tile + piece * shape::PIECE,
                       shape::PIECE, &full()[stage], lane, true);
            next_stage();
        }
    }

    /* The further warp's life. Settled tiles are on their way before the kernels ahead of this one have
     * ended, as many as there is room for; the first ones before tables are read. */
    __device__ __forceinline__ void copy(const struct attend_launch &launch,
                                         const struct job_start &start)
    {
        enum { TILE = TILE_PIECES * shape::PIECE };
        struct tiles_ahead tiles(launch, start.n_tiles);
        const char *tile;
        bool waited = false;
        parity = 1; /* all stages are empty */
        chain_next();
        for (uint32_t i = 0; i < start.n_tiles; i++)
            copy_tile(start.tile + (size_t)i * TILE);
        while (tiles.next(TILE, &tile)) {
            if (!waited && !tiles.is_settled()) {
                chain_wait();
                waited = true;
            }
            copy_tile(tile);
        }
        if (!waited)
            chain_wait(); /* so that the end of this kernel is that of all before it */
        /* Copies by the lanes themselves must have ended before the block does. */
        for (uint32_t i = 0; i < n_stages; i++) {
            mbarrier_wait(&empty()[stage], parity);
            next_stage();
        }
    }
};

#endif
