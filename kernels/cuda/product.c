/* product.c - workspace, which matrices share a launch, and which kernel multiplies. */
#include "kernels/cuda/product.h"

#include <assert.h>
#include <string.h>

enum { PENDING_LEVELS = 4 };

size_t cuda_pending_bytes(int n_multiprocessors)
{
    const size_t blocks = (size_t)n_multiprocessors * WIDE_BLOCKS_PER_SM;
    const size_t outputs = (size_t)WIDE_WARPS * PANEL_OUTPUTS;
    return blocks * PENDING_LEVELS * WIDE_ROWS * outputs * sizeof(float);
}

static bool product_of(size_t *out, size_t a, size_t b, size_t c)
{
    return !__builtin_mul_overflow(a, b, out) && !__builtin_mul_overflow(*out, c, out);
}

enum status cuda_reserve(struct device *device, uint32_t max_rows, uint32_t max_columns,
                         struct error *error)
{
    struct cuda_activations *x = &device->x;
    if (device->pending_bytes == 0 && (max_rows == 0 || max_columns == 0))
        return error_set(error, STATUS_INVALID, "cuda: a workspace of %u rows, %u columns",
                         max_rows, max_columns);
    const size_t rows = ((size_t)max_rows + ROW_TILE - 1) / ROW_TILE * ROW_TILE;
    const size_t columns =
        ((size_t)max_columns + CHUNK_COLUMNS - 1) / CHUNK_COLUMNS * CHUNK_COLUMNS;
    size_t values, scales, parts, halves, powers;
    if (columns > UINT32_MAX || !product_of(&values, rows, columns, 1) ||
        !product_of(&scales, rows, columns / QUANT_PIECE + CHUNK_PIECES, 2 * sizeof(float)) ||
        !product_of(&parts, rows, columns, X_PARTS * sizeof(uint16_t)) ||
        !product_of(&halves, rows, columns, X_HALVES * sizeof(uint16_t)) ||
        !product_of(&powers, rows, columns / QUANT_PIECE, sizeof(float)))
        return error_set(error, STATUS_NO_MEMORY, "cuda: no memory for %u rows of %u columns",
                         max_rows, max_columns);
    const struct {
        void **memory;
        size_t *capacity, bytes;
    } wanted[] = {
        {&x->quantized, &x->quantized_bytes, values},
        {&x->scales, &x->scales_bytes, scales},
        {&x->parts, &x->parts_bytes, parts},
        {&x->halves, &x->halves_bytes, halves},
        {&x->powers, &x->powers_bytes, powers},
        {&device->pending, &device->pending_bytes, cuda_pending_bytes(device->n_multiprocessors)},
        {&device->panel, &device->panel_bytes,
         panel_vectors(WEIGHT_F32, (uint32_t)columns) * VECTOR_BYTES},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (wanted[i].bytes > *wanted[i].capacity)
            x->types = 0; /* what was prepared may be gone */
        const enum status status =
            cuda_grow(device, wanted[i].memory, wanted[i].capacity, wanted[i].bytes, error);
        if (status != STATUS_OK)
            return status;
    }
    return cuda_indices_reserve(device, CUDA_POSITIONS, max_rows * sizeof(uint32_t), error);
}

/* False: failed, and kept. */
static bool cut_spans(struct device *device, struct cuda_spans *spans, const struct matrix *matrix,
                      bool quantized)
{
    const uint32_t unit =
        quantized || matrix->type == WEIGHT_F16 ? QUANT_PIECE : (uint32_t)FLOAT_PIECE;
    const uint32_t width = quantized ? QUANT_SPAN : FLOAT_SPAN;
    uint32_t begin = 0;
    spans->n_segments = matrix->n_segments > 1 ? matrix->n_segments : 1;
    spans->n_spans = 0;
    for (uint32_t i = 0; i < spans->n_segments; i++) {
        const uint32_t end = matrix->n_segments > 1 ? matrix->segment_end[i] : matrix->n_columns;
        if (begin % unit != 0) {
            cuda_fail(device, STATUS_UNSUPPORTED,
                      "a segment begins with column %u, not a multiple of %u", begin, unit);
            return false;
        }
        spans->segment_end[i] = end;
        spans->n_spans += (end - begin + width - 1) / width;
        begin = end;
    }
    return true;
}

