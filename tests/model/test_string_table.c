/* A table keeps the first value of each string, through growth, and knows what it never saw. */
#include "model/string_table.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

static void test_first_value_stays(void **state)
{
    enum { N = 20000 };
    static char names[N][8];
    struct string_table table = {0};
    assert_int_equal(string_table_find(&table, "a", 1), STRING_TABLE_NONE);
    for (uint32_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof(names[i]), "%u", i);
        assert_int_equal(string_table_add(&table, names[i], strlen(names[i]), i), i);
        assert_int_equal(string_table_add(&table, names[i], strlen(names[i]), i + 1), i);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(string_table_find(&table, names[i], strlen(names[i])), i);
    assert_int_equal(string_table_find(&table, "20000", 5), STRING_TABLE_NONE);
    assert_int_equal(string_table_find(&table, "1234", 5), STRING_TABLE_NONE); /* with its NUL */
    assert_int_equal(string_table_find(&table, "", 0), STRING_TABLE_NONE);
    assert_int_equal(string_table_add(&table, "", 0, 7), 7);
    assert_int_equal(string_table_find(&table, "x", 0), 7);
    string_table_free(&table);
    assert_int_equal(string_table_find(&table, "1", 1), STRING_TABLE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_value_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
