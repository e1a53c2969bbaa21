/* kernels/attention/cuda/attend_rows_q8.cuh - products of prompts' rows by K and V of q8_0, in integers.
 *
 * Two row blocks are the 16 rows of one product by K. Of V each has its own, whose rows are two digits of the
 * weights (attend_fixed.cuh); what is loaded of V, and its scales where all rows see the whole tile, serve both. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_Q8_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_Q8_CUH

#include "kernels/attention/cuda/attend_fixed.cuh"
#include "kernels/attention/cuda/attend_rows_place.cuh"

template <int D>
struct rows_q8 : mma_query<rows_place<MMA_Q8, D, 2>> {
    enum { BLOCKS = 2, SCALES = D / 32 /* blocks of 32 dimensions */ };
    using place = rows_place<MMA_Q8, D, BLOCKS>;
    using shape = typename place::shape;
    using place::block;
    using place::c;
    using place::g;
    using place::lane;
    using place::leave_piece;
    using place::leave_pieces;
    using place::row;
    using place::scales;
    using place::wait_piece;
    using place::wait_pieces;

    /* ---- scores ---- */

    /* q of a warp's row blocks. */
    template <int N>
    struct q_rows {
        uint4 operand[SCALES];
        float scale[N][SCALES];
    };

    /* K's scales of tokens t and t + 1. */
    struct alignas(4 * SCALES) k_scales {
        uint32_t pair[SCALES];
    };

    /* Of a piece, which is a half of the tile. */
    template <int N>
    __device__ __forceinline__ void multiply(const char *piece, int half, const q_rows<N> &q,
                                             float (&s)[N][EIGHTS][2])
    {
        const uint32_t swap = g / 2 % 2 * 64; /* as piece_k_byte_at */
        const char *k = piece + g / 2 * SCALES * 256 + g % 2 * 32 + c * 8;
        const char *const rows_of[2] = {k + swap, k - swap};
        const k_scales *scales_at =
            (const k_scales *)(piece + shape::VALUE_BYTES) + c / 2 * 8 + c % 2;
#pragma unroll
        for (int t = 0; t < EIGHTS / 2; t++) {
            const k_scales scale = scales_at[t / 4 * 16 + t % 4 * 2];
            float sum[N][2];
#pragma unroll
            for (int b = 0; b < N; b++)
                sum[b][0] = sum[b][1] = 0.0f;
#pragma unroll
            for (int i = 0; i < SCALES; i++) {
                const uint2 key =
                    *(const uint2 *)(rows_of[t % 2] + (t / 4 * 4 * SCALES + i) * 256 + t % 4 * 64);
                const uint32_t rows[4] = {q.operand[i].x, q.operand[i].y, q.operand[i].z,
                                          q.operand[i].w};
                const uint32_t columns[2] = {key.x, key.y};
                int dot[4] = {0, 0, 0, 0};
                mma_32(dot, rows, columns);
                const float2 two = __half22float2(halves(scale.pair[i]));
#pragma unroll
                for (int b = 0; b < N; b++) {
                    sum[b][0] =
                        __fmaf_rn((float)dot[2 * b], __fmul_rn(two.x, q.scale[b][i]), sum[b][0]);
                    sum[b][1] = __fmaf_rn((float)dot[2 * b + 1], __fmul_rn(two.y, q.scale[b][i]),
                                          sum[b][1]);
                }
            }
#pragma unroll
            for (int b = 0; b < N; b++) {
                s[b][half * (EIGHTS / 2) + t][0] = sum[b][0];
                s[b][half * (EIGHTS / 2) + t][1] = sum[b][1];
            }
        }
    }

    template <int N>
    __device__ __forceinline__ void multiply_keys(float (&s)[N][EIGHTS][2])
    {
        q_rows<N> q;
#pragma unroll
        for (int i = 0; i < SCALES; i++) {
            q.operand[i] = ((const uint4 *)block(0))[i * 32 + lane];
#pragma unroll
            for (int b = 0; b < N; b++)
                q.scale[b][i] = scales(b)[i * 8 + g];
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            multiply<N>(wait_piece(), half, q, s);
            leave_piece();
        }
    }

    /* ---- values ---- */

    /* Of a block of 32 dimensions, of N row blocks that see the same of the tile; seen: seen_by_lane. */
    template <int N, bool MASKED>
    __device__ __forceinline__ void add_values(const char *const (&piece)[2], int dims,
                                               struct seen seen, const float (*p)[EIGHTS][2],
                                               float (*o)[D / 4])
    {
        __half2 largest = halves(0);
#pragma unroll
        for (int u = 0; u < TOKENS / 32; u++) {
            const uint4 scale = v_scales<shape>(piece, (uint32_t)dims, u, c);
            largest = largest_of(largest, MASKED ? mask_tokens(scale, u * 32, seen) : scale);
        }
        uint32_t power;
        float unit;
        power_for_scales(largest, &power, &unit);
        int low[N][4][4], high[N][4][4]; /* of a block of 8 dimensions: digits 0 and 1; 2 and 3 */
#pragma unroll
        for (int b = 0; b < N; b++)
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    low[b][n][i] = high[b][n][i] = 0;
#pragma unroll
        for (int u = 0; u < TOKENS / 32; u++) {
            const uint2 *v = (const uint2 *)piece[u / 2] + (u % 2 * (D / 8) + 4 * dims) * 32 + lane;
            const uint4 scale = scaled_by(v_scales<shape>(piece, (uint32_t)dims, u, c), power);
            uint2 value[4];
#pragma unroll
            for (int n = 0; n < 4; n++)
                value[n] = v[n * 32];
#pragma unroll
            for (int b = 0; b < N; b++) {
                const float(*w)[2] = &p[b][4 * u];
                uint32_t first_digits[4], last_digits[4];
                fixed_weights(make_float4(w[0][0], w[0][1], w[1][0], w[1][1]),
                              make_float4(w[2][0], w[2][1], w[3][0], w[3][1]), scale, first_digits,
                              last_digits);
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    const uint32_t bytes[2] = {value[n].x, value[n].y};
                    mma_32_unsigned(low[b][n], first_digits, bytes);
                    mma_32_unsigned(high[b][n], last_digits, bytes);
                }
            }
        }
#pragma unroll
        for (int b = 0; b < N; b++)
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    o[b][(4 * dims + n) * 2 + i] = fixed_value(low[b][n], high[b][n], i, unit);
    }

    /* Where the tile is masked, rows have units of their own. */
    template <int N>
    __device__ __forceinline__ void multiply_values(const struct attend_launch &launch,
                                                    const struct job_output &output, uint32_t tile,
                                                    bool masked, const float (&s)[N][EIGHTS][2],
                                                    struct rows<BLOCKS, D / 4> &x)
    {
        float p[N][EIGHTS][2];
#pragma unroll
        for (int b = 0; b < N; b++)
#pragma unroll
            for (int t = 0; t < EIGHTS; t++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    p[b][t][i] = __fmul_rn(s[b][t][i], (float)(1 << WEIGHT_BITS));
        const char *piece[2];
        wait_pieces(piece);
#pragma unroll
        for (int dims = 0; dims < SCALES; dims++)
            if (masked)
#pragma unroll
                for (int b = 0; b < N; b++)
                    add_values<1, true>(
                        piece, dims, seen_by_lane(tokens_seen(launch, output, tile, row(0, b)), c),
                        &p[b], &x.o[b]);
            else
                add_values<N, false>(piece, dims, (struct seen){0, TOKENS}, p, x.o);
        leave_pieces();
    }
};

#endif
