/* test_dense_segments.c - a matrix whose columns are cut in segments gives the bits of its
 * segments' separate products, added as a binary tree; so ranks that hold aligned segments each can
 * add up theirs and then each other's. */
#include "tests/emulator.h"
#include "tests/kernels/cpu/each_table.h"

#include <math.h>

/* In units of 32 columns, or of super-blocks. Begins are off the spans' grid, and one segment is
 * longer than a span of any type (512 or 1024 columns). */
enum { UNITS = 44, SUPER_UNITS = 8, MAX_COLUMNS = 256 * SUPER_UNITS, N_CUTS = 4, GUARD = 3 };
static const struct cut {
    uint32_t n, end[MATRIX_SEGMENTS];
} cuts_of_32[N_CUTS] =
    {
        {2, {3, UNITS}},
        {3, {36, 37, UNITS}},
        {4, {2, 37, 43, UNITS}},
        {8, {1, 4, 6, 7, 40, 41, 43, UNITS}},
},
  cuts_of_256[N_CUTS] = {
      {2, {3, SUPER_UNITS}},
      {3, {5, 6, SUPER_UNITS}},
      {4, {1, 6, 7, SUPER_UNITS}},
      {8, {1, 2, 3, 4, 5, 6, 7, SUPER_UNITS}},
};

static bool is_super(enum weight_type type)
{
    return weight_traits(type)->block_elements > 32;
}

static const struct cut *cut_of(enum weight_type type, size_t i)
{
    return is_super(type) ? &cuts_of_256[i] : &cuts_of_32[i];
}

static uint32_t unit_of(enum weight_type type)
{
    return is_super(type) ? 256 : 32;
}

static uint32_t columns_of(enum weight_type type)
{
    return is_super(type) ? SUPER_UNITS * 256 : UNITS * 32;
}

/* One row, few, more than a tile, many; fewer outputs than lanes' panels, and more than a group. */
static const struct shape {
    uint32_t n_rows, n_outputs;
} shapes[] = {{1, 150}, {7, 37}, {40, 150}, {300, 19}};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

struct problem {
    enum weight_type type;
    uint32_t n_rows, n_outputs;
    uint8_t *weights; /* as in a file */
    float *x;
};

static struct problem problem_make(enum weight_type type, struct shape shape)
{
    struct problem p = {type, shape.n_rows, shape.n_outputs, NULL, NULL};
    const uint32_t columns = columns_of(type);
    const size_t n_weights = (size_t)p.n_outputs * columns, n_x = (size_t)p.n_rows * columns;
    uint64_t seed = p.n_rows * 31 + p.n_outputs;
    float *w = malloc(n_weights * sizeof(*w));
    p.weights = malloc(weight_row_bytes(type, columns) * p.n_outputs);
    p.x = malloc(n_x * sizeof(*p.x));
    assert_true(w != NULL && p.weights != NULL && p.x != NULL);
    for (size_t i = 0; i < n_weights; i++)
        w[i] = random_float(&seed);
    for (size_t i = 0; i < n_x; i++)
        p.x[i] = random_float(&seed);
    weight_quantize(type, p.weights, w, n_weights);
    free(w);
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->weights);
    free(p->x);
}

static uint32_t segment_begin(const struct problem *p, const struct cut *cut, uint32_t i)
{
    return i == 0 ? 0 : cut->end[i - 1] * unit_of(p->type);
}

/* Segments [first, end) of a cut as a matrix of their own, as a rank holds it: [row][output].
 * `apart`: not told that it has segments. */
static float *multiply(const struct lent_device *d, const struct problem *p, const struct cut *cut,
                       uint32_t first, uint32_t end, bool apart)
{
    const struct kernels *k = d->kernels;
    const uint32_t columns = columns_of(p->type);
    const uint32_t begin = segment_begin(p, cut, first), n = segment_begin(p, cut, end) - begin;
    const size_t stride = p->n_outputs + GUARD;
    float *x = malloc((size_t)p->n_rows * n * sizeof(*x));
    float *y = malloc(p->n_rows * stride * sizeof(*y));
    struct matrix m;

    assert_true(x != NULL && y != NULL);
    for (uint32_t row = 0; row < p->n_rows; row++)
        memcpy(x + (size_t)row * n, p->x + (size_t)row * columns + begin, n * sizeof(*x));
    for (size_t i = 0; i < p->n_rows * stride; i++)
        y[i] = 77.0f;
    assert_int_equal(k->matrix_create(d->device, &m, p->type, p->weights, columns, 0, p->n_outputs,
                                      begin, begin + n, NULL),
                     STATUS_OK);
    for (uint32_t i = first; i < end && !apart; i++)
        m.segment_end[m.n_segments++] = segment_begin(p, cut, i + 1) - begin;
    device_product(d, y, stride, x, p->n_rows, &m);
    k->matrix_destroy(d->device, &m);
    free(x);
    for (uint32_t row = 0; row < p->n_rows; row++) {
        for (size_t o = p->n_outputs; o < stride; o++)
            assert_true(y[row * stride + o] == 77.0f); /* not ours */
        memmove(y + (size_t)row * p->n_outputs, y + row * stride, p->n_outputs * sizeof(*y));
    }
    return y;
}

