/* panel.c - plain loops: a panel is written once, at loading, and read as rows only by the
 * embedding. Blocks go through the integers of kernels/quant/, which knows their order in files. */
#include "kernels/cpu/panel.h"

#include "kernels/quant/block32.h"
#include "kernels/quant/superblock.h"

#include <assert.h>
#include <string.h>

enum { GROUPS = PANEL_PIECE / 4, MAX_BLOCK_BYTES = 256 }; /* groups: of four weights */

size_t panel_bytes(enum weight_type type, uint32_t n_columns)
{
    const size_t bytes = panel_offset(type, n_columns);
    return (bytes + PANEL_LINE_BYTES - 1) / PANEL_LINE_BYTES * PANEL_LINE_BYTES;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The integers of a block, without sign where the format has a zero. */
static void read_integers(uint8_t *q, enum weight_type type, const uint8_t *block)
{
    const struct panel_format f = panel_format(type);
    union {
        struct block32 small;
        struct superblock super;
    } parts;
    const int8_t *signed_q;
    if (block32_holds(type)) {
        block32_read(&parts.small, type, block);
        signed_q = parts.small.q;
    } else {
        superblock_read(&parts.super, type, block);
        signed_q = parts.super.q;
    }
    for (uint32_t i = 0; i < f.columns; i++)
        q[i] = (uint8_t)(signed_q[i] + f.zero);
}

/* The reverse: `block` has its scales already. */
static void write_integers(uint8_t *block, enum weight_type type, const uint8_t *q)
{
    const struct panel_format f = panel_format(type);
    if (block32_holds(type)) {
        struct block32 parts;
        block32_read(&parts, type, block);
        for (uint32_t i = 0; i < f.columns; i++)
            parts.q[i] = (int8_t)(q[i] - f.zero);
        block32_write(block, type, &parts);
    } else {
        struct superblock parts;
        superblock_read(&parts, type, block);
        for (uint32_t i = 0; i < f.columns; i++)
            parts.q[i] = (int8_t)(q[i] - f.zero);
        superblock_write(block, type, &parts);
    }
}

/* Where byte e of group g is, in a piece's vectors of [16][4]. */
static size_t at(uint32_t g, uint32_t row, uint32_t e)
{
    return ((size_t)g * PANEL_ROWS + row) * 4 + e;
}

/* The 32 integers of one row in a piece. */
static void pack_piece(uint8_t *piece, const struct panel_format *f, const uint8_t *q, uint32_t row)
{
    uint8_t *high = piece + 4 * PANEL_ROWS * 4;
    for (uint32_t e = 0; e < 4; e++) {
        if (f->low_bits == 8) {
            for (uint32_t g = 0; g < GROUPS; g++)
                piece[at(g, row, e)] = q[4 * g + e];
            continue;
        }
        for (uint32_t g = 0; g < GROUPS / 2; g++)
            piece[at(g, row, e)] = (uint8_t)((q[4 * g + e] & 15) | q[16 + 4 * g + e] << 4);
        if (f->high_bits == 1) {
            uint32_t bits = 0;
            for (uint32_t g = 0; g < GROUPS; g++)
                bits |= (q[4 * g + e] >> 4 & 1u) << g;
            high[at(0, row, e)] = (uint8_t)bits;
        } else if (f->high_bits == 2) {
            uint32_t bits[2] = {0};
            for (uint32_t g = 0; g < GROUPS; g++)
                bits[g / 4] |= (q[4 * g + e] >> 4 & 3u) << g % 4 * 2;
            high[at(0, row, e)] = (uint8_t)bits[0];
            high[at(1, row, e)] = (uint8_t)bits[1];
        }
    }
}

static void unpack_piece(uint8_t *q, const struct panel_format *f, const uint8_t *piece,
                         uint32_t row)
{
    const uint8_t *high = piece + 4 * PANEL_ROWS * 4;
    for (uint32_t g = 0; g < GROUPS; g++)
        for (uint32_t e = 0; e < 4; e++) {
            uint32_t value;
            if (f->low_bits == 8)
                value = piece[at(g, row, e)];
            else
                value = piece[at(g % 4, row, e)] >> g / 4 * 4 & 15u;
            if (f->high_bits == 1)
                value |= (high[at(0, row, e)] >> g & 1u) << 4;
            else if (f->high_bits == 2)
                value |= (high[at(g / 4, row, e)] >> g % 4 * 2 & 3u) << 4;
            q[4 * g + e] = (uint8_t)value;
        }
}

/* Where row `row` of a block's words and halves is; its scales begin at `scales`. */
static uint8_t *word_at(uint8_t *scales, uint32_t word, uint32_t row)
{
    return scales + ((size_t)word * PANEL_ROWS + row) * 4;
}

static uint8_t *half_at(uint8_t *scales, const struct panel_format *f, uint32_t half, uint32_t row)
{
    return scales + ((size_t)f->n_words * 2 + half) * PANEL_ROWS * 2 + (size_t)row * 2;
}

static void pack_blocks(uint8_t *panel, enum weight_type type, const uint8_t *source,
                        size_t source_row_bytes, uint32_t n_rows, uint32_t n_columns)
{
    const struct panel_format f = panel_format(type);
    const size_t block_bytes = weight_traits(type)->block_bytes;
    for (uint32_t b = 0; b < n_columns / f.columns; b++) {
        uint8_t *scales = panel + panel_offset(type, (size_t)b * f.columns);
        for (uint32_t row = 0; row < n_rows; row++) {
            const uint8_t *block = source + row * source_row_bytes + b * block_bytes;
            uint8_t q[SUPERBLOCK_ELEMENTS], *piece = scales + panel_scales_bytes(type);
            for (uint32_t i = 0; i < f.n_words; i++)
                memcpy(word_at(scales, i, row), block + f.words_at + 4 * i, 4);
            for (uint32_t i = 0; i < f.n_halves; i++)
                memcpy(half_at(scales, &f, i, row), block + f.halves_at + 2 * i, 2);
            read_integers(q, type, block);
            for (uint32_t i = 0; i < f.columns; i += PANEL_PIECE, piece += panel_piece_bytes(type))
                pack_piece(piece, &f, q + i, row);
        }
    }
}

/* Back to the file's block, whose values are defined elsewhere. */
static void unpack_blocks(float *out, enum weight_type type, const uint8_t *panel, uint32_t row,
                          uint32_t n_columns)
{
    const struct panel_format f = panel_format(type);
    for (uint32_t b = 0; b < n_columns / f.columns; b++) {
        /* only read, but word_at serves both ways */
        uint8_t *scales = (uint8_t *)panel + panel_offset(type, (size_t)b * f.columns);
        const uint8_t *piece = scales + panel_scales_bytes(type);
        uint8_t block[MAX_BLOCK_BYTES] = {0}, q[SUPERBLOCK_ELEMENTS];
        for (uint32_t i = 0; i < f.n_words; i++)
            memcpy(block + f.words_at + 4 * i, word_at(scales, i, row), 4);
        for (uint32_t i = 0; i < f.n_halves; i++)
            memcpy(block + f.halves_at + 2 * i, half_at(scales, &f, i, row), 2);
        for (uint32_t i = 0; i < f.columns; i += PANEL_PIECE, piece += panel_piece_bytes(type))
            unpack_piece(q + i, &f, piece, row);
        write_integers(block, type, q);
        weight_dequantize(type, out + (size_t)b * f.columns, block, f.columns);
    }
}

/* ---- all types ------------------------------------------------------------------------------- */

/* Numbers of a constant size, 2 or 4 bytes. */
static inline void pack_numbers(uint8_t *panel, const uint8_t *source, size_t source_row_bytes,
                                uint32_t n_rows, uint32_t n_columns, const size_t bytes)
{
    for (size_t k = 0; k < n_columns; k++)
        for (uint32_t row = 0; row < n_rows; row++)
            memcpy(panel + (k * PANEL_ROWS + row) * bytes,
                   source + row * source_row_bytes + k * bytes, bytes);
}

void panel_pack(void *panel, enum weight_type type, const void *source, size_t source_row_bytes,
                uint32_t n_rows, uint32_t n_columns)
{
    assert(n_rows > 0 && n_rows <= PANEL_ROWS);
    if (n_rows < PANEL_ROWS)
        memset(panel, 0, panel_bytes(type, n_columns));
    if (panel_quantized(type))
        pack_blocks(panel, type, source, source_row_bytes, n_rows, n_columns);
    else if (panel_format(type).low_bits == 16)
        pack_numbers(panel, source, source_row_bytes, n_rows, n_columns, 2);
    else
        pack_numbers(panel, source, source_row_bytes, n_rows, n_columns, 4);
}

void panel_unpack_row(float *out, enum weight_type type, const void *panel, uint32_t row,
                      uint32_t n_columns)
{
    assert(row < PANEL_ROWS);
    if (panel_quantized(type)) {
        unpack_blocks(out, type, panel, row, n_columns);
        return;
    }
    const uint32_t bytes = panel_format(type).low_bits / 8;
    for (size_t k = 0; k < n_columns; k++)
        weight_dequantize(type, &out[k], (const uint8_t *)panel + (k * PANEL_ROWS + row) * bytes,
                          1);
}
