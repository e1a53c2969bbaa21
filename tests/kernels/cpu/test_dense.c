/* test_dense.c - products: near the double-precision reference, and the same bits by every table,
 * for any number of rows and lanes, and for any cut of the outputs. */
#include "kernels/quant/block32.h"
#include "kernels/quant/half.h"
#include "kernels/quant/superblock.h"
#include "tests/kernels/cpu/each_table.h"

#include <math.h>

#define UNIT 0x1p-24 /* one rounding in f32, relative */

enum values { NORMAL, LARGE, TINY, MIXED, N_VALUES };

static float value_of(enum values kind, uint64_t *seed)
{
    const float x = random_float(seed);
    switch (kind) {
    case LARGE:
        return x * 1e15f;
    case TINY:
        return x * 0x1p-130f; /* subnormal */
    case MIXED:               /* eighty orders of magnitude, and zeros */
        return random_u32(seed) % 4 == 0 ? 0.0f : ldexpf(x, (int)(random_u32(seed) % 80) - 40);
    default:
        return x;
    }
}

struct problem {
    enum weight_type type;
    uint32_t n_rows, n_outputs, n_columns;
    uint8_t *weights; /* as in a file */
    float *x;
};

static bool has_blocks(enum weight_type type)
{
    return weight_traits(type)->block_elements > 1;
}

/* As many columns, or more: whole blocks. */
static uint32_t whole_blocks(enum weight_type type, uint32_t n_columns)
{
    const uint32_t block = weight_traits(type)->block_elements;
    return (n_columns + block - 1) / block * block;
}

/* Random bytes, so that every integer and every small scale occurs; or, for LARGE, integers that
 * are all the least or all the greatest. The scales are numbers. */
static void fill_block(uint8_t *bytes, enum weight_type type, enum values kind, uint64_t *seed)
{
    const uint32_t n = weight_traits(type)->block_bytes;
    const uint8_t extreme = random_u32(seed) % 2 ? 0xff : 0x00;
    for (uint32_t i = 0; i < n; i++)
        bytes[i] = kind == LARGE ? extreme : (uint8_t)random_u32(seed);
    if (kind == LARGE && type == WEIGHT_Q8_0)
        memset(bytes, extreme ^ 0x80, n); /* 127 or -128 */
    const bool second =
        type == WEIGHT_Q4_1 || type == WEIGHT_Q5_1 || type == WEIGHT_Q4_K || type == WEIGHT_Q5_K;
    for (uint32_t i = 0; i < 1u + second; i++) {
        uint16_t scale = (uint16_t)random_u32(seed);
        if ((scale & 0x7c00) == 0x7c00)
            scale ^= 0x4000;
        memcpy(bytes + (type == WEIGHT_Q6_K ? 208 : 2 * i), &scale, 2);
    }
}

/* F16 weights are clear of infinity. */
static struct problem problem_make(enum weight_type type, enum values kind, uint32_t n_rows,
                                   uint32_t n_outputs, uint32_t n_columns)
{
    uint64_t seed = n_rows * 31 + n_outputs * 7 + n_columns + kind;
    n_columns = whole_blocks(type, n_columns);
    const size_t row_bytes = weight_row_bytes(type, n_columns);
    struct problem p = {type, n_rows, n_outputs, n_columns, NULL, NULL};
    p.weights = malloc(row_bytes * n_outputs);
    p.x = malloc(sizeof(float) * n_rows * n_columns);
    assert_true(p.weights != NULL && p.x != NULL);
    for (size_t i = 0; i < (size_t)n_rows * n_columns; i++)
        p.x[i] = value_of(kind, &seed);
    if (!has_blocks(type)) {
        for (size_t i = 0; i < (size_t)n_outputs * n_columns; i++) {
            float w = value_of(kind, &seed);
            if (type == WEIGHT_F16)
                w = kind == TINY ? w * 0x1p+110f : fmaxf(fminf(w, 65504.0f), -65504.0f);
            weight_quantize(type, p.weights + i * row_bytes / n_columns, &w, 1);
        }
        return p;
    }
    for (size_t i = 0; i < row_bytes * n_outputs; i += weight_traits(type)->block_bytes)
        fill_block(p.weights + i, type, kind, &seed);
    if (kind == LARGE) /* the largest sums there are: all of one sign */
        for (size_t i = 0; i < (size_t)n_rows * n_columns; i++)
            p.x[i] = i / n_columns % 2 == 0 ? 1e15f : -1e15f;
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->weights);
    free(p->x);
}