static float *multiply_whole(const struct lent_device *d, const struct problem *p,
                             const struct cut *cut)
{
    return multiply(d, p, cut, 0, cut->n, false);
}

static size_t n_products(const struct problem *p)
{
    return (size_t)p->n_rows * p->n_outputs;
}

/* The definition: ((s0 + s1) + (s2 + s3)) + ..., from separate products of segments [first, end).
 */
static float *add_segments(const struct lent_device *d, const struct problem *p,
                           const struct cut *cut, uint32_t first, uint32_t end)
{
    if (end - first == 1)
        return multiply(d, p, cut, first, end, true);
    uint32_t half = 1;
    while (2 * half < end - first)
        half *= 2;
    float *left = add_segments(d, p, cut, first, first + half);
    float *right = add_segments(d, p, cut, first + half, end);
    for (size_t i = 0; i < n_products(p); i++)
        left[i] += right[i];
    free(right);
    return left;
}

static void test_segments_are_added_as_a_tree(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    const bool few = emulator_leaves_out("40 and 300 rows by one to three lanes");
    thread_sanitizer_leaves_out("40 and 300 rows by one to three lanes");
    for (size_t s = 0; s < (THREAD_SANITIZER || few ? 2 : N_SHAPES); s++) {
        struct lent_device lent[3];
        for (uint32_t lanes = 1; lanes <= 3; lanes++)
            lent[lanes - 1] = device_lend(kernels, lanes, shapes[s].n_rows, MAX_COLUMNS);
        for (size_t t = 0; t < WEIGHT_TYPES; t++) {
            struct problem p = problem_make(weight_types[t], shapes[s]);
            for (size_t c = 0; c < N_CUTS; c++) {
                float *want =
                    add_segments(&lent[0], &p, cut_of(p.type, c), 0, cut_of(p.type, c)->n);
                for (int i = 0; i < 3; i++) {
                    float *y = multiply_whole(&lent[i], &p, cut_of(p.type, c));
                    if (memcmp(y, want, n_products(&p) * sizeof(*y)) != 0)
                        fail_msg("%s: %u rows, %u segments, %d lanes: not the tree's bits",
                                 weight_traits(weight_types[t])->name, p.n_rows,
                                 cut_of(p.type, c)->n, i + 1);
                    free(y);
                }
                free(want);
            }
            problem_free(&p);
        }
        for (int i = 0; i < 3; i++)
            device_return(&lent[i]);
    }
}

/* Otherwise the test above would pass where segments are not regarded at all. */
static void test_the_cut_shows_in_the_bits(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    struct lent_device d = device_lend(kernels, 1, 7, MAX_COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        struct problem p = problem_make(weight_types[t], shapes[1]);
        float *y[N_CUTS];
        for (size_t c = 0; c < N_CUTS; c++)
            y[c] = multiply_whole(&d, &p, cut_of(p.type, c));
        float *uncut = multiply(&d, &p, cut_of(p.type, 0), 0, cut_of(p.type, 0)->n, true);
        for (size_t c = 0; c < N_CUTS; c++) {
            assert_memory_not_equal(y[c], uncut, n_products(&p) * sizeof(float));
            for (size_t other = 0; other < c; other++)
                assert_memory_not_equal(y[c], y[other], n_products(&p) * sizeof(float));
        }
        for (size_t c = 0; c < N_CUTS; c++)
            free(y[c]);
        free(uncut);
        problem_free(&p);
    }
    device_return(&d);
}

static void test_same_bits_as_scalar(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    struct lent_device d = device_lend(kernels, 2, 40, MAX_COLUMNS),
                       scalar = device_lend(&kernels_cpu_scalar, 1, 40, MAX_COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t s = 0; s < 3; s++)
            for (size_t c = 0; c < N_CUTS; c++) {
                if (!kernels->host_memory && weight_traits(weight_types[t])->block_elements == 1)
                    continue; /* a GPU's floats are added in another order */
                struct problem p = problem_make(weight_types[t], shapes[s]);
                float *y = multiply_whole(&d, &p, cut_of(p.type, c));
                float *want = multiply_whole(&scalar, &p, cut_of(p.type, c));
                assert_memory_equal(y, want, n_products(&p) * sizeof(*y));
                free(y);
                free(want);
                problem_free(&p);
            }
    device_return(&d);
    device_return(&scalar);
}

/* A row's bits are those it has alone. */
static void test_a_row_does_not_depend_on_its_batch(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    struct lent_device d = device_lend(kernels, 1, 40, MAX_COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        struct problem p = problem_make(weight_types[t], shapes[2]);
        const struct cut *cut = cut_of(p.type, N_CUTS - 1);
        float *y = multiply_whole(&d, &p, cut);
        for (uint32_t row = 0; row < p.n_rows; row += 13) {
            struct problem one = p;
            one.n_rows = 1;
            one.x = p.x + (size_t)row * columns_of(p.type);
            float *alone = multiply_whole(&d, &one, cut);
            assert_memory_equal(alone, y + (size_t)row * p.n_outputs, n_products(&one) * 4);
            free(alone);
        }
        free(y);
        problem_free(&p);
    }
    device_return(&d);
}

