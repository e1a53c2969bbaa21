/* panel.c - plain loops: a panel is written once, at loading, and read as rows only by the
 * embedding. */
#include "kernels/cpu/panel.h"

#include <assert.h>
#include <string.h>

size_t panel_bytes(enum weight_type type, uint32_t n_columns)
{
    const size_t bytes = type == WEIGHT_Q8_0 ? (size_t)(n_columns / 32) * (34 * PANEL_ROWS)
                                             : PANEL_ROWS * weight_row_bytes(type, n_columns);
    return (bytes + PANEL_LINE_BYTES - 1) / PANEL_LINE_BYTES * PANEL_LINE_BYTES;
}

size_t panel_scales_offset(uint32_t n_columns)
{
    return (size_t)n_columns * PANEL_ROWS;
}

static void pack_f32(uint8_t *panel, const uint8_t *source, size_t source_row_bytes,
                     uint32_t n_rows, uint32_t n_columns)
{
    for (size_t k = 0; k < n_columns; k++)
        for (uint32_t row = 0; row < n_rows; row++)
            memcpy(panel + (k * PANEL_ROWS + row) * 4, source + row * source_row_bytes + k * 4, 4);
}

static void pack_f16(uint8_t *panel, const uint8_t *source, size_t source_row_bytes,
                     uint32_t n_rows, uint32_t n_columns)
{
    for (size_t k = 0; k < n_columns; k++)
        for (uint32_t row = 0; row < n_rows; row++)
            memcpy(panel + (k * PANEL_ROWS + row) * 2, source + row * source_row_bytes + k * 2, 2);
}

static void pack_q8_0(uint8_t *panel, const uint8_t *source, size_t source_row_bytes,
                      uint32_t n_rows, uint32_t n_columns)
{
    uint8_t *scales = panel + panel_scales_offset(n_columns);
    for (size_t b = 0; b < n_columns / 32; b++)
        for (uint32_t row = 0; row < n_rows; row++) {
            const uint8_t *block = source + row * source_row_bytes + b * 34;
            memcpy(scales + (b * PANEL_ROWS + row) * 2, block, 2);
            for (size_t i = 0; i < 8; i++)
                memcpy(panel + ((b * 8 + i) * PANEL_ROWS + row) * 4, block + 2 + i * 4, 4);
        }
}

void panel_pack(void *panel, enum weight_type type, const void *source, size_t source_row_bytes,
                uint32_t n_rows, uint32_t n_columns)
{
    assert(n_rows > 0 && n_rows <= PANEL_ROWS);
    if (n_rows < PANEL_ROWS)
        memset(panel, 0, panel_bytes(type, n_columns));
    if (type == WEIGHT_F32)
        pack_f32(panel, source, source_row_bytes, n_rows, n_columns);
    else if (type == WEIGHT_F16)
        pack_f16(panel, source, source_row_bytes, n_rows, n_columns);
    else
        pack_q8_0(panel, source, source_row_bytes, n_rows, n_columns);
}

void panel_unpack_row(float *out, enum weight_type type, const void *panel, uint32_t row,
                      uint32_t n_columns)
{
    const uint8_t *bytes = panel;
    uint16_t half;
    assert(row < PANEL_ROWS);
    if (type == WEIGHT_F32) {
        for (size_t k = 0; k < n_columns; k++)
            memcpy(&out[k], bytes + (k * PANEL_ROWS + row) * 4, 4);
    } else if (type == WEIGHT_F16) {
        for (size_t k = 0; k < n_columns; k++) {
            memcpy(&half, bytes + (k * PANEL_ROWS + row) * 2, 2);
            out[k] = half_to_float(half);
        }
    } else {
        const uint8_t *scales = bytes + panel_scales_offset(n_columns);
        for (size_t k = 0; k < n_columns; k++) {
            int8_t q;
            memcpy(&half, scales + (k / 32 * PANEL_ROWS + row) * 2, 2);
            memcpy(&q, bytes + (k / 4 * PANEL_ROWS + row) * 4 + k % 4, 1);
            out[k] = (float)q * half_to_float(half);
        }
    }
}
