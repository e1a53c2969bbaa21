/* kernels/attention/cuda/attend_rows.cuh - a tile's partial by tensor cores, for many rows: prompts.
 *
 * The numbers and their order are those of attend_mma.cuh, so that rows have the same bits; but a warp has row
 * blocks of its own, all tokens and all dimensions of them, and asks no other warp (Dao 2023,
 * FlashAttention-2, section 3.3). What a lane has of the scores, tokens of a row, is what it must have of the weights as
 * an A operand: they stay in registers. For that the tokens of K are taken in another order: column n of block j of 8, of
 * a block of 32 tokens, is token n / 2 * 8 + 2 j + n % 2, so that lane c of a row has tokens 8 c to 8 c + 7 there, as
 * in a fragment of V.
 *
 * Products is what depends on the KV type, attend_rows_float.cuh or attend_rows_q8.cuh. It has the constants that follow,
 * and of N row blocks
 *     multiply_keys<N>(s)                                      waits for K and leaves it; scores
 *     multiply_values<N>(launch, output, tile, masked, s, x)   likewise V; s are weights now; x.o */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_CUH

#include "kernels/attention/cuda/attend_rows_place.cuh"

template <class Products>
struct rows_evaluator : Products {
    using shape = typename Products::shape;
    using Products::c;
    using Products::lane;
    using Products::leave_piece;
    using Products::loaded;
    using Products::row;
    using Products::wait_piece;
    using Products::warp;
    enum {
        BLOCKS = shape::ROW_BLOCKS,
        ROWS = BLOCKS,
        VALUES = shape::DIMS / 4,
        THREADS = shape::THREADS,
        LOOKS_AGAIN = 1,
        PART_LOADS = 1
    };

    /* ---- scores ---- */

    /* Caps and masks a row's scores. Returns the largest of all tokens, + 0. */
    __device__ __forceinline__ float finish_scores(const struct attend_launch &launch,
                                                   const struct job_output &output, uint32_t tile,
                                                   bool masked, int b, float (&s)[EIGHTS][2])
    {
        float largest = NOTHING;
        if (launch.soft_cap > 0.0f)
#pragma unroll
            for (int t = 0; t < EIGHTS; t++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    s[t][i] = soft_capped(s[t][i], launch.soft_cap, launch.cap_factor);
        if (masked) {
            const struct seen seen = seen_by_lane(tokens_seen(launch, output, tile, row(0, b)), c);
#pragma unroll
            for (int t = 0; t < EIGHTS; t++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int token = t / 4 * 32 + t % 4 * 2 + i;
                    if (token < seen.first || token >= seen.last)
                        s[t][i] = NOTHING;
                }
        }
#pragma unroll
        for (int t = 0; t < EIGHTS; t++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                largest = fmaxf(largest, s[t][i]);
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
        return __fadd_rn(largest, 0.0f);
    }

    /* ---- weights ---- */

    /* Makes a row's scores weights. Returns their sum, in the order of attend_mma.cuh: there a warp has of each
     * 64 tokens two blocks of 8, 16 apart from those of the next warp, and a lane has pairs as far apart as they
     * are here, each of which is added to the pairs at the same place of the warp's other blocks. So lanes 0
     * and 1 have the pairs of one warp there, lanes 2 and 3 of the next. */
    __device__ __forceinline__ float make_weights(float m, float (&s)[EIGHTS][2])
    {
        const float base = m == NOTHING ? 0.0f : m;
        float of_warps[2]; /* w: 32 tokens further, in lanes 0 and 2 */
#pragma unroll
        for (int w = 0; w < 2; w++) {
            float sum[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int half = 0; half < 2; half++) { /* of the tile */
                    float(&pair)[2] = s[half * 8 + w * 4 + j];
                    pair[0] = weight(pair[0], base);
                    pair[1] = weight(pair[1], base);
                    const float mine = __fadd_rn(pair[0], pair[1]);
                    const float next = __shfl_xor_sync(0xffffffff, mine, 1);
                    sum[j] = __fadd_rn(half == 0 ? mine : __fadd_rn(sum[j], mine), next);
                }
            }
            of_warps[w] = __fadd_rn(__fadd_rn(sum[0], sum[1]), __fadd_rn(sum[2], sum[3]));
            of_warps[w] = __fadd_rn(of_warps[w], __shfl_xor_sync(0xffffffff, of_warps[w], 2));
        }
        return __shfl_sync(0xffffffff, __fadd_rn(of_warps[0], of_warps[1]), lane & ~3u);
    }

    /* ---- a tile ---- */

    /* N of the warp's row blocks have rows. */
    template <int N>
    __device__ __forceinline__ void evaluate_blocks(const struct attend_launch &launch,
                                                    const struct job_output &output, uint32_t tile,
                                                    struct rows<BLOCKS, VALUES> &x)
    {
        const bool masked = tile - loaded()->first_whole >= loaded()->n_whole;
        float s[N][EIGHTS][2];
        Products::template multiply_keys<N>(s);
#pragma unroll
        for (int b = 0; b < N; b++) {
            x.m[b] = finish_scores(launch, output, tile, masked, b, s[b]);
            x.l[b] = make_weights(x.m[b], s[b]);
        }
        this->look_again();
        Products::template multiply_values<N>(launch, output, tile, masked, s, x);
    }

    __device__ __forceinline__ void evaluate(const struct attend_launch &launch,
                                             const struct job_output &output, uint32_t tile,
                                             struct rows<BLOCKS, VALUES> &x)
    {
        this->look_again();
        const uint32_t all = (loaded()->n_rows + 7) / 8;
        const uint32_t n = (all + ROWS_WARPS - 1 - warp) / ROWS_WARPS; /* this warp's with rows */
        if (n == BLOCKS) {
            evaluate_blocks<BLOCKS>(launch, output, tile, x);
            return;
        }
        clear(x);
        if (BLOCKS > 1 && n > 0) {
            evaluate_blocks<1>(launch, output, tile, x);
            return;
        }
        for (int i = 0; i < TILE_PIECES; i++) {
            (void)wait_piece();
            leave_piece();
        }
    }
};

template <class Products>
__global__ void __launch_bounds__(ROWS_WARPS * 32, 1)
    attend_rows(const struct attend_launch *call, uint32_t n_stages)
{
    rows_evaluator<Products> e;
    struct attend_launch &launch = e.launch_memory();
    e.begin(n_stages);
    fetch_launch(&launch, call);
    __syncthreads();
    if (e.warp == 0)
        e.bring_first(launch);
    walker<rows_evaluator<Products>> walk = {launch, e, threadIdx.x};
    walk.run();
}

template <class Products>
static struct attend_kernel describe_rows(enum kv_type type)
{
    return describe<typename Products::shape>((const void *)attend_rows<Products>, type);
}

#endif
