/* kernels/attention/cuda/attend_ring.cuh - what both kernels of tensor cores have in shared memory, and the pieces of
 * tiles that come there.
 *
 * A ring of stages, each with room for a piece, in the order K, K, V, V; `full` hears of a piece that has come.
 * Who copies, and how it hears of pieces that all warps are done with, is the kernel's business. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_RING_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_RING_CUH

#include "kernels/attention/cuda/attend_kernel.cuh"

enum mma_type { MMA_F16, MMA_BF16, MMA_Q8 };

/* Sizes in bytes: of a piece, and of a row block's q. */
template <int TYPE, int D>
struct mma_sizes {
    enum {
        KIND = TYPE,
        DIMS = D,
        ROW_BYTES = TYPE == MMA_Q8 ? D / 32 * 34 : 2 * D,
        PIECE = PIECE_TOKENS * ROW_BYTES,
        VALUE_BYTES = PIECE_TOKENS * D * (TYPE == MMA_Q8 ? 1 : 2),
        /* A fragments (q8_0: of two blocks; and of the third parts) */
        Q = TYPE == MMA_Q8 ? D / 32 * 512 : D / 16 * 512,
        Q_THIRD = TYPE == MMA_BF16 ? D / 16 * 256 : 0,
        Q_SCALES = TYPE == MMA_Q8 ? D / 32 * 32 : 32 /* [block][8], or [8] */
    };
};

/* Of the output whose rows are there: how many, and the tiles of which all rows see all tokens. */
struct loaded_rows {
    uint32_t n_rows, first_whole, n_whole;
};

/* Behind the kernel's own: walker::last and loaded_rows; the launch; `full`, and as much for who copies. */
enum {
    RING_LAUNCH = 16,
    RING_FULL = RING_LAUNCH + (sizeof(struct attend_launch) + 15) / 16 * 16,
    RING_MORE = RING_FULL + MOST_STAGES * 8,
    RING_BYTES = RING_MORE + MOST_STAGES * 8
};

/* Of one thread. Shape: mma_sizes, and where in shared memory this begins (AT_LAST) and the pieces (FIXED). */
template <class Shape>
struct mma_ring {
    uint32_t n_stages, stage; /* the next piece's, and the parity of its phase */
    uint32_t parity;
    uint32_t lane;
    uint32_t g, c; /* lane / 4: a row; lane % 4 */

    /* All offsets are constants, and take no registers. */
    __device__ __forceinline__ static char *memory()
    {
        extern __shared__ __align__(128) char shared[];
        return shared;
    }
    __device__ __forceinline__ static char *pieces()
    {
        return memory() + Shape::FIXED;
    }
    __device__ __forceinline__ static uint64_t *full()
    {
        return (uint64_t *)(memory() + Shape::AT_LAST + RING_FULL);
    }
    __device__ __forceinline__ static char *more_barriers()
    {
        return memory() + Shape::AT_LAST + RING_MORE;
    }
    __device__ __forceinline__ static struct attend_launch &launch_memory()
    {
        return *(struct attend_launch *)(memory() + Shape::AT_LAST + RING_LAUNCH);
    }
    __device__ __forceinline__ static uint32_t *last()
    {
        return (uint32_t *)(memory() + Shape::AT_LAST);
    }
    __device__ __forceinline__ static struct loaded_rows *loaded()
    {
        return (struct loaded_rows *)(memory() + Shape::AT_LAST + sizeof(uint32_t));
    }

    /* A barrier must follow. */
    __device__ __forceinline__ void begin(uint32_t stages)
    {
        n_stages = stages;
        stage = parity = 0;
        lane = threadIdx.x % 32;
        g = lane / 4;
        c = lane % 4;
        if (threadIdx.x == 0) {
            for (uint32_t i = 0; i < n_stages; i++)
                mbarrier_init(&full()[i], COPY_ARRIVALS);
            mbarrier_init_fence();
        }
    }

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
        return pieces() + (size_t)stage * Shape::PIECE;
    }
    __device__ __forceinline__ void wait_pieces(const char *(&two)[2])
    {
        const bool around = stage + 1 == n_stages;
        const uint32_t second = around ? 0 : stage + 1;
        two[0] = wait_piece();
        mbarrier_wait(&full()[second], around ? parity ^ 1 : parity);
        two[1] = pieces() + (size_t)second * Shape::PIECE;
    }
};

/* What the host must know of a kernel. */
template <class Shape>
static struct attend_kernel describe(const void *function, enum kv_type type)
{
    struct attend_kernel kernel;
    kernel.function = function;
    kernel.type = type;
    kernel.head_dim = Shape::DIMS;
    kernel.rows = 8 * Shape::ALL_BLOCKS;
    kernel.threads = Shape::THREADS + Shape::COPY_THREADS;
    kernel.fixed_bytes = Shape::FIXED;
    kernel.stage_bytes = Shape::PIECE;
    kernel.partial_bytes = Shape::PARTIAL;
    kernel.near_levels = Shape::NEAR_BEHIND;
    return kernel;
}

#endif