static void take_activations(struct cuda_product *p, const struct cuda_activations *x,
                             enum weight_type type)
{
    const uint32_t n_columns = cuda_round_up(x->n_columns, 2 * FLOAT_PIECE);
    if (cuda_format(type).low_bits > 0) {
        p->x = x->quantized;
        p->x_scales = x->scales;
        p->x_row_vectors = cuda_round_up(x->n_columns, 2 * QUANT_PIECE) / VECTOR_BYTES;
    } else if (type == WEIGHT_F16) {
        p->x = x->halves;
        p->x_scales = x->powers;
        p->x_row_vectors = (size_t)n_columns * X_HALVES * sizeof(uint16_t) / VECTOR_BYTES;
    } else {
        p->x = x->parts;
        p->x_row_vectors = (size_t)n_columns * X_PARTS * sizeof(uint16_t) / VECTOR_BYTES;
    }
}

/* Whether they can be one launch. A vector's panel is in the device's scratch, which holds one. */
static bool belong_together(const struct matrix *a, const struct matrix *b)
{
    return a->type == b->type && a->n_rows > 1 && b->n_rows > 1 && a->n_segments == b->n_segments &&
           (a->n_segments <= 1 ||
            memcmp(a->segment_end, b->segment_end, a->n_segments * sizeof(*a->segment_end)) == 0);
}

/* Of matrices that belong together; false: failed, and kept. */
static bool take_matrices(struct device *device, struct cuda_product *p,
                          const struct product *products, uint32_t n)
{
    for (uint32_t i = 0; i < CUDA_MATRICES; i++) {
        struct cuda_outputs *to = &p->matrices[i];
        *to = (struct cuda_outputs){.first_panel = UINT32_MAX};
        if (i >= n)
            continue;
        const struct matrix *weights = products[i].weights;
        assert(device->x.n_columns == weights->n_columns);
        *to = (struct cuda_outputs){
            .weights = weights->n_rows > 1 ? weights->data : cuda_vector_panel(device, weights),
            .y = products[i].y,
            .y_stride = products[i].y_stride,
            .n_outputs = weights->n_rows,
            .first_panel = p->n_panels,
        };
        p->n_panels += (uint32_t)panel_count(weights->n_rows);
        if (to->weights == NULL)
            return false;
    }
    return true;
}

static void multiply_together(struct device *device, const struct product *products, uint32_t n)
{
    const struct cuda_activations *x = &device->x;
    const struct matrix *first = products[0].weights;
    const bool quantized = cuda_format(first->type).low_bits > 0;
    if (!(x->types >> first->type & 1)) {
        cuda_fail(device, STATUS_INVALID, "a product with activations that were not prepared");
        return;
    }
    assert(first->n_segments <= MATRIX_SEGMENTS);
    struct cuda_product p = {
        .panel_vectors = panel_vectors(first->type, first->n_columns),
        .n_rows = x->n_rows,
        .n_blocks = cuda_round_up(x->n_columns, QUANT_PIECE) / QUANT_PIECE,
        .n_row_tiles = (x->n_rows + ROW_TILE - 1) / ROW_TILE,
        .pending = device->pending,
        .weights_are_new = first->n_rows == 1,
    };
    take_activations(&p, x, first->type);
    if (!take_matrices(device, &p, products, n) || !cut_spans(device, &p.spans, first, quantized))
        return;
    if (quantized)
        cuda_product_quant(device, first->type, &p);
    else
        cuda_product_float(device, first->type, &p);
}

void cuda_matmul(struct device *device, const struct product *products, uint32_t n)
{
    for (uint32_t first = 0, end; first < n && device->x.n_rows > 0; first = end) {
        for (end = first + 1; end < n && end - first < CUDA_MATRICES; end++)
            if (!belong_together(products[first].weights, products[end].weights))
                break;
        multiply_together(device, products + first, end - first);
    }
}
