/* kernels/cpu/panel.h - the order in which the CPU keeps a weight matrix.
 *
 * Sixteen rows (outputs) make a panel, the last one filled up with zero rows. Within a panel the
 * numbers that meet the same activation lie side by side, so that one vector register holds sixteen
 * outputs, every product reads its weights as one stream, and no sum crosses a register:
 *     F32         [n_columns][16] of 4 bytes
 *     F16, BF16   [n_columns][16] of 2 bytes
 *     others      blocks, one after the other as in the file; of each first the scales:
 *                     32-bit words   [n_words][16]: a super-block's small scales, as in the file
 *                     halves         [n_halves][16]: d; or d and m; or d and dmin
 *                 then the weights in pieces of 32 columns:
 *                     Q8_0     [8][16][4] int8: weight 4 g + e of a row is [g][row][e]
 *                     Q4, Q5,  [4][16][4] bytes: [g][row][e] holds the low four bits of weight
 *                     Q6_K         4 g + e in its low half, of 16 + 4 g + e in its high half;
 *                              then the bits above:
 *                     Q5       [16][4] bytes: bit g of [row][e] is the fifth bit of 4 g + e
 *                     Q6_K     [2][16][4] bytes: bits 2 f and 2 f + 1 of [h][row][e] are the fifth
 *                                  and the sixth bit of weight 16 h + 4 f + e
 *
 * A panel starts at a cache line. The weights are those of the file, not converted: a
 * matrix is larger by its padding only. A matrix of one row stays as it is in the file (it is a
 * vector). */
#ifndef LONGSPAN_KERNELS_CPU_PANEL_H
#define LONGSPAN_KERNELS_CPU_PANEL_H

#include "kernels/quant/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PANEL_ROWS = 16, PANEL_LINE_BYTES = 64, PANEL_PIECE = 32 /* columns */ };

/* What the panel of a type looks like. */
struct panel_format {
    uint16_t columns;            /* of a block: 1, 32, 256 */
    uint8_t low_bits, high_bits; /* of a weight: those in the first bytes of a piece, those above */
    uint8_t zero;                /* stored = weight + zero, so that it has no sign; Q8_0 has one */
    uint8_t words_at, n_words;   /* of a block in the file: where its words are */
    uint8_t halves_at, n_halves; /* likewise */
    bool min;                    /* the second half is a minimum's scale */
};

/* By value, so that a type known when compiling costs nothing. */
static inline struct panel_format panel_format(enum weight_type type)
{
    switch (type) {
    case WEIGHT_F32:
        return (struct panel_format){.columns = 1, .low_bits = 32};
    case WEIGHT_F16:
    case WEIGHT_BF16:
        return (struct panel_format){.columns = 1, .low_bits = 16};
    case WEIGHT_Q8_0:
        return (struct panel_format){.columns = 32, .low_bits = 8, .n_halves = 1};
    case WEIGHT_Q4_0:
        return (struct panel_format){.columns = 32, .low_bits = 4, .zero = 8, .n_halves = 1};
    case WEIGHT_Q4_1:
        return (struct panel_format){.columns = 32, .low_bits = 4, .n_halves = 2, .min = true};
    case WEIGHT_Q5_0:
        return (struct panel_format){
            .columns = 32, .low_bits = 4, .high_bits = 1, .zero = 16, .n_halves = 1};
    case WEIGHT_Q5_1:
        return (struct panel_format){
            .columns = 32, .low_bits = 4, .high_bits = 1, .n_halves = 2, .min = true};
    case WEIGHT_Q4_K:
        return (struct panel_format){
            .columns = 256, .low_bits = 4, .words_at = 4, .n_words = 3, .n_halves = 2, .min = true};
    case WEIGHT_Q5_K:
        return (struct panel_format){.columns = 256,
                                     .low_bits = 4,
                                     .high_bits = 1,
                                     .words_at = 4,
                                     .n_words = 3,
                                     .n_halves = 2,
                                     .min = true};
    case WEIGHT_Q6_K:
        return (struct panel_format){.columns = 256,
                                     .low_bits = 4,
                                     .high_bits = 2,
                                     .zero = 32,
                                     .words_at = 192,
                                     .n_words = 4,
                                     .halves_at = 208,
                                     .n_halves = 1};
    }
    return (struct panel_format){0};
}

/* Do its products take quantized activations? */
static inline bool panel_quantized(enum weight_type type)
{
    return panel_format(type).columns > 1;
}

/* Panels of a matrix with that many rows. */
static inline uint32_t panel_count(uint32_t n_rows)
{
    return n_rows / PANEL_ROWS + (n_rows % PANEL_ROWS != 0);
}

/* Of a block's scales, and of a piece's weights. */
static inline size_t panel_scales_bytes(enum weight_type type)
{
    const struct panel_format f = panel_format(type);
    return (f.n_words * 4u + f.n_halves * 2u) * PANEL_ROWS;
}

static inline size_t panel_piece_bytes(enum weight_type type)
{
    const struct panel_format f = panel_format(type);
    return (size_t)PANEL_PIECE * PANEL_ROWS * (uint32_t)(f.low_bits + f.high_bits) / 8;
}

/* From a panel's start to its column n, a multiple of the type's block. */
static inline size_t panel_offset(enum weight_type type, size_t n)
{
    const struct panel_format f = panel_format(type);
    return n * PANEL_ROWS * (uint32_t)(f.low_bits + f.high_bits) / 8 +
           n / f.columns * panel_scales_bytes(type);
}

/* From one panel to the next; n_columns is a multiple of the type's block. Never overflows. */
size_t panel_bytes(enum weight_type type, uint32_t n_columns);

/* Writes one panel: rows 0 to n_rows - 1 (at most 16) come from `source`, each source_row_bytes
 * from the one before, in file order; the others are zeros. `source` needs no alignment. */
void panel_pack(void *panel, enum weight_type type, const void *source, size_t source_row_bytes,
                uint32_t n_rows, uint32_t n_columns);

/* Row `row` (below 16) of a panel as f32, [n_columns]. */
void panel_unpack_row(float *out, enum weight_type type, const void *panel, uint32_t row,
                      uint32_t n_columns);

#endif
