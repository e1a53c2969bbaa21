/* test_rows.c - a row that ends its process, or never ends, costs no other row. */
#include "bench/gpu/rows.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum { N_ROWS = 8, GIVES_UP = 5 /* exit status, outside of rows */ };

enum deed { WELL, FAILS, CRASHES, HANGS };

/* Shared with the children. */
struct table {
    enum deed deeds[N_ROWS];
    uint32_t kinds[N_ROWS];
    int gives_up_behind; /* a row; -1: none */
    int gives_up_before; /* any row, as the child of this number; 0: none */
    int measured[N_ROWS], failed[N_ROWS], children;
};

static int measure(void *what, struct rows *rows)
{
    struct table *table = what;
    if (++table->children == table->gives_up_before)
        return GIVES_UP;
    for (int i = 0; i < N_ROWS; i++) {
        const enum row row = rows_begin(rows, table->kinds[i]);
        table->failed[i] += row == ROW_FAILED;
        if (row != ROW_NEW)
            continue;
        if (table->deeds[i] == FAILS)
            exit(ROWS_FAILED);
        if (table->deeds[i] == CRASHES)
            (void)raise(SIGKILL); /* no tool stands in its way */
        while (table->deeds[i] == HANGS)
            pause();
        table->measured[i]++;
        rows_end(rows);
        if (table->gives_up_behind == i)
            return GIVES_UP;
    }
    return 0;
}

static struct table *new_table(void)
{
    struct table *table =
        mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(table != MAP_FAILED);
    table->gives_up_behind = -1;
    for (int i = 0; i < N_ROWS; i++)
        table->kinds[i] = (uint32_t)i;
    return table;
}

/* Rows that do not hang have time enough, however busy the machine is. */
enum { PATIENCE_S = 60, HANGING_S = 2 };

static void test_rows_that_end_well_take_one_child(void **state)
{
    struct table *table = new_table();
    assert_int_equal(rows_run(measure, table, PATIENCE_S), 0);
    assert_int_equal(table->children, 1);
    for (int i = 0; i < N_ROWS; i++)
        assert_int_equal(table->measured[i], 1);
}

static void test_a_row_that_fails_costs_no_other(void **state)
{
    static const enum deed deeds[N_ROWS] = {FAILS, WELL, HANGS, CRASHES, WELL, WELL, WELL, HANGS};
    struct table *table = new_table();
    memcpy(table->deeds, deeds, sizeof(deeds));
    assert_int_equal(rows_run(measure, table, HANGING_S), ROWS_FAILED);
    assert_int_equal(table->children, 5);
    for (int i = 0; i < N_ROWS; i++) {
        assert_int_equal(table->measured[i], deeds[i] == WELL);
        assert_int_equal(table->failed[i], deeds[i] != WELL); /* said once */
    }
}

static void test_a_kind_that_fails_twice_is_not_tried_again(void **state)
{
    struct table *table = new_table();
    for (int i = 0; i < N_ROWS; i += 2) {
        table->deeds[i] = FAILS;
        table->kinds[i] = ROW_KINDS - 1;
    }
    assert_int_equal(rows_run(measure, table, PATIENCE_S), ROWS_FAILED);
    assert_int_equal(table->children, 1 + MOST_FAILED);
    for (int i = 0; i < N_ROWS; i++) {
        assert_int_equal(table->measured[i], i % 2);
        assert_int_equal(table->failed[i], i % 2 == 0);
    }
}

static void test_a_failure_outside_of_rows_ends_all(void **state)
{
    struct table *table = new_table();
    table->gives_up_behind = 3;
    assert_int_equal(rows_run(measure, table, PATIENCE_S), GIVES_UP);
    assert_int_equal(table->children, 1);
    assert_int_equal(table->measured[3] + table->measured[4], 1);
}

static void test_a_failure_behind_a_failed_row_does_not_hide_it(void **state)
{
    struct table *table = new_table();
    table->deeds[1] = CRASHES;
    table->gives_up_before = 2;
    assert_int_equal(rows_run(measure, table, PATIENCE_S), ROWS_FAILED);
    assert_int_equal(table->children, 2);
    assert_int_equal(table->measured[0] + table->measured[2], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_that_end_well_take_one_child),
        cmocka_unit_test(test_a_row_that_fails_costs_no_other),
        cmocka_unit_test(test_a_kind_that_fails_twice_is_not_tried_again),
        cmocka_unit_test(test_a_failure_outside_of_rows_ends_all),
        cmocka_unit_test(test_a_failure_behind_a_failed_row_does_not_hide_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
