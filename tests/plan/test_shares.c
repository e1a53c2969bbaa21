/* test_shares.c - tokens in proportion to read rates, and equally where one is not known. */
#include "plan/shares.h"

#include "tests/cmocka.h"

#include <math.h>

static void test_nodes_of_one_host_have_its_mean(void **state)
{
    const struct shares_node nodes[3] = {{"a", 10}, {"b", 40}, {"a", 20}};
    double weights[3];
    assert_true(shares_weigh(weights, nodes, 3));
    assert_true(weights[0] == 15 && weights[1] == 40 && weights[2] == 15);
}

static void test_what_is_not_measured_makes_all_equal(void **state)
{
    const double bad[] = {0, -1, NAN, INFINITY, 1e19};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const struct shares_node nodes[2] = {{"a", 10}, {"b", bad[i]}};
        double weights[2];
        assert_false(shares_weigh(weights, nodes, 2));
        assert_true(weights[0] == 1 && weights[1] == 1);
    }
    assert_true(shares_weigh(NULL, NULL, 0));
}

static void test_shares_that_are_given(void **state)
{
    static const char *const bad[] = {"",    "1",    "1,2,3", "1,",    "1,x",
                                      "0,1", "1,-2", "1,nan", "1,1e16"};
    double weights[2];
    assert_int_equal(shares_parse(weights, 2, "3,0.5", NULL), STATUS_OK);
    assert_true(weights[0] == 3 && weights[1] == 0.5);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(shares_parse(weights, 2, bad[i], NULL), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_of_one_host_have_its_mean),
        cmocka_unit_test(test_what_is_not_measured_makes_all_equal),
        cmocka_unit_test(test_shares_that_are_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
