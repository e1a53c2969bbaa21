/* bench/measure/program.h - what every measuring program begins and ends with: the same options,
 * the machine, lanes, a table, files.
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct program program;
 *         int exit_code;
 *         if (!program_open(&program, &usage, own_options, columns, argc, argv, &exit_code))
 *             return exit_code;
 *         ... program.pool, program.table, program.runs ...
 *         return program_close(&program, status, &error);
 *     }
 *
 * Every program has --lanes, --runs, --kernels, --csv, --json and --help; `own_options` (NULL:
 * none) come before them. Standard output gets the machine as "# ..." and the table. */
#ifndef LONGSPAN_BENCH_MEASURE_PROGRAM_H
#define LONGSPAN_BENCH_MEASURE_PROGRAM_H

#include "bench/measure/timing.h"
#include "kernels/cpu/limits.h"
#include "sys/options.h"
#include "sys/status.h"
#include "sys/table.h"
#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stdint.h>

struct program {
    const char *name; /* the usage's command */
    uint32_t lanes, runs;
    const char *kernels;                    /* "auto" or a variant that this machine can run */
    const struct kernels *table_of_kernels; /* that variant */
    const char *csv, *json;
    enum options_form help;
    struct thread_pool *pool; /* of `lanes` lanes */
    struct table *table;
};

/* False: the program ends now, with *exit_code: --help was asked for, or a command line that is
 * wrong (said on standard error). `columns` as for table_create. */
bool program_open(struct program *program, const struct option_usage *usage,
                  const struct option *own_options, const struct table_column *columns, int argc,
                  char **argv, int *exit_code);

/* Writes --csv and --json when `status` is STATUS_OK; otherwise says error->text. The exit code. */
int program_close(struct program *program, enum status status, const struct error *error);

/* Whether a list "a,b,c" has the name; NULL has every name. */
bool program_names(const char *list, const char *name);

#endif
