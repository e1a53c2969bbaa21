/* model_file.c - the readers' entries in two lists of our own, with a table of names over each. */
#include "model/model_file.h"

#include "model/expert_stack.h"
#include "model/gguf_split.h"
#include "model/huggingface/hf_directory.h"
#include "model/mapping.h"
#include "model/row_cut.h"
#include "model/string_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct model_file {
    char *path;
    char format[32];
    struct gguf_split split;
    struct hf_directory *directory; /* NULL: the model is in split */
    const struct model_key **keys;  /* borrowed from the readers, as all below */
    size_t n_keys;
    const struct model_tensor **tensors;
    size_t n_tensors;
    struct model_part *parts;
    size_t n_parts;
    struct string_table key_table, tensor_table;
    struct expert_stacks experts;
    struct row_cuts cuts;
};

static enum status no_memory(const char *path, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", path);
}

/* ---- the readers' entries -------------------------------------------------------------------- */

static enum status add_key(struct model_file *file, const struct model_key *key,
                           struct error *error)
{
    const uint32_t index = (uint32_t)file->n_keys;
    if (gguf_split_is_key(key->name))
        return STATUS_OK;
    if (string_table_add(&file->key_table, key->name, strlen(key->name), index) != index)
        return no_memory(file->path, error); /* a reader lets no name come twice */
    file->keys[file->n_keys++] = key;
    return STATUS_OK;
}

/* "ARCH.SUFFIX"; 0: the file does not say it. */
static uint32_t count_of(const struct model_file *file, const char *suffix)
{
    char key[128];
    struct model_string architecture = {"", 0};
    uint32_t count = 0;
    (void)model_get_string(file, "general.architecture", &architecture, NULL);
    const size_t n = architecture.n_bytes < 64 ? architecture.n_bytes : 64;
    snprintf(key, sizeof(key), "%.*s.%s", (int)n, architecture.data, suffix);
    (void)model_get_u32(file, key, &count, NULL);
    return count;
}

/* The lists are complete: experts come together, what was one matrix is several, and every tensor
 * can be found by its name. */
static enum status name_tensors(struct model_file *file, struct error *error)
{
    const uint32_t n_heads = count_of(file, "attention.head_count");
    const uint32_t n_kv_heads = count_of(file, "attention.head_count_kv");
    const struct row_cut_shape shape = {.n_heads = n_heads,
                                        .n_kv_heads = n_kv_heads > 0 ? n_kv_heads : n_heads,
                                        .ffn = count_of(file, "feed_forward_length")};
    enum status status =
        expert_stacks_make(&file->experts, file->tensors, &file->n_tensors, file->path, error);
    if (status == STATUS_OK)
        status =
            row_cuts_make(&file->cuts, &shape, file->tensors, &file->n_tensors, file->path, error);
    for (size_t i = 0; status == STATUS_OK && i < file->n_tensors; i++) {
        const char *name = file->tensors[i]->name;
        const uint32_t owner =
            string_table_add(&file->tensor_table, name, strlen(name), (uint32_t)i);
        if (owner == STRING_TABLE_NONE)
            status = no_memory(file->path, error);
        else if (owner != i)
            status = error_set(error, STATUS_INVALID, "%s: tensor %s is in two of its parts",
                               file->path, name);
    }
    return status;
}

static bool make_lists(struct model_file *file, size_t n_keys, size_t n_tensors, size_t n_parts)
{
    file->keys = malloc((n_keys + 1) * sizeof(*file->keys)); /* + 1: there may be none */
    file->tensors = malloc((ROW_CUT_MOST * n_tensors + 1) * sizeof(*file->tensors));
    file->parts = malloc(n_parts * sizeof(*file->parts));
    return file->keys != NULL && file->tensors != NULL && file->parts != NULL;
}

static enum status open_gguf(struct model_file *file, struct error *error)
{
    enum status status = gguf_split_open(&file->split, file->path, error);
    if (status != STATUS_OK)
        return status;
    const struct gguf_split *split = &file->split;
    const struct gguf *first = split->parts[0];
    size_t n_tensors = 0;
    for (size_t i = 0; i < split->n; i++)
        n_tensors += gguf_tensor_count(split->parts[i]); /* each below 2^32, 2^16 parts */
    if (n_tensors >= STRING_TABLE_NONE ||
        !make_lists(file, gguf_key_count(first), n_tensors, split->n))
        return no_memory(file->path, error);
    for (size_t i = 0; status == STATUS_OK && i < gguf_key_count(first); i++)
        status = add_key(file, gguf_key_at(first, i), error);
    for (size_t i = 0; i < split->n; i++) {
        const struct gguf *part = split->parts[i];
        for (size_t k = 0; k < gguf_tensor_count(part); k++)
            file->tensors[file->n_tensors++] = gguf_tensor_at(part, k);
        file->parts[file->n_parts++] =
            (struct model_part){gguf_path(part), gguf_file_bytes(part), gguf_tensor_count(part)};
    }
    snprintf(file->format, sizeof(file->format), "GGUF %u", gguf_version(first));
    return status == STATUS_OK ? name_tensors(file, error) : status;
}

