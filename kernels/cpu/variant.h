/* kernels/cpu/variant.h - what an instruction set provides: the inner loops of the CPU's kernels.
 *
 * device.c (memory), dense.c (blocking) and cpu.c (lanes) do everything else once for all of them.
 * A variant's functions run on one lane and know neither the device nor the pool.
 *
 * The evaluation order of a product, which every variant follows, so that all give the same bits:
 *   - F32, F16, BF16: the columns are cut in spans of CPU_FLOAT_SPAN. A span's sum starts at 0 and
 *     takes its columns one after the other by fused multiply-add in f32, weights converted
 *     exactly.
 *   - The others: the columns are cut in spans of CPU_QUANT_SPAN. Activations are quantized by
 *     blocks of 32 to int8 with an f32 scale xs; xsum = xs * (float)(the sum of the 32 values).
 *     A span's sum starts at 0 and takes its blocks of 32 one after the other:
 *         dot   the exact integer dot product of the activations and the format's integers
 *               (kernels/quant: q = -8 .. 7 for Q4_0), in any order
 *         ws    the weights' scale: d, of super-blocks d * (float)scale, which is exact
 *         wm    the minimum: m of Q4_1 and Q5_1, of super-blocks -dmin * (float)min, exact too
 *         sum = fma((float)dot, ws * xs, sum); then, with a minimum, sum = fma(wm, xsum, sum)
 *     Q6_K's scales count for 16 weights: the first step is made for the first 16 columns of a
 *     block, then for the second.
 *   - The first span's sum is the output; the others are added to it in order.
 *   - Where the columns are cut in segments, all this holds for each of them, and the segments'
 *     sums are added as a binary tree (kernels.h, struct matrix).
 *
 * The table bf16 differs, for F32, F16 and BF16 weights with an even number of columns (CPU_PAIRS):
 * weights and activations are rounded to bf16, to the nearest, ties to even, and a span's sum takes
 * its columns by pairs as the instruction vdpbf16ps adds them, numbers below 2^-126 counting as 0.
 * Of rows, outputs, lanes and tiles its bits do not depend either.
 *
 * Nothing in it depends on other rows, outputs, lanes, or on the height of a tile. */
#ifndef LONGSPAN_KERNELS_CPU_VARIANT_H
#define LONGSPAN_KERNELS_CPU_VARIANT_H

#include "kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CPU_FLOAT_SPAN = 512,    /* columns: 16 KiB of an F16 panel; a tile of 12 rows takes 24 KiB */
    CPU_QUANT_SPAN = 1024,   /* columns, whole super-blocks: 17 KiB of Q8_0; 12 rows take 20 KiB */
    CPU_COMBINE_PIECE = 512, /* columns: sums that wait in the tree of ranges take 8 KiB at most */
};

/* Prepared activations lie in tiles of a few rows, the rows side by side, so that a product reads
 * them as one stream too. A tile of R rows is
 *     floats      f32 [n_columns][R]
 *     pairs       [n_columns / 2][R] of two bf16, the earlier column in the low half
 *     quantized   [n_columns / 32] blocks of CPU_X_WORDS rows of 32-bit words, [word][R]: */
enum {
    CPU_X_VALUES = 0,  /* 8 words of four int8, in [-127, 127] */
    CPU_X_SCALE = 8,   /* f32: max|x| / 127; NaN if a value is not finite */
    CPU_X_SUM = 9,     /* f32: the scale times the sum of the 32 values */
    CPU_X_START = 10,  /* int32: -8 times the sum of the values */
    CPU_X_STARTS = 11, /* 2 words of int32: -32 times the sum of the first, the second 16 values */
    CPU_X_WORDS = 13,
    CPU_X_BLOCK_BYTES = 4 * CPU_X_WORDS /* per row and block */
};
/* The starts are what a variant begins a dot product with when it multiplies weights as stored,
 * which are larger by 8, 16 or 32 (panel.h), or by 128. */

/* One call: n_outputs outputs (of consecutive panels) for the n_rows rows of one tile, over one
 * span. */
struct cpu_product {
    float *y; /* [row][output] */
    size_t y_stride;
    enum weight_type type;
    uint32_t n_outputs, n_rows;
    const uint8_t *weights; /* where the span starts in the first panel */
    size_t panel_bytes;     /* to the next panel */
    const void *x;          /* where the span starts in the tile */
    const void *next_x;     /* likewise, of what is multiplied after it: a hint; or x */
    uint32_t n;             /* columns in the span */
    const float *before;    /* y = before + sum, as y with a stride of its own; NULL: y = sum */
    size_t before_stride;
};

/* Weights whose products take the same activations. */
enum cpu_kind { CPU_FLOAT, CPU_QUANT, CPU_PAIRS, CPU_KINDS };

struct cpu_products {
    uint32_t tile_rows;                                 /* the tallest tile that `product` takes */
    void (*product)(const struct cpu_product *product); /* CPU_PAIRS: NULL where nothing rounds */
    /* n columns of a tile's n_rows rows, which are x_stride floats apart. */
    void (*pack)(void *tile, const float *x, size_t x_stride, uint32_t n_rows, size_t n);
};

struct cpu_variant {
    const char *name;
    struct cpu_products products[CPU_KINDS];

    /* One row each; see kernels.h. */
    void (*rms_norm)(float *y, const float *x, const float *weight, uint32_t n, float epsilon);
    void (*rotate)(float *x, uint32_t position, uint32_t n_heads, uint32_t head_dim,
                   const struct rope *rope);

    void (*swiglu)(float *gate, const float *up, size_t n);
    void (*geglu)(float *gate, const float *up, size_t n);
    void (*add)(float *x, const float *y, size_t n);
    void (*scale)(float *x, float factor, size_t n);
    void (*soft_cap)(float *x, float cap, size_t n);

    /* Columns [first, first + n) of row `row` of the result, n at most CPU_COMBINE_PIECE. */
    void (*combine)(float *out, const float *y, size_t n_columns, const struct combine_terms *terms,
                    size_t row, size_t first, size_t n);
};

extern const struct cpu_variant cpu_variant_scalar;
#if defined(__x86_64__)
extern const struct cpu_variant cpu_variant_avx2;
extern const struct cpu_variant cpu_variant_avx512;
extern const struct cpu_variant cpu_variant_bf16; /* avx512, but for CPU_PAIRS */
#elif defined(__aarch64__)
extern const struct cpu_variant cpu_variant_neon;
extern const struct cpu_variant cpu_variant_dotprod; /* neon, but for CPU_QUANT */
#endif

#endif
