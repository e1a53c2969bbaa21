/* matrix.cu - weights into panels, and rows of them back as f32.
 *
 * A matrix is uploaded as it is in its file, some rows at a time, through a pinned buffer; the
 * device puts it in order: a thread makes one vector (panel.h). */
#include "kernels/cuda/product.h"

#include <cuda_fp16.h>

namespace
{

enum { THREADS = 256 };

__global__ void __launch_bounds__(THREADS)
    make_panels(struct cuda_source source, uint4 *panels, size_t vectors_of_panel, size_t n_vectors)
{
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n_vectors)
        return;
    const struct cuda_vector v = panel_vector(
        &source, (uint32_t)(i / vectors_of_panel) * PANEL_OUTPUTS, i % vectors_of_panel);
    panels[i] = make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]);
}

bool put_in_order(struct device *device, const struct cuda_source *source, void *panels)
{
    const size_t of_panel = panel_vectors(source->type, source->n_columns);
    const size_t n = panel_count(source->n_rows) * of_panel;
    make_panels<<<(unsigned)((n + THREADS - 1) / THREADS), THREADS, 0, cuda_stream(device)>>>(
        *source, (uint4 *)panels, of_panel, n);
    return cuda_launched(device, "weights into panels");
}

/* Weight (row, column) of a matrix in panels: exactly what the format says. */
__device__ float panel_value(enum weight_type type, const uint4 *panels, size_t of_panel,
                             uint32_t row, uint32_t column)
{
    const struct cuda_format f = cuda_format(type);
    const uint4 *panel = panels + row / PANEL_OUTPUTS * of_panel;
    const uint32_t output = row % PANEL_OUTPUTS, o = output % 8;
    if (f.low_bits == 0) {
        const uint32_t c = column % FLOAT_PIECE, lane = o * 4 + c % 8 / 2;
        const uint32_t r = output / 8 + c / 8 * 2;
        panel += (size_t)(column / FLOAT_PIECE) * piece_vectors(type);
        if (type == WEIGHT_F32)
            return ((const float *)(panel + r / 2 * CUDA_LANES + lane))[r % 2 * 2 + c % 2];
        const uint16_t bits = ((const uint16_t *)(panel + lane))[r * 2 + c % 2];
        return type == WEIGHT_BF16 ? __uint_as_float((uint32_t)bits << 16)
                                   : __half2float(__ushort_as_half(bits));
    }
    const uint4 *chunk = panel + (size_t)(column / CHUNK_COLUMNS) * chunk_vectors(f);
    const uint32_t piece = column % CHUNK_COLUMNS / QUANT_PIECE, c = column % QUANT_PIECE;
    const uint32_t lane = o * 4 + c % 16 / 4, r = output / 8 + c / 16 * 2, shift = c % 4 * 8;
    const uint4 *low = chunk + chunk_scale_vectors(f) + lane;
    uint32_t a[4];
    const uint4 *high = low + f.low_bits * CUDA_LANES + piece * f.high_bits / 8 * CUDA_LANES;
    low += (f.low_bits == 8 ? piece : piece / 2) * CUDA_LANES;
    piece_unpack(a, f, (const uint32_t *)low, (const uint32_t *)high, piece);
    const uint32_t byte = a[r] >> shift & 255u;
    const int q = f.is_signed ? (int)(int8_t)byte >> piece_shift(f) : (int)byte;

    const uint16_t *record = (const uint16_t *)(chunk + output);
    if (f.high_bits == 2) {
        const float d = __half2float(((const __half *)(chunk + PANEL_OUTPUTS))[output]);
        return d * (float)((const int8_t *)record)[piece * 2 + c / 16] * (float)q;
    }
    if (f.super) {
        const uint32_t *words = (const uint32_t *)record;
        const float d = __half2float(__ushort_as_half(record[0])),
                    dmin = __half2float(__ushort_as_half(record[1]));
        return d * (float)packed_part(words[1], words[3], piece, 0) * (float)q -
               dmin * (float)packed_part(words[2], words[3], piece, 4);
    }
    const float value = __half2float(__ushort_as_half(record[piece])) * (float)q;
    if (!f.min)
        return value;
    return value + __half2float(__ushort_as_half(
                       ((const uint16_t *)(chunk + PANEL_OUTPUTS + output))[piece]));
}

__global__ void __launch_bounds__(THREADS)
    embed_rows(float *out, enum weight_type type, const uint4 *panels, size_t of_panel,
               uint32_t n_rows, uint32_t n_columns, const int32_t *tokens, int32_t first)
{
    const int64_t row = (int64_t)tokens[blockIdx.y] - first;
    const uint32_t column = blockIdx.x * THREADS + threadIdx.x;
    if (column >= n_columns)
        return;
    out[(size_t)blockIdx.y * n_columns + column] =
        row < 0 || row >= n_rows ? 0.0f
                                 : panel_value(type, panels, of_panel, (uint32_t)row, column);
}

/* The upload buffers, once. */
enum status take_staging(struct device *device, struct error *error)
{
    if (device->upload_host != NULL)
        return STATUS_OK;
    enum status status = cuda_memory_take(device, &device->upload_device, CUDA_UPLOAD_BYTES, error);
    if (status == STATUS_OK)
        status = cuda_host_take(device, &device->upload_host, CUDA_UPLOAD_BYTES, error);
    if (status != STATUS_OK) {
        cuda_memory_give(device, device->upload_device);
        device->upload_device = NULL;
    }
    return status;
}

