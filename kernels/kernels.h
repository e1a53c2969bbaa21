/* kernels/kernels.h - the numeric operations of a worker, one table of functions per device.
 *
 * A worker chooses a table once, opens a device with it, and calls only through it; nothing
 * branches on a device's name after. Vectors and activations are f32, row-major, contiguous unless
 * a stride is named; weights are `struct matrix`, in the type they have in the model file.
 *
 * Bits (docs/architecture.md, "Same bits"): every output value is a function of its own input row
 * and weights alone, whatever the number of rows in the call, the number of lanes and the rows'
 * order. The CPU variants (scalar, avx2, avx512; bf16 is apart) follow one evaluation order
 * (kernels/cpu/variant.h) and give the same bits as each other; each is judged against a
 * double-precision reference in tests/kernels.
 *
 * Memory: what a table computes with lies in its device's memory (memory_take). Vectors and
 * activations, all `float *` below, and frequencies are device memory; tokens and positions are
 * host memory that the call has read when it returns. On a CPU the two are one (`host_memory`).
 * Calls are done in the order in which they were made, and may return before: `finish` waits.
 *
 * A device belongs to one thread. Nothing here allocates after open, matrix_create,
 * workspace_reserve, memory_take and host_take; but what goes through small memory of the device's
 * own (index arguments, candidates) makes it grow to the largest call so far. */
#ifndef LONGSPAN_KERNELS_KERNELS_H
#define LONGSPAN_KERNELS_KERNELS_H

#include "kernels/candidates.h"
#include "kernels/quant/kv_type.h"
#include "kernels/quant/types.h"
#include "sys/status.h"
#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device; /* opaque; each table has its own */
struct recording;
struct attention_device;

enum { MATRIX_SEGMENTS = 8 }; /* at most; a power of two */

/* A weight matrix on its device: y[n_rows] = W x[n_columns]. Rows are outputs.
 *
 * The device keeps the numbers in an order of its own (kernels/cpu/panel.h), as many bytes as in
 * the file but for padding. One with a single row is kept as it is in the file, so that `data` of
 * an F32 vector (a norm's weights) is a plain array. */
/* The columns may be cut in segments: a product is then the binary tree over its segments' sums,
 * ((s0 + s1) + (s2 + s3)) + ..., so that ranks that hold aligned segments each can add up theirs
 * and then each other's, and the result has the bits of the whole matrix on one rank. */
struct matrix {
    enum weight_type type;
    uint32_t n_rows, n_columns; /* n_columns: a multiple of the type's block */
    void *data;                 /* device memory, owned by the matrix */
    size_t bytes;
    uint32_t n_segments; /* 0 or 1: the columns are one sum; else set after matrix_create */
    uint32_t segment_end
        [MATRIX_SEGMENTS]; /* ascending multiples of the block, even ones but the last: n_columns */
};

/* y[row][output] = sum over k of W[output][k] x[row][k]. */
struct product {
    float *y;
    size_t y_stride; /* floats from a row of y to the next */
    const struct matrix *weights;
};

/* Rows of which some that follow each other have a matrix in common: experts' rows. */
struct row_groups {
    uint32_t n;
    const uint32_t *end; /* [n], ascending: where the rows of a group end; none is empty */
};

/* One product of each group: y rows of group g = weights[g] x rows. */
struct group_product {
    const struct matrix *const *weights; /* [groups]; as many columns as x */
    float *y;                            /* rows y_stride floats apart */
    size_t y_stride;
};

/* Weighted sums of rows. Row i of the result has n_ranges ranges of terms, one after the other in
 * `row` and `weight`; a range's sum starts at 0 and takes its terms by fused multiply-add, and
 * ranges are added as the binary tree ((r0 + r1) + (r2 + r3)) + ..., so that ranks that hold
 * aligned ranges each can go on with it. */
struct combine_terms {
    uint32_t n_ranges; /* a power of two up to MATRIX_SEGMENTS */
    const uint32_t
        *end; /* [n_rows][n_ranges], ascending: where a range's terms end; may be empty */
    const uint32_t *row; /* [terms]: of what is summed */
    const float *weight; /* [terms] */
};

/* Rotary position embedding (Su et al. 2021): pair i of a head turns by position * frequency[i].
 * Llama's GGUF order rotates adjacent pairs (2i, 2i+1); `neox` rotates (i, i + n_dims/2). */
