/* test_descriptors.c - a low limit is raised, to the hard one or to enough, and never lowered. */
#include "sys/descriptors.h"

#include "tests/cmocka.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* RLIM_INFINITY is larger than every number, as the kernel compares it. */
static rlim_t soft_limit(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur;
}

static void set_limits(rlim_t soft, rlim_t hard)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){soft, hard}), 0);
}

static void test_a_low_limit_is_raised_to_the_hard_one(void **state)
{
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlim_t most = before.rlim_max < DESCRIPTORS_ENOUGH ? before.rlim_max : DESCRIPTORS_ENOUGH;
    set_limits(64, before.rlim_max);
    assert_int_equal(descriptors_raise(), most);
    assert_int_equal(soft_limit(), most);
    assert_int_equal(descriptors_raise(), most); /* again: nothing to do */
}

static void test_what_is_enough_stays(void **state)
{
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    set_limits(before.rlim_max, before.rlim_max);
    assert_int_equal(descriptors_raise(), before.rlim_max);
    assert_int_equal(soft_limit(), before.rlim_max);
}

static void test_what_is_left_is_counted(void **state)
{
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    closefrom(STDERR_FILENO + 1); /* inherited */
    set_limits(64, before.rlim_max);
    const size_t left = descriptors_left();
    int opened[64];
    assert_int_equal(left, 64 - (STDERR_FILENO + 1));
    for (size_t i = 0; i < left; i++) {
        assert_int_equal(descriptors_are_few(8), left - i < 8);
        assert_int_equal(descriptors_left(), left - i);
        opened[i] = dup(STDERR_FILENO);
        assert_true(opened[i] >= 0);
    }
    assert_int_equal(dup(STDERR_FILENO), -1);
    assert_true(descriptors_are_few(1));
    assert_int_equal(descriptors_left(), 0);
    for (size_t i = 0; i < left; i++)
        close(opened[i]);
    assert_false(descriptors_are_few(8));
    assert_int_equal(descriptors_left(), left);
    set_limits(before.rlim_cur, before.rlim_max);
}

/* Last: a hard limit that was lowered stays so. */
static void test_a_hard_limit_is_kept(void **state)
{
    set_limits(64, 128);
    assert_int_equal(descriptors_raise(), 128);
    assert_int_equal(soft_limit(), 128);
    assert_int_equal(descriptors_check(NULL), STATUS_OK);

    struct error error;
    set_limits(DESCRIPTORS_LEAST - 1, DESCRIPTORS_LEAST - 1);
    assert_int_equal(descriptors_check(&error), STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "63 files"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_low_limit_is_raised_to_the_hard_one),
        cmocka_unit_test(test_what_is_enough_stays),
        cmocka_unit_test(test_what_is_left_is_counted),
        cmocka_unit_test(test_a_hard_limit_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
