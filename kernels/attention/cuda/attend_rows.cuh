/* kernels/attention/cuda/attend_rows.cuh - a tile's partial by tensor cores, for many rows: prompts, of f16 and bf16.
 *
 * The numbers and their order are those of attend_mma.cuh, so that rows have the same bits; but a warp has row
 * blocks of its own, all tokens and all dimensions of them, and asks no other warp (Dao 2023,
 * FlashAttention-2, section 3.3). What a lane has of the scores, tokens of a row and of its second part, is
 * what it must have of the weights as an A operand: they stay in registers. For that the tokens of K are
 * taken in another order: column n of block j of 8, of a block of 32 tokens, is token n / 2 * 8 + 2 j + n % 2, so that
 * lane c of a row has tokens 8 c to 8 c + 7 there, as in a fragment of V.
 *
 * Registers leave no room for a warp that copies: the last one to leave a piece brings the next one there. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_CUH

#include "kernels/attention/cuda/attend_query.cuh"

#include <new>

/* Two for each scheduler: one multiplies while the other makes weights. */
enum { ROWS_WARPS = 8 };

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

template <int TYPE, int D, int BLOCKS>
struct rows_evaluator : mma_query<rows_place<TYPE, D, BLOCKS>> {
    using place = rows_place<TYPE, D, BLOCKS>;
    using shape = typename place::shape;
    using place::block;
    using place::c;
    using place::g;
    using place::lane;
    using place::leave_piece;
    using place::leave_pieces;
    using place::loaded;
    using place::row;
    using place::scales;
    using place::wait_piece;
    using place::wait_pieces;
    using place::warp;
    enum {
        ROWS = BLOCKS,
        VALUES = D / 4,
        THREADS = shape::THREADS,
        LOOKS_AGAIN = 1,
        PART_LOADS = 1,
        EIGHTS = TOKENS / 8, /* blocks of 8 tokens: j of 4 of each of 32 */
        STEP = D / 32,
        PARTS = TYPE == MMA_BF16 ? 3 : 2
    };

    /* ---- scores ---- */

