/* logits_file.c - one file for rows as they come (deleted at once: it vanishes with us), another in
 * order. */
#include "cluster/logits_file.h"

#include "sys/array.h"
#include "sys/file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct logits_file {
    char path[PATH_BYTES], temporary[PATH_BYTES + 32];
    FILE *rows, *out; /* as they come; in order */
    size_t row_bytes; /* 0: none came yet */
    uint32_t n_prompts;
    uint32_t *owners; /* of row i: its prompt */
    size_t n, capacity;
};

static enum status io_failure(const struct logits_file *file, struct error *error)
{
    return error_set(error, STATUS_IO, "--dump-logits %s: %s", file->path,
                     strerror(errno != 0 ? errno : EIO));
}

enum status logits_file_create(struct logits_file **file, const char *path, uint32_t n_prompts,
                               struct error *error)
{
    struct logits_file *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for --dump-logits");
    made->n_prompts = n_prompts;
    if (strlen(path) >= PATH_BYTES) {
        free(made);
        return error_set(error, STATUS_INVALID, "--dump-logits: the path is too long");
    }
    strcpy(made->path, path);
    struct stat old;
    if (stat(path, &old) == 0 && !S_ISREG(old.st_mode)) {
        free(made);
        return error_set(error, STATUS_INVALID,
                         "--dump-logits %s: it exists and is no file: it would be replaced", path);
    }
    errno = 0;
    snprintf(made->temporary, sizeof(made->temporary), "%s.rows-%d", path, (int)getpid());
    made->rows = fopen(made->temporary, "w+b");
    if (made->rows != NULL)
        unlink(made->temporary);
    snprintf(made->temporary, sizeof(made->temporary), "%s.tmp-%d", path, (int)getpid());
    made->out = made->rows == NULL ? NULL : fopen(made->temporary, "wb");
    if (made->out == NULL) {
        const enum status status = file_not_made(path, errno, error);
        logits_file_destroy(made);
        return status;
    }
    *file = made;
    return STATUS_OK;
}

enum status logits_file_add(struct logits_file *file, uint32_t prompt, const void *row,
                            size_t n_bytes, struct error *error)
{
    if (prompt >= file->n_prompts || n_bytes == 0 || n_bytes % sizeof(float) != 0 ||
        (file->row_bytes != 0 && n_bytes != file->row_bytes))
        return error_set(error, STATUS_PROTOCOL,
                         "the coordinator sent a row of %zu bytes of logits, after rows of %zu",
                         n_bytes, file->row_bytes);
    if (!array_grow(&file->owners, &file->capacity, file->n + 1, sizeof(*file->owners)))
        return error_set(error, STATUS_NO_MEMORY, "no memory for --dump-logits");
    errno = 0;
    if (fwrite(row, 1, n_bytes, file->rows) != n_bytes)
        return io_failure(file, error);
    file->row_bytes = n_bytes;
    file->owners[file->n++] = prompt;
    return STATUS_OK;
}

static bool copy_in_order(struct logits_file *file, char *row)
{
    for (uint32_t prompt = 0; prompt < file->n_prompts; prompt++)
        for (uint64_t i = 0; i < file->n; i++)
            if (file->owners[i] == prompt &&
                (fseeko(file->rows, (off_t)(i * file->row_bytes), SEEK_SET) != 0 ||
                 fread(row, 1, file->row_bytes, file->rows) != file->row_bytes ||
                 fwrite(row, 1, file->row_bytes, file->out) != file->row_bytes))
                return false;
    return true;
}

enum status logits_file_finish(struct logits_file *file, struct error *error)
{
    char *row = malloc(file->row_bytes + 1);
    errno = 0;
    bool good = row != NULL && fflush(file->rows) == 0 && copy_in_order(file, row);
    free(row);
    good = fclose(file->out) == 0 && good;
    file->out = NULL;
    good = good && rename(file->temporary, file->path) == 0;
    const enum status status = good ? STATUS_OK : io_failure(file, error);
    if (!good)
        unlink(file->temporary);
    logits_file_destroy(file);
    return status;
}

void logits_file_destroy(struct logits_file *file)
{
    if (file == NULL)
        return;
    if (file->rows != NULL)
        fclose(file->rows);
    if (file->out != NULL) {
        fclose(file->out);
        unlink(file->temporary);
    }
    free(file->owners);
    free(file);
}
