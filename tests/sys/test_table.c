/* test_table.c - one table, three forms: what people read, CSV, JSON. */
#include "sys/table.h"

#include "sys/file.h"
#include "tests/cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct table_column columns[] = {
    {.name = "type", .width = 6},
    {.name = "ms", .kind = TABLE_NUMBER, .width = 8, .decimals = 2},
    {.name = "limit", .kind = TABLE_NUMBER},
    {.name = NULL}};

static struct table *make(FILE *out)
{
    struct table *table = NULL;
    assert_int_equal(table_create(&table, "a \"table\"", columns, out, NULL), STATUS_OK);
    table_note_text(table, "machine", "two\nlines");
    table_note_number(table, "read_GB_s", 44.125, 1);
    table_text(table, "Q8_0");
    table_number(table, 1.0 / 3);
    table_number(table, 99);
    table_text(table, "a,\"b\"");
    table_number(table, NAN);
    table_number(table, -1);
    return table;
}

static void check_file(const char *folder, const char *name, const char *expected)
{
    char path[FILE_PATH_BYTES + 16], *data;
    size_t size;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(file_read(path, 1 << 20, &data, &size, NULL), STATUS_OK);
    assert_string_equal(data, expected);
    free(data);
}

static void test_text_is_aligned_and_goes_out_row_by_row(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct table *table = make(out);
    fflush(out);
    assert_string_equal(text, "# machine two\nlines\n"
                              "# read_GB_s 44.1\n"
                              "type          ms  limit\n"
                              "Q8_0        0.33     99\n"
                              "a,\"b\"          -     -1\n");
    table_destroy(table);
    fclose(out);
    free(text);
}

static void test_files_keep_numbers_in_full_and_quote_texts(void **state)
{
    char folder[FILE_PATH_BYTES], csv[FILE_PATH_BYTES + 16], json[FILE_PATH_BYTES + 16];
    assert_int_equal(file_make_temporary(folder, NULL), STATUS_OK);
    snprintf(csv, sizeof(csv), "%s/csv", folder);
    snprintf(json, sizeof(json), "%s/json", folder);
    struct table *table = make(NULL);
    assert_int_equal(table_save(table, csv, json, NULL), STATUS_OK);
    table_destroy(table);
    check_file(folder, "csv", "type,ms,limit\nQ8_0,0.333333333333,99\n\"a,\"\"b\"\"\",,-1\n");
    check_file(folder, "json",
               "{\"title\": \"a \\\"table\\\"\",\n"
               " \"notes\": {\"machine\": \"two\\u000alines\", \"read_GB_s\": 44.125},\n"
               " \"rows\": [\n"
               "  {\"type\": \"Q8_0\", \"ms\": 0.333333333333, \"limit\": 99},\n"
               "  {\"type\": \"a,\\\"b\\\"\", \"ms\": null, \"limit\": -1}\n"
               " ]}\n");
    assert_int_equal(file_remove_temporary(folder), STATUS_OK);
}

static void test_a_file_that_cannot_be_written_is_named(void **state)
{
    struct error error = {0};
    struct table *table = make(NULL);
    assert_int_equal(table_save(table, "/nowhere/x.csv", NULL, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "/nowhere/x.csv"));
    table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_aligned_and_goes_out_row_by_row),
        cmocka_unit_test(test_files_keep_numbers_in_full_and_quote_texts),
        cmocka_unit_test(test_a_file_that_cannot_be_written_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
