/* kernels/cuda/product.h - products of prepared activations with weights in panels.
 *
 * The evaluation order, the same for any number of rows and outputs:
 *   - Quantized weights: that of the CPU's tables, step by step (kernels/cpu/variant.h): exact integer
 *     dot products of blocks of 32, two roundings for each, spans of QUANT_SPAN columns whose sums
 *     are added in order, segments as a tree. So these products have the CPU's bits, on any GPU.
 *   - F32, F16, BF16: spans of FLOAT_SPAN columns. Numbers are products of parts that the tensor
 *     cores multiply exactly (product_float.cu); they add 16 columns at a time to the sum, small parts
 *     before large ones. The result is as near as f32 arithmetic; how a tensor core adds 16 products
 *     is its architecture's affair, so that bits differ between generations of GPUs.
 * Segments must begin at multiples of 32 columns, of F32 and BF16 matrices of 16. */
#ifndef LONGSPAN_KERNELS_CUDA_PRODUCT_H
#define LONGSPAN_KERNELS_CUDA_PRODUCT_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/panel.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { QUANT_SPAN = 1024, FLOAT_SPAN = 512, CUDA_MATRICES = 3 /* of one launch */ };

/* How the columns are cut: spans of QUANT_SPAN or FLOAT_SPAN, from the begin of each segment. */
struct cuda_spans {
    uint32_t n_segments, n_spans;
    uint32_t segment_end[MATRIX_SEGMENTS];
};

/* A matrix of a launch, and where its outputs go. */
struct cuda_outputs {
    const void *weights; /* vectors, panel after panel */
    float *y;
    size_t y_stride;
    uint32_t n_outputs;
    uint32_t first_panel; /* of all; UINT32_MAX: there is no such matrix */
};

/* Matrices of one type that have x in common and their columns cut alike: a launch goes through the panels
 * of all, as if they were one. */
struct cuda_product {
    struct cuda_outputs matrices[CUDA_MATRICES];
    uint32_t n_panels;
    size_t panel_vectors;
    uint32_t n_rows;
    const void *x;        /* quantized, parts or halves */
    size_t x_row_vectors; /* 16-byte vectors from a row to the next */
    const void *x_scales; /* scales or powers */
    uint32_t n_blocks;    /* in a row of x_scales */
    uint32_t n_row_tiles;
    void *pending;        /* wide products: sums of segments that wait for their sibling */
    uint32_t round_spans; /* narrow products: spans whose sums are in shared memory at once */
    uint32_t n_stages;    /* likewise: stages of weights in a warp's ring */
    bool weights_are_new; /* written by the kernel before this one */
    struct cuda_spans spans;
};

/* Which of the kernels: `narrow` up to NARROW_ROWS rows, weights are read once and a panel's spans
 * are divided over the warps of a block; `wide` else, a warp takes a panel times WIDE_ROWS rows. */
enum { NARROW_ROWS = 32, WIDE_ROWS = 64, WIDE_WARPS = 4, WIDE_BLOCKS_PER_SM = 4 };

/* Bytes of `pending` for a device of that many multiprocessors. */
size_t cuda_pending_bytes(int n_multiprocessors);

/* product_quant.cu, product_float.cu; one launch. */
void cuda_product_quant(struct device *device, enum weight_type type,
                        const struct cuda_product *product);
void cuda_product_float(struct device *device, enum weight_type type,
                        const struct cuda_product *product);

/* product.c: the functions of the table. */
enum status cuda_reserve(struct device *device, uint32_t max_rows, uint32_t max_columns,
                         struct error *error);
void cuda_matmul(struct device *device, const struct product *products, uint32_t n);

/* groups.cu, likewise */
void cuda_gather(struct device *device, float *out, const float *x, const uint32_t *rows,
                 uint32_t n_rows, uint32_t n_columns);
void cuda_multiply_groups(struct device *device, const float *x, const struct row_groups *groups,
                          uint32_t n_columns, const struct group_product *products,
                          uint32_t n_products);
void cuda_combine(struct device *device, float *out, const float *y,
                  const struct combine_terms *terms, uint32_t n_rows, uint32_t n_columns);

/* prepare.cu */
void cuda_prepare(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                  uint32_t types);

/* matrix.cu */
enum status cuda_matrix_create(struct device *device, struct matrix *matrix, enum weight_type type,
                               const void *source, uint32_t source_columns, uint32_t row_begin,
                               uint32_t row_end, uint32_t column_begin, uint32_t column_end,
                               struct error *error);
void cuda_matrix_destroy(struct device *device, struct matrix *matrix);
void cuda_embed(struct device *device, float *out, const struct matrix *table,
                const int32_t *tokens, uint32_t n_tokens, int32_t first);
/* A one-row matrix, which lies as in its file, as a panel in the device's scratch; NULL: failed. */
const void *cuda_vector_panel(struct device *device, const struct matrix *matrix);

/* turn.cu */
void cuda_turn(struct device *device, const struct heads *heads, uint32_t n,
               const struct turn *turn);

/* fused.cu, elementwise.cu */
void cuda_rms_norm(struct device *device, float *y, const float *x, const float *weight,
                   uint32_t n_rows, uint32_t n_columns, float epsilon);
void cuda_swiglu(struct device *device, float *gate, const float *up, size_t n);
void cuda_geglu(struct device *device, float *gate, const float *up, size_t n);
void cuda_add(struct device *device, float *x, const float *y, size_t n);
void cuda_add_bias(struct device *device, float *x, const float *bias, uint32_t n_rows,
                   uint32_t n_columns);
void cuda_scale(struct device *device, float *x, float factor, size_t n);
void cuda_soft_cap(struct device *device, float *x, float cap, size_t n);

#ifdef __cplusplus
}
#endif

#endif
