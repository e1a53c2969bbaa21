/* split_model.c - where each part begins is decided first, since every part's name and keys say how
 * many there are. */
#include "cluster/split_model.h"

#include "cluster/copy_tensor.h"
#include "model/gguf_split.h"
#include "sys/clock.h"

#include <stdlib.h>
#include <unistd.h>

struct splitter {
    const struct model_file *file;
    const char *prefix;
    size_t *begins; /* [n_parts + 1], indices of tensors */
    size_t n_parts;
    struct write_progress progress;
};

static enum status plan(struct splitter *s, uint64_t max_bytes, struct error *error)
{
    const size_t n = model_tensor_count(s->file);
    uint64_t bytes = 0;
    if (n == 0)
        return error_set(error, STATUS_INVALID, "%s: no tensors, nothing to split",
                         model_path(s->file));
    if ((s->begins = malloc((n + 1) * sizeof(*s->begins))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a list of %zu tensors", n);
    s->begins[s->n_parts++] = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t more = model_tensor_at(s->file, i)->n_bytes;
        s->progress.n_all += more;
        if (bytes > 0 && (bytes > max_bytes || more > max_bytes - bytes)) {
            s->begins[s->n_parts++] = i;
            bytes = 0;
        }
        bytes += more;
    }
    s->begins[s->n_parts] = n;
    if (s->n_parts > GGUF_SPLIT_MOST)
        return error_set(error, STATUS_INVALID,
                         "%s: %zu parts of at most %llu bytes; at most %d parts are possible",
                         model_path(s->file), s->n_parts, (unsigned long long)max_bytes,
                         GGUF_SPLIT_MOST);
    return STATUS_OK;
}

/* A writer's first failure sticks, and its data and finish report it. */
static void add_keys(const struct splitter *s, struct gguf_writer *writer, size_t part)
{
    for (size_t i = 0; part == 0 && i < model_key_count(s->file); i++)
        if (!gguf_writer_is_own_key(model_key_at(s->file, i)->name))
            gguf_writer_copy_key(writer, model_key_at(s->file, i), NULL);
    gguf_writer_add_u16(writer, "split.no", (uint16_t)part, NULL);
    gguf_writer_add_u16(writer, "split.count", (uint16_t)s->n_parts, NULL);
    gguf_writer_add_i32(writer, "split.tensors.count", (int32_t)model_tensor_count(s->file), NULL);
    for (size_t i = s->begins[part]; i < s->begins[part + 1]; i++) {
        const struct model_tensor *tensor = model_tensor_at(s->file, i);
        gguf_writer_declare(writer, tensor->name, tensor->type, tensor->n_dims, tensor->dims, NULL);
    }
}

static enum status write_part(struct splitter *s, size_t part, const char *path,
                              struct error *error)
{
    struct gguf_writer *writer = NULL;
    enum status status = gguf_writer_create(&writer, path, error);
    if (status != STATUS_OK)
        return status;
    add_keys(s, writer, part);
    for (size_t i = s->begins[part]; status == STATUS_OK && i < s->begins[part + 1]; i++)
        status = copy_tensor(writer, s->file, model_tensor_at(s->file, i), &s->progress, error);
    if (status != STATUS_OK) {
        gguf_writer_destroy(writer);
        return status;
    }
    return gguf_writer_finish(writer, error);
}

static enum status write_parts(struct splitter *s, struct error *error)
{
    enum status status = STATUS_OK;
    size_t n_written = 0;
    for (; status == STATUS_OK && n_written < s->n_parts; n_written += status == STATUS_OK) {
        char *path = gguf_split_path(s->prefix, n_written, s->n_parts);
        status = path == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for a path")
                              : write_part(s, n_written, path, error);
        free(path);
    }
    for (size_t i = 0; status != STATUS_OK && i < n_written; i++) {
        char *path = gguf_split_path(s->prefix, i, s->n_parts);
        if (path != NULL)
            unlink(path);
        free(path);
    }
    return status;
}

enum status split_model(const char *source, const char *prefix,
                        const struct split_model_options *options, size_t *n_parts,
                        struct error *error)
{
    struct model_file *file = NULL;
    struct splitter s = {.prefix = prefix,
                         .progress = {.out = options->progress, .began_us = clock_us()}};
    enum status status = model_open(&file, source, error);
    s.file = file;
    if (status == STATUS_OK)
        status = plan(&s, options->max_bytes, error);
    if (status == STATUS_OK)
        status = write_parts(&s, error);
    write_progress_clear(&s.progress);
    if (status == STATUS_OK)
        *n_parts = s.n_parts;
    free(s.begins);
    model_close(file);
    return status;
}