static float *multiply(const struct lent_device *d, const struct problem *p, size_t y_stride)
{
    const struct kernels *k = d->kernels;
    struct matrix m;
    float *y = malloc(sizeof(float) * p->n_rows * y_stride);
    assert_non_null(y);
    for (size_t i = 0; i < p->n_rows * y_stride; i++)
        y[i] = 77.0f;
    assert_int_equal(k->matrix_create(d->device, &m, p->type, p->weights, p->n_columns, 0,
                                      p->n_outputs, 0, p->n_columns, NULL),
                     STATUS_OK);
    device_product(d, y, y_stride, p->x, p->n_rows, &m);
    k->matrix_destroy(d->device, &m);
    return y;
}

/* One row's activations as the kernels quantize them, and half a step of each block. */
static void quantized_activations(float *out, float *half_step, const float *x, uint32_t n)
{
    for (uint32_t b = 0; b < n; b += 32) {
        float largest = 0.0f;
        for (uint32_t i = b; i < b + 32; i++)
            largest = fmaxf(largest, fabsf(x[i]));
        const float scale = largest < 0x1p-100f ? 0.0f : largest / 127.0f;
        for (uint32_t i = b; i < b + 32; i++) {
            out[i] = scale == 0.0f ? 0.0f : rintf(x[i] * (127.0f / largest)) * scale;
            half_step[i] = scale == 0.0f ? 0x1p-100f : 0.5f * scale;
        }
    }
}

/* |scale * integer| + |minimum| of each weight, which is larger than the weight where these cancel.
 */
static void weight_sizes(float *out, enum weight_type type, const uint8_t *row, uint32_t n)
{
    const struct weight_traits *traits = weight_traits(type);
    struct block32 block = {0};
    struct superblock super = {0};
    weight_dequantize(type, out, row, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *bytes = row + (size_t)(i / traits->block_elements) * traits->block_bytes;
        const bool first = i % traits->block_elements == 0;
        float min = 0.0f;
        if (block32_holds(type)) {
            if (first)
                block32_read(&block, type, bytes);
            min = half_to_float(block.m);
        } else if (superblock_holds(type)) {
            if (first)
                superblock_read(&super, type, bytes);
            min = -half_to_float(super.dmin) * super.min[i % 256 / 32];
        }
        out[i] = fabsf(out[i] - min) * 1.001f + fabsf(min);
    }
}

/* Roundings: a sum of n terms by fma has n, each at most UNIT times the sum of magnitudes; a span
 * of 512 columns (32 blocks, of up to three terms) is one such sum, the spans another. With blocks
 * a term has three more, the product of scales, the sum of activations and, in this test, the
 * quantized value or weight. Underflow adds half a least subnormal each.
 * A GPU's tensor cores add floats by pieces of 16 columns, up to nine times (parts of numbers),
 * each with an error of up to two units; blocks they add as a CPU does. */
