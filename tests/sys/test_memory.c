/* test_memory.c - address space costs nothing until it is written. */
#include "sys/memory.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

#ifndef __has_feature /* clang's; gcc has macros */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif

static const size_t mib = (size_t)1 << 20;

static void test_a_reservation_costs_nothing_until_written(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip(); /* its shadow of the reservation counts as ours */
#endif
    const uint64_t before = memory_resident_bytes();
    void *base = NULL;
    assert_true(before > 0);
    assert_int_equal(memory_reserve(&base, 4096 * mib, NULL), STATUS_OK);
    assert_int_equal((uintptr_t)base % (2 * mib), 0);
    assert_true(memory_resident_bytes() < before + 16 * mib);

    char *bytes = base;
    assert_int_equal(bytes[4096 * mib - 1], 0);
    memset(bytes, 1, 32 * mib);
    assert_true(memory_resident_bytes() >= before + 31 * mib);

    memory_release(base, 4096 * mib);
    assert_true(memory_resident_bytes() < before + 16 * mib);
    memory_release(NULL, 0);
}

static void test_what_cannot_be_reserved(void **state)
{
    void *base = NULL;
    struct error error;
    assert_int_equal(memory_reserve(&base, 0, &error), STATUS_INVALID);
    assert_int_equal(memory_reserve(&base, SIZE_MAX, &error), STATUS_NO_MEMORY);
    assert_int_equal(memory_reserve(&base, SIZE_MAX / 2, &error), STATUS_NO_MEMORY);
    assert_null(base);
}

static void test_available_memory_is_known(void **state)
{
    assert_true(memory_available_bytes() > 16 * mib);
    assert_true(memory_available_bytes() < UINT64_C(1) << 50);
    assert_true(memory_total_bytes() > memory_resident_bytes());
    assert_true(memory_total_bytes() < UINT64_C(1) << 50);
}

static void test_the_peak_stays_when_memory_is_given_back(void **state)
{
    void *base = NULL;
    const uint64_t before = memory_resident_bytes();
    assert_int_equal(memory_reserve(&base, 64 * mib, NULL), STATUS_OK);
    memset(base, 1, 64 * mib);
    memory_release(base, 64 * mib);
    assert_true(memory_peak_bytes() >= before + 60 * mib);
    assert_true(memory_peak_bytes() >= memory_resident_bytes());
}

/* The last piece is still there, so that malloc's heap cannot end before it. */
static void test_small_pieces_are_given_back(void **state)
{
    enum { N = 1 << 20 };
    void **pieces = malloc(N * sizeof(*pieces));
    assert_non_null(pieces);
    for (size_t i = 0; i < N; i++)
        assert_non_null(pieces[i] = memset(malloc(100), 1, 100));
    for (size_t i = 0; i + 1 < N; i++)
        free(pieces[i]);
    const uint64_t before = memory_resident_bytes();
    memory_give_back();
    const uint64_t after = memory_resident_bytes();
#if defined(__GLIBC__) && !defined(SANITIZED)
    assert_true(after + 64 * mib < before); /* of 100 */
#else
    assert_true(after > 0 && before > 0);
#endif
    free(pieces[N - 1]);
    free(pieces);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reservation_costs_nothing_until_written),
        cmocka_unit_test(test_what_cannot_be_reserved),
        cmocka_unit_test(test_available_memory_is_known),
        cmocka_unit_test(test_the_peak_stays_when_memory_is_given_back),
        cmocka_unit_test(test_small_pieces_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