static enum status open_directory(struct model_file *file, struct error *error)
{
    enum status status = hf_directory_open(&file->directory, file->path, error);
    if (status != STATUS_OK)
        return status;
    const struct hf_directory *d = file->directory;
    if (!make_lists(file, hf_directory_key_count(d), hf_directory_tensor_count(d),
                    hf_directory_part_count(d)))
        return no_memory(file->path, error);
    for (size_t i = 0; status == STATUS_OK && i < hf_directory_key_count(d); i++)
        status = add_key(file, hf_directory_key_at(d, i), error);
    for (size_t i = 0; i < hf_directory_tensor_count(d); i++)
        file->tensors[file->n_tensors++] = hf_directory_tensor_at(d, i);
    for (size_t i = 0; i < hf_directory_part_count(d); i++)
        file->parts[file->n_parts++] = *hf_directory_part_at(d, i);
    snprintf(file->format, sizeof(file->format), "safetensors");
    return status == STATUS_OK ? name_tensors(file, error) : status;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && strcmp(text + n - n_end, end) == 0;
}

/* https://..., or OWNER/NAME as on Hugging Face, where other programs go and fetch it. */
static bool is_name_elsewhere(const char *path)
{
    const char *slash = strchr(path, '/');
    return strstr(path, "://") != NULL ||
           (slash != NULL && slash == strrchr(path, '/') && slash[1] != '\0' &&
            strchr("/.~", path[0]) == NULL && !ends_with(path, ".gguf"));
}

static enum status open_any(struct model_file *file, struct error *error)
{
    struct stat info;
    if (stat(file->path, &info) != 0 && errno == ENOENT && is_name_elsewhere(file->path))
        return error_set(error, STATUS_NOT_FOUND,
                         "%s: no such file or directory; models are not fetched: name one that is "
                         "here",
                         file->path);
    if (ends_with(file->path, ".safetensors") || ends_with(file->path, ".json"))
        return error_set(error, STATUS_INVALID,
                         "%s is a part of a model; give the directory that it is in", file->path);
    return stat(file->path, &info) == 0 && S_ISDIR(info.st_mode) ? open_directory(file, error)
                                                                 : open_gguf(file, error);
}

enum status model_open(struct model_file **file, const char *path, struct error *error)
{
    struct model_file *f = calloc(1, sizeof(*f));
    if (f == NULL || (f->path = strdup(path)) == NULL) {
        model_close(f);
        return no_memory(path, error);
    }
    const enum status status = open_any(f, error);
    if (status != STATUS_OK) {
        model_close(f);
        return status;
    }
    *file = f;
    return STATUS_OK;
}

void model_close(struct model_file *file)
{
    if (file == NULL)
        return;
    string_table_free(&file->key_table);
    string_table_free(&file->tensor_table);
    expert_stacks_free(&file->experts);
    row_cuts_free(&file->cuts);
    free(file->keys);
    free(file->tensors);
    free(file->parts);
    gguf_split_close(&file->split);
    hf_directory_close(file->directory);
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
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->n_parts; i++)
        bytes += file->parts[i].n_bytes;
    return bytes;
}

size_t model_part_count(const struct model_file *file)
{
    return file->n_parts;
}

const struct model_part *model_part_at(const struct model_file *file, size_t index)
{
    return &file->parts[index];
}

const char *model_directory(const struct model_file *file)
{
    return file->directory != NULL ? file->path : NULL;
}

void model_fingerprint(const struct model_file *file, uint8_t fingerprint[MODEL_FINGERPRINT_BYTES])
{
    _Static_assert((int)MODEL_FINGERPRINT_BYTES == (int)GGUF_FINGERPRINT_BYTES &&
                       (int)MODEL_FINGERPRINT_BYTES == (int)HF_FINGERPRINT_BYTES,
                   "one for one");
    if (file->directory != NULL)
        hf_directory_fingerprint(file->directory, fingerprint);
    else
        gguf_split_fingerprint(&file->split, fingerprint);
}

/* ---- metadata ------------------------------------------------------------------------------- */

size_t model_key_count(const struct model_file *file)
{
    return file->n_keys;
}

const struct model_key *model_key_at(const struct model_file *file, size_t index)
{
    return file->keys[index];
}

const struct model_key *model_key_find(const struct model_file *file, const char *name)
{
    const uint32_t index = string_table_find(&file->key_table, name, strlen(name));
    return index == STRING_TABLE_NONE ? NULL : model_key_at(file, index);
}

/* ---- tensors -------------------------------------------------------------------------------- */

size_t model_tensor_count(const struct model_file *file)
{
    return file->n_tensors;
}

const struct model_tensor *model_tensor_at(const struct model_file *file, size_t index)
{
    return file->tensors[index];
}

const struct model_tensor *model_tensor_find(const struct model_file *file, const char *name)
{
    const uint32_t index = string_table_find(&file->tensor_table, name, strlen(name));
    return index == STRING_TABLE_NONE ? NULL : model_tensor_at(file, index);
}

const void *model_tensor_expert(const struct model_file *file, const struct model_tensor *tensor,
                                uint64_t expert)
{
    const struct model_tensor *apart = expert_stacks_find(&file->experts, tensor, expert);
    if (apart != NULL)
        return apart->data;
    return (const uint8_t *)tensor->data + expert * (tensor->n_bytes / tensor->dims[2]);
}

void model_tensor_release(const struct model_file *file, const struct model_tensor *tensor)
{
    const uint64_t n = tensor->dims[2], n_bytes = tensor->n_bytes / n;
    for (uint64_t expert = 0; expert < n; expert++)
        mapping_release(model_tensor_expert(file, tensor, expert), n_bytes);
}
