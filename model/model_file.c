/* model_file.c - the readers' entries in two lists of our own, with a table of names over each. */
#include "model/model_file.h"

#include "model/gguf.h"
#include "model/string_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct model_file {
    char *path;
    char format[32];
    struct gguf *gguf;
    struct string_table key_table, tensor_table;
};

static enum status no_memory(const char *path, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", path);
}

/* The reader has seen that no name is there twice. */
static enum status index_names(struct model_file *file, struct error *error)
{
    bool room = true;
    for (size_t i = 0; room && i < gguf_key_count(file->gguf); i++) {
        const char *name = gguf_key_at(file->gguf, i)->name;
        room = string_table_add(&file->key_table, name, strlen(name), (uint32_t)i) !=
               STRING_TABLE_NONE;
    }
    for (size_t i = 0; room && i < gguf_tensor_count(file->gguf); i++) {
        const char *name = gguf_tensor_at(file->gguf, i)->name;
        room = string_table_add(&file->tensor_table, name, strlen(name), (uint32_t)i) !=
               STRING_TABLE_NONE;
    }
    return room ? STATUS_OK : no_memory(file->path, error);
}

enum status model_open(struct model_file **file, const char *path, struct error *error)
{
    struct model_file *f = calloc(1, sizeof(*f));
    if (f == NULL || (f->path = strdup(path)) == NULL) {
        model_close(f);
        return no_memory(path, error);
    }
    enum status status = gguf_open(&f->gguf, path, error);
    if (status == STATUS_OK)
        status = index_names(f, error);
    if (status != STATUS_OK) {
        model_close(f);
        return status;
    }
    snprintf(f->format, sizeof(f->format), "GGUF %u", gguf_version(f->gguf));
    *file = f;
    return STATUS_OK;
}

void model_close(struct model_file *file)
{
    if (file == NULL)
        return;
    string_table_free(&file->key_table);
    string_table_free(&file->tensor_table);
    gguf_close(file->gguf);
    free(file->path);
    free(file);
}

const char *model_path(const struct model_file *file)
{
    return file->path;
}

const char *model_format(const struct model_file *file)
{
    return file->format;
}

uint64_t model_bytes(const struct model_file *file)
{
    return gguf_file_bytes(file->gguf);
}

const char *model_directory(const struct model_file *file)
{
    (void)file;
    return NULL;
}

void model_fingerprint(const struct model_file *file, uint8_t fingerprint[MODEL_FINGERPRINT_BYTES])
{
    _Static_assert((int)MODEL_FINGERPRINT_BYTES == (int)GGUF_FINGERPRINT_BYTES, "of one file: its");
    gguf_fingerprint(file->gguf, fingerprint);
}

/* ---- metadata ------------------------------------------------------------------------------- */

size_t model_key_count(const struct model_file *file)
{
    return gguf_key_count(file->gguf);
}

const struct model_key *model_key_at(const struct model_file *file, size_t index)
{
    return gguf_key_at(file->gguf, index);
}

const struct model_key *model_key_find(const struct model_file *file, const char *name)
{
    const uint32_t index = string_table_find(&file->key_table, name, strlen(name));
    return index == STRING_TABLE_NONE ? NULL : model_key_at(file, index);
}

/* ---- tensors -------------------------------------------------------------------------------- */

size_t model_tensor_count(const struct model_file *file)
{
    return gguf_tensor_count(file->gguf);
}

const struct model_tensor *model_tensor_at(const struct model_file *file, size_t index)
{
    return gguf_tensor_at(file->gguf, index);
}

const struct model_tensor *model_tensor_find(const struct model_file *file, const char *name)
{
    const uint32_t index = string_table_find(&file->tensor_table, name, strlen(name));
    return index == STRING_TABLE_NONE ? NULL : model_tensor_at(file, index);
}

const void *model_tensor_expert(const struct model_file *file, const struct model_tensor *tensor,
                                uint64_t expert)
{
    (void)file;
    return (const uint8_t *)tensor->data + expert * (tensor->n_bytes / tensor->dims[2]);
}

void model_tensor_release(const struct model_file *file, const struct model_tensor *tensor)
{
    /* Whole pages, with what neighbours share of them. */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t data = (uintptr_t)tensor->data, begin = data / page * page;
    (void)file;
    madvise((void *)begin, data - begin + tensor->n_bytes, MADV_DONTNEED); /* a wish */
}
