/* table.c - cells in one growing array, row after row; a text is a copy of its own. */
#include "sys/table.h"

#include "sys/array.h"
#include "sys/file.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cell {
    const char *name; /* of a note; NULL: of the column */
    char *text;       /* NULL: a number */
    double number;
};

struct cells {
    struct cell *items;
    size_t n, capacity;
};

struct table {
    const char *title;
    const struct table_column *columns;
    size_t n_columns;
    FILE *out;
    struct cells notes, rows;
    bool header_printed, failed; /* failed: no memory for a cell */
};

enum status table_create(struct table **table, const char *title,
                         const struct table_column *columns, FILE *out, struct error *error)
{
    struct table *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_set(error, STATUS_NO_MEMORY, "table: no memory");
    t->title = title;
    t->columns = columns;
    while (columns[t->n_columns].name != NULL)
        t->n_columns++;
    assert(t->n_columns > 0);
    t->out = out;
    *table = t;
    return STATUS_OK;
}

static void free_cells(struct cells *cells)
{
    for (size_t i = 0; i < cells->n; i++)
        free(cells->items[i].text);
    free(cells->items);
}

void table_destroy(struct table *table)
{
    if (table == NULL)
        return;
    free_cells(&table->notes);
    free_cells(&table->rows);
    free(table);
}

/* A text of NULL is a number. */
static void add(struct table *table, struct cells *cells, const char *name, const char *text,
                double number)
{
    char *copy = text == NULL ? NULL : strdup(text);
    if (!array_grow(&cells->items, &cells->capacity, cells->n + 1, sizeof(*cells->items)) ||
        (text != NULL && copy == NULL)) {
        table->failed = true;
        free(copy);
        return;
    }
    cells->items[cells->n++] = (struct cell){name, copy, number};
}

/* ---- text ------------------------------------------------------------------------------------ */

static int width_of(const struct table_column *column)
{
    const size_t name = strlen(column->name);
    return (int)(name > column->width ? name : column->width);
}

/* Texts to the left, numbers to the right; two blanks between columns. */
static void print_cell(const struct table *table, size_t index, const char *text, bool left)
{
    const bool last = index + 1 == table->n_columns;
    const int width = left && last ? 0 : width_of(&table->columns[index]);
    fprintf(table->out, left ? "%-*s%s" : "%*s%s", width, text, last ? "\n" : "  ");
}

static void print_header(struct table *table)
{
    if (table->out == NULL || table->header_printed)
        return;
    table->header_printed = true;
    for (size_t i = 0; i < table->n_columns; i++)
        print_cell(table, i, table->columns[i].name, table->columns[i].kind == TABLE_TEXT);
}

void table_note_text(struct table *table, const char *name, const char *value)
{
    add(table, &table->notes, name, value, 0);
    if (table->out != NULL)
        fprintf(table->out, "# %s %s\n", name, value);
}

void table_note_number(struct table *table, const char *name, double value, uint32_t decimals)
{
    add(table, &table->notes, name, NULL, value);
    if (table->out != NULL)
        fprintf(table->out, "# %s %.*f\n", name, (int)decimals, value);
}

static const struct table_column *next_column(struct table *table)
{
    print_header(table);
    return &table->columns[table->rows.n % table->n_columns];
}

static void show(struct table *table, const struct table_column *column, const char *text)
{
    if (table->out == NULL)
        return;
    print_cell(table, (size_t)(column - table->columns), text, column->kind == TABLE_TEXT);
    fflush(table->out);
}

void table_text(struct table *table, const char *value)
{
    const struct table_column *column = next_column(table);
    assert(column->kind == TABLE_TEXT || table->failed); /* then cells are missing */
    add(table, &table->rows, NULL, value, 0);
    show(table, column, value);
}

void table_number(struct table *table, double value)
{
    const struct table_column *column = next_column(table);
    char text[64] = "-";
    assert(column->kind == TABLE_NUMBER || table->failed);
    add(table, &table->rows, NULL, NULL, value);
    if (isfinite(value))
        snprintf(text, sizeof(text), "%.*f", (int)column->decimals, value);
    show(table, column, text);
}

/* ---- CSV (RFC 4180) -------------------------------------------------------------------------- */

static void print_csv_text(FILE *out, const char *text)
{
    if (text[strcspn(text, ",\"\r\n")] == '\0') {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++)
        fprintf(out, *text == '"' ? "\"\"" : "%c", *text);
    fputc('"', out);
}

static void print_csv(const struct table *table, FILE *out)
{
    for (size_t i = 0; i < table->n_columns; i++)
        fprintf(out, "%s%s", i == 0 ? "" : ",", table->columns[i].name);
    for (size_t i = 0; i < table->rows.n; i++) {
        const struct cell *cell = &table->rows.items[i];
        fputs(i % table->n_columns == 0 ? "\n" : ",", out);
        if (cell->text != NULL)
            print_csv_text(out, cell->text);
        else if (isfinite(cell->number))
            fprintf(out, "%.12g", cell->number);
    }
    fputc('\n', out);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void print_json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++)
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            fprintf(out, "\\u%04x", (unsigned)(unsigned char)*text);
        else
            fputc(*text, out);
    fputc('"', out);
}

static void print_json_member(FILE *out, const char *name, const struct cell *cell)
{
    print_json_text(out, name);
    fputs(": ", out);
    if (cell->text != NULL)
        print_json_text(out, cell->text);
    else if (isfinite(cell->number))
        fprintf(out, "%.12g", cell->number);
    else
        fputs("null", out);
}

void table_print_json(const struct table *table, FILE *out)
{
    fputs("{\"title\": ", out);
    print_json_text(out, table->title);
    fputs(",\n \"notes\": {", out);
    for (size_t i = 0; i < table->notes.n; i++) {
        fputs(i == 0 ? "" : ", ", out);
        print_json_member(out, table->notes.items[i].name, &table->notes.items[i]);
    }
    fputs("},\n \"rows\": [", out);
    for (size_t i = 0; i < table->rows.n; i++) {
        const size_t column = i % table->n_columns;
        fputs(column != 0 ? ", " : i == 0 ? "\n  {" : ",\n  {", out);
        print_json_member(out, table->columns[column].name, &table->rows.items[i]);
        fputs(column + 1 == table->n_columns ? "}" : "", out);
    }
    fputs("\n ]}\n", out);
}

/* ---- files ----------------------------------------------------------------------------------- */

static enum status save(const struct table *table, const char *path,
                        void (*print)(const struct table *table, FILE *out), struct error *error)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    enum status status = stream == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        print(table, stream);
    if (stream != NULL && fclose(stream) != 0)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = file_write(path, text, size, 0644, error);
    else
        error_set(error, status, "%s: no memory for the table", path);
    free(text);
    return status;
}

enum status table_save(const struct table *table, const char *csv_path, const char *json_path,
                       struct error *error)
{
    if (table->failed)
        return error_set(error, STATUS_NO_MEMORY, "table: no memory for all rows");
    assert(table->rows.n % table->n_columns == 0);
    enum status status = STATUS_OK;
    if (csv_path != NULL)
        status = save(table, csv_path, print_csv, error);
    if (status == STATUS_OK && json_path != NULL)
        status = save(table, json_path, table_print_json, error);
    return status;
}
