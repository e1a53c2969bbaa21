/* kernels/cpu/panel.h - the order in which the CPU keeps a weight matrix.
 *
 * Sixteen rows (outputs) make a panel, the last one filled up with zero rows. Within a panel the
 * numbers that meet the same activation lie side by side, so that one vector register holds sixteen
 * outputs, every product reads its weights as one stream, and no sum crosses a register:
 *     F32, F16   [n_columns][16]
 *     Q8_0       [n_columns / 32] blocks of [8][16 rows][4] int8,
 *                then [n_columns / 32][16 rows] f16: the blocks' scales
 *
 * A panel starts at a cache line. The weights are those of the file, not converted: a
 * matrix is larger by its padding only. A matrix of one row stays as it is in the file (it is a
 * vector). */
#ifndef LONGSPAN_KERNELS_CPU_PANEL_H
#define LONGSPAN_KERNELS_CPU_PANEL_H

#include "kernels/quant/types.h"

#include <stddef.h>
#include <stdint.h>

enum { PANEL_ROWS = 16, PANEL_LINE_BYTES = 64 };

/* Panels of a matrix with that many rows. */
static inline uint32_t panel_count(uint32_t n_rows)
{
    return n_rows / PANEL_ROWS + (n_rows % PANEL_ROWS != 0);
}

/* From one panel to the next; n_columns is a multiple of the type's block. Never overflows. */
size_t panel_bytes(enum weight_type type, uint32_t n_columns);

/* From the start of a Q8_0 panel to its scales. */
size_t panel_scales_offset(uint32_t n_columns);

/* Writes one panel: rows 0 to n_rows - 1 (at most 16) come from `source`, each source_row_bytes
 * from the one before, in file order; the others are zeros. `source` needs no alignment. */
void panel_pack(void *panel, enum weight_type type, const void *source, size_t source_row_bytes,
                uint32_t n_rows, uint32_t n_columns);

/* Row `row` (below 16) of a panel as f32, [n_columns]. */
void panel_unpack_row(float *out, enum weight_type type, const void *panel, uint32_t row,
                      uint32_t n_columns);

#endif