/* Whole panels of rows at a time, as many as the staging holds. */
enum status upload_rows(struct device *device, const struct matrix *m, const uint8_t *first,
                        size_t source_row_bytes, struct error *error)
{
    const size_t row_bytes = weight_row_bytes(m->type, m->n_columns);
    const size_t rows = CUDA_UPLOAD_BYTES / row_bytes / PANEL_OUTPUTS * PANEL_OUTPUTS;
    const size_t panel = panel_vectors(m->type, m->n_columns) * VECTOR_BYTES;
    if (rows == 0)
        return error_set(error, STATUS_UNSUPPORTED, "cuda: rows of %zu bytes; at most %d",
                         row_bytes, CUDA_UPLOAD_BYTES / PANEL_OUTPUTS);
    for (size_t row = 0; row < m->n_rows; row += rows) {
        const size_t n = m->n_rows - row < rows ? m->n_rows - row : rows;
        const struct cuda_source source = {m->type, (const uint8_t *)device->upload_device,
                                           row_bytes, (uint32_t)n, m->n_columns};
        for (size_t i = 0; i < n; i++)
            memcpy((uint8_t *)device->upload_host + i * row_bytes,
                   first + (row + i) * source_row_bytes, row_bytes);
        cuda_upload(device, device->upload_device, device->upload_host, n * row_bytes);
        put_in_order(device, &source, (uint8_t *)m->data + row / PANEL_OUTPUTS * panel);
        const enum status status = cuda_finish(device, error); /* the staging is free again */
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

} // namespace

extern "C" enum status cuda_matrix_create(struct device *device, struct matrix *matrix,
                                          enum weight_type type, const void *source,
                                          uint32_t source_columns, uint32_t row_begin,
                                          uint32_t row_end, uint32_t column_begin,
                                          uint32_t column_end, struct error *error)
{
    struct matrix_cut cut;
    enum status status = matrix_cut(&cut, type, source, source_columns, row_begin, row_end,
                                    column_begin, column_end, error);
    if (status != STATUS_OK)
        return status;
    struct matrix m = {};
    m.type = type;
    m.n_rows = row_end - row_begin;
    m.n_columns = column_end - column_begin;
    m.bytes = m.n_rows == 1
                  ? weight_row_bytes(type, m.n_columns)
                  : panel_count(m.n_rows) * panel_vectors(type, m.n_columns) * VECTOR_BYTES;
    if ((status = take_staging(device, error)) != STATUS_OK ||
        (status = cuda_memory_take(device, &m.data, m.bytes, error)) != STATUS_OK)
        return status;
    if (m.n_rows == 1) {
        cuda_upload(device, m.data, cut.first, m.bytes);
        status = cuda_finish(device, error);
    } else {
        status = upload_rows(device, &m, cut.first, cut.row_bytes, error);
    }
    if (status != STATUS_OK) {
        cuda_memory_give(device, m.data);
        return status;
    }
    *matrix = m;
    return STATUS_OK;
}

extern "C" void cuda_matrix_destroy(struct device *device, struct matrix *matrix)
{
    struct matrix none = {};
    cuda_memory_give(device, matrix->data);
    *matrix = none;
}

extern "C" const void *cuda_vector_panel(struct device *device, const struct matrix *matrix)
{
    const struct cuda_source source = {matrix->type, (const uint8_t *)matrix->data, matrix->bytes,
                                       1, matrix->n_columns};
    if (panel_vectors(matrix->type, matrix->n_columns) * VECTOR_BYTES > device->panel_bytes) {
        cuda_fail(device, STATUS_INVALID, "no workspace was reserved for %u columns",
                  matrix->n_columns);
        return NULL;
    }
    return put_in_order(device, &source, device->panel) ? device->panel : NULL;
}

extern "C" void cuda_embed(struct device *device, float *out, const struct matrix *table,
                           const int32_t *tokens, uint32_t n_tokens, int32_t first)
{
    const uint32_t MOST_TOKENS = 32768; /* of one launch */
    if (n_tokens == 0)
        return;
    const void *panels = table->n_rows > 1 ? table->data : cuda_vector_panel(device, table);
    const int32_t *indices =
        (const int32_t *)cuda_indices(device, CUDA_TOKENS, tokens, n_tokens * sizeof(*tokens));
    if (panels == NULL || indices == NULL)
        return;
    for (uint32_t i = 0; i < n_tokens; i += MOST_TOKENS) {
        const uint32_t n = n_tokens - i < MOST_TOKENS ? n_tokens - i : MOST_TOKENS;
        const dim3 grid((table->n_columns + THREADS - 1) / THREADS, n);
        embed_rows<<<grid, THREADS, 0, cuda_stream(device)>>>(
            out + (size_t)i * table->n_columns, table->type, (const uint4 *)panels,
            panel_vectors(table->type, table->n_columns), table->n_rows, table->n_columns,
            indices + i, first);
        cuda_launched(device, "embedding");
    }
}
