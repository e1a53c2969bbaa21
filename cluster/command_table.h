/* cluster/command_table.h - the words that a program, or one of its commands, is told first. */
#ifndef LONGSPAN_CLUSTER_COMMAND_TABLE_H
#define LONGSPAN_CLUSTER_COMMAND_TABLE_H

#include "sys/options.h"

struct command_entry {
    const char *name; /* NULL ends a table */
    const char *about;
    int (*main)(int argc, char **argv);
    const struct command_entry *commands; /* its own, which `main` finds; NULL: none */
};

/* NULL: there is none of this name. */
const struct command_entry *command_table_find(const struct command_entry *table, const char *name);

/* What a table of options says of a command. */
struct option command_table_option(const struct command_entry *command);

/* The same for all; whoever adds them has the room. */
void command_table_options(struct option_table *options, const struct command_entry *table);

/* The form that is asked for by a word in the place of a command: help, -h, --help,
 * --help=FORM. */
enum options_form command_table_asks_help(const char *word);

/* Says on standard error that `program` has no such command, which one may be meant, and that
 * `help` lists them. Returns the exit code. */
int command_table_refuse(const struct command_entry *table, const char *name, const char *program,
                         const char *help);

#endif
