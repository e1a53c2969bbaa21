/* kernels/matrix_cut.h - what matrix_create checks, on any device. */
#ifndef LONGSPAN_KERNELS_MATRIX_CUT_H
#define LONGSPAN_KERNELS_MATRIX_CUT_H

#include "kernels/quant/types.h"
#include "sys/status.h"

/* Where rows and columns of a matrix in file order lie. */
struct matrix_cut {
    const uint8_t *first; /* the first row and column of the cut */
    size_t row_bytes;     /* from a row of the source to the next */
};

/* The arguments are those of matrix_create (kernels.h). STATUS_INVALID: a type that is none of
 * ours, no rows or columns, or a cut inside a block. */
enum status matrix_cut(struct matrix_cut *cut, enum weight_type type, const void *source,
                       uint32_t source_columns, uint32_t row_begin, uint32_t row_end,
                       uint32_t column_begin, uint32_t column_end, struct error *error);

#endif
