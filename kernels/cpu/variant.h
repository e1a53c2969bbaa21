/* kernels/cpu/variant.h - what an instruction set provides: the inner loops of the CPU's kernels.
 *
 * device.c (memory), dense.c (blocking) and cpu.c (lanes) do everything else once for all of them.
 * A variant's functions run on one lane and know neither the device nor the pool.
 *
 * The evaluation order of a product, which every variant follows, so that all give the same bits:
 *   - F32, F16: the columns are cut in spans of CPU_FLOAT_SPAN. A span's sum starts at 0 and takes
 *     its columns one after the other by fused multiply-add in f32, weights converted exactly.
 *   - Q8_0: activations are quantized by blocks of 32 to int8 with an f32 scale. A block's integer
 *     dot product is exact, in any order. The sum of a span (CPU_Q8_SPAN columns) starts at 0 and
 *     takes its blocks one after the other: fma((float)dot, weight_scale * activation_scale, sum).
 *   - The first span's sum is the output; the others are added to it in order.
 *   - Where the columns are cut in segments, all this holds for each of them, and the segments'
 *     sums are added as a binary tree (kernels.h, struct matrix).
 *
 * Nothing in it depends on other rows, outputs, lanes, or on the height of a tile. */
#ifndef LONGSPAN_KERNELS_CPU_VARIANT_H
#define LONGSPAN_KERNELS_CPU_VARIANT_H

#include "kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CPU_FLOAT_SPAN = 256,   /* columns: 16 KiB of an f32 panel; a tile of 12 rows takes 12 KiB */
    CPU_Q8_SPAN = 1024,     /* columns: 17 KiB of a Q8_0 panel */
    CPU_Q8_BLOCK_BYTES = 40 /* of prepared activations, per row and block */
};

/* Prepared activations lie in tiles of a few rows, the rows side by side, so that a product reads
 * them as one stream too. A tile of R rows is
 *     for F32, F16   f32 [n_columns][R]
 *     for Q8_0       [n_columns / 32] blocks of
 *                    int8 [8][R][4]   the quantized values, in [-127, 127]
 *                    f32 [R]          their scale: max|x| / 127; NaN if a value is not finite
 *                    int32 [R]        -128 times the sum of the 32 values: what a variant starts
 *                                     from that adds 128 to the weights to make them unsigned */

/* One call: n_outputs outputs (of consecutive panels) for the n_rows rows of one tile, over one
 * span. */
struct cpu_product {
    float *y; /* [row][output] */
    size_t y_stride;
    uint32_t n_outputs, n_rows;
    const uint8_t *weights; /* where the span starts in the first panel */
    const uint8_t *scales;  /* Q8_0: likewise */
    size_t panel_bytes;     /* to the next panel, for both */
    const void *x;          /* where the span starts in the tile */
    uint32_t n;             /* columns in the span, for Q8_0 blocks */
    bool add;               /* not the first span: y += sum, else y = sum */
};

struct cpu_variant {
    const char *name;
    uint32_t float_tile_rows, q8_tile_rows; /* the tallest tile that the products take */

    void (*product_f32)(const struct cpu_product *product);
    void (*product_f16)(const struct cpu_product *product);
    void (*product_q8_0)(const struct cpu_product *product);

    /* n columns of a tile's n_rows rows, which are x_stride floats apart. */
    void (*pack_float)(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n);
    void (*pack_q8_0)(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n);

    /* One row each; see kernels.h. */
    void (*rms_norm)(float *y, const float *x, const float *weight, uint32_t n, float epsilon);
    void (*rotate)(float *x, uint32_t position, uint32_t n_heads, uint32_t head_dim,
                   const struct rope *rope);

    void (*swiglu)(float *gate, const float *up, size_t n);
    void (*add)(float *x, const float *y, size_t n);
};

extern const struct cpu_variant cpu_variant_scalar;
#if defined(__x86_64__)
extern const struct cpu_variant cpu_variant_avx2;
extern const struct cpu_variant cpu_variant_avx512;
#endif

#endif
