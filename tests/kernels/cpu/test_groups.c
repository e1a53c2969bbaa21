/* test_groups.c - rows that choose their matrices: a row of a group has the bits that it has alone,
 * weighted sums are near the reference, their tree may be cut between ranks, and every table and
 * any number of lanes have the same bits. */
#include "tests/kernels/cpu/each_table.h"

#include <math.h>

enum { MAX_GROUPS = 9, COLUMNS = 1280, MAX_OUTPUTS = 150, MAX_ROWS = 128, GUARD = 3 };

/* One row each, as in decode; fewer outputs than lanes have panels, and more than a group of
 * panels; fewer rows than a tile, a tile, many. */
static const struct shape {
    uint32_t n_groups, rows[MAX_GROUPS], n_outputs;
} shapes[] = {
    {1, {1}, 40},
    {8, {1, 1, 1, 1, 1, 1, 1, 1}, 40},
    {9, {1, 5, 1, 30, 12, 1, 2, 41, 13}, 150},
    {3, {25, 2, 100}, 19},
    {2, {3, 4}, 1},
};
enum { RAGGED = 2, N_SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

/* Matrices of one type, or of another one for each group. */
static enum weight_type type_of(size_t first, uint32_t group, bool mixed)
{
    return weight_types[(first + (mixed ? group : 0)) % WEIGHT_TYPES];
}

struct problem {
    const struct shape *shape;
    uint32_t ends[MAX_GROUPS], n_rows;
    struct matrix matrices[2][MAX_GROUPS]; /* of two products */
    const struct matrix *weights[2][MAX_GROUPS];
    float *x;
};

/* Rows of a type as in a file, of which each matrix has some others: MAX_OUTPUTS + 2 *
 * MAX_GROUPS. */
static uint8_t *make_rows(enum weight_type type)
{
    const size_t n = (size_t)(MAX_OUTPUTS + 2 * MAX_GROUPS) * COLUMNS;
    uint64_t seed = (uint64_t)type + 1;
    float *values = malloc(n * sizeof(*values));
    uint8_t *rows = malloc(n * sizeof(*values));
    for (size_t i = 0; i < n; i++)
        values[i] = random_float(&seed);
    weight_quantize(type, rows, values, n);
    free(values);
    return rows;
}

static void problem_open(struct problem *p, const struct lent_device *d, const struct shape *shape,
                         size_t first_type, bool mixed)
{
    uint64_t seed = first_type * 100 + shape->n_groups;
    *p = (struct problem){.shape = shape};
    for (uint32_t type = 0; type < (mixed ? WEIGHT_TYPES : 1); type++) {
        uint8_t *rows = make_rows(type_of(first_type, type, true));
        for (uint32_t i = 0; i < 2 * shape->n_groups; i++) {
            const uint32_t product = i % 2, g = i / 2;
            if (mixed && (g + product) % WEIGHT_TYPES != type)
                continue;
            assert_int_equal(d->kernels->matrix_create(d->device, &p->matrices[product][g],
                                                       type_of(first_type, type, true), rows,
                                                       COLUMNS, i, i + shape->n_outputs, 0, COLUMNS,
                                                       NULL),
                             STATUS_OK);
            p->weights[product][g] = &p->matrices[product][g];
        }
        device_finish(d); /* the rows are read */
        free(rows);
    }
    for (uint32_t g = 0; g < shape->n_groups; g++)
        p->ends[g] = p->n_rows += shape->rows[g];
    p->x = malloc((size_t)p->n_rows * COLUMNS * sizeof(*p->x));
    for (size_t i = 0; i < (size_t)p->n_rows * COLUMNS; i++)
        p->x[i] = random_float(&seed);
}

static void problem_close(struct problem *p, const struct lent_device *d)
{
    for (uint32_t product = 0; product < 2; product++)
        for (uint32_t g = 0; g < p->shape->n_groups; g++)
            d->kernels->matrix_destroy(d->device, &p->matrices[product][g]);
    free(p->x);
}

/* Both products in one call: [2][n_rows][n_outputs + GUARD]; what is not written is 77. */
static float *multiply(const struct lent_device *d, const struct problem *p)
{
    const size_t stride = p->shape->n_outputs + GUARD, n = p->n_rows * stride;
    float *y = malloc(2 * n * sizeof(*y));
    for (size_t i = 0; i < 2 * n; i++)
        y[i] = 77.0f;
    float *in = device_floats(d, p->x, (size_t)p->n_rows * COLUMNS),
          *out = device_floats(d, y, 2 * n);
    const struct group_product products[2] = {{p->weights[0], out, stride},
                                              {p->weights[1], out + n, stride}};
    d->kernels->multiply_groups(d->device, in, &(struct row_groups){p->shape->n_groups, p->ends},
                                COLUMNS, products, 2);
    device_floats_end(d, y, out, 2 * n);
    device_give(d, in);
    return y;
}

/* The definition: each row by itself. */
static float *multiply_alone(const struct lent_device *d, const struct problem *p)
{
    const size_t stride = p->shape->n_outputs + GUARD, n = p->n_rows * stride;
    float *y = malloc(2 * n * sizeof(*y));
    for (size_t i = 0; i < 2 * n; i++)
        y[i] = 77.0f;
    for (uint32_t product = 0; product < 2; product++)
        for (uint32_t row = 0, g = 0; row < p->n_rows; row++) {
            g += row == p->ends[g];
            device_product(d, y + product * n + row * stride, stride, p->x + (size_t)row * COLUMNS,
                           1, p->weights[product][g]);
        }
    return y;
}

static void check_groups(const struct kernels *kernels, uint32_t lanes, const struct shape *shape,
                         size_t first_type, bool mixed)
{
    struct lent_device d = device_lend(kernels, lanes, MAX_ROWS, COLUMNS);
    struct problem p;
    problem_open(&p, &d, shape, first_type, mixed);
    float *want = multiply_alone(&d, &p), *got = multiply(&d, &p);
    const size_t n = 2 * (size_t)p.n_rows * (p.shape->n_outputs + GUARD);
    for (size_t i = 0; i < n; i++)
        if (memcmp(&want[i], &got[i], sizeof(*got)) != 0)
            fail_msg("%u groups, %s%s, %u lanes: value %zu is %.9g, alone %.9g", shape->n_groups,
                     weight_traits(type_of(first_type, 0, false))->name, mixed ? " and others" : "",
                     lanes, i, (double)got[i], (double)want[i]);
    free(want);
    free(got);
    problem_close(&p, &d);
    device_return(&d);
}

static void test_a_row_of_a_group_has_the_bits_that_it_has_alone(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    const size_t each = THREAD_SANITIZER ? 6 : 1;
    thread_sanitizer_leaves_out("most types of weights, and groups by one lane");
    for (size_t type = 0; type < WEIGHT_TYPES; type += each)
        check_groups(kernels, 3, &shapes[RAGGED], type, false);
    for (size_t s = 0; s < N_SHAPES; s++)
        for (uint32_t lanes = THREAD_SANITIZER ? 3 : 1; lanes <= 3; lanes += 2)
            check_groups(kernels, lanes, &shapes[s], s, true);
}

static void test_no_groups_are_fine(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    struct lent_device d = device_lend(kernels, 2, 1, 32);
    float zero = 0;
    float *memory = device_floats(&d, &zero, 1);
    const struct group_product product = {NULL, memory, 1};
    kernels->multiply_groups(d.device, memory, &(struct row_groups){0, NULL}, 32, &product, 1);
    kernels->gather(d.device, memory, memory, NULL, 0, 32);
    kernels->combine(d.device, memory, memory, &(struct combine_terms){.n_ranges = 1}, 0, 32);
    device_give(&d, memory);
    device_return(&d);
}

static void test_gather(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    enum { N_X = 7, N_OUT = 90, WIDTH = 1030 };
    struct lent_device d = device_lend(kernels, 3, 1, 32);
    uint32_t rows[N_OUT];
    uint64_t seed = 1;
    float *x = malloc(N_X * WIDTH * sizeof(*x)), *y = malloc(N_OUT * WIDTH * sizeof(*y));
    for (size_t i = 0; i < N_X * WIDTH; i++)
        x[i] = random_float(&seed);
    for (size_t i = 0; i < N_OUT; i++)
        rows[i] = random_u32(&seed) % N_X;
    float *in = device_floats(&d, x, N_X * WIDTH), *out = device_floats(&d, y, N_OUT * WIDTH);
    kernels->gather(d.device, out, in, rows, N_OUT, WIDTH);
    device_floats_end(&d, y, out, N_OUT * WIDTH);
    device_give(&d, in);
    for (size_t i = 0; i < N_OUT; i++)
        assert_memory_equal(y + i * WIDTH, x + rows[i] * WIDTH, WIDTH * sizeof(*y));
    free(x);
    free(y);
    device_return(&d);
}

/* ---- weighted sums --------------------------------------------------------------------------- */

enum { SUMS = 40, MOST_TERMS = 6, SOURCE = 33 };

struct sums {
    uint32_t n_ranges, end[SUMS * MATRIX_SEGMENTS], n_terms;
    uint32_t row[SUMS * MATRIX_SEGMENTS * MOST_TERMS];
    float weight[SUMS * MATRIX_SEGMENTS * MOST_TERMS];
    uint32_t n_rows, n_columns;
    float *y; /* [SOURCE][n_columns] */
};

/* Some ranges are empty, and some rows have no term at all. */
static void sums_open(struct sums *s, uint32_t n_rows, uint32_t n_ranges, uint32_t n_columns)
{
    uint64_t seed = n_rows * 100 + n_ranges;
    *s = (struct sums){.n_ranges = n_ranges, .n_rows = n_rows, .n_columns = n_columns};
    for (uint32_t i = 0; i < n_rows * n_ranges; i++) {
        const bool none = i / n_ranges % 5 == 3 || random_u32(&seed) % 3 == 0;
        for (uint32_t n = none ? 0 : 1 + random_u32(&seed) % MOST_TERMS; n > 0; n--) {
            s->row[s->n_terms] = random_u32(&seed) % SOURCE;
            s->weight[s->n_terms++] = random_float(&seed);
        }
        s->end[i] = s->n_terms;
    }
    s->y = malloc((size_t)SOURCE * n_columns * sizeof(*s->y));
    for (size_t i = 0; i < (size_t)SOURCE * n_columns; i++)
        s->y[i] = random_float(&seed);
}

/* Ranges [first, first + n) of each row, as a rank that holds these computes them. */
static float *combine(const struct lent_device *d, const struct sums *s, uint32_t first, uint32_t n)
{
    uint32_t end[SUMS * MATRIX_SEGMENTS], row[SUMS * MATRIX_SEGMENTS * MOST_TERMS], n_terms = 0;
    float weight[SUMS * MATRIX_SEGMENTS * MOST_TERMS];
    const size_t n_values = (size_t)s->n_rows * s->n_columns;
    float *out = malloc(n_values * sizeof(*out));
    for (uint32_t i = 0; i < s->n_rows * s->n_ranges; i++) {
        if (i % s->n_ranges < first || i % s->n_ranges >= first + n)
            continue;
        for (uint32_t term = i > 0 ? s->end[i - 1] : 0; term < s->end[i]; term++, n_terms++) {
            row[n_terms] = s->row[term];
            weight[n_terms] = s->weight[term];
        }
        end[i / s->n_ranges * n + i % s->n_ranges - first] = n_terms;
    }
    for (size_t i = 0; i < n_values; i++)
        out[i] = 77.0f;
    float *to = device_floats(d, out, n_values),
          *from = device_floats(d, s->y, (size_t)SOURCE * s->n_columns);
    d->kernels->combine(d->device, to, from, &(struct combine_terms){n, end, row, weight},
                        s->n_rows, s->n_columns);
    memset(end, 0xff, sizeof(end)); /* read when the call has returned */
    memset(row, 0xff, sizeof(row));
    device_floats_end(d, out, to, n_values);
    device_give(d, from);
    return out;
}

static void check_sums(const struct sums *s, const float *out)
{
    for (uint32_t i = 0; i < s->n_rows; i++)
        for (uint32_t c = 0; c < s->n_columns; c++) {
            double want = 0, size = 0;
            for (uint32_t term = i > 0 ? s->end[i * s->n_ranges - 1] : 0;
                 term < s->end[(i + 1) * s->n_ranges - 1]; term++) {
                const double t =
                    (double)s->weight[term] * (double)s->y[(size_t)s->row[term] * s->n_columns + c];
                want += t;
                size += fabs(t);
            }
            /* one rounding for each term of a range, and three of the tree */
            const double got = (double)out[(size_t)i * s->n_columns + c];
            if (!(fabs(got - want) <= (MOST_TERMS + 3) * 0x1p-24 * size))
                fail_msg("row %u, column %u: %.9g, not %.9g", i, c, got, want);
        }
}

static void test_sums_are_near_and_do_not_depend_on_lanes_or_tables(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    static const uint32_t widths[] = {1, 31, 512, 1500};
    struct lent_device one = device_lend(&kernels_cpu_scalar, 1, 1, 32);
    for (uint32_t lanes = 1; lanes <= 3; lanes++) {
        struct lent_device d = device_lend(kernels, lanes, 1, 32);
        for (uint32_t n_ranges = 1; n_ranges <= MATRIX_SEGMENTS; n_ranges *= 2)
            for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
                struct sums s;
                sums_open(&s, w % 2 == 0 ? 1 : SUMS, n_ranges, widths[w]);
                float *got = combine(&d, &s, 0, n_ranges), *want = combine(&one, &s, 0, n_ranges);
                check_sums(&s, got);
                assert_memory_equal(got, want, (size_t)s.n_rows * s.n_columns * sizeof(*got));
                free(got);
                free(want);
                free(s.y);
            }
        device_return(&d);
    }
    device_return(&one);
}