struct rope {
    uint32_t n_dims; /* dims of a head that turn, even; the rest pass */
    bool neox;
    const double *frequency; /* device memory: [n_dims / 2], radians per token, after any scaling */
    float magnitude;         /* multiplies cos and sin; 1 unless a scaling asks otherwise */
};

/* q, k or v of some rows, x[row][head][head_dim], and what is to be done to them. */
struct heads {
    float *x;
    uint32_t n_heads;
    const float *bias; /* [n_heads][head_dim], added to each row; NULL: none */
    const float *norm; /* [head_dim], weights of each head's norm; NULL: none */
    bool turn;         /* by the row's position */
    void *rounded;     /* device memory: where the rows go in the KV type, too; NULL: nowhere */
    enum kv_type type;
};

/* Of all arrays of a call. */
struct turn {
    uint32_t n_rows, head_dim;
    const uint32_t *positions; /* [n_rows] */
    const struct rope *rope;   /* NULL: none turn */
    float epsilon;             /* of norms */
};

struct kernels {
    const char *device;    /* "cpu", "cuda": as written in cluster files */
    const char *name;      /* "scalar", "avx2", "avx512", "bf16"; part of the joining handshake */
    const char *attention; /* the name of the tile kernels that go with it (attention/tile.h) */
    const struct attention_device *attention_device; /* NULL: attention in host memory */
    bool (*usable)(void);                            /* can this machine run it */

    /* Devices that this process can open, numbered from 0. 0: *error says why there is none. */
    uint32_t (*count)(struct error *error);

    /* Device `index` of them. On a CPU the lanes of `pool` do the work; the pool must outlive the
     * device, and the device its matrices and its memory. STATUS_UNSUPPORTED. STATUS_NO_MEMORY. */
    enum status (*open)(struct device **device, struct thread_pool *pool, uint32_t index,
                        struct error *error);
    void (*close)(struct device *device);

    /* ---- memory ---- */

    bool host_memory; /* device memory is host memory: it may be read and written directly */
    bool cuda_memory; /* it is CUDA's: an MPI library that knows CUDA takes its addresses */

    /* Device memory, 256-byte aligned, content undefined; where it is host memory it is reserved
     * now and taken as it is touched. The caller ends it with memory_give (NULL is fine).
     * STATUS_NO_MEMORY, with the bytes. */
    enum status (*memory_take)(struct device *device, void **memory, size_t bytes,
                               struct error *error);
    void (*memory_give)(struct device *device, void *memory);

    /* Host memory that copies fastest from and to the device; likewise. */
    enum status (*host_take)(struct device *device, void **memory, size_t bytes,
                             struct error *error);
    void (*host_give)(struct device *device, void *memory);

    /* Bytes that memory_take could still give. 0: unknown. */
    uint64_t (*memory_available)(struct device *device);

    /* Copies from host to device memory, back, and within device memory (areas that do not
     * overlap), and zeros. In the order of the device's work: until `finish` a host area must not
     * be changed (upload) and is not yet valid (download). 0 bytes are fine. */
    void (*upload)(struct device *device, void *to_device, const void *from_host, size_t bytes);
    void (*download)(struct device *device, void *to_host, const void *from_device, size_t bytes);
    void (*copy)(struct device *device, void *to_device, const void *from_device, size_t bytes);
    void (*clear)(struct device *device, void *memory, size_t bytes);

    /* Waits for all work so far. What a call without a status could not do, the first of it since
     * the last finish, is returned here. */
    enum status (*finish)(struct device *device, struct error *error);

    /* Bytes per second that the device reads from `bytes` of its memory: the median of as many
     * passes as fit into budget_ms. 0: no memory to measure with. */
    double (*read_rate)(struct device *device, size_t bytes, uint32_t budget_ms);

    /* ---- weights ---- */

    /* Copies rows [row_begin, row_end) and columns [column_begin, column_end) of a matrix in file
     * order (`source`, `source_columns` per row) to device memory, touched first by the lanes that
     * will read it. Columns are cut at multiples of the type's block. A 1-row matrix is a vector.
     * STATUS_INVALID: a cut inside a block or beyond the matrix. STATUS_NO_MEMORY. */
    enum status (*matrix_create)(struct device *device, struct matrix *matrix,
                                 enum weight_type type, const void *source, uint32_t source_columns,
                                 uint32_t row_begin, uint32_t row_end, uint32_t column_begin,
                                 uint32_t column_end, struct error *error);
    void (*matrix_destroy)(struct device *device, struct matrix *matrix);

