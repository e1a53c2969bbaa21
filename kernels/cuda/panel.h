/* kernels/cuda/panel.h - how weights and activations lie in GPU memory: in the order of fragments.
 *
 * The tensor cores' instruction m16n8k32 (integers; m16n8k16 for floats) multiplies 16 outputs by 8
 * rows of activations over 32 (16) columns; each of a warp's 32 lanes holds a fragment of each
 * operand in registers (PTX ISA, "Matrix fragments for mma"). Weights lie so that a lane reads its
 * fragments with 16-byte loads, a warp 512 bytes side by side, and nothing passes through shared
 * memory. Everything counts in vectors of 16 bytes:
 *
 *     matrix       panels of 16 outputs, one after the other; the last one filled with zeros
 *     panel        quantized: chunks of 256 columns; floats: pieces of 16 columns, an even number
 *     piece        F16, BF16: one vector of each lane. F32: two, [2][lane]
 *     chunk        scale vectors, then [low vector][lane], then [high vector][lane]
 *
 * A chunk's eight pieces are of 32 columns. Of a piece a lane multiplies four words of four int8,
 * register r: outputs lane / 4 + 8 * (r % 2), columns 16 * (r / 2) + 4 * (lane % 4) + 0, 1, 2, 3.
 * They are made of the format's integers, as many low and high bits as it has:
 *     low, 8 bits   vector = piece; word = register
 *     low, 4 bits   vector = piece / 2; word = register; in the lower half of its bytes for an even piece, in
 *                   the upper one for an odd one
 *     high, 1 bit   one vector; word = register; in its bytes bits 0 to 7 are of the pieces 0, 2, 1, 3, 4,
 *                   6, 5, 7: those of a pair are two apart
 *     high, 2 bits  vector = piece / 4; word = register; bits 2 * (piece % 4) and one more of its bytes
 * Q8_0 has two's complement. The other signed integers are stored as in the file, with half of their range
 * added, and multiplied as two's complement from the top of a byte, as 2^shift times their value, which is
 * divided out of the sum, exactly.
 *
 * Scale vectors:
 *     Q8_0 Q4_0 Q5_0   [output]: the halves d of the eight blocks
 *     Q4_1 Q5_1        likewise, then [output] once more: the halves m
 *     Q4_K Q5_K        [output]: d, dmin and the twelve packed bytes, as in the file
 *     Q6_K             [output]: the sixteen small scales; then the sixteen halves d
 * So a matrix takes as many bytes as in the file, but for what fills panels and chunks.
 *
 * Activations, rows rounded up to ROW_TILE:
 *     quantized   int8 [row][columns rounded up to 64]: of each 64 columns, lane % 4 reads 16
 *                 bytes: its two words (columns 4 t.., 16 + 4 t..) of the first and second 32
 *     scales      f32 [row / 8][block of 32][row % 8 / 2][4]: the scales of two rows, then their sums
 *     parts       bf16 [row][32 columns][part][lane % 4][8]: an f32 as a sum of three, exactly;
 *                 16 bytes are columns 2t, 2t+1, 2t+8, 2t+9 of the first and second 16
 *     halves      f16, likewise with two parts: a block of 32 columns is divided by the power of two
 *                 that takes its largest number to 2^14 and beyond, and a number is a part of eleven
 *                 bits and one of what that lacks. That is off by 2^-22 of the number at most, or by
 *                 2^-39 of the block's largest one
 *     powers      f32 [row / 8][block of 32][row % 8 / 2][2]: by which it was divided, of two rows
 *
 * Plain C as well as CUDA: tests go through it on the host. */
#ifndef LONGSPAN_KERNELS_CUDA_PANEL_H
#define LONGSPAN_KERNELS_CUDA_PANEL_H

#include "kernels/quant/types.h"

#include <string.h>

#ifdef __cplusplus /* a .cu file */
#define CUDA_BOTH     static __host__ __device__ __forceinline__
#define CUDA_CONSTANT static constexpr __host__ __device__ __forceinline__
#else
#define CUDA_BOTH     static inline
#define CUDA_CONSTANT static inline
#endif

enum {
    CUDA_LANES = 32,
    PANEL_OUTPUTS = 16,
    CHUNK_COLUMNS = 256,
    CHUNK_PIECES = 8,
    QUANT_PIECE = 32,  /* columns */
    FLOAT_PIECE = 16,  /* columns */
    ROW_TILE = 8,      /* rows of activations of one instruction */
    X_PARTS = 3,       /* bf16 numbers that make an f32 */
    X_HALVES = 2,      /* f16 numbers that nearly do */
    X_PAIR_BYTES = 64, /* of 64 quantized columns */
    VECTOR_BYTES = 16,
};