static void check_problem(const struct lent_device *d, enum weight_type type, enum values kind,
                          uint32_t n_rows, uint32_t n_outputs, uint32_t n_columns)
{
    const size_t stride = n_outputs + 3;
    n_columns = whole_blocks(type, n_columns);
    const bool blocks = has_blocks(type);
    struct problem p = problem_make(type, kind, n_rows, n_outputs, n_columns);
    float *y = multiply(d, &p, stride);
    float *w = malloc(sizeof(float) * n_columns), *size = malloc(sizeof(float) * n_columns),
          *quantized = malloc(sizeof(float) * n_rows * n_columns),
          *half_steps = malloc(sizeof(float) * n_rows * n_columns);
    const double steps =
        d->kernels->host_memory ? fmin(n_columns, 512) : 18 * fmin(n_columns / 16 + 1, 32);
    const double roundings =
        blocks ? 3 * fmin(n_columns / 32, 32) + n_columns / 1024 + 7 : steps + n_columns / 512 + 1;

    for (size_t at = 0; blocks && at < (size_t)n_rows * n_columns; at += n_columns)
        quantized_activations(quantized + at, half_steps + at, p.x + at, n_columns);
    for (uint32_t o = 0; o < n_outputs; o++) {
        const uint8_t *weights = p.weights + o * weight_row_bytes(type, n_columns);
        weight_dequantize(type, w, weights, n_columns);
        weight_sizes(size, type, weights, n_columns);
        for (uint32_t row = 0; row < n_rows; row++) {
            const size_t at = (size_t)row * n_columns;
            const float *x = p.x + at, *used = blocks ? quantized + at : x;
            double want = 0.0, magnitude = 0.0, exact = 0.0, quantization = 0.0;
            for (uint32_t i = 0; i < n_columns; i++) {
                want += (double)w[i] * (double)used[i];
                magnitude += fabs((double)size[i] * (double)used[i]);
            }
            const double got = y[row * stride + o];
            const double tolerance = 1.01 * roundings * UNIT * magnitude + n_columns * 0x1p-149;
            if (!(fabs(got - want) <= tolerance))
                fail_msg("%s %s %ux%ux%u values %d: y[%u][%u] = %.9g, not %.9g +- %.2g",
                         d->kernels->name, weight_traits(type)->name, n_rows, n_outputs, n_columns,
                         (int)kind, row, o, got, want, tolerance);
            for (uint32_t i = 0; blocks && i < n_columns; i++) { /* and what was not quantized */
                exact += (double)w[i] * (double)x[i];
                quantization += fabs((double)w[i]) * 1.0001 * (double)half_steps[at + i];
            }
            assert_true(!blocks || fabs(got - exact) <= tolerance + quantization);
        }
    }
    for (uint32_t row = 0; row < n_rows; row++)
        for (size_t o = n_outputs; o < stride; o++)
            assert_true(y[row * stride + o] == 77.0f); /* not ours */
    free(w);
    free(size);
    free(quantized);
    free(half_steps);
    free(y);
    problem_free(&p);
}

static const struct shape {
    uint32_t n_rows, n_outputs, n_columns;
} shapes[] = {{1, 1, 32},     {1, 16, 32},   {1, 33, 64},    {2, 17, 96},    {3, 31, 288},
              {4, 100, 256},  {5, 48, 1024}, {6, 65, 1056},  {7, 15, 2048},  {11, 130, 512},
              {12, 64, 320},  {13, 5, 4096}, {17, 79, 1120}, {300, 37, 224}, {300, 1, 96},
              {1, 300, 4128}, {2, 3, 16416}};
enum { MAX_COLUMNS = 16640 }; /* of the shapes, in whole super-blocks */

static void test_products_are_accurate(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    struct lent_device d = device_lend(kernels, 2, 300, MAX_COLUMNS);
    const size_t each = THREAD_SANITIZER ? 4 : 1;
    thread_sanitizer_leaves_out("most shapes of products");
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s += each)
            check_problem(&d, weight_types[t], NORMAL, shapes[s].n_rows, shapes[s].n_outputs,
                          shapes[s].n_columns);
    for (uint32_t n = 1; n < 40; n += 6) /* columns without any block */
        for (size_t t = 0; t < WEIGHT_TYPES; t++) {
            if (has_blocks(weight_types[t]))
                continue;
            check_problem(&d, weight_types[t], NORMAL, n, 20, n);
            check_problem(&d, weight_types[t], NORMAL, 3, 35, 496 + n);
        }
    device_return(&d);
}

static void test_extreme_values(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    struct lent_device d = device_lend(kernels, 1, 16, 2304);
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (enum values kind = LARGE; kind < N_VALUES; kind++) {
            check_problem(&d, weight_types[t], kind, 5, 34, 2080);
            check_problem(&d, weight_types[t], kind, 16, 18, 320);
        }
    device_return(&d);
}

/* One bad row or weight spoils its own outputs, not its neighbours'. */
static void test_infinities_stay_where_they_are(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    enum { ROWS = 7, OUTPUTS = 20, COLUMNS = 256 };
    struct lent_device d = device_lend(kernels, 1, ROWS, COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        struct problem p = problem_make(weight_types[t], NORMAL, ROWS, OUTPUTS, COLUMNS);
        float *clean = multiply(&d, &p, OUTPUTS);
        p.x[2 * COLUMNS + 40] = NAN;
        p.x[4 * COLUMNS + 70] = INFINITY;
        const size_t row_bytes = weight_row_bytes(weight_types[t], COLUMNS);
        memset(p.weights + 3 * row_bytes, 0xff, row_bytes); /* NaN as a number or as a scale */
        float *y = multiply(&d, &p, OUTPUTS);
        for (uint32_t row = 0; row < ROWS; row++)
            for (uint32_t o = 0; o < OUTPUTS; o++) {
                const float value = y[row * OUTPUTS + o];
                if (row == 2 || o == 3)
                    assert_true(isnan(value));
                else if (row == 4)
                    assert_false(isfinite(value));
                else
                    assert_memory_equal(&value, &clean[row * OUTPUTS + o], sizeof(value));
            }
        free(clean);
        free(y);
        problem_free(&p);
    }
    device_return(&d);
}

