/* test_blas.c - products by cuBLASLt are as near as bf16 is; those of few rows are not touched. */
#include "tests/kernels/cpu/each_table.h"

#include <math.h>

enum { OUTPUTS = 83, MOST_ROWS = 130, MOST_COLUMNS = 1024 };

/* The test's table and the plain one, or the test ends here as skipped. */
static void choose(const struct kernels **blas, const struct kernels **plain)
{
    struct error error = {.status = STATUS_OK};
    if (kernels_choose_device(blas, "cuda", "cuda-blas", &error) != STATUS_OK) {
        print_message("skipped: %s\n", error.text);
        skip();
    }
    assert_int_equal(kernels_choose_device(plain, "cuda", NULL, NULL), STATUS_OK);
}

struct problem {
    enum weight_type type;
    uint32_t n_rows, n_columns;
    uint8_t *weights;
    float *x;
};

static struct problem problem_make(enum weight_type type, uint32_t n_rows, uint32_t n_columns)
{
    struct problem p = {type, n_rows, n_columns, NULL, NULL};
    const size_t row_bytes = weight_row_bytes(type, n_columns);
    uint64_t seed = n_rows + n_columns + type;
    float row[MOST_COLUMNS];
    p.weights = malloc(row_bytes * OUTPUTS);
    p.x = malloc(sizeof(float) * n_rows * n_columns);
    assert_true(p.weights != NULL && p.x != NULL);
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        for (uint32_t i = 0; i < n_columns; i++)
            row[i] = random_float(&seed);
        weight_quantize(type, p.weights + o * row_bytes, row, n_columns);
    }
    for (size_t i = 0; i < (size_t)n_rows * n_columns; i++)
        p.x[i] = random_float(&seed);
    return p;
}

static float *multiply(const struct kernels *kernels, const struct problem *p)
{
    struct lent_device d = device_lend(kernels, 1, MOST_ROWS, MOST_COLUMNS);
    struct matrix m;
    float *y = calloc((size_t)p->n_rows * OUTPUTS, sizeof(*y));
    assert_non_null(y);
    assert_int_equal(kernels->matrix_create(d.device, &m, p->type, p->weights, p->n_columns, 0,
                                            OUTPUTS, 0, p->n_columns, NULL),
                     STATUS_OK);
    device_product(&d, y, OUTPUTS, p->x, p->n_rows, &m);
    kernels->matrix_destroy(d.device, &m);
    device_return(&d);
    return y;
}

/* Two numbers rounded to eight bits, 2^-9 each; f32 sums are far below. */
static void check_near(const struct problem *p, const float *y)
{
    const size_t row_bytes = weight_row_bytes(p->type, p->n_columns);
    float w[MOST_COLUMNS];
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        weight_dequantize(p->type, w, p->weights + o * row_bytes, p->n_columns);
        for (uint32_t row = 0; row < p->n_rows; row++) {
            double want = 0, size = 0;
            for (uint32_t i = 0; i < p->n_columns; i++) {
                const double term = (double)w[i] * (double)p->x[(size_t)row * p->n_columns + i];
                want += term;
                size += fabs(term);
            }
            if (!(fabs(y[(size_t)row * OUTPUTS + o] - want) <= 0x1.02p-8 * size))
                fail_msg("%s: y[%u][%u] = %.9g, not %.9g", weight_traits(p->type)->name, row, o,
                         y[(size_t)row * OUTPUTS + o], want);
        }
    }
}

static void test_products_are_as_near_as_bf16(void **state)
{
    static const uint32_t rows[] = {64, 65, MOST_ROWS};
    const struct kernels *blas, *plain;
    choose(&blas, &plain);
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
            const uint32_t block = weight_traits(weight_types[t])->block_elements;
            const uint32_t columns = r == 0 ? MOST_COLUMNS : block == 256 ? 768 : 352;
            struct problem p = problem_make(weight_types[t], rows[r], columns);
            float *y = multiply(blas, &p);
            check_near(&p, y);
            free(y);
            free(p.weights);
            free(p.x);
        }
}

static void test_results_may_begin_anywhere(void **state)
{
    static const size_t offsets[] = {0, 1, 2, 4, 16}; /* floats */
    const struct kernels *blas, *plain;
    choose(&blas, &plain);
    struct problem p = problem_make(WEIGHT_F16, MOST_ROWS, MOST_COLUMNS);
    struct lent_device d = device_lend(blas, 1, MOST_ROWS, MOST_COLUMNS);
    struct matrix m;
    assert_int_equal(blas->matrix_create(d.device, &m, p.type, p.weights, p.n_columns, 0, OUTPUTS,
                                         0, p.n_columns, NULL),
                     STATUS_OK);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        const size_t n = offsets[i] + (size_t)p.n_rows * OUTPUTS;
        float *y = calloc(n, sizeof(*y));
        assert_non_null(y);
        float *in = device_floats(&d, p.x, (size_t)p.n_rows * p.n_columns);
        float *out = device_floats(&d, y, n);
        blas->prepare(d.device, in, p.n_rows, p.n_columns, 1u << p.type);
        blas->matmul(d.device, &(struct product){out + offsets[i], OUTPUTS, &m}, 1);
        device_floats_end(&d, y, out, n);
        device_give(&d, in);
        check_near(&p, y + offsets[i]);
        free(y);
    }
    blas->matrix_destroy(d.device, &m);
    device_return(&d);
    free(p.weights);
    free(p.x);
}

static void test_few_rows_have_the_bits_of_cuda(void **state)
{
    const struct kernels *blas, *plain;
    choose(&blas, &plain);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        struct problem p = problem_make(weight_types[t], 63, MOST_COLUMNS);
        float *y = multiply(blas, &p), *want = multiply(plain, &p);
        assert_memory_equal(y, want, sizeof(*y) * 63 * OUTPUTS);
        free(y);
        free(want);
        free(p.weights);
        free(p.x);
    }
}

/* With or without a GPU: by name only, and known to round. */
static void test_it_is_never_chosen_unasked(void **state)
{
    const struct kernels *chosen;
    assert_true(kernels_round_products("cuda-blas") && !kernels_round_products("cuda"));
    assert_string_equal(kernels_without_rounding("cuda-blas"), "cuda");
    assert_string_equal(kernels_without_rounding("bf16"), "avx512");
    assert_string_equal(kernels_without_rounding("avx2"), "avx2");
    if (kernels_choose_device(&chosen, "cuda", "auto", NULL) == STATUS_OK)
        assert_ptr_equal(chosen, &kernels_cuda);
    assert_int_equal(kernels_choose(&chosen, "cuda-blas", NULL), STATUS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_are_as_near_as_bf16),
        cmocka_unit_test(test_results_may_begin_anywhere),
        cmocka_unit_test(test_few_rows_have_the_bits_of_cuda),
        cmocka_unit_test(test_it_is_never_chosen_unasked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