/* Two, four and eight ranks that hold aligned ranges, whose sums are added as group_sum adds
 * them. */
static void test_ranks_go_on_with_the_tree_of_ranges(void **state)
{
    const struct kernels *kernels = each_table_usable(state);
    struct lent_device d = device_lend(kernels, 2, 1, 32);
    struct sums s;
    sums_open(&s, SUMS, MATRIX_SEGMENTS, 96);
    const size_t n = (size_t)s.n_rows * s.n_columns;
    float *whole = combine(&d, &s, 0, MATRIX_SEGMENTS);
    for (uint32_t ranks = 2; ranks <= MATRIX_SEGMENTS; ranks *= 2) {
        const uint32_t each = MATRIX_SEGMENTS / ranks;
        float *parts[MATRIX_SEGMENTS];
        for (uint32_t i = 0; i < ranks; i++)
            parts[i] = combine(&d, &s, i * each, each);
        for (uint32_t step = 1; step < ranks; step *= 2)
            for (uint32_t i = 0; i < ranks; i += 2 * step)
                device_add(&d, parts[i], parts[i + step], n);
        assert_memory_equal(parts[0], whole, n * sizeof(*whole));
        for (uint32_t i = 0; i < ranks; i++)
            free(parts[i]);
    }
    free(whole);
    free(s.y);
    device_return(&d);
}

int main(void)
{
    const struct each_table_test tests[] = {
        {"a_row_of_a_group_has_the_bits_that_it_has_alone",
         test_a_row_of_a_group_has_the_bits_that_it_has_alone, false},
        {"no_groups_are_fine", test_no_groups_are_fine, false},
        {"gather", test_gather, false},
        {"sums_are_near_and_do_not_depend_on_lanes_or_tables",
         test_sums_are_near_and_do_not_depend_on_lanes_or_tables, false},
        {"ranks_go_on_with_the_tree_of_ranges", test_ranks_go_on_with_the_tree_of_ranges, false},
    };
    return each_table_run(tests, sizeof(tests) / sizeof(tests[0]));
}
