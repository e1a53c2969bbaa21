/* trace_table.c - spans of a thread come in the order in which they ended: those inside a span
 * before it. A stack of the last ones, which are not inside anything yet, tells own time. */
#include "cluster/trace_table.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_NAMES = 64,
    NAME_BYTES = 32,
    PROCESS_BYTES = 64,
    MOST_OPEN = 256,  /* more neighbours cannot be inside one span: the oldest is forgotten */
    LEAST_SHARE = 200 /* a name that takes less than this part of a step is not shown */
};

struct name {
    char text[NAME_BYTES];
    uint64_t n;
    double own_us;
};

struct process {
    char name[PROCESS_BYTES];
    struct name names[MOST_NAMES];
    uint32_t n_names;
    uint64_t n_steps, last_step;
    double covered_us; /* by outermost spans */
    double wall_us;    /* from step to step */
    double end_us;     /* of the latest decode span */
};

struct open_span {
    double begin_us, duration_us;
};

struct trace_table {
    struct process *processes;
    uint32_t n_processes;
    struct open_span open[MOST_OPEN];
    uint32_t n_open;
};

enum status trace_table_create(struct trace_table **table, struct error *error)
{
    *table = calloc(1, sizeof(**table));
    return *table != NULL ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "trace: no memory");
}

void trace_table_destroy(struct trace_table *table)
{
    if (table == NULL)
        return;
    free(table->processes);
    free(table);
}

static enum status add_process(struct trace_table *table, const char *line, struct error *error)
{
    struct process *grown =
        realloc(table->processes, (table->n_processes + 1) * sizeof(*table->processes));
    if (grown == NULL)
        return error_set(error, STATUS_NO_MEMORY, "trace: no memory for another process");
    table->processes = grown;
    struct process *process = &grown[table->n_processes++];
    memset(process, 0, sizeof(*process));
    const char *name = strstr(line, "\"args\":{\"name\":\"");
    if (name != NULL)
        sscanf(name, "\"args\":{\"name\":\"%63[^\"]", process->name);
    table->n_open = 0;
    return STATUS_OK;
}

static struct name *find_name(struct process *process, const char *text)
{
    for (uint32_t i = 0; i < process->n_names; i++)
        if (strcmp(process->names[i].text, text) == 0)
            return &process->names[i];
    if (process->n_names == MOST_NAMES) {
        snprintf(process->names[MOST_NAMES - 1].text, NAME_BYTES, "others");
        return &process->names[MOST_NAMES - 1];
    }
    struct name *name = &process->names[process->n_names++];
    snprintf(name->text, sizeof(name->text), "%s", text);
    return name;
}

/* Takes the spans that lie inside this one from the stack, and puts it there. Returns its own time.
 */
static double nest(struct trace_table *table, struct process *process, double begin_us,
                   double duration_us)
{
    double own = duration_us;
    while (table->n_open > 0 && table->open[table->n_open - 1].begin_us >= begin_us) {
        const double inner = table->open[--table->n_open].duration_us;
        own -= inner;
        process->covered_us -= inner;
    }
    process->covered_us += duration_us;
    if (table->n_open == MOST_OPEN) {
        memmove(table->open, table->open + MOST_OPEN / 2, MOST_OPEN / 2 * sizeof(*table->open));
        table->n_open = MOST_OPEN / 2;
    }
    table->open[table->n_open++] = (struct open_span){begin_us, duration_us};
    return own;
}

enum status trace_table_add(struct trace_table *table, const char *line, struct error *error)
{
    char text[NAME_BYTES], category[16];
    double begin_us, duration_us;
    uint32_t tid;
    uint64_t step;
    if (strstr(line, "\"name\":\"process_name\"") != NULL)
        return add_process(table, line, error);
    if (strstr(line, "\"ph\":\"X\"") == NULL)
        return STATUS_OK;
    if (table->n_processes == 0 ||
        sscanf(line,
               "{\"pid\":%*d,\"tid\":%u,\"ph\":\"X\",\"name\":\"%31[^\"]\",\"cat\":\"%15[^\"]\","
               "\"ts\":%lf,\"dur\":%lf,\"args\":{\"step\":%" SCNu64,
               &tid, text, category, &begin_us, &duration_us, &step) != 6)
        return error_set(error, STATUS_INVALID, "trace: this is no span: %.200s", line);
    if (tid != 0 || strcmp(category, "decode") != 0)
        return STATUS_OK;
    struct process *process = &table->processes[table->n_processes - 1];
    struct name *name = find_name(process, text);
    name->own_us += nest(table, process, begin_us, duration_us);
    name->n++;
    const double end_us = begin_us + duration_us;
    /* Between the steps of two requests lies time that is nobody's. */
    const bool next = step == process->last_step || step == process->last_step + 1;
    process->wall_us += next && process->n_steps > 0 ? end_us - process->end_us : duration_us;
    process->end_us = end_us;
    process->n_steps += step != process->last_step;
    process->last_step = step;
    return STATUS_OK;
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const struct name *)a)->own_us, y = ((const struct name *)b)->own_us;
    return (x < y) - (x > y);
}

static void print_line(FILE *out, const char *text, double us, double wall_us, double times)
{
    fprintf(out, "  %-20s %10.1f us %5.1f %%", text, us, wall_us > 0 ? 100 * us / wall_us : 0);
    if (times > 0)
        fprintf(out, "  %6.1f times", times);
    fputc('\n', out);
}

static void print_process(FILE *out, struct process *process)
{
    const double n = (double)process->n_steps, wall_us = process->wall_us / n;
    double others_us = 0;
    qsort(process->names, process->n_names, sizeof(process->names[0]), by_time);
    fprintf(out, "%s: %" PRIu64 " decode steps, %.1f us each\n", process->name, process->n_steps,
            wall_us);
    for (uint32_t i = 0; i < process->n_names; i++) {
        const double us = process->names[i].own_us / n;
        if (us * LEAST_SHARE < wall_us)
            others_us += us;
        else
            print_line(out, process->names[i].text, us, wall_us, (double)process->names[i].n / n);
    }
    print_line(out, "others", others_us, wall_us, 0);
    print_line(out, "between spans", wall_us - process->covered_us / n, wall_us, 0);
}

void trace_table_print(FILE *out, struct trace_table *table)
{
    for (uint32_t i = 0; i < table->n_processes; i++)
        if (table->processes[i].n_steps > 0) {
            fputc('\n', out);
            print_process(out, &table->processes[i]);
        }
}
