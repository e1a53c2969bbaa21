/* kernels/cuda/quant_weights.cuh - a lane's part of quantized weights: integers and scales in registers. */
#ifndef LONGSPAN_KERNELS_CUDA_QUANT_WEIGHTS_CUH
#define LONGSPAN_KERNELS_CUDA_QUANT_WEIGHTS_CUH

#include "kernels/cuda/panel.h"

#include <cuda_fp16.h>

namespace
{

__device__ __forceinline__ void put_words(uint32_t *words, uint4 v)
{
    words[0] = v.x;
    words[1] = v.y;
    words[2] = v.z;
    words[3] = v.w;
}

/* N words, aligned to as many: whole vectors, or a part of one. */
template <int N>
__device__ __forceinline__ void load_words(uint32_t *words, const uint32_t *at)
{
    if constexpr (N == 1) {
        words[0] = *at;
    } else if constexpr (N == 2) {
        const uint2 v = *(const uint2 *)at;
        words[0] = v.x;
        words[1] = v.y;
    } else {
        put_words(words, *(const uint4 *)at);
    }
}

template <int TYPE>
struct format_of;
#define FORMAT(name, low, high, is_signed, min, super)                                             \
    template <>                                                                                    \
    struct format_of<name> {                                                                       \
        static __host__ __device__ constexpr struct cuda_format get()                              \
        {                                                                                          \
            return {low, high, is_signed, min, super};                                             \
        }                                                                                          \
    };
CUDA_QUANT_FORMATS(FORMAT)
#undef FORMAT

/* Byte i of a word, less an offset, as an f32 without the slow conversion. */
__device__ __forceinline__ float byte_float(uint32_t word, int i, int offset)
{
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | (uint32_t)i)) -
           (8388608.0f + (float)offset);
}

__device__ __forceinline__ float half_of(const uint32_t *words, int i)
{
    return __half2float(__ushort_as_half((unsigned short)(words[i / 2] >> i % 2 * 16)));
}

/* A lane's part of PIECES pieces of a chunk, in registers: four or two. */
template <int TYPE, int PIECES>
struct weights {
    static constexpr struct cuda_format F = format_of<TYPE>::get();
    static constexpr bool PACKED = F.super && F.min; /* 6-bit scales and minima */
    static constexpr int HALVES =
        F.high_bits == 2 ? 2 : 1; /* of a piece that have their own scale */
    static constexpr int RECORDS = F.min && !F.super ? 2 : 1;
    static constexpr int LOW = PIECES * F.low_bits / 2, HIGH = F.high_bits > 0 ? 4 : 0;
    static constexpr int RECORD = PACKED ? 4 : PIECES / 2; /* words; packed: see unpack_parts */

    uint32_t low[LOW], high[HIGH > 0 ? HIGH : 1];
    uint32_t record[2][RECORDS][RECORD]; /* of outputs lane / 4 and lane / 4 + 8 */
    float d[2];                          /* Q6_K */

    /* `chunk` is where the chunk begins. */
    __device__ __forceinline__ void load(const uint4 *chunk, int first_piece, uint32_t lane)
    {
#pragma unroll
        for (int o = 0; o < 2; o++)
#pragma unroll
            for (int r = 0; r < RECORDS; r++)
                load_words<RECORD>(
                    record[o][r], (const uint32_t *)(chunk + r * PANEL_OUTPUTS + o * 8 + lane / 4) +
                                      (PACKED ? 0 : first_piece / 2));
        if constexpr (PACKED) {
            unpack_parts(record[0][0], first_piece);
            unpack_parts(record[1][0], first_piece);
        }
        if constexpr (HALVES == 2) {
            const __half *halves = (const __half *)(chunk + PANEL_OUTPUTS);
            d[0] = __half2float(halves[lane / 4]);
            d[1] = __half2float(halves[lane / 4 + 8]);
        }
        load_integers(chunk, first_piece, lane);
#pragma unroll
        for (int r = 0; r < HIGH; r++) /* as those of a chunk's first pieces */
            high[r] >>= high_at(F, (uint32_t)first_piece);
    }

    __device__ __forceinline__ void load_integers(const uint4 *chunk, int first_piece,
                                                  uint32_t lane)
    {
        const uint4 *at = chunk + chunk_scale_vectors(F) + lane;
#pragma unroll
        for (int v = 0; v < LOW / 4; v++)
            load_words<4>(low + 4 * v,
                          (const uint32_t *)(at + (first_piece * F.low_bits / 8 + v) * CUDA_LANES));
        at += F.low_bits * CUDA_LANES;
        if constexpr (HIGH > 0)
            load_words<4>(high,
                          (const uint32_t *)(at + first_piece * F.high_bits / 8 * CUDA_LANES));
    }

    /* Leaves d and dmin, and one byte for the scale and the minimum of each of the four pieces among
     * which `first_piece` is. */
    static __device__ __forceinline__ void unpack_parts(uint32_t r[4], int first_piece)
    {
        if (first_piece < 4) {
            r[1] &= 0x3f3f3f3fu;
            r[2] &= 0x3f3f3f3fu;
        } else {
            r[1] = (r[3] & 0x0f0f0f0fu) | (r[1] >> 2 & 0x30303030u);
            r[2] = (r[3] >> 4 & 0x0f0f0f0fu) | (r[2] >> 2 & 0x30303030u);
        }
    }

    /* After `load`. */
    __device__ __forceinline__ void unpack(uint32_t a[4], int piece) const
    {
        piece_unpack(a, F, words_of(piece), high, piece);
    }

    /* After load_integers of the same pieces. */
    __device__ __forceinline__ void unpack_of_pair(uint32_t a[4], int first_piece, int piece) const
    {
        pair_unpack(a, F, words_of(piece), high, first_piece + piece);
    }

    __device__ __forceinline__ const uint32_t *words_of(int piece) const
    {
        return low + 4 * (F.low_bits == 8 ? piece : piece / 2);
    }

    /* Of output o (0 or 1). scale: of the piece, or of its two halves. */
    __device__ __forceinline__ void scales(float scale[HALVES], float *min, int first_piece,
                                           int piece, int o) const
    {
        const uint32_t *r = record[o][0];
        if constexpr (HALVES == 2) {
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
                const int i = 2 * piece + half;
                scale[half] = d[o] * byte_float(r[i / 4] ^ 0x80808080u, i % 4, 128);
            }
        } else if constexpr (PACKED) {
            const int part = first_piece % 4 + piece;
            scale[0] = half_of(r, 0) * byte_float(r[1], part, 0);
            *min = -half_of(r, 1) * byte_float(r[2], part, 0);
        } else {
            scale[0] = half_of(r, piece);
            if constexpr (F.min)
                *min = half_of(record[o][RECORDS - 1], piece);
        }
    }
};

} // namespace

#endif
