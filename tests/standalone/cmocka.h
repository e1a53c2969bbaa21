/* tests/standalone/cmocka.h - as much of cmocka as tests/kernels use, for machines that have none.
 *
 * bench/gpu.sh runs the kernels' tests where there are a compiler and nvcc and perhaps nothing
 * else: it puts this folder into the include path, so that <cmocka.h> is this file. Not part of the
 * ordinary build, which uses cmocka itself (https://cmocka.org): the names and meanings are its. A
 * test ends at its first failure. The result of a group is the number of tests that failed. */
#ifndef LONGSPAN_TESTS_STANDALONE_CMOCKA_H
#define LONGSPAN_TESTS_STANDALONE_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char *name;
    CMUnitTestFunction test_func;
    CMFixtureFunction setup_func, teardown_func;
    void *initial_state;
};

static jmp_buf standalone_end; /* of the running test: 1 failed, 2 skipped */

__attribute__((noreturn, format(printf, 3, 4))) static inline void standalone_fail(
    const char *file, int line, const char *format, ...)
{
    va_list arguments;
    printf("%s:%d: ", file, line);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    longjmp(standalone_end, 1);
}

__attribute__((noreturn)) static inline void standalone_skip(void)
{
    longjmp(standalone_end, 2);
}

static inline int standalone_run(const char *group, const struct CMUnitTest *tests, size_t n,
                                 CMFixtureFunction setup, CMFixtureFunction teardown)
{
    volatile int passed = 0, failed = 0, skipped = 0;
    void *group_state = NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (setup != NULL && setup(&group_state) != 0)
        return 1;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = tests[i].initial_state != NULL ? tests[i].initial_state : group_state;
        const int end = setjmp(standalone_end);
        if (end == 0) {
            if (tests[i].setup_func != NULL && tests[i].setup_func(&state) != 0)
                longjmp(standalone_end, 1);
            tests[i].test_func(&state);
            if (tests[i].teardown_func != NULL)
                tests[i].teardown_func(&state);
        }
        passed += end == 0;
        failed += end == 1;
        skipped += end == 2;
        printf("%s - %s\n", end == 0 ? "ok" : end == 1 ? "not ok" : "skipped", tests[i].name);
    }
    if (teardown != NULL)
        teardown(&group_state);
    printf("%s: %d passed, %d failed, %d skipped\n", group, passed, failed, skipped);
    return failed;
}

#define cmocka_unit_test(function)                                                                 \
    {                                                                                              \
#function, function, NULL, NULL, NULL                                                      \
    }
#define cmocka_unit_test_setup_teardown(f, setup, after)                                           \
    {                                                                                              \
#f, f, setup, after, NULL                                                                  \
    }
#define _cmocka_run_group_tests(group, tests, n, setup, teardown)                                  \
    standalone_run(group, tests, n, setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                  \
    standalone_run(name, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    cmocka_run_group_tests_name(#tests, tests, setup, teardown)

#define print_message(...) printf(__VA_ARGS__)
#define skip()             standalone_skip()
#define fail()             standalone_fail(__FILE__, __LINE__, "failed")
#define fail_msg(...)      standalone_fail(__FILE__, __LINE__, __VA_ARGS__)

#define STANDALONE_CHECK(condition, text)                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            standalone_fail(__FILE__, __LINE__, "%s", text);                                       \
    } while (0)
#define assert_true(x)                   STANDALONE_CHECK(x, #x)
#define assert_false(x)                  STANDALONE_CHECK(!(x), "not: " #x)
#define assert_null(x)                   STANDALONE_CHECK((x) == NULL, #x " is not NULL")
#define assert_non_null(x)               STANDALONE_CHECK((x) != NULL, #x " is NULL")
#define assert_ptr_equal(a, b)           STANDALONE_CHECK((a) == (b), #a " is not " #b)
#define assert_ptr_not_equal(a, b)       STANDALONE_CHECK((a) != (b), #a " is " #b)
#define assert_string_equal(a, b)        STANDALONE_CHECK(strcmp(a, b) == 0, #a " is not " #b)
#define assert_memory_equal(a, b, n)     STANDALONE_CHECK(memcmp(a, b, n) == 0, #a " is not " #b)
#define assert_memory_not_equal(a, b, n) STANDALONE_CHECK(memcmp(a, b, n) != 0, #a " is " #b)
#define assert_in_range(x, least, most)                                                            \
    STANDALONE_CHECK((x) >= (least) && (x) <= (most), #x " is not in " #least " .. " #most)
#define assert_int_equal(a, b)                                                                     \
    do {                                                                                           \
        const long long standalone_a = (long long)(a), standalone_b = (long long)(b);              \
        if (standalone_a != standalone_b)                                                          \
            standalone_fail(__FILE__, __LINE__, "%s is %lld, not %s = %lld", #a, standalone_a, #b, \
                            standalone_b);                                                         \
    } while (0)
#define assert_int_not_equal(a, b) STANDALONE_CHECK((a) != (b), #a " is " #b)

#endif
