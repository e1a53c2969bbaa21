/* program.c - see program.h. */
#include "bench/measure/program.h"

#include "kernels/kernels.h"
#include "sys/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPTIONS = 64 };

static enum status parse(struct program *program, const struct option_usage *usage,
                         const struct option *own_options, int argc, char **argv,
                         struct error *error)
{
    static const char *const kernel_names[] = {"auto", "scalar",  "avx2", "avx512",
                                               "neon", "dotprod", NULL};
    const struct option shared[] = {
        {.kind = OPTION_SECTION, .help = "Measuring"},
        {.name = "lanes",
         .kind = OPTION_U32,
         .value = &program->lanes,
         .argument = "N",
         .most = 1024,
         .help = "threads; 0: one for each processor that this process may use",
         .fallback = "0"},
        {.name = "runs",
         .kind = OPTION_U32,
         .value = &program->runs,
         .argument = "N",
         .least = 1,
         .most = TIMING_MAX_RUNS,
         .help = "of each row, after one that is not counted; the median is told",
         .fallback = "5"},
        {.name = "kernels",
         .kind = OPTION_CHOICE,
         .value = &program->kernels,
         .choices = kernel_names,
         .help = "variant of the kernels; auto: the fastest that this processor can run",
         .fallback = "auto"},
        {.name = "csv",
         .kind = OPTION_TEXT,
         .value = &program->csv,
         .argument = "FILE",
         .help = "write the rows as comma-separated values too"},
        {.name = "json",
         .kind = OPTION_TEXT,
         .value = &program->json,
         .argument = "FILE",
         .help = "write rows, limits and machine as JSON too"},
        options_help(&program->help),
        {.kind = 0}};
    struct option table[MOST_OPTIONS];
    size_t n = 0;
    for (; own_options != NULL && own_options[n].kind != 0; n++) {
        if (n + sizeof(shared) / sizeof(shared[0]) >= MOST_OPTIONS)
            abort(); /* our own mistake */
        table[n] = own_options[n];
    }
    memcpy(table + n, shared, sizeof(shared));
    const enum status status = options_parse(table, argc, argv, NULL, error);
    if (status == STATUS_OK && program->help)
        options_print_help(stdout, program->help, usage, table);
    return status;
}

bool program_open(struct program *program, const struct option_usage *usage,
                  const struct option *own_options, const struct table_column *columns, int argc,
                  char **argv, int *exit_code)
{
    struct error error = {0};
    const struct kernels *kernels;
    *program = (struct program){.name = usage->command};
    enum status status = parse(program, usage, own_options, argc, argv, &error);
    if (status == STATUS_OK && program->help) {
        *exit_code = EXIT_SUCCESS;
        return false;
    }
    if (status == STATUS_OK)
        status = kernels_choose(&kernels, program->kernels, &error);
    if (status == STATUS_OK)
        status = thread_pool_create(&program->pool, program->lanes, &error);
    if (status == STATUS_OK)
        status = table_create(&program->table, usage->command, columns, stdout, &error);
    if (status != STATUS_OK) {
        *exit_code = program_close(program, status, &error);
        return false;
    }
    char machine[512];
    machine_describe(machine, sizeof(machine));
    program->kernels = kernels->name;
    program->table_of_kernels = kernels;
    program->lanes = thread_pool_lanes(program->pool);
    table_note_text(program->table, "machine", machine);
    table_note_text(program->table, "kernels", kernels->name);
    table_note_number(program->table, "lanes", program->lanes, 0);
    table_note_number(program->table, "runs", program->runs, 0);
    return true;
}

int program_close(struct program *program, enum status status, const struct error *error)
{
    struct error failure = {0};
    if (status == STATUS_OK) {
        status = table_save(program->table, program->csv, program->json, &failure);
        error = &failure;
    }
    if (status != STATUS_OK)
        fprintf(stderr, "%s: %s\n", program->name, error->text);
    table_destroy(program->table);
    thread_pool_destroy(program->pool);
    return status == STATUS_OK ? EXIT_SUCCESS : status_exit_code(status);
}

bool program_names(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return list == NULL;
}
