/* sys/table.h - measured numbers in columns: the same rows as aligned text, CSV and JSON.
 *
 *     static const struct table_column columns[] = {
 *         {.name = "type", .width = 6},
 *         {.name = "rows", .width = 5, .kind = TABLE_NUMBER},
 *         {.name = "ms", .width = 9, .kind = TABLE_NUMBER, .decimals = 3},
 *         {.name = NULL}};
 *     table_create(&table, "matmul", columns, stdout, &error);
 *     table_note_number(table, "read_GB_s", 44.1, 1);      before the first row
 *     table_text(table, "Q8_0"); table_number(table, 16); table_number(table, 9.103);
 *     table_save(table, csv_path, json_path, &error);
 *
 * Text goes out row by row, as the cells of a row are complete, so that who waits sees something;
 * CSV and JSON are written at the end. JSON keeps numbers in full, text rounds them:
 *     {"title", "notes": {NAME: VALUE...}, "rows": [{COLUMN: VALUE...}...]}
 * A number that was not measured (NaN) is "-" in text, empty in CSV and null in JSON.
 * Names of columns are identifiers with their unit: "read_GB_s". */
#ifndef LONGSPAN_SYS_TABLE_H
#define LONGSPAN_SYS_TABLE_H

#include "sys/status.h"

#include <stdint.h>
#include <stdio.h>

enum table_kind { TABLE_TEXT, TABLE_NUMBER };

struct table_column {
    const char *name; /* NULL ends the list */
    enum table_kind kind;
    uint32_t width;    /* of the text, at least; the name's length if that is more */
    uint32_t decimals; /* of a number in text */
};

struct table; /* opaque */

/* `title` and the names are borrowed. `out`: where the text goes; NULL: nowhere. The caller ends
 * *table with table_destroy. STATUS_NO_MEMORY. */
enum status table_create(struct table **table, const char *title,
                         const struct table_column *columns, FILE *out, struct error *error);
void table_destroy(struct table *table);

/* A fact about all rows: "# NAME VALUE" in text. */
void table_note_text(struct table *table, const char *name, const char *value);
void table_note_number(struct table *table, const char *name, double value, uint32_t decimals);

/* The next cell; its kind must be its column's. The last one of a row ends the row. */
void table_text(struct table *table, const char *value);
void table_number(struct table *table, double value);

/* Writes what is there; a path that is NULL is left out. Memory that ran out while cells were added
 * is told here: STATUS_NO_MEMORY. STATUS_INVALID, STATUS_IO: as file_write. */
enum status table_save(const struct table *table, const char *csv_path, const char *json_path,
                       struct error *error);

/* The JSON object into an open stream, for a document with several tables. */
void table_print_json(const struct table *table, FILE *out);

#endif