static void test_same_bits_as_scalar(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    struct lent_device d = device_lend(kernels, 1, 300, MAX_COLUMNS),
                       scalar = device_lend(&kernels_cpu_scalar, 1, 300, MAX_COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
            for (enum values kind = NORMAL; kind < N_VALUES; kind++) {
                if (!kernels->host_memory && !has_blocks(weight_types[t]))
                    continue; /* a GPU's floats are added in another order */
                struct problem p = problem_make(weight_types[t], kind, shapes[s].n_rows,
                                                shapes[s].n_outputs, shapes[s].n_columns);
                if (kind != NORMAL && p.n_rows > 20)
                    p.n_rows = 20; /* enough, and the portable version is slow */
                float *y = multiply(&d, &p, p.n_outputs),
                      *want = multiply(&scalar, &p, p.n_outputs);
                assert_memory_equal(y, want, sizeof(*y) * p.n_rows * p.n_outputs);
                free(y);
                free(want);
                problem_free(&p);
            }
    device_return(&d);
    device_return(&scalar);
}

static void test_a_row_does_not_depend_on_its_batch(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    enum { MAX_ROWS = 71, OUTPUTS = 51, COLUMNS = 1536 };
    static const uint32_t batches[] = {2,  5,  8,  9,  12, 13, 14, 16,
                                       17, 23, 24, 25, 32, 33, 41, MAX_ROWS};
    struct lent_device d = device_lend(kernels, 1, MAX_ROWS, COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        struct problem p = problem_make(weight_types[t], NORMAL, MAX_ROWS, OUTPUTS, COLUMNS);
        float alone[MAX_ROWS * OUTPUTS];
        for (uint32_t row = 0; row < MAX_ROWS; row++) {
            struct problem one = p;
            one.n_rows = 1;
            one.x = p.x + (size_t)row * COLUMNS;
            float *y = multiply(&d, &one, OUTPUTS);
            memcpy(alone + row * OUTPUTS, y, OUTPUTS * sizeof(*y));
            free(y);
        }
        for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++) {
            struct problem batch = p;
            batch.n_rows = batches[b];
            float *y = multiply(&d, &batch, OUTPUTS);
            assert_memory_equal(y, alone, batches[b] * OUTPUTS * sizeof(*y));
            free(y);
        }
        problem_free(&p);
    }
    device_return(&d);
}

static void test_bits_do_not_depend_on_lanes(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_leaves_out("39 rows by one to five lanes");
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (uint32_t n_rows = 1; n_rows < (THREAD_SANITIZER ? 39 : 40); n_rows += 19) {
            struct problem p = problem_make(weight_types[t], NORMAL, n_rows, 333, 1280);
            float *first = NULL;
            for (uint32_t lanes = 1; lanes <= 5; lanes++) {
                struct lent_device d = device_lend(kernels, lanes, n_rows, 1280);
                float *y = multiply(&d, &p, 333);
                if (first == NULL) {
                    first = y;
                } else {
                    assert_memory_equal(y, first, sizeof(*y) * n_rows * 333);
                    free(y);
                }
                device_return(&d);
            }
            free(first);
            problem_free(&p);
        }
}

