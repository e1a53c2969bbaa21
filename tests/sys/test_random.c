/* test_random.c - the sequences are the published ones, and stay in their ranges. */
#include "sys/random.h"

#include "tests/cmocka.h"

#include <string.h>

/* rand_xoshiro's and the authors' test values. */
static void test_xoshiro_known_values(void **state)
{
    struct random_state random = {{1, 2, 3, 4}};
    static const uint64_t expected[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_true(random_u64(&random) == expected[i]);
}

static void test_seed_is_splitmix(void **state)
{
    struct random_state random;
    random_seed(&random, 0);
    assert_true(random.words[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(random.words[1] == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(random.words[2] == UINT64_C(0x06c45d188009454f));
}

static void test_same_seed_same_numbers(void **state)
{
    struct random_state a, b, other;
    random_seed(&a, 7);
    random_seed(&b, 7);
    random_seed(&other, 8);
    int n_equal = 0;
    for (int i = 0; i < 1000; i++) {
        const float x = random_normal(&a);
        assert_true(x == random_normal(&b));
        n_equal += x == random_normal(&other);
    }
    assert_true(n_equal < 5);
}

static void test_uniform_numbers_fill_their_range(void **state)
{
    struct random_state random;
    random_seed(&random, 1);
    double sum32 = 0, sum64 = 0;
    uint32_t seen = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        const float x = random_f32(&random);
        const double y = random_f64(&random);
        assert_true(x >= 0 && x < 1 && y >= 0 && y < 1);
        sum32 += (double)x;
        sum64 += y;
        const uint64_t k = random_below(&random, 10);
        assert_true(k < 10);
        seen |= 1u << k;
    }
    /* The mean's deviation is 0.289/sqrt(N) = 0.0009; ten of them. */
    assert_true(sum32 / N > 0.491 && sum32 / N < 0.509);
    assert_true(sum64 / N > 0.491 && sum64 / N < 0.509);
    assert_int_equal(seen, 0x3ff);
    assert_true(random_below(&random, 0) == 0 && random_below(&random, 1) == 0);
}

static void test_normal_numbers_have_their_moments(void **state)
{
    struct random_state random;
    random_seed(&random, 2);
    enum { N = 100000 };
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        const double x = (double)random_normal(&random);
        assert_true(x >= -6 && x <= 6);
        sum += x;
        squares += x * x;
    }
    assert_true(sum / N > -0.03 && sum / N < 0.03);        /* deviation 0.003 */
    assert_true(squares / N > 0.95 && squares / N < 1.05); /* deviation 0.0045 */
}

static void test_unique_bytes_differ(void **state)
{
    uint64_t a[4], b[4];
    assert_int_equal(random_unique(a, sizeof(a), NULL), 0);
    assert_int_equal(random_unique(b, sizeof(b), NULL), 0);
    assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xoshiro_known_values),
        cmocka_unit_test(test_seed_is_splitmix),
        cmocka_unit_test(test_same_seed_same_numbers),
        cmocka_unit_test(test_uniform_numbers_fill_their_range),
        cmocka_unit_test(test_normal_numbers_have_their_moments),
        cmocka_unit_test(test_unique_bytes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
