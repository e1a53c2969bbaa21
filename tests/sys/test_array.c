/* test_array.c - what grows keeps its content, or stays as it was. */
#include "sys/array.h"
#include "tests/cmocka.h"

#include <stdlib.h>

static void test_content_stays_and_moves_are_few(void **state)
{
    uint32_t *items = NULL;
    size_t capacity = 0, n_moves = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        const size_t before = capacity;
        assert_true(array_grow(&items, &capacity, (size_t)i + 1, sizeof(*items)));
        assert_true(capacity > i);
        n_moves += capacity != before;
        items[i] = 7 * i;
    }
    assert_true(n_moves <= 17); /* log2(100,000) */
    for (uint32_t i = 0; i < 100000; i++)
        assert_int_equal(items[i], 7 * i);
    free(items);
}

static void test_room_that_is_there_costs_nothing(void **state)
{
    double *items = NULL;
    size_t capacity = 0;
    assert_true(array_grow(&items, &capacity, 0, sizeof(*items)));
    assert_null(items);
    assert_true(array_grow(&items, &capacity, 1000, sizeof(*items)));
    const double *before = items;
    const size_t room = capacity;
    assert_true(array_grow(&items, &capacity, 1000, sizeof(*items)));
    assert_ptr_equal(items, before);
    assert_int_equal(capacity, room);
    free(items);
}

static void test_what_cannot_be_changes_nothing(void **state)
{
    uint64_t *items = NULL;
    size_t capacity = 0;
    assert_true(array_grow(&items, &capacity, 20, sizeof(*items)));
    uint64_t *before = items;
    items[19] = 5;
    assert_false(array_grow(&items, &capacity, SIZE_MAX / 8 + 1, sizeof(*items))); /* overflows */
    assert_false(array_grow(&items, &capacity, SIZE_MAX, sizeof(*items)));
    assert_ptr_equal(items, before);
    assert_int_equal(capacity, 20);
    assert_int_equal(items[19], 5);
    free(items);
}

static void test_a_pair_has_one_capacity(void **state)
{
    uint64_t *items = NULL;
    uint8_t *others = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_true(
            array_grow_pair(&items, sizeof(*items), &others, sizeof(*others), &capacity, i + 1));
        assert_true(capacity > i);
        items[i] = i;
        others[i] = (uint8_t)i;
    }
    const size_t before = capacity;
    assert_false(array_grow_pair(&items, sizeof(*items), &others, sizeof(*others), &capacity,
                                 SIZE_MAX / 8 + 1)); /* overflows */
    assert_int_equal(capacity, before);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(items[i], i);
        assert_int_equal(others[i], (uint8_t)i);
    }
    free(items);
    free(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_stays_and_moves_are_few),
        cmocka_unit_test(test_room_that_is_there_costs_nothing),
        cmocka_unit_test(test_what_cannot_be_changes_nothing),
        cmocka_unit_test(test_a_pair_has_one_capacity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
