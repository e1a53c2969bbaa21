/* matrix_cut.c - see matrix_cut.h. */
#include "kernels/matrix_cut.h"

enum status matrix_cut(struct matrix_cut *cut, enum weight_type type, const void *source,
                       uint32_t source_columns, uint32_t row_begin, uint32_t row_end,
                       uint32_t column_begin, uint32_t column_end, struct error *error)
{
    const struct weight_traits *traits = weight_traits(type);
    if (traits == NULL)
        return error_set(error, STATUS_INVALID, "kernels: weight type %d is not one of ours",
                         (int)type);
    const uint32_t block = traits->block_elements;
    if (row_begin >= row_end || column_begin >= column_end || column_end > source_columns)
        return error_set(error, STATUS_INVALID,
                         "kernels: rows %u to %u, columns %u to %u of %u are not a matrix",
                         row_begin, row_end, column_begin, column_end, source_columns);
    if (source_columns % block != 0 || column_begin % block != 0 || column_end % block != 0)
        return error_set(error, STATUS_INVALID,
                         "kernels: columns %u to %u of %u cut a %s block; cut at multiples of %u",
                         column_begin, column_end, source_columns, traits->name, block);
    cut->row_bytes = weight_row_bytes(type, source_columns);
    cut->first =
        (const uint8_t *)source + row_begin * cut->row_bytes + weight_row_bytes(type, column_begin);
    return STATUS_OK;
}