    /* Scratch for calls of up to that many rows of up to that many columns; called before the first
     * step for each such pair that is needed: it grows to hold any of them. */
    enum status (*workspace_reserve)(struct device *device, uint32_t max_rows, uint32_t max_columns,
                                     struct error *error);

    /* out[i] = row tokens[i] of `table`, as f32. A token outside [first, first + table->n_rows)
     * gives zeros: the rank that holds the row adds it (vocabulary split over a group). */
    void (*embed)(struct device *device, float *out, const struct matrix *table,
                  const int32_t *tokens, uint32_t n_tokens, int32_t first);

    /* x is made ready for products once (quantized where a weight type multiplies quantized
     * activations), then used by several matmuls. `types` is a mask of 1u << weight_type. */
    void (*prepare)(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                    uint32_t types);

    /* Products of one x, the one last prepared (its n_rows and n_columns), with n matrices: those
     * that have it in common (q, k and v; gate and up) take less time in one call than in several.
     * The bits are the same. */
    void (*matmul)(struct device *device, const struct product *products, uint32_t n);

    /* y = x / sqrt(mean(x^2) + epsilon) * weight, per row. In place is fine. Of each head of a row
     * by itself: as many rows as there are heads in all, of head_dim columns. */
    void (*rms_norm)(struct device *device, float *y, const float *x, const float *weight,
                     uint32_t n_rows, uint32_t n_columns, float epsilon);

    /* What comes between products and attention, in place and in this order: biases as add_bias
     * adds them, norms as rms_norm makes them, rotation by positions, rounding as kv_round rounds.
     * No libm: same bits everywhere. n arrays take less time in one call than in several. */
    void (*turn)(struct device *device, const struct heads *heads, uint32_t n,
                 const struct turn *turn);

    /* gate = silu(gate) * up, n values (SwiGLU, Shazeer 2020). */
    void (*swiglu)(struct device *device, float *gate, const float *up, size_t n);

    /* gate = gelu(gate) * up, n values: gelu in its tanh form (Hendrycks and Gimpel 2016),
     * x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3). */
    void (*geglu)(struct device *device, float *gate, const float *up, size_t n);

    /* x += y, n values. */
    void (*add)(struct device *device, float *x, const float *y, size_t n);

    /* x[row] += bias, n_columns values in each of n_rows rows. */
    void (*add_bias)(struct device *device, float *x, const float *bias, uint32_t n_rows,
                     uint32_t n_columns);

    /* x *= factor, n values. */
    void (*scale)(struct device *device, float *x, float factor, size_t n);

    /* x = cap * tanh(x / cap), n values; cap above 0. */
    void (*soft_cap)(struct device *device, float *x, float cap, size_t n);

    /* ---- rows that choose their matrices: a mixture of experts ----
     *
     * Indices, ends and weights are host memory that the call has read when it returns. */

    /* out[i] = x[rows[i]], rows of n_columns. */
    void (*gather)(struct device *device, float *out, const float *x, const uint32_t *rows,
                   uint32_t n_rows, uint32_t n_columns);

    /* Rows x, [rows of all groups][n_columns], made ready and multiplied by their group's matrices,
     * one product after the other: each row has the bits that prepare and matmul would give it.
     * Afterwards nothing is prepared. workspace_reserve counts all rows. */
    void (*multiply_groups)(struct device *device, const float *x, const struct row_groups *groups,
                            uint32_t n_columns, const struct group_product *products,
                            uint32_t n_products);

    /* out[i] = the weighted sum of row i; out and y do not overlap. */
    void (*combine)(struct device *device, float *out, const float *y,
                    const struct combine_terms *terms, uint32_t n_rows, uint32_t n_columns);

    /* Of rows of logits [n_rows][n], token ids from `first` on: the best min(k[i], n) of row i to
     * best + i * stride, in order (candidates.h), zeros behind them up to the stride, and the row's
     * sum. sums, best and k are host memory; sums and best are valid after finish. k[i] <= stride
     * <= most_candidates. Sums of different devices are equal up to rounding, candidates are
     * equal. */
    uint32_t most_candidates;
    void (*candidates)(struct device *device, struct candidates_sum *sums, struct candidate *best,
                       size_t stride, const float *logits, uint32_t n_rows, uint32_t n,
                       int32_t first, const uint32_t *k);

