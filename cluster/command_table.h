/* cluster/command_table.h - the words that a program, or one of its commands, is told first. */
#ifndef LONGSPAN_CLUSTER_COMMAND_TABLE_H
#define LONGSPAN_CLUSTER_COMMAND_TABLE_H

#include <stdio.h>

struct command_entry {
    const char *name; /* NULL ends a table */
    const char *about;
    int (*main)(int argc, char **argv);
};

/* NULL: there is none of this name. */
const struct command_entry *command_table_find(const struct command_entry *table, const char *name);

/* A line for each: its name, in so many columns, and what it is about. */
void command_table_print(FILE *out, const struct command_entry *table, int columns);

/* Says on standard error that `program` has no such command, which one may be meant, and that
 * `help` lists them. Returns the exit code. */
int command_table_refuse(const struct command_entry *table, const char *name, const char *program,
                         const char *help);

#endif
