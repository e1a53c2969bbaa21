/* test_sampler_row.c - whole rows: what vector instructions make of them is what is written. */
#include "coordinator/sampler_row.h"

#include "kernels/numeric.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>

enum { MOST = 20011 };
/* Around lanes, blocks, and the number of blocks. */
static const uint32_t sizes[] = {1,   2,   7,    8,    9,    15,   16,   17,    511,   512,
                                 513, 520, 4095, 4096, 4097, 4104, 8191, 12345, 20000, MOST};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static float row[MOST];
static uint32_t order[MOST];

static void fill(uint32_t n, uint64_t seed)
{
    struct random_state random;
    random_seed(&random, seed);
    for (uint32_t i = 0; i < n; i++)
        row[i] = random_below(&random, 10) == 0 ? -INFINITY : 4.0f * random_normal(&random);
    row[random_below(&random, n)] = 20.0f; /* the largest is finite */
}

/* The order of sums that sampler_row.h promises, one number after the other. */
static double plain_total(uint32_t n, float max)
{
    const uint32_t block = (n / 512 + 1 + 7) / 8 * 8;
    double total = 0.0;
    for (uint32_t first = 0; first < n; first += block) {
        double lanes[8] = {0.0};
        for (uint32_t i = 0; i < block && first + i < n; i++)
            lanes[i % 8] += (double)exp_f32(row[first + i] - max);
        total += ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                 ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
    return total;
}

static void test_sums_have_the_bits_of_one_written_order(void **state)
{
    for (int i = 0; i < N_SIZES; i++) {
        fill(sizes[i], 1000 + (uint64_t)i);
        const float max = row[sampler_row_best(row, sizes[i])];
        const double total = sampler_row_total(row, sizes[i], max);
        if (total != plain_total(sizes[i], max))
            fail_msg("%u logits: %.17g instead of %.17g", sizes[i], total,
                     plain_total(sizes[i], max));
    }
}

/* u lies within the drawn token's share, but for the rounding of sums. */
static void test_a_draw_is_the_token_that_u_falls_on(void **state)
{
    struct random_state random;
    random_seed(&random, 5);
    for (int i = 0; i < N_SIZES; i++) {
        const uint32_t n = sizes[i];
        fill(n, 2000 + (uint64_t)i);
        const float max = row[sampler_row_best(row, n)], temperature = i % 2 ? 3.0f : 12.0f;
        double total = 0.0;
        for (uint32_t j = 0; j < n; j++)
            total += (double)exp_f32((row[j] - max) / temperature);
        for (int draw = 0; draw < 200; draw++) {
            const double u = draw == 0 ? 0.0 : draw == 1 ? 1.0 - 1e-16 : random_f64(&random);
            const uint32_t drawn = sampler_row_draw(row, n, max, temperature, u);
            double before = 0.0;
            assert_true(drawn < n);
            for (uint32_t j = 0; j < drawn; j++)
                before += (double)exp_f32((row[j] - max) / temperature);
            const double weight = (double)exp_f32((row[drawn] - max) / temperature);
            assert_true(weight > 0.0);
            if (u * total < before - 1e-9 * total || u * total > before + weight + 1e-9 * total)
                fail_msg("%u logits, u %g: token %u has [%g, %g)", n, u, drawn, before / total,
                         (before + weight) / total);
        }
    }
}

static void test_only_what_is_possible_is_drawn(void **state)
{
    for (int i = 0; i < N_SIZES; i++)
        for (int at = 0; at < 5; at++) { /* both ends, and in between */
            const uint32_t n = sizes[i], only = (uint32_t)((uint64_t)(n - 1) * (uint32_t)at / 4);
            for (uint32_t j = 0; j < n; j++)
                row[j] = j % 2 ? -INFINITY : -200.0f; /* weights of 0 */
            row[only] = -1.0f;
            assert_int_equal(sampler_row_best(row, n), only);
            assert_int_equal(sampler_row_draw(row, n, -1.0f, 1.0f, 0.0), only);
            assert_int_equal(sampler_row_draw(row, n, -1.0f, 1.0f, 1.0 - 1e-16), only);
        }
}

static void test_comparisons_look_at_every_logit(void **state)
{
    for (int i = 0; i < N_SIZES; i++) {
        const uint32_t n = sizes[i];
        for (uint32_t j = 0; j < n; j++)
            row[j] = 1.0f;
        assert_int_equal(sampler_row_best(row, n), 0); /* the lowest among equals */
        assert_false(sampler_row_exceeds(row, n, 1.0f));
        assert_int_equal(sampler_row_filter(row, n, 1.0f, 0.0f, order), n);
        for (uint32_t j = 0; j < n; j += n / 50 + 1) {
            static const float bad[] = {1.5f, INFINITY, NAN};
            for (int k = 0; k < 3; k++) {
                row[j] = bad[k];
                assert_true(sampler_row_exceeds(row, n, 1.0f));
            }
            row[j] = 1.5f;
            assert_int_equal(sampler_row_best(row, n), j);
            assert_int_equal(sampler_row_filter(row, n, 1.5f, -0.25f, order), 1);
            assert_int_equal(order[0], j);
            row[j] = 1.0f;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_have_the_bits_of_one_written_order),
        cmocka_unit_test(test_a_draw_is_the_token_that_u_falls_on),
        cmocka_unit_test(test_only_what_is_possible_is_drawn),
        cmocka_unit_test(test_comparisons_look_at_every_logit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