    /* ---- recordings: many calls for the price of one ----
     *
     * All four are NULL on a device that does a call in the time in which it is called.
     *
     * From record_begin to record_end calls are recorded instead of done: prepare, matmul,
     * rms_norm, turn by `positions`, swiglu, geglu, add, add_bias, scale, copy and clear; no
     * others may be made. record_end makes a recording of them, which the caller ends with
     * recording_destroy (NULL is fine). When either fails, nothing was done and nothing is
     * recorded: the caller makes the calls by themselves. */
    enum status (*record_begin)(struct device *device, const uint32_t *positions, uint32_t n_rows,
                                struct error *error);
    enum status (*record_end)(struct device *device, struct recording **recording,
                              struct error *error);
    void (*recording_destroy)(struct device *device, struct recording *recording);

    /* As if the calls were made now, with these positions, of as many rows. The memory and matrices
     * that they name are still there, and workspace_reserve was not called since. */
    void (*replay)(struct device *device, const struct recording *recording,
                   const uint32_t *positions);
};

/* NVIDIA GPUs. Equal up to rounding to the CPU's tables. Where it was not built it can only say so:
 * count is 0. */
extern const struct kernels kernels_cuda;
/* As cuda, but products of 64 rows and more round weights and activations to bf16 and are
 * cuBLASLt's: for prefill. Bits depend on the number of rows. Never chosen by "auto"; all workers
 * or none. */
extern const struct kernels kernels_cuda_blas;

extern const struct kernels kernels_cpu_scalar; /* portable C, complete: the fallback everywhere */
#if defined(__x86_64__)
extern const struct kernels kernels_cpu_avx2;
extern const struct kernels kernels_cpu_avx512;
/* As avx512, but products with F32, F16 and BF16 weights round weights and activations to bf16: up
 * to twice as fast in prefill, and other results. Never chosen by "auto"; all workers or none. */
extern const struct kernels kernels_cpu_bf16;
#elif defined(__aarch64__)
extern const struct kernels kernels_cpu_neon;
extern const struct kernels kernels_cpu_dotprod; /* with sdot, for weights and KV of 8 bits */
#endif

/* The table for `name`: NULL, "" or "auto" takes the fastest usable CPU table; else "scalar",
 * "avx2", "avx512", "bf16", on ARM "neon", "dotprod". STATUS_NOT_FOUND: no such name.
 * STATUS_UNSUPPORTED: this machine cannot run it; the text lists those it can. LONGSPAN_KERNELS in
 * the environment overrides "auto" (for tests). */
enum status kernels_choose(const struct kernels **kernels, const char *name, struct error *error);

/* The table of a device: "cpu", "" and NULL as kernels_choose; "cuda" and "cuda:N" (the N-th GPU)
 * that of GPUs: "auto", "" and NULL are "cuda"; "cuda-blas" is by name. STATUS_NOT_FOUND: no such
 * device or name. STATUS_UNSUPPORTED: none here; the text says why (no such build, driver or
 * GPU). */
enum status kernels_choose_device(const struct kernels **kernels, const char *device,
                                  const char *name, struct error *error);

/* Whether it is written as a device's name is; whether there is one, the machine that has it
 * knows. */
bool kernels_device_is_name(const char *device);

/* Whether that is the processors and their memory, which is also what no name means. */
bool kernels_device_is_cpu(const char *device);

/* Whether a device of that name has the variant, somewhere: "auto" all have, "cuda-blas" GPUs. */
bool kernels_suit_device(const char *name, const char *device);

/* Which of the table's devices is meant: N of "cuda:N"; otherwise `turn` (the process's number on
 * its host) goes round over those that there are. STATUS_NOT_FOUND: there is no N-th. */
enum status kernels_device_index(uint32_t *index, const struct kernels *kernels, const char *device,
                                 uint32_t turn, struct error *error);

/* "cpu", or "cuda:1": what kernels_choose_device and kernels_device_index take. */
void kernels_device_name(char *text, size_t size, const struct kernels *kernels, uint32_t index);

/* All tables that were compiled in and give the same bits, slowest first, NULL-terminated; tests go
 * through them. kernels_rounding: those that are used by name only. */
extern const struct kernels *const kernels_all[];
extern const struct kernels *const kernels_rounding[];

/* What --kernels may say, NULL-terminated: "auto", and the names of all tables of any machine but
 * "cuda", which --device says. */
extern const char *const kernels_names[];

/* Is that the name of a table that has the bits of the CPU's, but for products that round? */
bool kernels_same_bits(const char *name);

/* Is that the name of a table whose products round, on any machine? */
bool kernels_round_products(const char *name);

/* The table that has all but its products: "avx512" of "bf16", "cuda" of "cuda-blas"; else the
 * name. */
const char *kernels_without_rounding(const char *name);

#endif
