/* columns.c - see columns.h. */
#include "cluster/columns.h"

#include "sys/array.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_BYTES = 512, MOST_COLUMNS = 32 };

void columns_add(struct columns *columns, const char *text)
{
    char *copy = strdup(text[0] != '\0' || columns->blank ? text : "-");
    if (copy == NULL || !array_grow(&columns->cells, &columns->capacity, columns->n_cells + 1,
                                    sizeof(*columns->cells))) {
        free(copy);
        columns->failed = true;
        return;
    }
    for (char *c = copy; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            *c = '?';
    columns->cells[columns->n_cells++] = copy;
}

void columns_addf(struct columns *columns, const char *format, ...)
{
    char text[CELL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    columns_add(columns, text);
}

void columns_heading(struct columns *columns, const char *const *names)
{
    for (uint32_t i = 0; i < columns->n; i++)
        columns_add(columns, names[i]);
}

/* Characters, not bytes: names may be UTF-8. */
static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void columns_print(struct columns *columns, FILE *out)
{
    size_t widths[MOST_COLUMNS] = {0};
    for (size_t i = 0; i < columns->n_cells; i++) {
        const size_t width = width_of(columns->cells[i]);
        if (width > widths[i % columns->n])
            widths[i % columns->n] = width;
    }
    for (size_t i = 0; i < columns->n_cells && !columns->failed; i++) {
        const size_t column = i % columns->n;
        const size_t pad = widths[column] - width_of(columns->cells[i]);
        const bool right = (columns->right >> column & 1) != 0, last = column + 1 == columns->n;
        if (column == 0)
            fprintf(out, "%*s", (int)columns->indent, "");
        fprintf(out, "%*s%s%*s%s", right ? (int)pad : 0, "", columns->cells[i],
                right || last ? 0 : (int)pad, "", last ? "\n" : "  ");
    }
    if (columns->failed)
        fputs("(no memory for this table)\n", out);
    for (size_t i = 0; i < columns->n_cells; i++)
        free(columns->cells[i]);
    free(columns->cells);
    columns->cells = NULL;
    columns->n_cells = columns->capacity = 0;
    columns->failed = false;
}
