/* cluster/columns.h - rows of words, aligned when all of them are known.
 *
 *     struct columns columns = {.n = 3, .right = 1 << 1};
 *     columns_add(&columns, "holder"); columns_add(&columns, "pages"); columns_add(&columns, "fill");
 *     columns_addf(&columns, "%s", name); ...
 *     columns_print(&columns, stdout);       and forgets them
 *
 * For what people read (sys/table.h has measured numbers, for programs too). */
#ifndef LONGSPAN_CLUSTER_COLUMNS_H
#define LONGSPAN_CLUSTER_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Zeroed but for n (at most 32) and what is wanted of: `right`, bit i aligns column i to the right;
 * `indent`, blanks before each line; `blank`, an empty cell stays empty. */
struct columns {
    uint32_t n, right, indent;
    bool blank;
    char **cells;
    size_t n_cells, capacity;
    bool failed; /* no memory for a cell */
};

/* The next cell, from left to right, row after row; the first row is the heading. "" becomes "-",
 * unless `blank`. */
void columns_add(struct columns *columns, const char *text);
void columns_addf(struct columns *columns, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A whole row, `n` words: the heading. */
void columns_heading(struct columns *columns, const char *const *names);

/* Two blanks between columns, none at the end of a line; then empty again. Without memory: a line
 * that says so. Control characters, which peers' names may have, become "?". */
void columns_print(struct columns *columns, FILE *out);

#endif