/* A shard's outputs are those of the whole: rows at any cut, columns at blocks. */
static void test_cuts_of_a_matrix(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    enum { ROWS = 3, OUTPUTS = 61, COLUMNS = 1536 };
    static const uint32_t cuts[][2] = {{0, 1}, {1, 2}, {0, 17}, {5, 61}, {60, 61}, {16, 48}};
    struct lent_device d = device_lend(kernels, 2, ROWS, COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        struct problem p = problem_make(weight_types[t], NORMAL, ROWS, OUTPUTS, COLUMNS);
        float *whole = multiply(&d, &p, OUTPUTS), y[ROWS * OUTPUTS];
        struct matrix m;
        for (size_t c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++) {
            const uint32_t begin = cuts[c][0], end = cuts[c][1];
            assert_int_equal(kernels->matrix_create(d.device, &m, p.type, p.weights, COLUMNS, begin,
                                                    end, 0, COLUMNS, NULL),
                             STATUS_OK);
            device_matmul(&d, y, ROWS, OUTPUTS, &m); /* prepared by multiply above */
            for (uint32_t row = 0; row < ROWS; row++)
                assert_memory_equal(y + row * OUTPUTS, whole + row * OUTPUTS + begin,
                                    (end - begin) * sizeof(*y));
            kernels->matrix_destroy(d.device, &m);
        }

        /* columns: against a matrix that holds nothing else */
        enum { BEGIN = 256, END = 1280, PART = END - BEGIN };
        struct problem part = problem_make(weight_types[t], NORMAL, ROWS, OUTPUTS, PART);
        const size_t row_bytes = weight_row_bytes(weight_types[t], COLUMNS),
                     part_bytes = weight_row_bytes(weight_types[t], PART);
        for (uint32_t o = 0; o < OUTPUTS; o++)
            memcpy(part.weights + o * part_bytes,
                   p.weights + o * row_bytes + weight_row_bytes(weight_types[t], BEGIN),
                   part_bytes);
        float *want = multiply(&d, &part, OUTPUTS);
        assert_int_equal(kernels->matrix_create(d.device, &m, p.type, p.weights, COLUMNS, 0,
                                                OUTPUTS, BEGIN, END, NULL),
                         STATUS_OK);
        device_matmul(&d, y, ROWS, OUTPUTS, &m);
        assert_memory_equal(y, want, sizeof(y));
        kernels->matrix_destroy(d.device, &m);
        free(want);
        free(whole);
        problem_free(&p);
        problem_free(&part);
    }
    device_return(&d);
}

/* One prepare serves products of several types, and again after other calls. */
static void test_one_prepare_serves_all_types(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    enum { ROWS = 14, OUTPUTS = 40, COLUMNS = 512 };
    struct lent_device d = device_lend(kernels, 2, ROWS, COLUMNS);
    struct problem p[WEIGHT_TYPES];
    struct matrix m[WEIGHT_TYPES];
    float *want[WEIGHT_TYPES], y[ROWS * OUTPUTS];
    uint32_t all = 0;
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        p[t] = problem_make(weight_types[t], NORMAL, ROWS, OUTPUTS, COLUMNS);
        memcpy(p[t].x, p[0].x, sizeof(float) * ROWS * COLUMNS);
        want[t] = multiply(&d, &p[t], OUTPUTS);
        all |= 1u << weight_types[t];
        assert_int_equal(kernels->matrix_create(d.device, &m[t], weight_types[t], p[t].weights,
                                                COLUMNS, 0, OUTPUTS, 0, COLUMNS, NULL),
                         STATUS_OK);
    }
    float *x = device_floats(&d, p[0].x, ROWS * COLUMNS);
    kernels->prepare(d.device, x, ROWS, COLUMNS, all);
    for (int round = 0; round < 2; round++)
        for (size_t t = 0; t < WEIGHT_TYPES; t++) {
            device_matmul(&d, y, ROWS, OUTPUTS, &m[t]);
            assert_memory_equal(y, want[t], sizeof(y));
        }
    kernels->prepare(d.device, x, 0, COLUMNS, 1u << WEIGHT_F32);
    kernels->matmul(d.device, &(struct product){x, OUTPUTS, &m[0]}, 1); /* no rows: nothing to do */
    device_give(&d, x);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        kernels->matrix_destroy(d.device, &m[t]);
        free(want[t]);
        problem_free(&p[t]);
    }
    device_return(&d);
}

/* What may share a launch or not: one row, more than there are lanes or thread blocks for, another
 * type, another cut of the columns. */
enum { TOGETHER = 9, TOGETHER_COLUMNS = 1280, GUARD = 3 };
static const struct {
    uint32_t n_outputs, first_segment; /* columns; 0: there are none */
    bool other_type;
} together[TOGETHER] = {{333, 0, false},  {1, 0, false},    {40, 0, false},
                        {17, 0, false},   {5, 0, false},    {150, 512, false},
                        {64, 512, false}, {30, 768, false}, {33, 0, true}};