/* low bits, high bits, signed, a minimum, super-blocks */
#define CUDA_QUANT_FORMATS(X)                                                                      \
    X(WEIGHT_Q8_0, 8, 0, 1, 0, 0)                                                                  \
    X(WEIGHT_Q4_0, 4, 0, 1, 0, 0)                                                                  \
    X(WEIGHT_Q4_1, 4, 0, 0, 1, 0)                                                                  \
    X(WEIGHT_Q5_0, 4, 1, 1, 0, 0)                                                                  \
    X(WEIGHT_Q5_1, 4, 1, 0, 1, 0)                                                                  \
    X(WEIGHT_Q4_K, 4, 0, 0, 1, 1)                                                                  \
    X(WEIGHT_Q5_K, 4, 1, 0, 1, 1)                                                                  \
    X(WEIGHT_Q6_K, 4, 2, 1, 0, 1)

struct cuda_format {
    int low_bits; /* 0: floats */
    int high_bits, is_signed, min, super;
};

CUDA_BOTH struct cuda_format cuda_format(enum weight_type type)
{
    struct cuda_format format = {0, 0, 0, 0, 0};
#define CASE(name, low, high, is_signed, min, super)                                               \
    if (type == name) {                                                                            \
        const struct cuda_format it = {low, high, is_signed, min, super};                          \
        format = it;                                                                               \
    }
    CUDA_QUANT_FORMATS(CASE)
#undef CASE
    return format;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

CUDA_BOTH uint32_t cuda_round_up(uint32_t n, uint32_t unit)
{
    return (n + unit - 1) / unit * unit;
}

CUDA_CONSTANT uint32_t chunk_scale_vectors(struct cuda_format f)
{
    return PANEL_OUTPUTS * (f.min && !f.super ? 2u : 1u) +
           (f.high_bits == 2 ? PANEL_OUTPUTS / 8 : 0u);
}

CUDA_CONSTANT uint32_t chunk_vectors(struct cuda_format f)
{
    return chunk_scale_vectors(f) + CUDA_LANES * (uint32_t)(f.low_bits + f.high_bits);
}

CUDA_BOTH uint32_t piece_vectors(enum weight_type type)
{
    return type == WEIGHT_F32 ? 2 * CUDA_LANES : CUDA_LANES;
}

/* Of one panel. */
CUDA_BOTH size_t panel_vectors(enum weight_type type, uint32_t n_columns)
{
    const struct cuda_format f = cuda_format(type);
    if (f.low_bits > 0)
        return (size_t)(cuda_round_up(n_columns, CHUNK_COLUMNS) / CHUNK_COLUMNS) * chunk_vectors(f);
    return (size_t)(cuda_round_up(n_columns, 2 * FLOAT_PIECE) / FLOAT_PIECE) * piece_vectors(type);
}

CUDA_BOTH size_t panel_count(uint32_t n_rows)
{
    return ((size_t)n_rows + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS;
}

/* ---- reading a row as it is in the file ------------------------------------------------------ */

/* A matrix in file order: row r begins at rows + r * row_bytes. */
struct cuda_source {
    enum weight_type type;
    const uint8_t *rows;
    size_t row_bytes;
    uint32_t n_rows, n_columns;
};

CUDA_BOTH uint16_t source_half(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

/* Integer i of a block, as it is stored. */
CUDA_BOTH uint32_t block_code(enum weight_type type, const uint8_t *block, uint32_t i)
{
    const uint32_t at = i % 16, upper = i / 16 * 4;
    if (type == WEIGHT_Q8_0)
        return block[2 + i];
    if (type == WEIGHT_Q4_0)
        return block[2 + at] >> upper & 15u;
    if (type == WEIGHT_Q4_1)
        return block[4 + at] >> upper & 15u;
    if (type == WEIGHT_Q5_0)
        return (block[6 + at] >> upper & 15u) | (block[2 + i / 8] >> i % 8 & 1u) << 4;
    if (type == WEIGHT_Q5_1)
        return (block[8 + at] >> upper & 15u) | (block[4 + i / 8] >> i % 8 & 1u) << 4;
    if (type == WEIGHT_Q4_K)
        return block[16 + i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15u;
    if (type == WEIGHT_Q5_K)
        return (block[48 + i / 64 * 32 + i % 32] >> i % 64 / 32 * 4 & 15u) |
               (block[16 + i % 32] >> i / 32 & 1u) << 4;
    return (block[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15u) |
           (block[128 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3u) << 4; /* Q6_K */
}

/* The block that holds a column, and the column's place in it; NULL: what fills the last panel. */
CUDA_BOTH const uint8_t *source_block(const struct cuda_source *s, uint32_t row, uint32_t column,
                                      uint32_t *i)
{
    const uint32_t elements = cuda_format(s->type).super ? 256 : 32;
    const uint32_t bytes = s->type == WEIGHT_Q8_0   ? 34
                           : s->type == WEIGHT_Q4_0 ? 18
                           : s->type == WEIGHT_Q4_1 ? 20
                           : s->type == WEIGHT_Q5_0 ? 22
                           : s->type == WEIGHT_Q5_1 ? 24
                           : s->type == WEIGHT_Q4_K ? 144
                           : s->type == WEIGHT_Q5_K ? 176
                                                    : 210;
    if (row >= s->n_rows || column >= s->n_columns)
        return NULL;
    *i = column % elements;
    return s->rows + row * s->row_bytes + (size_t)(column / elements) * bytes;
}

CUDA_BOTH uint32_t source_code(const struct cuda_source *s, uint32_t row, uint32_t column)
{
    uint32_t i;
    const uint8_t *block = source_block(s, row, column, &i);
    return block != NULL ? block_code(s->type, block, i) : 0;
}

/* ---- making vectors -------------------------------------------------------------------------- */

struct cuda_vector {
    uint32_t word[4];
};

/* Where byte b of register r of a lane comes from. */
CUDA_BOTH uint32_t quant_output(uint32_t lane, uint32_t r)
{
    return lane / 4 + 8 * (r % 2);
}

CUDA_BOTH uint32_t quant_column(uint32_t lane, uint32_t r, uint32_t b)
{
    return 16 * (r / 2) + 4 * (lane % 4) + b;
}

CUDA_BOTH uint32_t register_code(const struct cuda_source *s, uint32_t row, uint32_t column,
                                 uint32_t lane, uint32_t r, uint32_t b)
{
    return source_code(s, row + quant_output(lane, r), column + quant_column(lane, r, b));
}

CUDA_BOTH struct cuda_vector low_vector(const struct cuda_source *s, struct cuda_format f,
                                        uint32_t row, uint32_t column, uint32_t v, uint32_t lane)
{
    struct cuda_vector out = {{0, 0, 0, 0}};
    for (uint32_t w = 0; w < 4; w++)
        for (uint32_t b = 0; b < 4; b++) {
            if (f.low_bits == 8) {
                out.word[w] |= register_code(s, row, column + v * QUANT_PIECE, lane, w, b) << 8 * b;
                continue;
            }
            const uint32_t at = column + 2 * v * QUANT_PIECE;
            out.word[w] |= (register_code(s, row, at, lane, w, b) & 15u) << 8 * b;
            out.word[w] |= (register_code(s, row, at + QUANT_PIECE, lane, w, b) & 15u)
                           << (8 * b + 4);
        }
    return out;
}

/* From which bit of a byte on a piece's high bits lie. */
CUDA_CONSTANT uint32_t high_at(struct cuda_format f, uint32_t piece)
{
    return f.high_bits == 1 ? piece / 4 * 4 + piece / 2 % 2 + piece % 2 * 2 : piece % 4 * 2;
}

CUDA_BOTH struct cuda_vector high_vector(const struct cuda_source *s, struct cuda_format f,
                                         uint32_t row, uint32_t column, uint32_t v, uint32_t lane)
{
    struct cuda_vector out = {{0, 0, 0, 0}};
    for (uint32_t w = 0; w < 4; w++)
        for (uint32_t b = 0; b < 4; b++)
            for (uint32_t i = 0; i < 8u / (uint32_t)f.high_bits; i++) {
                const uint32_t piece = v * 4 + i;
                const uint32_t code =
                    register_code(s, row, column + piece * QUANT_PIECE, lane, w, b) >> 4;
                out.word[w] |= code << (8 * b + high_at(f, piece));
            }
    return out;
}

CUDA_BOTH struct cuda_vector scale_vector(const struct cuda_source *s, struct cuda_format f,
                                          uint32_t row, uint32_t column, uint32_t v)
{
    struct cuda_vector out = {{0, 0, 0, 0}};
    const uint32_t output = v % PANEL_OUTPUTS, record = v / PANEL_OUTPUTS;
    uint32_t i;
    if (f.super) {
        for (uint32_t j = 0; record == 1 && j < 8; j++) { /* Q6_K: halves d */
            const uint8_t *block = source_block(s, row + output * 8 + j, column, &i);
            if (block != NULL)
                out.word[j / 2] |= (uint32_t)source_half(block + 208) << j % 2 * 16;
        }
        const uint8_t *block = record == 0 ? source_block(s, row + output, column, &i) : NULL;
        for (uint32_t j = 0; block != NULL && j < 16; j++)
            out.word[j / 4] |= (uint32_t)block[(f.high_bits == 2 ? 192 : 0) + j] << j % 4 * 8;
        return out;
    }
    for (uint32_t j = 0; j < 8; j++) {
        const uint8_t *block = source_block(s, row + output, column + j * QUANT_PIECE, &i);
        if (block != NULL)
            out.word[j / 2] |= (uint32_t)source_half(block + 2 * record) << j % 2 * 16;
    }
    return out;
}

/* Vector `v` of the chunk that begins with a row and a column. */
CUDA_BOTH struct cuda_vector chunk_vector(const struct cuda_source *s, uint32_t row,
                                          uint32_t column, uint32_t v)
{
    const struct cuda_format f = cuda_format(s->type);
    const uint32_t scales = chunk_scale_vectors(f);
    if (v < scales)
        return scale_vector(s, f, row, column, v);
    const uint32_t vector = (v - scales) / CUDA_LANES, lane = (v - scales) % CUDA_LANES;
    if (vector < (uint32_t)f.low_bits)
        return low_vector(s, f, row, column, vector, lane);
    return high_vector(s, f, row, column, vector - (uint32_t)f.low_bits, lane);
}

/* Register r of a lane: columns 2t, 2t+1 of the first (r < 2) or second eight; outputs as above. */
CUDA_BOTH uint32_t float_column(uint32_t lane, uint32_t r, uint32_t i)
{
    return 8 * (r / 2) + 2 * (lane % 4) + i;
}

/* Vector `v` of the piece that begins with a row and a column. */
CUDA_BOTH struct cuda_vector piece_vector(const struct cuda_source *s, uint32_t row,
                                          uint32_t column, uint32_t v)
{
    struct cuda_vector out = {{0, 0, 0, 0}};
    const uint32_t lane = v % CUDA_LANES;
    for (uint32_t i = 0; i < (s->type == WEIGHT_F32 ? 4u : 8u); i++) {
        const uint32_t r = i / 2 + v / CUDA_LANES * 2;
        const uint32_t o = row + quant_output(lane, r), c = column + float_column(lane, r, i % 2);
        if (o >= s->n_rows || c >= s->n_columns)
            continue;
        if (s->type == WEIGHT_F32)
            memcpy(&out.word[i], s->rows + o * s->row_bytes + (size_t)c * 4, 4);
        else
            out.word[i / 2] |= (uint32_t)source_half(s->rows + o * s->row_bytes + (size_t)c * 2)
                               << i % 2 * 16;
    }
    return out;
}

/* Vector `v` of a panel whose first row is `row`. */
CUDA_BOTH struct cuda_vector panel_vector(const struct cuda_source *s, uint32_t row, size_t v)
{
    const struct cuda_format f = cuda_format(s->type);
    const uint32_t unit = f.low_bits > 0 ? chunk_vectors(f) : piece_vectors(s->type);
    const uint32_t columns = f.low_bits > 0 ? CHUNK_COLUMNS : FLOAT_PIECE;
    const uint32_t column = (uint32_t)(v / unit) * columns;
    return f.low_bits > 0 ? chunk_vector(s, row, column, (uint32_t)(v % unit))
                          : piece_vector(s, row, column, (uint32_t)(v % unit));
}

/* ---- using them ------------------------------------------------------------------------------ */

/* Scales by which a piece's integers are too large, as a power of two. */
CUDA_CONSTANT int piece_shift(struct cuda_format f)
{
    return f.is_signed ? 8 - f.low_bits - f.high_bits : 0;
}

CUDA_BOTH uint32_t shifted(uint32_t word, int left)
{
    return left >= 0 ? word << left : word >> -left;
}

/* (word & mask) ^ flip: compilers take two instructions for two constants. */
CUDA_BOTH uint32_t masked_flipped(uint32_t word, uint32_t mask, uint32_t flip)
{
#ifdef __CUDA_ARCH__
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(word) : "r"(word), "r"(mask), "r"(flip));
    return word;
#else
    return (word & mask) ^ flip;
#endif
}

/* A piece's four registers, from its four low words, which are those of two pieces of a 4-bit format, and its
 * four high words. `piece` is its place in the chunk. */
CUDA_BOTH void piece_unpack(uint32_t a[4], struct cuda_format f, const uint32_t *low,
                            const uint32_t *high, uint32_t piece)
{
    const int shift = piece_shift(f);
    for (int r = 0; r < 4; r++) {
        if (f.low_bits == 8) {
            a[r] = low[r];
            continue;
        }
        const uint32_t word = shifted(low[r], shift - (int)(piece % 2) * 4);
        a[r] = f.is_signed ? masked_flipped(word, 0x0f0f0f0fu << shift, 0x80808080u) /* the sign */
                           : word & 0x0f0f0f0fu << shift;
        if (f.high_bits > 0)
            a[r] ^= shifted(high[r], shift + 4 - (int)high_at(f, piece)) &
                    (f.high_bits == 1 ? 0x01010101u : 0x03030303u) << (shift + 4);
    }
}

/* The same where pieces of 4-bit formats are multiplied in pairs, unsigned, with half of the range of signed
 * integers added: the first piece as it is, the second one 2^pair_shift times. With high bits it is taken out;
 * without, the whole bytes are left, from whose product the first piece's is to be subtracted. */
CUDA_CONSTANT int pair_shift(struct cuda_format f)
{
    return f.low_bits == 8 ? 0 : f.high_bits == 0 ? 4 : 2;
}

CUDA_BOTH void pair_unpack(uint32_t a[4], struct cuda_format f, const uint32_t *low,
                           const uint32_t *high, uint32_t piece)
{
    const int shift = piece % 2 == 0 ? 0 : pair_shift(f);
    for (int r = 0; r < 4; r++) {
        if (f.low_bits == 8 || shift == 4) {
            a[r] = low[r];
            continue;
        }
        a[r] = low[r] >> shift & 0x0f0f0f0fu << shift;
        if (f.high_bits > 0) /* both pieces' at once: from bit 4 and from bit 6 on */
            a[r] |= shifted(high[r], 4 - (int)high_at(f, piece - piece % 2)) &
                    (f.high_bits == 1 ? 0x01010101u : 0x03030303u) << (shift + 4);
    }
}

/* The integer codes of a scale vector: 6-bit scale and minimum of piece `part` of Q4_K, Q5_K. */
CUDA_BOTH uint32_t packed_part(uint32_t upper, uint32_t low, uint32_t part, uint32_t low_shift)
{
    const uint32_t at = part % 4 * 8;
    if (part < 4)
        return upper >> at & 63u;
    return (low >> (at + low_shift) & 15u) | (upper >> (at + 6) & 3u) << 4;
}

/* Where a column's quantized activation lies in its row. */
CUDA_BOTH size_t x_quant_at(uint32_t column)
{
    const uint32_t c = column % QUANT_PIECE;
    return (size_t)(column / 64) * X_PAIR_BYTES + c % 16 / 4 * 16 + column / 32 % 2 * 8 +
           c / 16 * 4 + c % 4;
}

/* Of n_blocks in a row; the sum is two further. */
CUDA_BOTH size_t x_scale_at(uint32_t block, uint32_t row, uint32_t n_blocks)
{
    return (((size_t)(row / ROW_TILE) * n_blocks + block) * (ROW_TILE / 2) + row % ROW_TILE / 2) *
               4 +
           row % 2;
}

CUDA_BOTH size_t x_power_at(uint32_t block, uint32_t row, uint32_t n_blocks)
{
    return ((size_t)(row / ROW_TILE) * n_blocks + block) * ROW_TILE + row % ROW_TILE;
}

/* In numbers of 16 bits, of n_parts for each column. */
CUDA_BOTH size_t x_part_at(uint32_t column, uint32_t part, uint32_t n_parts)
{
    const uint32_t c = column % FLOAT_PIECE;
    return (size_t)(column / 32) * (32 * n_parts) + part * 32 + c % 8 / 2 * 8 +
           column / FLOAT_PIECE % 2 * 4 + c / 8 * 2 + c % 2;
}

#endif
