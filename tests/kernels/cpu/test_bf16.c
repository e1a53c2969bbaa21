/* test_bf16.c - the table that rounds products: what it computes, that rows, lanes and tiles do not
 * change it, and that nobody gets it without asking. */
#include "kernels/quant/half.h"
#include "tests/cmocka.h"
#include "tests/kernels/cpu/each_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

enum { MAX_ROWS = 60, OUTPUTS = 77 };

static const enum weight_type types[] = {WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16};

struct problem {
    enum weight_type type;
    uint32_t n_columns;
    uint8_t *weights; /* of type, [OUTPUTS][n_columns] */
    float *exact;     /* the same */
    float *x;         /* [MAX_ROWS][n_columns] */
};

static float rounded(float value)
{
    return bfloat16_to_float(bfloat16_from_float(value));
}

static struct problem make(enum weight_type type, uint32_t n_columns)
{
    const size_t n = (size_t)OUTPUTS * n_columns, n_x = (size_t)MAX_ROWS * n_columns;
    struct problem p = {type, n_columns, malloc(4 * n), malloc(4 * n), malloc(4 * n_x)};
    uint64_t seed = n_columns;
    for (size_t i = 0; i < n; i++) {
        const float w = (float)(int32_t)random_u32(&seed) * 0x1p-31f;
        const uint16_t half = type == WEIGHT_F16 ? half_from_float(w) : bfloat16_from_float(w);
        p.exact[i] = type == WEIGHT_F32   ? w
                     : type == WEIGHT_F16 ? half_to_float(half)
                                          : bfloat16_to_float(half);
        if (type == WEIGHT_F32)
            memcpy(p.weights + 4 * i, &w, 4);
        else
            memcpy(p.weights + 2 * i, &half, 2);
    }
    for (size_t i = 0; i < n_x; i++) /* large and small beside each other */
        p.x[i] = ldexpf((float)(int32_t)random_u32(&seed), (int)(i % 7) - 34);
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->weights);
    free(p->exact);
    free(p->x);
}

/* y[n_rows][OUTPUTS], by n_lanes lanes. */
static float *multiply(const struct problem *p, const float *x, uint32_t n_rows, uint32_t n_lanes)
{
    const struct kernels *k = &kernels_cpu_bf16;
    struct lent_device d = device_lend(k, n_lanes, n_rows, p->n_columns);
    struct matrix m;
    float *y = malloc(sizeof(float) * n_rows * OUTPUTS);
    assert_non_null(y);
    assert_int_equal(k->matrix_create(d.device, &m, p->type, p->weights, p->n_columns, 0, OUTPUTS,
                                      0, p->n_columns, NULL),
                     STATUS_OK);
    k->prepare(d.device, x, n_rows, p->n_columns, 1u << p->type);
    k->matmul(d.device, &(struct product){y, OUTPUTS, &m}, 1);
    k->matrix_destroy(d.device, &m);
    device_return(&d);
    return y;
}

/* At most two roundings for each column, one for each span, in the double-precision sum's own
 * measure. */
static void check(const struct problem *p, const float *y, uint32_t n_rows, bool rounds)
{
    for (uint32_t row = 0; row < n_rows; row++)
        for (uint32_t o = 0; o < OUTPUTS; o++) {
            double want = 0.0, size = 0.0;
            for (uint32_t i = 0; i < p->n_columns; i++) {
                const float w = p->exact[(size_t)o * p->n_columns + i],
                            x = p->x[(size_t)row * p->n_columns + i];
                const double term =
                    rounds ? (double)rounded(w) * (double)rounded(x) : (double)w * (double)x;
                want += term;
                size += fabs(term);
            }
            const double tolerance = (2 * fmin(p->n_columns, 512) + 8) * 0x1p-24 * size;
            const double got = y[(size_t)row * OUTPUTS + o];
            if (!(fabs(got - want) <= tolerance))
                fail_msg("type %d, %u columns: y[%u][%u] = %.9g, not %.9g +- %.2g", (int)p->type,
                         p->n_columns, row, o, got, want, tolerance);
        }
}

