/* kernels/cpu/device.h - the CPU as a device: lanes, workspace, weights; inside kernels/cpu only.
 *
 * The functions of the table in kernels.h that are the same for every instruction set. What they
 * promise is written there. */
#ifndef LONGSPAN_KERNELS_CPU_DEVICE_H
#define LONGSPAN_KERNELS_CPU_DEVICE_H

#include "kernels/cpu/variant.h"
#include "kernels/cpu/weight_memory.h"
#include "kernels/kernels.h"

enum { DEVICE_ALONE = 16384 }; /* values; less is not worth waking lanes for, about a microsecond */

struct device {
    const struct cpu_variant *variant;
    struct thread_pool *pool;
    uint32_t max_rows;  /* of the workspace; x_bytes says how many columns */
    void *x[CPU_KINDS]; /* prepared activations in tiles, see variant.h */
    float *sums;        /* per lane: pending sums of segments, see dense.c */
    size_t x_bytes[CPU_KINDS], sums_bytes;
    uint32_t x_rows, x_columns, x_types; /* what was prepared last */
    struct weight_memory weights;
};

enum status device_open(struct device **device, struct thread_pool *pool,
                        const struct cpu_variant *variant, struct error *error);
void device_close(struct device *device);
enum status device_reserve(struct device *device, uint32_t max_rows, uint32_t max_columns,
                           struct error *error);

/* Runs `function` on all lanes, or, when `work` is less than `alone`, on the caller's as the only
 * one. */
void device_run(struct device *device, size_t work, size_t alone,
                void (*function)(void *context, uint32_t lane, uint32_t n_lanes), void *context);

enum status device_matrix_create(struct device *device, struct matrix *matrix,
                                 enum weight_type type, const void *source, uint32_t source_columns,
                                 uint32_t row_begin, uint32_t row_end, uint32_t column_begin,
                                 uint32_t column_end, struct error *error);
void device_matrix_destroy(struct device *device, struct matrix *matrix);
void device_embed(struct device *device, float *out, const struct matrix *table,
                  const int32_t *tokens, uint32_t n_tokens, int32_t first);

/* dense.c */
enum { DENSE_GROUP_OUTPUTS = 128, DENSE_LEVELS = 3 }; /* 2^3 = MATRIX_SEGMENTS */
/* Of one row of prepared activations, for the workspace. */
size_t dense_activation_bytes(enum cpu_kind kind, uint32_t n_columns);
void dense_prepare(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                   uint32_t types);
void dense_matmul(struct device *device, const struct product *products, uint32_t n);
void dense_multiply_groups(struct device *device, const float *x, const struct row_groups *groups,
                           uint32_t n_columns, const struct group_product *products,
                           uint32_t n_products);

#endif