    /* Of a piece, which is a half of the tile: s[b][t] of tokens 32 (t / 4) + 8 c + 2 (t % 4), and the next one. */
    template <int N>
    __device__ __forceinline__ void multiply(const char *piece, int half, float (&s)[N][EIGHTS][2])
    {
        const char *k = piece + ((g / 2 * (D / 32)) * 8 + g % 2) * 64 + c * 16;
        float sum[N][EIGHTS / 2][4];
#pragma unroll
        for (int b = 0; b < N; b++)
#pragma unroll
            for (int t = 0; t < EIGHTS / 2; t++)
                sum[b][t][0] = sum[b][t][1] = sum[b][t][2] = sum[b][t][3] = 0.0f;
#pragma unroll 1
        for (int i = 0; i < D / 32; i++) {
            uint4 q0[N], q1[N];
            uint2 t0[N], t1[N];
#pragma unroll
            for (int b = 0; b < N; b++) {
                const uint4 *q = (const uint4 *)block(b) + 2 * i * 32 + lane;
                q0[b] = q[0];
                q1[b] = q[32];
                if (TYPE == MMA_BF16) {
                    const uint2 *third = (const uint2 *)(block(b) + shape::Q) + 2 * i * 32 + lane;
                    t0[b] = third[0];
                    t1[b] = third[32];
                }
            }
#pragma unroll
            for (int t = 0; t < EIGHTS / 2; t++) {
                const uint4 key =
                    *(const uint4 *)(k + (t / 4 * 4 * (D / 32) + i) * 512 + t % 4 * 128);
#pragma unroll
                for (int b = 0; b < N; b++)
                    if (TYPE == MMA_F16) {
                        mma_f16(sum[b][t], q0[b].x, q0[b].y, q0[b].z, q0[b].w, key.x, key.y);
                    } else {
                        mma_bf16(sum[b][t], q0[b].x, q0[b].y, q0[b].z, q0[b].w, key.x, key.y);
                        mma_bf16(sum[b][t], t0[b].x, 0, t0[b].y, 0, key.x, key.y);
                    }
#pragma unroll
                for (int b = 0; b < N; b++)
                    if (TYPE == MMA_F16) {
                        mma_f16(sum[b][t], q1[b].x, q1[b].y, q1[b].z, q1[b].w, key.z, key.w);
                    } else {
                        mma_bf16(sum[b][t], q1[b].x, q1[b].y, q1[b].z, q1[b].w, key.z, key.w);
                        mma_bf16(sum[b][t], t1[b].x, 0, t1[b].y, 0, key.z, key.w);
                    }
            }
        }
#pragma unroll
        for (int b = 0; b < N; b++)
#pragma unroll
            for (int t = 0; t < EIGHTS / 2; t++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    s[b][half * (EIGHTS / 2) + t][i] = __fadd_rn(sum[b][t][i], sum[b][t][i + 2]);
    }

    /* Scales, caps and masks a row's scores. Returns the largest of all tokens, + 0. */
    __device__ __forceinline__ float finish_scores(const struct attend_launch &launch,
                                                   const struct job_output &output, uint32_t tile,
                                                   bool masked, int b, float (&s)[EIGHTS][2])
    {
        const float scale = scales(b)[g];
        float largest = NOTHING;
#pragma unroll
        for (int t = 0; t < EIGHTS; t++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                s[t][i] = __fmul_rn(s[t][i], scale);
        if (launch.soft_cap > 0.0f)
#pragma unroll
            for (int t = 0; t < EIGHTS; t++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    s[t][i] = soft_capped(s[t][i], launch.soft_cap, launch.cap_factor);
        if (masked) {
            const struct seen seen = tokens_seen(launch, output, tile, row(0, b));
            const int first = seen.first - 8 * (int)c, last = seen.last - 8 * (int)c;
#pragma unroll
            for (int t = 0; t < EIGHTS; t++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int token = t / 4 * 32 + t % 4 * 2 + i;
                    if (token < first || token >= last)
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

    /* Weights as A operands, in parts. */
    __device__ __forceinline__ void split(const float (&s)[2], uint32_t (&p)[PARTS])
    {
        if (TYPE == MMA_F16) {
            split_weights(s[0], s[1], &p[0], &p[1]);
        } else {
            uint16_t a[3], d[3];
            split_bf16(s[0], a);
            split_bf16(s[1], d);
#pragma unroll
            for (int i = 0; i < PARTS; i++)
                p[i] = pair_of(a[i], d[i]);
        }
    }

    /* ---- values ---- */

    /* STEP blocks of 8 dimensions from `first` on, of all tokens. MASKED: memory that was never written may hold
     * NaN. */
    template <int N, bool MASKED>
    __device__ __forceinline__ void add_values(const struct job_output &output, uint32_t tile,
                                               const char *const (&piece)[2], int first,
                                               const uint32_t (&p)[N][EIGHTS][PARTS],
                                               float (&o)[N][STEP][4])
    {
        const struct seen any = MASKED ? tokens_any(output, tile) : (struct seen){0, TOKENS};
#pragma unroll
        for (int u = 0; u < TOKENS / 32; u++) {
            const uint4 *v = (const uint4 *)piece[u / 2] + (u % 2 * (D / 8) + first) * 32 + lane;
#pragma unroll
            for (int n = 0; n < STEP; n++) {
                uint4 value = v[n * 32];
                if (MASKED)
                    value = mask_tokens(value, u * 32 + 8 * (int)c, any);
#pragma unroll
                for (int half = 0; half < 2; half++)
#pragma unroll
                    for (int b = 0; b < N; b++) {
                        const uint32_t(&p0)[PARTS] = p[b][4 * u + 2 * half];
                        const uint32_t(&p1)[PARTS] = p[b][4 * u + 2 * half + 1];
                        const uint32_t v0 = half == 0 ? value.x : value.z;
                        const uint32_t v1 = half == 0 ? value.y : value.w;
                        if (TYPE == MMA_F16) {
                            mma_f16(o[b][n], p0[0], p0[1], p1[0], p1[1], v0, v1);
                        } else {
                            mma_bf16(o[b][n], p0[0], p0[1], p1[0], p1[1], v0, v1);
                            mma_bf16(o[b][n], p0[PARTS - 1], 0, p1[PARTS - 1], 0, v0, v1);
                        }
                    }
            }
        }
    }

    /* STEP blocks of dimensions at a time, as registers are short. */
    template <int N>
    __device__ __forceinline__ void multiply_values(const struct job_output &output, uint32_t tile,
                                                    bool masked, const char *const (&piece)[2],
                                                    const uint32_t (&p)[N][EIGHTS][PARTS],
                                                    struct rows<BLOCKS, VALUES> &x)
    {
#pragma unroll
        for (int first = 0; first < D / 8; first += STEP) {
            float o[N][STEP][4];
#pragma unroll
            for (int b = 0; b < N; b++)
#pragma unroll
                for (int n = 0; n < STEP; n++)
                    o[b][n][0] = o[b][n][1] = o[b][n][2] = o[b][n][3] = 0.0f;
            if (masked)
                add_values<N, true>(output, tile, piece, first, p, o);
            else
                add_values<N, false>(output, tile, piece, first, p, o);
#pragma unroll
            for (int b = 0; b < N; b++)
#pragma unroll
                for (int n = 0; n < STEP; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const float sum = __fadd_rn(o[b][n][i], o[b][n][i + 2]);
                        x.o[b][2 * (first + n) + i] =
                            TYPE == MMA_F16 ? __fmul_rn(sum, 1.0f / WEIGHT_SCALE) : sum;
                    }
        }
    }

    /* ---- a tile ---- */

    /* N of the warp's row blocks have rows. */
    template <int N>
    __device__ __forceinline__ void evaluate_blocks(const struct attend_launch &launch,
                                                    const struct job_output &output, uint32_t tile,
                                                    struct rows<BLOCKS, VALUES> &x)
    {
        const bool masked = tile - loaded()->first_whole >= loaded()->n_whole;
        uint32_t p[N][EIGHTS][PARTS];
        {
            float s[N][EIGHTS][2];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                multiply<N>(wait_piece(), half, s);
                leave_piece();
            }
#pragma unroll
            for (int b = 0; b < N; b++) {
                x.m[b] = finish_scores(launch, output, tile, masked, b, s[b]);
                x.l[b] = make_weights(x.m[b], s[b]);
#pragma unroll
                for (int t = 0; t < EIGHTS; t++)
                    split(s[b][t], p[b][t]);
            }
        }
        const char *piece[2];
        wait_pieces(piece);
        multiply_values<N>(output, tile, masked, piece, p, x);
        leave_pieces();
    }

    __device__ __forceinline__ void evaluate(const struct attend_launch &launch,
                                             const struct job_output &output, uint32_t tile,
                                             struct rows<BLOCKS, VALUES> &x)
    {
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

template <int TYPE, int D, int BLOCKS>
__global__ void __launch_bounds__(ROWS_WARPS * 32, 1)
    attend_rows(const struct attend_launch *call, uint32_t n_stages)
{
    rows_evaluator<TYPE, D, BLOCKS> e;
    struct attend_launch &launch = e.launch_memory();
    e.begin(n_stages);
    fetch_launch(&launch, call);
    __syncthreads();
    if (e.warp == 0)
        e.bring_first(launch);
    walker<rows_evaluator<TYPE, D, BLOCKS>> walk = {launch, e, threadIdx.x};
    walk.run();
}

template <int TYPE, int D, int BLOCKS>
static struct attend_kernel describe_rows(enum kv_type type)
{
    return describe<rows_shape<TYPE, D, BLOCKS>>((const void *)attend_rows<TYPE, D, BLOCKS>, type);
}

#endif
