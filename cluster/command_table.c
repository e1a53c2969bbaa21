/* command_table.c - see command_table.h. */
#include "cluster/command_table.h"

#include "sys/log.h"
#include "sys/options.h"

#include <string.h>

const struct command_entry *command_table_find(const struct command_entry *table, const char *name)
{
    for (; table->name != NULL; table++)
        if (strcmp(name, table->name) == 0)
            return table;
    return NULL;
}

void command_table_print(FILE *out, const struct command_entry *table, int columns)
{
    for (; table->name != NULL; table++)
        fprintf(out, "  %-*s%s\n", columns, table->name, table->about);
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
