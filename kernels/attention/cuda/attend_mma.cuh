/* kernels/attention/cuda/attend_mma.cuh - a tile's partial by tensor cores, for few rows.
 *
 * An f32 number is the sum of two f16, or of three bf16, to 22 bits and more, and a product of two such is
 * exact in a tensor core. So q and p are split, and as a row block has 8 rows and a tensor core 16,
 * the second part of row r is row r + 8 of the same instruction: full precision costs no time
 * (bf16: one more instruction for the third). A thread has rows r and r + 8 of a result, and adds them.
 * For f16, which has a narrow range, a row of q is multiplied by a power of two first, and p, at
 * most 1, by 2^14. q8_0: q is made int8 as kernels/attention/tile.h says and dot products are exact
 * integers; p times V's scale is a fixed-point number (attend_fixed.cuh), two digits of it in one instruction, and
 * dot products are exact again.
 *
 * 4 warps share a row block: for the scores each takes 32 tokens of the tile, for the values a quarter
 * of the dimensions. Weights go through shared memory between. A warp more brings pieces, in the order
 * K, K, V, V. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_MMA_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_MMA_CUH

#include "kernels/attention/cuda/attend_fixed.cuh"
#include "kernels/attention/cuda/attend_place.cuh"
#include "kernels/attention/cuda/attend_query.cuh"

template <int TYPE, int D, int BLOCKS, int NEAR>
struct mma_evaluator : mma_query<mma_place<TYPE, D, BLOCKS, NEAR>> {
    using place = mma_place<TYPE, D, BLOCKS, NEAR>;
    using shape = typename place::shape;
    using place::block;
    using place::c;
    using place::g;
    using place::lane;
    using place::leave_piece;
    using place::leave_pieces;
    using place::maxima;
    using place::row;
    using place::scales;
    using place::sums;
    using place::wait_piece;
    using place::wait_pieces;
    using place::warp;
    using place::weights;
    enum {
        ROWS = BLOCKS,
        VALUES = D / 16,
        THREADS = shape::THREADS,
        LOOKS_AGAIN = 0,
        PART_LOADS = least_blocks(TYPE, D, BLOCKS) > 2 ? 20
                     : BLOCKS > 1                      ? 30
                                                       : 40,
        TILES_N = D / 32 /* blocks of 8 dimensions that a warp has of V */
    };

    /* ---- scores ---- */

    /* Of the thread's tokens 2 c and 2 c + 1 of each of the warp's blocks of 8, in a piece. c[0] and
     * c[1]: row g; c[2] and c[3]: what the second parts give. */
    __device__ __forceinline__ void multiply_piece(const char *piece, int p, uint32_t n_blocks,
                                                   float (&s)[BLOCKS][4][4])
    {
        const uint4 *k = (const uint4 *)piece + (size_t)warp * 2 * (D / 32) * 32 + lane;
#pragma unroll
        for (int i = 0; i < D / 32; i++) {
            const uint4 key[2] = {k[i * 32], k[(D / 32 + i) * 32]};
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                if (BLOCKS > 1 && b >= (int)n_blocks)
                    continue;
                const uint4 *q = (const uint4 *)block(b) + 2 * i * 32 + lane;
                const uint4 q0 = q[0], q1 = q[32];
                const uint2 *third = (const uint2 *)(block(b) + shape::Q) + 2 * i * 32 + lane;
                const uint2 t0 = TYPE == MMA_BF16 ? third[0] : make_uint2(0, 0);
                const uint2 t1 = TYPE == MMA_BF16 ? third[32] : make_uint2(0, 0);
                const uint4 thirds = make_uint4(t0.x, t0.y, t1.x, t1.y);
#pragma unroll
                for (int j = 0; j < 2; j++)
                    add_products<TYPE>(s[b][2 * p + j], q0, q1, thirds, key[j]);
            }
        }
    }

    /* Both pieces. */
    __device__ __forceinline__ void multiply_pieces_q8(const char *const (&piece)[2],
                                                       uint32_t n_blocks, float (&s)[BLOCKS][4][4])
    {
        enum { SCALES = D / 64 }; /* of 8 each, of a lane's tokens in a piece */
        uint4 k_scale[2][SCALES];
#pragma unroll
        for (int p = 0; p < 2; p++)
#pragma unroll
            for (int i = 0; i < SCALES; i++)
                k_scale[p][i] =
                    ((const uint4 *)(piece[p] + shape::VALUE_BYTES))[(warp * 4 + c) * SCALES + i];
#pragma unroll
        for (int i = 0; i < D / 32; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) { /* blocks of 8 tokens, two of a piece */
                const int at = j % 2 * (D / 32) + i;
                const uint2 key =
                    ((const uint2 *)piece[j / 2])[(warp * 2 * (D / 32) + at) * 32 +
                                                  (lane ^ j % 2 * 8)]; /* as piece_k_byte_at */
                const uint4 four = k_scale[j / 2][at / 4];
                const float2 scale = __half22float2(halves(at % 4 == 0   ? four.x
                                                           : at % 4 == 1 ? four.y
                                                           : at % 4 == 2 ? four.z
                                                                         : four.w));
                const uint4 q = ((const uint4 *)block(0))[i * 32 + lane];
                const uint32_t rows[4] = {q.x, q.y, q.z, q.w}, columns[2] = {key.x, key.y};
                int dot[4] = {0, 0, 0, 0};
                mma_32(dot, rows, columns);
#pragma unroll
                for (int b = 0; b < BLOCKS; b++) {
                    if (BLOCKS > 1 && b >= (int)n_blocks)
                        continue;
                    const float q_scale = scales(b)[i * 8 + g];
                    float(&sum)[4] = s[b][j];
                    sum[0] = __fmaf_rn((float)dot[2 * b], __fmul_rn(scale.x, q_scale), sum[0]);
                    sum[1] = __fmaf_rn((float)dot[2 * b + 1], __fmul_rn(scale.y, q_scale), sum[1]);
                }
            }
    }

    /* Scales, caps and masks the sums, in s[b][j][0] and [1]; the largest of the warp's to maxima. */
    __device__ __forceinline__ void finish_scores(const struct attend_launch &launch,
                                                  const struct job_output &output, uint32_t tile,
                                                  bool masked, int b, float (&s)[4][4])
    {
        float largest = NOTHING;
        struct seen seen = {0, TOKENS};
        if (masked)
            seen = tokens_seen(launch, output, tile, row(0, b));
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float x = TYPE == MMA_Q8 ? s[j][i]
                                         : __fmul_rn(__fadd_rn(s[j][i], s[j][i + 2]), scales(b)[g]);
                if (launch.soft_cap > 0.0f)
                    x = soft_capped(x, launch.soft_cap, launch.cap_factor);
                if (masked) {
                    const int t = j / 2 * 64 + (int)warp * 16 + j % 2 * 8 + 2 * (int)c + i;
                    if (t < seen.first || t >= seen.last)
                        x = NOTHING;
                }
                s[j][i] = x;
                largest = fmaxf(largest, x);
            }
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, 2));
        if (c == 0)
            maxima(b)[warp * 8 + g] = largest;
    }

    /* Where row g's tokens 2 k and 2 k + 1 of 8 begin, of a block of 32: high parts of both, low
     * parts of both. So that lanes find their fragments of 16 tokens side by side. */
    __device__ __forceinline__ uint32_t two_parts_at(uint32_t block, uint32_t eight,
                                                     uint32_t k) const
    {
        return ((block * 2 + k / 2) * 32 + g * 4 + eight) * 16 + k % 2 * 8;
    }

    /* Turns the scores into weights, for all warps in shared memory, and leaves their sum. */
    __device__ __forceinline__ void write_weights(int b, float m, const float (&s)[4][4])
    {
        const float base = m == NOTHING ? 0.0f : m;
        char *to = weights(b);
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float p0 = weight(s[j][0], base), p1 = weight(s[j][1], base);
            sum = __fadd_rn(sum, __fadd_rn(p0, p1));
            /* block of 32 tokens; row; token */
            const uint32_t block = j / 2 * 2 + warp / 2, eight = warp % 2 * 2 + j % 2,
                           at = (block * 8 + g) * 32 + eight * 8 + 2 * c;
            uint2 *const two = (uint2 *)(to + two_parts_at(block, eight, c));
            if (TYPE == MMA_Q8) {
                *(float2 *)(to + at * 4) = make_float2(__fmul_rn(p0, (float)(1 << WEIGHT_BITS)),
                                                       __fmul_rn(p1, (float)(1 << WEIGHT_BITS)));
            } else if (TYPE == MMA_F16) {
                split_weights(p0, p1, &two->x, &two->y);
            } else {
                uint16_t a[3], d[3];
                split_bf16(p0, a);
                split_bf16(p1, d);
                *two = make_uint2(pair_of(a[0], d[0]), pair_of(a[1], d[1]));
                *(uint32_t *)(to + 2 * shape::P_PART + at * 2) = pair_of(a[2], d[2]);
            }
        }
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffff, sum, 1));
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffff, sum, 2));
        if (c == 0)
            sums(b)[warp * 8 + g] = sum;
    }

    /* ---- values ---- */

    __device__ __forceinline__ void add_piece(const char *piece, int p, uint32_t n_blocks,
                                              bool masked, struct seen any,
                                              float (&o)[BLOCKS][TILES_N][4])
    {
#pragma unroll
        for (int i = 0; i < 2; i++) /* blocks of 32 tokens */
            add_block(piece, p, i, n_blocks, masked, any, o);
    }

    /* Block i of 32 tokens of a piece. */
    __device__ __forceinline__ void add_block(const char *piece, int p, int i, uint32_t n_blocks,
                                              bool masked, struct seen any,
                                              float (&o)[BLOCKS][TILES_N][4])
    {
        const uint4 *v = (const uint4 *)piece + (i * (D / 8) + warp * TILES_N) * 32 + lane;
        uint4 value[TILES_N];
#pragma unroll
        for (int n = 0; n < TILES_N; n++)
            value[n] = v[n * 32];
        if (masked)
#pragma unroll
            for (int n = 0; n < TILES_N; n++)
                value[n] = mask_tokens(value[n], (2 * p + i) * 32 + 8 * (int)c, any);
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            if (BLOCKS > 1 && b >= (int)n_blocks)
                continue;
            const uint4 w0 = *(const uint4 *)(weights(b) + two_parts_at(2 * p + i, c, 0)),
                        w1 = *(const uint4 *)(weights(b) + two_parts_at(2 * p + i, c, 2));
            const uint4 w2 = TYPE == MMA_BF16
                                 ? *(const uint4 *)(weights(b) + 2 * shape::P_PART +
                                                    (((2 * p + i) * 8 + g) * 32 + 8 * c) * 2)
                                 : make_uint4(0, 0, 0, 0);
#pragma unroll
            for (int n = 0; n < TILES_N; n++)
                add_products<TYPE>(o[b][n], w0, w1, w2, value[n]);
        }
    }

    /* The scales of a block of 32 dimensions of V: of the lane's tokens 8 c to 8 c + 7 of each
     * 32, brought below 4 by the largest of those that the lane's row sees, and no other: a
     * row's bits must not tell which tokens its neighbours see. Others come along as they are:
     * the weight that they are multiplied by is 0. */
    __device__ __forceinline__ void load_v_scales(const char *const (&piece)[2], uint32_t block,
                                                  bool masked, struct seen seen, uint4 (&scale)[4],
                                                  float *unit)
    {
        __half2 largest = halves(0);
#pragma unroll
        for (int i = 0; i < 4; i++)
            scale[i] = v_scales<shape>(piece, block, i, c);
        if (masked)
#pragma unroll(BLOCKS > 1 ? 1 : 4)
            for (int i = 0; i < 4; i++) /* one at a time where registers are short */
                largest = largest_of(largest, mask_tokens(v_scales<shape>(piece, block, i, c),
                                                          i * 32 + 8 * (int)c, seen));
        else
#pragma unroll
            for (int i = 0; i < 4; i++)
                largest = largest_of(largest, scale[i]);
        uint32_t power;
        power_for_scales(largest, &power, unit);
#pragma unroll
        for (int i = 0; i < 4; i++)
            scale[i] = scaled_by(scale[i], power);
    }

    /* Both pieces at once: the scales of a tile must be known before they are brought into
     * range. The warp's dimensions lie in SETS blocks of 32 with a scale each, or in a part of
     * one. Sums of digits are exact. */
    __device__ __forceinline__ void add_pieces_q8(const char *const (&piece)[2], uint32_t n_blocks,
                                                  const struct attend_launch &launch,
                                                  const struct job_output &output, uint32_t tile,
                                                  bool masked, struct rows<BLOCKS, VALUES> &x)
    {
        enum { SETS = D > 128 ? D / 128 : 1, SET_N = TILES_N / SETS };
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            const uint32_t first = warp * TILES_N + set * SET_N; /* block of 8 dimensions */
            uint4 scale[4];
            float unit;
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                if (BLOCKS > 1 && b >= (int)n_blocks)
                    continue;
                struct seen seen = {0, TOKENS};
                if (masked)
                    seen = tokens_seen(launch, output, tile, row(0, b));
                if (b == 0 || masked)
                    load_v_scales(piece, first / 4, masked, seen, scale, &unit);
                int low[SET_N][4], high[SET_N][4]; /* sums of digits 0 and 1; 2 and 3 */
#pragma unroll
                for (int n = 0; n < SET_N; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        low[n][i] = high[n][i] = 0;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float4 *p = (const float4 *)(weights(b) + ((i * 8 + g) * 32 + 8 * c) * 4);
                    uint32_t first_digits[4], last_digits[4];
                    fixed_weights(p[0], p[1], scale[i], first_digits, last_digits);
                    const uint2 *v =
                        (const uint2 *)piece[i / 2] + (i % 2 * (D / 8) + first) * 32 + lane;
#pragma unroll
                    for (int n = 0; n < SET_N; n++) {
                        const uint2 value = v[n * 32];
                        const uint32_t bytes[2] = {value.x, value.y};
                        mma_32_unsigned(low[n], first_digits, bytes);
                        mma_32_unsigned(high[n], last_digits, bytes);
                    }
                }
#pragma unroll
                for (int n = 0; n < SET_N; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        x.o[b][(set * SET_N + n) * 2 + i] = fixed_value(low[n], high[n], i, unit);
            }
        }
    }

    /* ---- a tile ---- */

    __device__ __forceinline__ void evaluate(const struct attend_launch &launch,
                                             const struct job_output &output, uint32_t tile,
                                             struct rows<BLOCKS, VALUES> &x)
    {
        const struct loaded_rows loaded = *this->loaded();
        const bool masked = tile - loaded.first_whole >= loaded.n_whole;
        const uint32_t n_blocks = (loaded.n_rows + 7) / 8; /* that have rows */
        {
            float s[BLOCKS][4][4];
#pragma unroll
            for (int b = 0; b < BLOCKS; b++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    s[b][j][0] = s[b][j][1] = s[b][j][2] = s[b][j][3] = 0.0f;
            if (TYPE == MMA_Q8) {
                const char *piece[2];
                wait_pieces(piece);
                multiply_pieces_q8(piece, n_blocks, s);
                leave_pieces();
            }
#pragma unroll
            for (int p = 0; p < 2 && TYPE != MMA_Q8; p++) {
                multiply_piece(wait_piece(), p, n_blocks, s);
                leave_piece();
            }
#pragma unroll
            for (int b = 0; b < BLOCKS; b++)
                if (BLOCKS == 1 || b < (int)n_blocks)
                    finish_scores(launch, output, tile, masked, b, s[b]);
            threads_wait(2, THREADS);
#pragma unroll
            for (int b = 0; b < BLOCKS; b++) {
                x.m[b] = NOTHING;
                if (BLOCKS > 1 && b >= (int)n_blocks)
                    continue;
                const float *m = maxima(b) + g;
                x.m[b] = __fadd_rn(fmaxf(fmaxf(m[0], m[8]), fmaxf(m[16], m[24])), 0.0f);
                write_weights(b, x.m[b], s[b]);
            }
            threads_wait(2, THREADS);
        }
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            const float *l = sums(b) + g;
            x.l[b] = BLOCKS > 1 && b >= (int)n_blocks
                         ? 0.0f
                         : __fadd_rn(__fadd_rn(l[0], l[8]), __fadd_rn(l[16], l[24]));
        }
        if (TYPE == MMA_Q8) {
            /* Blocks without rows keep a value that nobody reads. */
#pragma unroll
            for (int b = 0; b < BLOCKS; b++)
#pragma unroll
                for (int j = 0; j < VALUES; j++)
                    x.o[b][j] = 0.0f;
            const char *piece[2];
            wait_pieces(piece);
            add_pieces_q8(piece, n_blocks, launch, output, tile, masked, x);
            leave_pieces();
            return;
        }
        const struct seen any = tokens_any(output, tile);
        float o[BLOCKS][TILES_N][4];
#pragma unroll
        for (int b = 0; b < BLOCKS; b++)
#pragma unroll
            for (int n = 0; n < TILES_N; n++)
                o[b][n][0] = o[b][n][1] = o[b][n][2] = o[b][n][3] = 0.0f;
#pragma unroll
        for (int p = 0; p < 2; p++) {
            add_piece(wait_piece(), p, n_blocks, masked, any, o);
            leave_piece();
        }
#pragma unroll
        for (int b = 0; b < BLOCKS; b++)
#pragma unroll
            for (int n = 0; n < TILES_N; n++)
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float sum = __fadd_rn(o[b][n][i], o[b][n][i + 2]);
                    x.o[b][2 * n + i] = TYPE == MMA_F16 ? __fmul_rn(sum, 1.0f / WEIGHT_SCALE) : sum;
                }
    }
};

template <int TYPE, int D, int BLOCKS, int NEAR>
__global__ void __launch_bounds__(128 + 32, least_blocks(TYPE, D, BLOCKS))
    attend_mma(const struct attend_launch *call, uint32_t n_stages)
{
    mma_evaluator<TYPE, D, BLOCKS, NEAR> e;
    struct attend_launch &launch = e.launch_memory();
    e.begin(n_stages);
    const struct job_start *start =
        (const struct job_start *)((const char *)call + LAUNCH_BYTES) + blockIdx.x;
    touch(start);
    fetch_launch(&launch, call);
    __syncthreads();
    if (threadIdx.x >= e.THREADS) {
        e.copy(launch, *start);
        return;
    }
    walker<mma_evaluator<TYPE, D, BLOCKS, NEAR>> walk = {launch, e, threadIdx.x};
    walk.run();
}

/* Near levels: as many as leave room for the pipeline. */
template <int TYPE, int D, int BLOCKS, int NEAR>
static struct attend_kernel describe_mma(enum kv_type type)
{
    return describe<mma_shape<TYPE, D, BLOCKS, NEAR>>(
        (const void *)attend_mma<TYPE, D, BLOCKS, NEAR>, type);
}

#endif
