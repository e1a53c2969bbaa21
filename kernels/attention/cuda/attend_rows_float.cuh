/* kernels/attention/cuda/attend_rows_float.cuh - products of prompts' rows by K and V of f16 and bf16.
 *
 * As in attend_mma.cuh a row's second part is a row of the same instruction, here of a row block of its own for each. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_FLOAT_CUH
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_ROWS_FLOAT_CUH

#include "kernels/attention/cuda/attend_rows_place.cuh"

template <int TYPE, int D, int BLOCKS>
struct rows_float : mma_query<rows_place<TYPE, D, BLOCKS>> {
    using place = rows_place<TYPE, D, BLOCKS>;
    using shape = typename place::shape;
    using place::block;
    using place::c;
    using place::g;
    using place::lane;
    using place::leave_piece;
    using place::leave_pieces;
    using place::scales;
    using place::wait_piece;
    using place::wait_pieces;
    enum { STEP = D / 32, PARTS = TYPE == MMA_BF16 ? 3 : 2 };

    /* ---- scores ---- */

    /* Of a piece, which is a half of the tile. */
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
                for (int b = 0; b < N; b++) {
                    add_product<TYPE>(sum[b][t], q0[b], key.x, key.y);
                    if (TYPE == MMA_BF16)
                        add_product<TYPE>(sum[b][t], third_rows(t0[b].x, t0[b].y), key.x, key.y);
                }
#pragma unroll
                for (int b = 0; b < N; b++) {
                    add_product<TYPE>(sum[b][t], q1[b], key.z, key.w);
                    if (TYPE == MMA_BF16)
                        add_product<TYPE>(sum[b][t], third_rows(t1[b].x, t1[b].y), key.z, key.w);
                }
            }
        }
#pragma unroll
        for (int b = 0; b < N; b++) {
            const float scale = scales(b)[g];
#pragma unroll
            for (int t = 0; t < EIGHTS / 2; t++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    s[b][half * (EIGHTS / 2) + t][i] =
                        __fmul_rn(__fadd_rn(sum[b][t][i], sum[b][t][i + 2]), scale);
        }
    }

    template <int N>
    __device__ __forceinline__ void multiply_keys(float (&s)[N][EIGHTS][2])
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            multiply<N>(wait_piece(), half, s);
            leave_piece();
        }
    }

    /* ---- values ---- */

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

    /* STEP blocks of 8 dimensions from `first` on, of all tokens. MASKED: memory that was never written may hold
     * NaN. */
    template <int N, bool MASKED>
    __device__ __forceinline__ void add_values(const struct job_output &output, uint32_t tile,
                                               const char *const (&piece)[2], int first,
                                               const uint32_t (&p)[N][EIGHTS][PARTS],
                                               float (&o)[N][STEP][4])
    {
        struct seen any = {0, TOKENS};
        if (MASKED)
            any = seen_by_lane(tokens_any(output, tile), c);
#pragma unroll
        for (int u = 0; u < TOKENS / 32; u++) {
            const uint4 *v = (const uint4 *)piece[u / 2] + (u % 2 * (D / 8) + first) * 32 + lane;
#pragma unroll
            for (int n = 0; n < STEP; n++) {
                uint4 value = v[n * 32];
                if (MASKED)
                    value = mask_tokens(value, u * 32, any);
#pragma unroll
                for (int half = 0; half < 2; half++)
#pragma unroll
                    for (int b = 0; b < N; b++) {
                        const uint32_t(&p0)[PARTS] = p[b][4 * u + 2 * half];
                        const uint32_t(&p1)[PARTS] = p[b][4 * u + 2 * half + 1];
                        const uint32_t v0 = half == 0 ? value.x : value.z;
                        const uint32_t v1 = half == 0 ? value.y : value.w;
                        add_product<TYPE>(o[b][n], make_uint4(p0[0], p0[1], p1[0], p1[1]), v0, v1);
                        if (TYPE == MMA_BF16)
                            add_product<TYPE>(o[b][n], third_rows(p0[PARTS - 1], p1[PARTS - 1]), v0,
                                              v1);
                    }
            }
        }
    }

    /* STEP blocks of dimensions at a time, as registers are short. */
    template <int N>
    __device__ __forceinline__ void multiply_values(const struct attend_launch &,
                                                    const struct job_output &output, uint32_t tile,
                                                    bool masked, const float (&s)[N][EIGHTS][2],
                                                    struct rows<BLOCKS, D / 4> &x)
    {
        uint32_t p[N][EIGHTS][PARTS];
#pragma unroll
        for (int b = 0; b < N; b++)
#pragma unroll
            for (int t = 0; t < EIGHTS; t++)
                split(s[b][t], p[b][t]);
        const char *piece[2];
        wait_pieces(piece);
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
        leave_pieces();
    }
};

#endif
