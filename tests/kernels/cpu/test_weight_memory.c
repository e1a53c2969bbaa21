/* test_weight_memory.c - matrices lie side by side, and blocks go back with their last one. */
#include "kernels/cpu/weight_memory.h"

#include "tests/cmocka.h"

#include <string.h>

static char *take(struct weight_memory *memory, size_t bytes)
{
    void *start = NULL;
    assert_int_equal(weight_memory_take(memory, &start, bytes, NULL), STATUS_OK);
    assert_int_equal((uintptr_t)start % WEIGHT_MEMORY_ALIGNMENT, 0);
    return start;
}

static void test_matrices_lie_side_by_side(void **state)
{
    struct weight_memory memory = {0};
    char *first = take(&memory, 100), *second = take(&memory, (size_t)3 << 20);
    char *third = take(&memory, 1);
    assert_ptr_equal(second, first + 2 * WEIGHT_MEMORY_ALIGNMENT);
    assert_ptr_equal(third, second + ((size_t)3 << 20));
    memset(first, 1, 100);
    memset(second, 2, (size_t)3 << 20);
    *third = 3;
    assert_int_equal(first[99], 1);
    assert_int_equal(second[0], 2);
    weight_memory_give(&memory, second);
    assert_int_equal(first[99] + *third, 4); /* the block is still there */
    weight_memory_give(&memory, first);
    weight_memory_give(&memory, third);
    assert_null(memory.blocks);
    weight_memory_give(&memory, NULL);
}

static void test_what_does_not_fit_has_a_block_of_its_own(void **state)
{
    struct weight_memory memory = {0};
    char *small = take(&memory, 64), *large = take(&memory, (size_t)1 << 30);
    char *next = take(&memory, 64);
    assert_ptr_equal(next, small + 64); /* where there is still room */
    large[((size_t)1 << 30) - 1] = 1;
    weight_memory_give(&memory, small);
    weight_memory_give(&memory, next);
    assert_non_null(memory.blocks);
    assert_int_equal(large[((size_t)1 << 30) - 1], 1);
    weight_memory_give(&memory, large);
    assert_null(memory.blocks);
}

static void test_too_much_is_refused(void **state)
{
    struct weight_memory memory = {0};
    void *start = &memory;
    struct error error = {STATUS_OK, ""};
    assert_int_equal(weight_memory_take(&memory, &start, SIZE_MAX, &error), STATUS_NO_MEMORY);
    assert_int_equal(weight_memory_take(&memory, &start, SIZE_MAX / 2, &error), STATUS_NO_MEMORY);
    assert_ptr_equal(start, &memory);
    assert_true(error.text[0] != '\0');
    assert_null(memory.blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrices_lie_side_by_side),
        cmocka_unit_test(test_what_does_not_fit_has_a_block_of_its_own),
        cmocka_unit_test(test_too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