static void test_products_are_of_rounded_numbers(void **state)
{
    if (!kernels_cpu_bf16.usable())
        skip();
    static const uint32_t columns[] = {2, 34, 512, 1030, 2048};
    for (size_t t = 0; t < 3; t++)
        for (size_t c = 0; c < 5; c++) {
            struct problem p = make(types[t], columns[c]);
            float *y = multiply(&p, p.x, MAX_ROWS, 2);
            check(&p, y, MAX_ROWS, true);
            free(y);
            problem_free(&p);
        }
}

static void test_odd_columns_are_multiplied_exactly(void **state)
{
    if (!kernels_cpu_bf16.usable())
        skip();
    for (size_t t = 0; t < 3; t++) {
        struct problem p = make(types[t], 97);
        float *y = multiply(&p, p.x, MAX_ROWS, 1);
        check(&p, y, MAX_ROWS, false);
        free(y);
        problem_free(&p);
    }
}

static void test_a_rows_bits_do_not_depend_on_company_or_lanes(void **state)
{
    if (!kernels_cpu_bf16.usable())
        skip();
    for (size_t t = 0; t < 3; t++) {
        struct problem p = make(types[t], 1090);
        float *all = multiply(&p, p.x, MAX_ROWS, 1);
        for (uint32_t n_rows = 1; n_rows <= MAX_ROWS; n_rows++) {
            const uint32_t first = MAX_ROWS - n_rows;
            float *some = multiply(&p, p.x + (size_t)first * p.n_columns, n_rows, 1 + n_rows % 3);
            assert_memory_equal(some, all + (size_t)first * OUTPUTS,
                                sizeof(float) * n_rows * OUTPUTS);
            free(some);
        }
        free(all);
        problem_free(&p);
    }
}

static void test_what_is_not_finite_stays_so(void **state)
{
    if (!kernels_cpu_bf16.usable())
        skip();
    struct problem p = make(WEIGHT_F16, 64);
    p.x[3] = NAN;
    p.x[64 + 3] = INFINITY;
    p.x[128 + 3] = 0x1p-140f; /* counts as 0 */
    float *y = multiply(&p, p.x, MAX_ROWS, 1);
    for (uint32_t o = 0; o < OUTPUTS; o++) {
        assert_true(isnan(y[o]));
        assert_false(isfinite(y[OUTPUTS + o]));
        assert_true(isfinite(y[2 * OUTPUTS + o]));
    }
    free(y);
    problem_free(&p);
}

static void test_only_who_asks_by_name_gets_it(void **state)
{
    const struct kernels *chosen = NULL;
    struct error error;
    assert_int_equal(kernels_choose(&chosen, NULL, NULL), STATUS_OK);
    assert_ptr_not_equal(chosen, &kernels_cpu_bf16);
    const enum status status = kernels_choose(&chosen, "bf16", &error);
    for (size_t i = 0; kernels_all[i] != NULL; i++)
        assert_false(kernels_round_products(kernels_all[i]->name));
    for (size_t i = 0; kernels_rounding[i] != NULL; i++)
        assert_true(kernels_round_products(kernels_rounding[i]->name));
    if (kernels_cpu_bf16.usable()) {
        assert_int_equal(status, STATUS_OK);
        assert_ptr_equal(chosen, &kernels_cpu_bf16);
    } else {
        assert_int_equal(status, STATUS_UNSUPPORTED);
        assert_non_null(strstr(error.text, "cannot run bf16"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_are_of_rounded_numbers),
        cmocka_unit_test(test_odd_columns_are_multiplied_exactly),
        cmocka_unit_test(test_a_rows_bits_do_not_depend_on_company_or_lanes),
        cmocka_unit_test(test_what_is_not_finite_stays_so),
        cmocka_unit_test(test_only_who_asks_by_name_gets_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_there_is_no_such_table(void **state)
{
    const struct kernels *chosen = NULL;
    assert_int_equal(kernels_choose(&chosen, "bf16", NULL), STATUS_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_is_no_such_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
