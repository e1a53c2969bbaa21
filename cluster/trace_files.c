/* trace_files.c - line by line: a part is "[", events that end in commas but for the last, "]". */
#include "cluster/trace_files.h"

#include "cluster/trace_table.h"
#include "sys/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };

static enum status add_part(struct trace_files *files, const char *name, struct error *error)
{
    char *part = NULL;
    if (asprintf(&part, "%s.%s", files->path, name) < 0)
        return error_set(error, STATUS_NO_MEMORY, "trace: no memory");
    files->parts[files->n_parts++] = part;
    return STATUS_OK;
}

enum status trace_files_expect(struct trace_files *files, const struct layout *layout,
                               struct error *error)
{
    struct trace_files made = {0};
    if (layout->trace[0] == '\0')
        return STATUS_OK;
    made.path = strdup(layout->trace);
    made.parts = calloc(1 + (size_t)layout->n_ranks + layout->n_nodes, sizeof(*made.parts));
    enum status status = made.path != NULL && made.parts != NULL
                             ? add_part(&made, "coordinator", error)
                             : error_set(error, STATUS_NO_MEMORY, "trace: no memory");
    for (uint32_t i = 0; status == STATUS_OK && i < layout->n_ranks; i++) {
        char name[32];
        snprintf(name, sizeof(name), "worker.%u", i);
        status = add_part(&made, name, error);
    }
    for (uint32_t i = 0; status == STATUS_OK && i < layout->n_nodes; i++)
        status = add_part(&made, layout->nodes[i].name, error);
    if (status == STATUS_OK)
        *files = made;
    else
        trace_files_free(&made);
    return status;
}

void trace_files_free(struct trace_files *files)
{
    for (uint32_t i = 0; i < files->n_parts; i++)
        free(files->parts[i]);
    free(files->parts);
    free(files->path);
    *files = (struct trace_files){0};
}

/* What is being joined. */
struct whole {
    FILE *out;
    struct trace_table *table;
    uint32_t n_parts;
    uint64_t n_events;
};

/* The process's number in the file is ours: those of several hosts may be the same. */
static enum status copy_event(struct whole *whole, const char *line, struct error *error)
{
    int after_pid = 0;
    if (sscanf(line, "{\"pid\":%*d%n", &after_pid) != 0 || after_pid == 0)
        return error_set(error, STATUS_INVALID, "trace: this is no event: %.200s", line);
    fprintf(whole->out, "%s{\"pid\":%u%s", whole->n_events == 0 ? "" : ",\n", whole->n_parts + 1,
            line + after_pid);
    whole->n_events++;
    return trace_table_add(whole->table, line, error);
}

static enum status copy_part(struct whole *whole, FILE *in, struct error *error)
{
    char line[LINE_BYTES];
    enum status status = STATUS_OK;
    bool begun = false, ended = false;
    while (status == STATUS_OK && fgets(line, sizeof(line), in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const size_t length = strlen(line);
        if (length > 1 && line[length - 1] == ',')
            line[length - 1] = '\0';
        if (strcmp(line, "[") == 0)
            begun = true;
        else if (strcmp(line, "]") == 0)
            ended = true;
        else if (begun && !ended)
            status = copy_event(whole, line, error);
    }
    if (status == STATUS_OK && !ended)
        return error_set(error, STATUS_INVALID, "trace: it has no end");
    return status;
}

/* *here: it was there to be joined. */
static enum status join_part(struct whole *whole, const char *path, bool *here, struct error *error)
{
    FILE *in = fopen(path, "re");
    *here = in != NULL;
    if (in == NULL)
        return STATUS_OK;
    struct error why;
    const enum status status = copy_part(whole, in, &why);
    fclose(in);
    whole->n_parts++;
    return status == STATUS_OK
               ? status
               : error_set(error, status,
                           "%s: %.600s: is the disk full, or was its process killed?", path,
                           why.text);
}

static enum status join_all(struct whole *whole, const struct trace_files *files,
                            const struct log *log, struct error *error)
{
    enum status status = STATUS_OK;
    fputs("[\n", whole->out);
    for (uint32_t i = 0; i < files->n_parts && status == STATUS_OK; i++) {
        bool here = false;
        status = join_part(whole, files->parts[i], &here, error);
        if (status == STATUS_OK && !here)
            log_warn(log,
                     "%s is not here: it is on the machine of its process, if that has ended "
                     "in order",
                     files->parts[i]);
    }
    fputs("\n]\n", whole->out);
    if (status == STATUS_OK && whole->n_parts == 0)
        status = error_set(error, STATUS_NOT_FOUND, "trace: no process has written its part of %s",
                           files->path);
    return status;
}

enum status trace_files_join(const struct trace_files *files, FILE *table, const struct log *log,
                             struct error *error)
{
    struct whole whole = {.out = fopen(files->path, "we")};
    if (whole.out == NULL)
        return file_not_made(files->path, errno, error);
    enum status status = trace_table_create(&whole.table, error);
    if (status == STATUS_OK)
        status = join_all(&whole, files, log, error);
    const bool failed = ferror(whole.out) != 0;
    const bool unclosed = fclose(whole.out) != 0;
    if (status == STATUS_OK && (failed || unclosed))
        status = error_set(error, STATUS_IO, "trace: %s could not be written: is the disk full?",
                           files->path);
    if (status == STATUS_OK) {
        for (uint32_t i = 0; i < files->n_parts; i++)
            unlink(files->parts[i]);
        if (table != NULL)
            trace_table_print(table, whole.table);
    }
    trace_table_destroy(whole.table);
    return status;
}
