/* groups.cu - rows that choose their matrices: gathered, multiplied group by group, combined.
 *
 * Products of a group are those of product.c, also for the table cuda-blas: groups are
 * small. Combining follows the CPU's order step by step. */
#include "kernels/cuda/chain.cuh"
#include "kernels/cuda/product.h"

namespace
{

enum { THREADS = 256, LEVELS = 4, MOST_ROWS = 32768 /* of one launch */ };
static_assert(1 << (LEVELS - 1) == MATRIX_SEGMENTS, "sums of all ranges fit");

__global__ void __launch_bounds__(THREADS)
    gather_rows(float *out, const float *x, const uint32_t *rows, uint32_t n_columns)
{
    const uint32_t column = blockIdx.x * THREADS + threadIdx.x;
    chain_next();
    chain_wait();
    if (column < n_columns)
        out[(size_t)blockIdx.y * n_columns + column] =
            x[(size_t)rows[blockIdx.y] * n_columns + column];
}

/* The terms of row i begin where those of the row before end; `end` is that of the first row. */
__global__ void __launch_bounds__(THREADS)
    combine_rows(float *out, const float *y, const uint32_t *end, const uint32_t *rows,
                 const float *weights, uint32_t first_term, uint32_t n_ranges, uint32_t n_columns)
{
    const uint32_t column = blockIdx.x * THREADS + threadIdx.x;
    float sums[LEVELS];
    chain_next();
    chain_wait();
    if (column >= n_columns)
        return;
    end += (size_t)blockIdx.y * n_ranges;
    uint32_t term = blockIdx.y > 0 ? end[-1] : first_term;
#pragma unroll
    for (uint32_t range = 0; range < MATRIX_SEGMENTS; range++) {
        if (range >= n_ranges)
            break;
        float sum = 0;
        for (; term < end[range]; term++)
            sum = __fmaf_rn(weights[term], y[(size_t)rows[term] * n_columns + column], sum);
        uint32_t level = 0; /* a finished sibling waits for each 1 in `range` from the right */
#pragma unroll
        for (; range >> level & 1; level++)
            sum = sums[level] + sum;
        sums[level] = sum;
    }
    uint32_t top = 0;
    while (1u << top < n_ranges)
        top++;
#pragma unroll
    for (uint32_t level = 0; level < LEVELS; level++) /* registers have no index */
        if (level == top)
            out[(size_t)blockIdx.y * n_columns + column] = sums[level];
}

} // namespace

extern "C" void cuda_gather(struct device *device, float *out, const float *x, const uint32_t *rows,
                            uint32_t n_rows, uint32_t n_columns)
{
    if (n_rows == 0)
        return;
    const uint32_t *at =
        (const uint32_t *)cuda_indices(device, CUDA_GATHERED, rows, n_rows * sizeof(*rows));
    for (uint32_t row = 0; row < n_rows && at != NULL; row += MOST_ROWS) {
        const uint32_t n = n_rows - row < MOST_ROWS ? n_rows - row : (uint32_t)MOST_ROWS;
        const dim3 grid((n_columns + THREADS - 1) / THREADS, n);
        chain_launch(device, "gather", gather_rows, grid, THREADS, 0, out + (size_t)row * n_columns,
                     x, at + row, n_columns);
    }
}

/* Rows of group g, from `first` on, which are prepared, by its matrices of as many products as a launch takes. */
static void multiply_group(struct device *device, const struct group_product *products,
                           uint32_t n_products, uint32_t g, size_t first)
{
    struct product together[CUDA_MATRICES];
    uint32_t n = 0;
    for (; n < n_products && n < CUDA_MATRICES; n++) {
        together[n].y = products[n].y + first * products[n].y_stride;
        together[n].y_stride = products[n].y_stride;
        together[n].weights = products[n].weights[g];
    }
    cuda_matmul(device, together, n);
}

extern "C" void cuda_multiply_groups(struct device *device, const float *x,
                                     const struct row_groups *groups, uint32_t n_columns,
                                     const struct group_product *products, uint32_t n_products)
{
    for (uint32_t g = 0; g < groups->n; g++) {
        const size_t first = g > 0 ? groups->end[g - 1] : 0;
        uint32_t types = 0;
        for (uint32_t i = 0; i < n_products; i++)
            types |= 1u << products[i].weights[g]->type;
        cuda_prepare(device, x + first * n_columns, groups->end[g] - (uint32_t)first, n_columns,
                     types);
        for (uint32_t i = 0; i < n_products; i += CUDA_MATRICES)
            multiply_group(device, products + i, n_products - i, g, first);
    }
    device->x.types = 0;
}

extern "C" void cuda_combine(struct device *device, float *out, const float *y,
                             const struct combine_terms *terms, uint32_t n_rows, uint32_t n_columns)
{
    if (n_rows == 0)
        return;
    const size_t n_ends = (size_t)n_rows * terms->n_ranges;
    const uint32_t n_terms = terms->end[n_ends - 1];
    const uint32_t *end = (const uint32_t *)cuda_indices(device, CUDA_TERM_ENDS, terms->end,
                                                         n_ends * sizeof(*terms->end));
    if (n_terms == 0) {
        cuda_clear(device, out, (size_t)n_rows * n_columns * sizeof(*out));
        return;
    }
    const uint32_t *rows = (const uint32_t *)cuda_indices(device, CUDA_TERM_ROWS, terms->row,
                                                          n_terms * sizeof(*terms->row));
    const float *weights = (const float *)cuda_indices(device, CUDA_TERM_WEIGHTS, terms->weight,
                                                       n_terms * sizeof(*terms->weight));
    if (end == NULL || rows == NULL || weights == NULL)
        return;
    for (uint32_t row = 0; row < n_rows; row += MOST_ROWS) {
        const uint32_t n = n_rows - row < MOST_ROWS ? n_rows - row : (uint32_t)MOST_ROWS;
        const uint32_t first = row > 0 ? terms->end[(size_t)row * terms->n_ranges - 1] : 0;
        const dim3 grid((n_columns + THREADS - 1) / THREADS, n);
        chain_launch(device, "combine", combine_rows, grid, THREADS, 0,
                     out + (size_t)row * n_columns, y, end + (size_t)row * terms->n_ranges, rows,
                     weights, first, terms->n_ranges, n_columns);
    }
}
