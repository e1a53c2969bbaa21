/* kernels/cuda/blas.h - products of many rows by cuBLASLt: weights and activations rounded to bf16.
 *
 * The table `cuda-blas` is `cuda` but for products of BLAS_ROWS rows and more. Weights are made
 * bf16 some outputs at a time, in a workspace of BLAS_WEIGHT_BYTES, and multiplied by the library.
 * It chooses its kernels by the shape, so that a row's bits depend on the number of rows; segments
 * of columns are added as the library likes. Therefore the table is used by name only, by all
 * workers or none.
 *
 * The library is loaded when the first such device is opened, by none but those that ask for it. */
#ifndef LONGSPAN_KERNELS_CUDA_BLAS_H
#define LONGSPAN_KERNELS_CUDA_BLAS_H

#include "kernels/cuda/product.h"

#ifdef __cplusplus
extern "C" {
#endif

struct blas; /* opaque; of one device */

enum { BLAS_ROWS = 64, BLAS_WEIGHT_BYTES = 64 << 20 };

/* The functions of the table. */
uint32_t cuda_blas_count(struct error *error);
enum status cuda_blas_open(struct device **device, struct thread_pool *pool, uint32_t index,
                           struct error *error);
enum status cuda_blas_reserve(struct device *device, uint32_t max_rows, uint32_t max_columns,
                              struct error *error);
void cuda_blas_prepare(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                       uint32_t types);
void cuda_blas_matmul(struct device *device, const struct product *products, uint32_t n);

/* Ends what cuda_blas_open began; NULL is fine. */
void cuda_blas_destroy(struct blas *blas);

/* round.cu: bf16, rounded to nearest, rows of blas_columns; what is behind the last column is
 * zero. */
uint32_t cuda_blas_columns(uint32_t n_columns);
void cuda_round_activations(struct device *device, void *to, const float *x, uint32_t n_rows,
                            uint32_t n_columns);
/* Panels [first, first + n) of a matrix. */
void cuda_round_weights(struct device *device, void *to, enum weight_type type, const void *panels,
                        uint32_t n_columns, size_t first, size_t n);

#ifdef __cplusplus
}
#endif

#endif
