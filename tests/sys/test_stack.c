/* test_stack.c - a stack that is too small is refused with its size and the remedy. */
#include "sys/stack.h"

#include "tests/cmocka.h"

#include <string.h>
#include <sys/resource.h>

static void test_less_than_the_least_is_refused(void **state)
{
    struct rlimit before;
    struct error error;
    assert_int_equal(getrlimit(RLIMIT_STACK, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_STACK, &(struct rlimit){STACK_LEAST, before.rlim_max}), 0);
    assert_int_equal(stack_check(&error), STATUS_OK);
    assert_int_equal(setrlimit(RLIMIT_STACK, &(struct rlimit){65536, before.rlim_max}), 0);
    assert_int_equal(stack_check(&error), STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "64 KiB (ulimit -s)"));
    assert_int_equal(setrlimit(RLIMIT_STACK, &before), 0);
    assert_int_equal(stack_check(NULL), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_less_than_the_least_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
