/* kernels/attention/cuda/attend_rows_place.cuh - where attend_rows.cuh's numbers lie in shared memory, and who brings pieces.
 *
 * Registers leave no room for a warp that copies: the last one to leave a piece brings the next one there. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_PLACE_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_PLACE_CUH

#include "kernels/attention/cuda/attend_query.cuh"

#include <new>

/* ROWS_WARPS: two for each scheduler, of which one multiplies while the other makes weights. EIGHTS: blocks of 8 tokens
 * of a tile, of each of which lane c has two: of the t-th tokens 32 (t / 4) + 8 c + 2 (t % 4) and the next one. */
enum { ROWS_WARPS = 8, EIGHTS = TOKENS / 8 };

/* Tokens as lane c counts them, from 8 c on: what is compared with them are constants, which need no registers. */
static __device__ __forceinline__ struct seen seen_by_lane(struct seen seen, uint32_t c)
{
    return {seen.first - 8 * (int)c, seen.last - 8 * (int)c};
}

/* Where the pieces come from, one after the other. In shared memory: a warp that leaves a piece as the last one
 * has left the one before, so that they take turns. */
struct pieces_ahead {
    struct tiles_ahead tiles;
    const char *tile, *from; /* the piece's; NULL: there is none */
    uint32_t piece;          /* of the tile, that is next */

    __device__ __forceinline__ explicit pieces_ahead(const struct attend_launch &launch)
        : tiles(launch, 0), tile(nullptr), from(nullptr), piece(TILE_PIECES)
    {
    }
    __device__ __forceinline__ void next(uint32_t piece_bytes)
    {
        if (piece == TILE_PIECES) {
            from = nullptr;
            if (!tiles.next((size_t)TILE_PIECES * piece_bytes, &tile))
                return;
            piece = 0;
        }
        from = tile + piece++ * piece_bytes;
    }
};

/* Row blocks, pieces_ahead, what mma_ring has; near levels lie behind the pipeline. */
template <int TYPE, int D, int BLOCKS>
struct rows_shape : mma_sizes<TYPE, D> {
    using sizes = mma_sizes<TYPE, D>;
    enum {
        ROW_BLOCKS = BLOCKS, /* of a warp */
        ALL_BLOCKS = ROWS_WARPS * BLOCKS,
        THREADS = ROWS_WARPS * 32,
        COPY_THREADS = 0,
        BLOCK = sizes::Q + sizes::Q_THIRD + sizes::Q_SCALES,
        PARTIAL = stored<BLOCKS, D / 4>::FLOAT2S * THREADS * 8,
        NEAR_BEHIND = 2,
        AT_AHEAD = ALL_BLOCKS * BLOCK,
        AT_LAST = AT_AHEAD + (sizeof(struct pieces_ahead) + 15) / 16 * 16,
        FIXED = (AT_LAST + RING_BYTES + 127) / 128 * 128
    };
};

/* Of one thread. */
template <int TYPE, int D, int BLOCKS>
struct rows_place : mma_ring<rows_shape<TYPE, D, BLOCKS>> {
    using shape = rows_shape<TYPE, D, BLOCKS>;
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
    enum { BLOCK_STEP = 1 };

    uint32_t warp; /* has row blocks warp, warp + ROWS_WARPS, ...: few rows are many warps' */

    __device__ __forceinline__ void begin(uint32_t stages)
    {
        warp = threadIdx.x / 32;
        ring::begin(stages);
        if (threadIdx.x == 0)
            for (uint32_t i = 0; i < n_stages; i++)
                left()[i] = 0;
    }
    /* Asks anew which thread this is: what comes of it takes no registers until then. */
    __device__ __forceinline__ void look_again()
    {
        const uint32_t thread = thread_again();
        warp = thread / 32;
        lane = thread % 32;
        g = lane / 4;
        c = lane % 4;
    }
    __device__ __forceinline__ static uint32_t n_near(const struct attend_launch &launch)
    {
        return launch.n_near;
    }
    __device__ __forceinline__ float2 *near_levels() const
    {
        return (float2 *)(pieces() + (size_t)n_stages * shape::PIECE);
    }
    __device__ __forceinline__ uint32_t row(uint32_t, int i) const
    {
        return (warp + (uint32_t)i * ROWS_WARPS) * 8 + g;
    }
    __device__ __forceinline__ uint32_t first_block() const
    {
        return 0;
    }
    __device__ __forceinline__ uint32_t dim(uint32_t, int j) const
    {
        return (uint32_t)j / 2 * 8 + 2 * c + j % 2;
    }
    __device__ __forceinline__ bool writes_row(uint32_t) const
    {
        return c == 0;
    }
    __device__ __forceinline__ char *block(int b) const
    {
        return memory() + (warp + (uint32_t)b * ROWS_WARPS) * shape::BLOCK;
    }
    __device__ __forceinline__ float *scales(int b) const /* of q */
    {
        return (float *)(block(b) + shape::Q + shape::Q_THIRD);
    }

    /* ---- pieces ---- */

    __device__ __forceinline__ static uint32_t *left() /* [stage]: warps that have left it */
    {
        return (uint32_t *)ring::more_barriers();
    }
    __device__ __forceinline__ static struct pieces_ahead &ahead()
    {
        return *(struct pieces_ahead *)(memory() + shape::AT_AHEAD);
    }
    /* One warp: the next piece comes to the stage. EARLY: the kernels ahead may not have ended. */
    template <bool EARLY>
    __device__ __forceinline__ void bring_piece() const
    {
        if (lane == 0)
            ahead().next(shape::PIECE);
        __syncwarp();
        const char *from = ahead().from;
        if (from == nullptr)
            return;
        if (EARLY && !ahead().tiles.is_settled())
            chain_wait();
        copy_piece(pieces() + (size_t)stage * shape::PIECE, from, shape::PIECE, &full()[stage],
                   lane, false);
    }
    /* One warp, before any other waits for a piece: all stages. Settled tiles come before the kernels ahead have
     * ended. */
    __device__ __forceinline__ void bring_first(const struct attend_launch &launch)
    {
        chain_next();
        if (lane == 0)
            new (&ahead()) pieces_ahead(launch);
        for (uint32_t i = 0; i < n_stages; i++) {
            bring_piece<true>();
            next_stage();
            __syncwarp();
        }
        parity = 0;
        chain_wait(); /* so that the end of this kernel is that of all before it */
    }
    __device__ __forceinline__ void leave_piece()
    {
        uint32_t before = 0;
        __syncwarp();
        if (lane == 0)
            before = count_round(&left()[stage], ROWS_WARPS - 1);
        if (__shfl_sync(0xffffffff, before, 0) == ROWS_WARPS - 1)
            bring_piece<false>();
        next_stage();
    }
    __device__ __forceinline__ void leave_pieces() /* two */
    {
        leave_piece();
        leave_piece();
    }
};

#endif
