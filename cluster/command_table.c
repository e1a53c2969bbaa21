/* command_table.c - see command_table.h. */
#include "cluster/command_table.h"

#include "sys/log.h"

#include <string.h>

const struct command_entry *command_table_find(const struct command_entry *table, const char *name)
{
    for (; table->name != NULL; table++)
        if (strcmp(name, table->name) == 0)
            return table;
    return NULL;
}

struct option command_table_option(const struct command_entry *command)
{
    return (struct option){.kind = OPTION_COMMAND, .name = command->name, .help = command->about};
}

void command_table_options(struct option_table *options, const struct command_entry *table)
{
    for (; table->name != NULL; table++) {
        const struct option one[] = {command_table_option(table), {.kind = 0}};
        option_table_add(options, one);
    }
}

enum options_form command_table_asks_help(const char *word)
{
    static const char with_form[] = "--help=";
    if (strcmp(word, "help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        return OPTIONS_TEXT;
    return strncmp(word, with_form, sizeof(with_form) - 1) == 0
               ? options_form_find(word + sizeof(with_form) - 1)
               : OPTIONS_NO_HELP;
}

int command_table_refuse(const struct command_entry *table, const char *name, const char *program,
                         const char *help)
{
    enum { MOST = 32 };
    const char *names[MOST + 1] = {NULL};
    for (size_t i = 0; i < MOST && table[i].name != NULL; i++)
        names[i] = table[i].name;
    const char *nearest = options_nearest(names, name);
    struct log log;
    log_open(&log, program, 0);
    if (nearest != NULL)
        log_error(&log, "there is no command '%s'; did you mean '%s'? (%s lists all)", name,
                  nearest, help);
    else
        log_error(&log, "there is no command '%s' (%s lists all)", name, help);
    return status_exit_code(STATUS_INVALID);
}
