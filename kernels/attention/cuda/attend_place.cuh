/* kernels/attention/cuda/attend_place.cuh - where attend_mma.cuh's numbers lie in shared memory, and the pieces
 * of tiles that come there.
 *
 * A ring of stages, each with room for a piece: `full` hears of a piece that has come, `empty` of one that all
 * warps are done with. A warp of its own copies, in the order K, K, V, V. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_PLACE_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_PLACE_CUH

#include "kernels/attention/cuda/attend_kernel.cuh"

enum mma_type { MMA_F16, MMA_BF16, MMA_Q8 };

/* Sizes in bytes of what lies in shared memory, for the kernel and for whoever launches it. */
template <int TYPE, int D, int BLOCKS, int GROUPS, int NEAR>
struct mma_shape {
    enum {
        ALL_BLOCKS = BLOCKS * GROUPS,
        THREADS = 128 * GROUPS,
        ROW_BYTES = TYPE == MMA_Q8 ? D / 32 * 34 : 2 * D,
        PIECE = PIECE_TOKENS * ROW_BYTES,
        VALUE_BYTES = PIECE_TOKENS * D * (TYPE == MMA_Q8 ? 1 : 2),
        /* of a row block: A fragments of q (q8_0: of two blocks; and of the third parts),
         * weights */
        Q = TYPE == MMA_Q8 ? D / 32 * 512 : D / 16 * 512,
        Q_THIRD = TYPE == MMA_BF16 ? D / 16 * 256 : 0,
        P_PART = 8 * TOKENS * 2, /* one of 2 or 3 parts; for q8_0 two are one array of f32 */
        P = P_PART * (TYPE == MMA_BF16 ? 3 : 2),
        Q_SCALES = TYPE == MMA_Q8 ? D / 32 * 32 : 32, /* [block][8], or [8] */
        MAXIMA = 4 * 8 * 4,
        BLOCK = Q + Q_THIRD + P + Q_SCALES + 2 * MAXIMA,
        PARTIAL = stored<BLOCKS, D / 16>::FLOAT2S * THREADS * 8,
        /* Where they lie: row blocks, near levels, walker::last, the launch, barriers, pieces. */
        AT_LEVELS = ALL_BLOCKS * BLOCK,
        AT_LAST = AT_LEVELS + NEAR * PARTIAL,
        AT_LAUNCH = AT_LAST + 16, /* a struct loaded_rows is in there too */
        AT_FULL = AT_LAUNCH + (sizeof(struct attend_launch) + 15) / 16 * 16,
        AT_EMPTY = AT_FULL + MOST_STAGES * 8,
        FIXED = (AT_EMPTY + MOST_STAGES * 8 + 127) / 128 * 128
    };
};

/* Thread blocks per multiprocessor that registers must suffice for: as many as shared memory has room for. */
constexpr int least_blocks(int type, int d, int blocks, int groups)
{
    if (groups > 1 || d > 128)
        return 1;
    if (blocks > 1 || (d > 64 && type != MMA_Q8))
        return 2;
    return 3;
}

/* The compiler of sm_100 and sm_120 brings as much into registers as there are, and spills a loop's counters:
 * there half as many parts are on their way at a time. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
enum { SPARING = 2 };
#else
enum { SPARING = 1 };
#endif

/* Of the output whose rows are there: how many, and the tiles of which all rows see all tokens. */
struct loaded_rows {
    uint32_t n_rows, first_whole, n_whole;
};

/* Of one thread. */
template <int TYPE, int D, int BLOCKS, int GROUPS, int NEAR>
struct mma_place {
    using shape = mma_shape<TYPE, D, BLOCKS, GROUPS, NEAR>;

    uint32_t n_stages, stage; /* the next piece's, and the parity of its phase */
    uint32_t parity;
    uint32_t lane, warp, group_id; /* warp: 0 to 3, of a group */
    uint32_t g, c;                 /* lane / 4: a row; lane % 4 */

    /* All offsets are constants, and take no registers. */
    __device__ __forceinline__ static char *memory()
    {
        extern __shared__ __align__(128) char shared[];
        return shared;
    }
    __device__ __forceinline__ static char *pieces()
    {
        return memory() + shape::FIXED;
    }
    __device__ __forceinline__ static uint64_t *full()
    {
        return (uint64_t *)(memory() + shape::AT_FULL);
    }
    __device__ __forceinline__ static uint64_t *empty()
    {
        return (uint64_t *)(memory() + shape::AT_EMPTY);
    }
    __device__ __forceinline__ static float2 *near_levels()
    {
        return (float2 *)(memory() + shape::AT_LEVELS);
    }
    __device__ __forceinline__ static uint32_t *last()
    {
        return (uint32_t *)(memory() + shape::AT_LAST);
    }
    __device__ __forceinline__ uint32_t row(uint32_t, int i) const
    {
        return (group_id * BLOCKS + i) * 8 + g;
    }
    __device__ __forceinline__ uint32_t dim(uint32_t, int j) const
    {
        return warp * (D / 4) + j / 2 * 8 + 2 * c + j % 2;
    }
    __device__ __forceinline__ bool writes_row(uint32_t) const
    {
        return warp == 0 && c == 0;
    }

    __device__ __forceinline__ static struct loaded_rows *loaded()
    {
        return (struct loaded_rows *)(memory() + shape::AT_LAST + sizeof(uint32_t));
    }

    /* ---- a row block's shared memory ---- */

    __device__ __forceinline__ char *block(int b) const
    {
        return memory() + (group_id * BLOCKS + b) * shape::BLOCK;
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

    __device__ __forceinline__ void next_stage()
    {
        if (++stage == n_stages) {
            stage = 0;
            parity ^= 1;
        }
    }
    __device__ __forceinline__ const char *wait_piece()
    {
        mbarrier_wait(&full()[stage], parity);
        return pieces() + (size_t)stage * shape::PIECE;
    }
    __device__ __forceinline__ void wait_pieces(const char *(&two)[2])
    {
        const bool around = stage + 1 == n_stages;
        const uint32_t second = around ? 0 : stage + 1;
        two[0] = wait_piece();
        mbarrier_wait(&full()[second], around ? parity ^ 1 : parity);
        two[1] = pieces() + (size_t)second * shape::PIECE;
    }
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
                       shape::PIECE, &full()[stage], lane, GROUPS == 1);
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
        grid_release();
        for (uint32_t i = 0; i < start.n_tiles; i++)
            copy_tile(start.tile + (size_t)i * TILE);
        while (tiles.next(TILE, &tile)) {
            if (!waited && !tiles.is_settled()) {
                grid_wait();
                waited = true;
            }
            copy_tile(tile);
        }
        if (!waited)
            grid_wait(); /* so that the end of this kernel is that of all before it */
        /* Copies by the lanes themselves must have ended before the block does. */
        for (uint32_t i = 0; i < n_stages; i++) {
            mbarrier_wait(&empty()[stage], parity);
            next_stage();
        }
    }
};

#endif
