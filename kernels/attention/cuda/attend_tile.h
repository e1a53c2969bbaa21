/* kernels/attention/cuda/attend_tile.h - where a number lies in a tile of device memory.
 *
 * A tile is four pieces of 64 tokens: K of tokens 0 to 63, K of 64 to 127, V, V. A piece is what
 * one bulk copy brings into shared memory: its values, then (q8_0) the f16 scales of their blocks
 * of 32 dimensions. Values lie in *fragment order*: as the lanes of a warp load the B operand of
 * mma.m16n8k16 (m16n8k32 of int8), 8 numbers each in a row, so that a load of a warp is contiguous
 * and without bank conflicts. The 32 numbers of the summed dimension that four lanes hold between
 * them may be in any order as long as A has the same: here the natural one, so that
 *     K of token t, dimension d   [t / 8][d / 32][t % 8][d % 32]; of q8_0 [t / 8][d / 32][t % 8 ^ t / 8 % 2 * 2][d % 32]
 *     its scales                  [t / 16][t % 8 / 2][t / 8 % 2][d / 32][t % 2]
 *     V                           [t / 32][d / 8][d % 8][t % 32]
 *     its scales                  [t / 32][d / 32][t % 32]
 * where a head_dim is no multiple of 32, both are [t][d]. (t counts within the piece.) K's scales: as a lane wants
 * them for what it gets of two products, tokens 2 c and 2 c + 1 of two blocks of 8.
 * PTX ISA, "Matrix fragments for mma.m16n8k16", "for mma.m16n8k32". Host and device. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_TILE_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_TILE_H

#include <stdint.h>

#ifdef __CUDACC__
#define ATTEND_BOTH __host__ __device__ static inline
#else
#define ATTEND_BOTH static inline
#endif

enum { PIECE_TOKENS = 64, TILE_PIECES = 4, SCALE_DIMS = 32 };

/* Elements from the beginning of the piece on. */
ATTEND_BOTH uint32_t piece_k_at(uint32_t head_dim, uint32_t t, uint32_t d)
{
    return head_dim % 32 != 0 ? t * head_dim + d
                              : ((t / 8) * (head_dim / 32) + d / 32) * 256 + t % 8 * 32 + d % 32;
}

/* Of q8_0: rows of tokens that are 8 apart are 64 bytes apart in their blocks, in other banks of shared memory. */
ATTEND_BOTH uint32_t piece_k_byte_at(uint32_t head_dim, uint32_t t, uint32_t d)
{
    return piece_k_at(head_dim, t ^ t / 8 % 2 * 2, d);
}

ATTEND_BOTH uint32_t piece_v_at(uint32_t head_dim, uint32_t t, uint32_t d)
{
    return head_dim % 32 != 0 ? t * head_dim + d
                              : ((t / 32) * (head_dim / 8) + d / 8) * 256 + d % 8 * 32 + t % 32;
}

/* Scales from the end of the values on; block: of 32 dimensions. */
ATTEND_BOTH uint32_t piece_k_scale_at(uint32_t head_dim, uint32_t t, uint32_t block)
{
    return (((t / 16 * 4 + t % 8 / 2) * 2 + t / 8 % 2) * (head_dim / SCALE_DIMS) + block) * 2 +
           t % 2;
}

ATTEND_BOTH uint32_t piece_v_scale_at(uint32_t head_dim, uint32_t t, uint32_t block)
{
    return ((t / 32) * (head_dim / SCALE_DIMS) + block) * 32 + t % 32;
}

#endif