/* As a group of ranks computes it: each has as many segments, and their sums are added in pairs. */
static void test_ranks_that_hold_aligned_segments_have_the_bits_of_one(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    thread_sanitizer_skips();
    const size_t n_shapes = emulator_leaves_out("40 rows by several ranks") ? 2 : 3;
    struct lent_device d = device_lend(kernels, 2, 40, MAX_COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t s = 0; s < n_shapes; s++)
            for (size_t c = 0; c < N_CUTS; c++)
                for (uint32_t ranks = 2; cut_of(weight_types[t], c)->n % ranks == 0; ranks *= 2) {
                    struct problem p = problem_make(weight_types[t], shapes[s]);
                    const uint32_t each = cut_of(p.type, c)->n / ranks;
                    float *whole = multiply_whole(&d, &p, cut_of(p.type, c)), *y[MATRIX_SEGMENTS];
                    for (uint32_t i = 0; i < ranks; i++)
                        y[i] = multiply(&d, &p, cut_of(p.type, c), i * each, (i + 1) * each, false);
                    for (uint32_t step = 1; step < ranks; step *= 2)
                        for (uint32_t i = 0; i < ranks; i += 2 * step)
                            device_add(&d, y[i], y[i + step], n_products(&p));
                    if (memcmp(y[0], whole, n_products(&p) * sizeof(float)) != 0)
                        fail_msg("%s: %u rows, %u segments: %u ranks have other bits",
                                 weight_traits(weight_types[t])->name, p.n_rows,
                                 cut_of(p.type, c)->n, ranks);
                    for (uint32_t i = 0; i < ranks; i++)
                        free(y[i]);
                    free(whole);
                    problem_free(&p);
                }
    device_return(&d);
}

/* Roundings as in test_dense.c: a span's at most 512, spans', and the tree's three; with blocks,
 * half a step of each activation's block besides. */
static void check_accuracy(const struct lent_device *d, const struct problem *p,
                           const struct cut *cut)
{
    const uint32_t columns = columns_of(p->type);
    const double unit = 0x1p-24, roundings = 512 + columns / 512 + 3;
    float *y = multiply_whole(d, p, cut), w[MAX_COLUMNS];
    for (uint32_t o = 0; o < p->n_outputs; o++) {
        weight_dequantize(p->type, w, p->weights + o * weight_row_bytes(p->type, columns), columns);
        for (uint32_t row = 0; row < p->n_rows; row++) {
            const float *x = p->x + (size_t)row * columns;
            double want = 0.0, tolerance = 0.0;
            for (uint32_t block = 0; block < columns; block += 32) {
                double largest = 0.0;
                for (uint32_t i = block; i < block + 32; i++) /* fmax breaks GCC 12 for ARM */
                    largest = fabs((double)x[i]) > largest ? fabs((double)x[i]) : largest;
                for (uint32_t i = block; i < block + 32; i++) {
                    want += (double)w[i] * (double)x[i];
                    tolerance += 1.01 * roundings * unit * fabs((double)w[i] * (double)x[i]);
                    if (weight_traits(p->type)->block_elements > 1)
                        tolerance += 1.001 * fabs((double)w[i]) * largest / 254.0;
                }
            }
            const double got = (double)y[(size_t)row * p->n_outputs + o];
            if (!(fabs(got - want) <= tolerance))
                fail_msg("%s, %u segments: y[%u][%u] = %.9g, not %.9g +- %.2g",
                         weight_traits(p->type)->name, cut->n, row, o, got, want, tolerance);
        }
    }
    free(y);
}

static void test_products_are_accurate(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    struct lent_device d = device_lend(kernels, 2, 7, MAX_COLUMNS);
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t c = 0; c < N_CUTS; c++) {
            struct problem p = problem_make(weight_types[t], shapes[1]);
            check_accuracy(&d, &p, cut_of(p.type, c));
            problem_free(&p);
        }
    device_return(&d);
}

int main(void)
{
    const struct each_table_test tests[] = {
        {"segments_are_added_as_a_tree", test_segments_are_added_as_a_tree, false},
        {"the_cut_shows_in_the_bits", test_the_cut_shows_in_the_bits, false},
        {"same_bits_as_scalar", test_same_bits_as_scalar, false},
        {"a_row_does_not_depend_on_its_batch", test_a_row_does_not_depend_on_its_batch, false},
        {"ranks_that_hold_aligned_segments_have_the_bits_of_one",
         test_ranks_that_hold_aligned_segments_have_the_bits_of_one, false},
        {"products_are_accurate", test_products_are_accurate, false},
    };
    return each_table_run(tests, sizeof(tests) / sizeof(tests[0]));
}