/* All in one call, or in one each: y of TOGETHER problems, rows n_outputs + GUARD apart. */
static void multiply_together(const struct lent_device *d, const struct problem *p,
                              const struct matrix *m, bool at_once, float *y[TOGETHER])
{
    struct product products[TOGETHER];
    float *x = device_floats(d, p[0].x, (size_t)p[0].n_rows * TOGETHER_COLUMNS);
    d->kernels->prepare(d->device, x, p[0].n_rows, TOGETHER_COLUMNS,
                        1u << m[0].type | 1u << m[TOGETHER - 1].type);
    for (uint32_t i = 0; i < TOGETHER; i++) {
        const size_t stride = m[i].n_rows + GUARD, n = p[0].n_rows * stride;
        y[i] = malloc(n * sizeof(*y[i]));
        assert_non_null(y[i]);
        for (size_t j = 0; j < n; j++)
            y[i][j] = 77.0f;
        products[i] = (struct product){device_floats(d, y[i], n), stride, &m[i]};
        if (!at_once)
            d->kernels->matmul(d->device, &products[i], 1);
    }
    if (at_once)
        d->kernels->matmul(d->device, products, TOGETHER);
    for (uint32_t i = 0; i < TOGETHER; i++)
        device_floats_end(d, y[i], products[i].y, p[0].n_rows * products[i].y_stride);
    device_give(d, x);
}

static void test_several_matrices_in_one_call(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    static const uint32_t rows[] = {6, 27, 1, 70}, lanes[] = {3, 7, 1};
    enum { N_ROWS = THREAD_SANITIZER ? 2 : sizeof(rows) / sizeof(rows[0]) };
    thread_sanitizer_leaves_out("one row and 70 of several matrices in one call");
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t r = 0; r < N_ROWS; r++) {
            struct lent_device d = device_lend(kernels, lanes[r % 3], rows[r], TOGETHER_COLUMNS);
            struct problem p[TOGETHER];
            struct matrix m[TOGETHER];
            float *alone[TOGETHER], *at_once[TOGETHER];
            for (uint32_t i = 0; i < TOGETHER; i++) {
                const enum weight_type type =
                    weight_types[(t + together[i].other_type) % WEIGHT_TYPES];
                p[i] = problem_make(type, NORMAL, rows[r], together[i].n_outputs, TOGETHER_COLUMNS);
                assert_int_equal(kernels->matrix_create(d.device, &m[i], type, p[i].weights,
                                                        TOGETHER_COLUMNS, 0, together[i].n_outputs,
                                                        0, TOGETHER_COLUMNS, NULL),
                                 STATUS_OK);
                m[i].n_segments = together[i].first_segment > 0 ? 2 : 0;
                m[i].segment_end[0] = together[i].first_segment;
                m[i].segment_end[1] = TOGETHER_COLUMNS;
            }
            multiply_together(&d, p, m, false, alone);
            multiply_together(&d, p, m, true, at_once);
            for (uint32_t i = 0; i < TOGETHER; i++) {
                assert_memory_equal(at_once[i], alone[i],
                                    rows[r] * (m[i].n_rows + GUARD) * sizeof(**alone));
                kernels->matrix_destroy(d.device, &m[i]);
                free(alone[i]);
                free(at_once[i]);
                problem_free(&p[i]);
            }
            device_return(&d);
        }
}

int main(void)
{
    const struct each_table_test tests[] = {
        {"products_are_accurate", test_products_are_accurate, false},
        {"extreme_values", test_extreme_values, false},
        {"infinities_stay_where_they_are", test_infinities_stay_where_they_are, false},
        {"same_bits_as_scalar", test_same_bits_as_scalar, false},
        {"a_row_does_not_depend_on_its_batch", test_a_row_does_not_depend_on_its_batch, false},
        {"bits_do_not_depend_on_lanes", test_bits_do_not_depend_on_lanes, true},
        {"cuts_of_a_matrix", test_cuts_of_a_matrix, false},
        {"one_prepare_serves_all_types", test_one_prepare_serves_all_types, false},
        {"several_matrices_in_one_call", test_several_matrices_in_one_call, false},
    };
    return each_table_run(tests, sizeof(tests) / sizeof(tests[0]));
}
