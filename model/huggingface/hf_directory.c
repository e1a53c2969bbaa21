/* hf_directory.c - config.json first, since names are known by it; then files; then their tensors
 * under the names that GGUF files have. */
#include "model/huggingface/hf_directory.h"

#include "model/huggingface/hf_config.h"
#include "model/huggingface/hf_names.h"
#include "model/huggingface/json_file.h"
#include "model/huggingface/safetensors.h"
#include "model/model_name.h"
#include "model/string_table.h"
#include "sys/array.h"
#include "sys/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CONFIG_BYTES = 16 << 20, MOST_TOKENIZER_BYTES = 64 << 20 };

struct hf_directory {
    char *path;
    char *config_text;
    size_t n_config;
    struct hf_config config;
    struct hf_keys keys;
    struct safetensors **files; /* [n_files] */
    size_t n_files, files_capacity;
    struct model_tensor *tensors; /* [n_tensors]; names are owned */
    size_t n_tensors;
    struct model_part *parts; /* [n_parts]; paths are owned */
    size_t n_parts, parts_capacity;
};

static enum status no_memory(const struct hf_directory *d, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", d->path);
}

/* The caller frees it; NULL: no memory. */
static char *path_of(const struct hf_directory *d, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", d->path, name) < 0 ? NULL : path;
}

/* Takes `path`, whatever comes of it. */
static enum status add_part(struct hf_directory *d, char *path, uint64_t n_bytes, size_t n_tensors,
                            struct error *error)
{
    if (path == NULL ||
        !array_grow(&d->parts, &d->parts_capacity, d->n_parts + 1, sizeof(*d->parts))) {
        free(path);
        return no_memory(d, error);
    }
    d->parts[d->n_parts++] = (struct model_part){path, n_bytes, n_tensors};
    return STATUS_OK;
}

/* ---- config.json, chat template -------------------------------------------------------------- */

static enum status read_config(struct hf_directory *d, struct error *error)
{
    json_t *root = NULL;
    char *path = path_of(d, "config.json");
    if (path == NULL)
        return no_memory(d, error);
    enum status status =
        json_file_read(&root, path, MOST_CONFIG_BYTES, &d->config_text, &d->n_config, error);
    if (status == STATUS_OK)
        status = hf_config_read(&d->config, &d->keys, root, path, error);
    else if (status == STATUS_NOT_FOUND)
        error_set(error, status, "%s is missing: no model in this directory", path);
    json_decref(root);
    if (status != STATUS_OK) {
        free(path);
        return status;
    }
    const struct model_string name = model_name(d->path);
    hf_keys_add_string(&d->keys, "general.name", name.data, name.n_bytes);
    return add_part(d, path, d->n_config, 0, error);
}

static void add_template(struct hf_directory *d, const char *key, const json_t *text)
{
    if (json_is_string(text))
        hf_keys_add_string(&d->keys, key, json_string_value(text), json_string_length(text));
}

/* A text, or a list of {"name", "template"}. */
static void add_templates(struct hf_directory *d, const json_t *templates)
{
    static const char *const known[][2] = {{"default", "tokenizer.chat_template"},
                                           {"tool_use", "tokenizer.chat_template.tool_use"}};
    add_template(d, known[0][1], templates);
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < json_array_size(templates); i++) {
            const json_t *entry = json_array_get(templates, i);
            const char *name = json_string_value(json_object_get(entry, "name"));
            if (name != NULL && strcmp(name, known[k][0]) == 0) {
                add_template(d, known[k][1], json_object_get(entry, "template"));
                break;
            }
        }
}

static enum status read_tokenizer_config(struct hf_directory *d, struct error *error)
{
    json_t *root = NULL;
    char *path = path_of(d, "tokenizer_config.json");
    if (path == NULL)
        return no_memory(d, error);
    enum status status = json_file_read(&root, path, MOST_TOKENIZER_BYTES, NULL, NULL, error);
    free(path);
    if (status == STATUS_OK)
        add_templates(d, json_object_get(root, "chat_template"));
    json_decref(root);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status; /* a model without one is fine */
}

static enum status read_chat_template(struct hf_directory *d, struct error *error)
{
    char *text = NULL, *path = path_of(d, "chat_template.jinja");
    size_t n = 0;
    if (path == NULL)
        return no_memory(d, error);
    enum status status = file_read(path, MOST_CONFIG_BYTES, &text, &n, error);
    free(path);
    if (status == STATUS_OK)
        hf_keys_add_string(&d->keys, "tokenizer.chat_template", text, n);
    free(text);
    if (status == STATUS_NOT_FOUND)
        status = read_tokenizer_config(d, error);
    return status == STATUS_OK && d->keys.failed ? no_memory(d, error) : status;
}

/* ---- files of weights ------------------------------------------------------------------------ */

static enum status open_file(struct hf_directory *d, const char *name, struct error *error)
{
    char *path = path_of(d, name);
    if (path == NULL ||
        !array_grow(&d->files, &d->files_capacity, d->n_files + 1, sizeof(*d->files))) {
        free(path);
        return no_memory(d, error);
    }
    const enum status status = safetensors_open(&d->files[d->n_files], path, error);
    if (status != STATUS_OK) {
        free(path);
        return status;
    }
    const struct safetensors *file = d->files[d->n_files++];
    return add_part(d, path, safetensors_bytes(file), safetensors_count(file), error);
}

/* Each file of the map once; `names` gives its index in d->files. */
static enum status open_named(struct hf_directory *d, struct string_table *names,
                              const char *index_path, const char *name, struct error *error)
{
    const size_t n = strlen(name);
    if (string_table_find(names, name, n) != STRING_TABLE_NONE)
        return STATUS_OK;
    if (n == 0 || name[0] == '.' || strchr(name, '/') != NULL)
        return error_set(error, STATUS_INVALID, "%s: '%.64s' is no name of a file beside it",
                         index_path, name);
    const enum status status = open_file(d, name, error);
    if (status != STATUS_OK)
        return status;
    return string_table_add(names, name, n, (uint32_t)(d->n_files - 1)) != STRING_TABLE_NONE
               ? STATUS_OK
               : no_memory(d, error);
}

/* Which file each tensor is in. */
static enum status list_tensors(struct hf_directory *d, struct string_table *places,
                                struct error *error)
{
    for (size_t i = 0; i < d->n_files; i++)
        for (size_t k = 0; k < safetensors_count(d->files[i]); k++) {
            const char *name = safetensors_at(d->files[i], k)->name;
            const uint32_t owner = string_table_add(places, name, strlen(name), (uint32_t)i);
            if (owner == STRING_TABLE_NONE)
                return no_memory(d, error);
            if (owner != i)
                return error_set(error, STATUS_INVALID, "%s: tensor %s is in %s too",
                                 safetensors_path(d->files[i]), name,
                                 safetensors_path(d->files[owner]));
        }
    return STATUS_OK;
}

/* weight_map: { tensor: file }. Every tensor of it is where it says. */
static enum status open_map(struct hf_directory *d, struct string_table *names,
                            struct string_table *places, const char *index_path, const json_t *map,
                            struct error *error)
{
    const char *tensor;
    json_t *file;
    enum status status = STATUS_OK;
    json_object_foreach((json_t *)map, tensor, file)
    {
        if (!json_is_string(file))
            return error_set(error, STATUS_INVALID, "%s: no file for tensor %.64s", index_path,
                             tensor);
        status = open_named(d, names, index_path, json_string_value(file), error);
        if (status != STATUS_OK)
            return status;
    }
    status = list_tensors(d, places, error);
    if (status != STATUS_OK)
        return status;
    json_object_foreach((json_t *)map, tensor, file)
    {
        const char *name = json_string_value(file);
        const uint32_t wanted = string_table_find(names, name, strlen(name));
        if (string_table_find(places, tensor, strlen(tensor)) != wanted)
            return error_set(error, STATUS_INVALID, "%s: tensor %.64s is not in %s", index_path,
                             tensor, name);
    }
    return STATUS_OK;
}

static enum status open_indexed(struct hf_directory *d, const char *index_path, const json_t *index,
                                struct error *error)
{
    struct string_table names = {0}, places = {0};
    const json_t *map = json_object_get(index, "weight_map");
    if (json_object_size(map) == 0)
        return error_set(error, STATUS_INVALID, "%s: no weight_map in it", index_path);
    const enum status status = open_map(d, &names, &places, index_path, map, error);
    string_table_free(&names);
    string_table_free(&places);
    return status;
}

static enum status open_files(struct hf_directory *d, struct error *error)
{
    json_t *index = NULL;
    char *path = path_of(d, "model.safetensors.index.json"), *text = NULL;
    size_t n = 0;
    if (path == NULL)
        return no_memory(d, error);
    enum status status =
        json_file_read(&index, path, SAFETENSORS_MOST_JSON_BYTES, &text, &n, error);
    free(text);
    if (status == STATUS_OK) {
        status = open_indexed(d, path, index, error);
        json_decref(index);
        if (status == STATUS_OK)
            return add_part(d, path, n, 0, error);
    } else if (status == STATUS_NOT_FOUND) {
        status = open_file(d, "model.safetensors", error);
        if (status == STATUS_NOT_FOUND)
            error_set(error, status,
                      "%s: neither model.safetensors nor model.safetensors.index.json is there; "
                      "weights in other files (pytorch_model.bin) have to be saved as safetensors",
                      d->path);
    }
    free(path);
    return status;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static enum status add_tensor(struct hf_directory *d, const struct model_tensor *tensor,
                              const char *path, struct error *error)
{
    char name[HF_NAME_BYTES];
    const enum hf_name_kind kind = hf_name_translate(name, tensor->name, &d->config);
    if (kind == HF_NAME_IGNORED)
        return STATUS_OK;
    if (kind == HF_NAME_UNKNOWN)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: tensor %s is not part of such a model as supported here; leaving it "
                         "out would give wrong answers",
                         path, tensor->name);
    char *copy = strdup(name);
    if (copy == NULL)
        return no_memory(d, error);
    d->tensors[d->n_tensors] = *tensor;
    d->tensors[d->n_tensors++].name = copy;
    return STATUS_OK;
}

/* transformers would begin with random numbers. */
static enum status check_output(const struct hf_directory *d, struct error *error)
{
    for (size_t i = 0; i < d->n_tensors; i++)
        if (strcmp(d->tensors[i].name, "output.weight") == 0)
            return STATUS_OK;
    return d->config.tied
               ? STATUS_OK
               : error_set(error, STATUS_INVALID,
                           "%s: tensor lm_head.weight is missing, and config.json does not say "
                           "tie_word_embeddings",
                           d->path);
}

static enum status read_tensors(struct hf_directory *d, struct error *error)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_files; i++)
        n += safetensors_count(d->files[i]);
    if ((d->tensors = malloc((n + 1) * sizeof(*d->tensors))) == NULL) /* + 1: there may be none */
        return no_memory(d, error);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < d->n_files; i++)
        for (size_t k = 0; k < safetensors_count(d->files[i]) && status == STATUS_OK; k++)
            status =
                add_tensor(d, safetensors_at(d->files[i], k), safetensors_path(d->files[i]), error);
    return status == STATUS_OK ? check_output(d, error) : status;
}

/* ---- the directory --------------------------------------------------------------------------- */

enum status hf_directory_open(struct hf_directory **directory, const char *path,
                              struct error *error)
{
    struct hf_directory *d = calloc(1, sizeof(*d));
    if (d == NULL || (d->path = strdup(path)) == NULL) {
        hf_directory_close(d);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", path);
    }
    enum status status = read_config(d, error);
    if (status == STATUS_OK)
        status = read_chat_template(d, error);
    if (status == STATUS_OK)
        status = open_files(d, error);
    if (status == STATUS_OK)
        status = read_tensors(d, error);
    if (status != STATUS_OK) {
        hf_directory_close(d);
        return status;
    }
    *directory = d;
    return STATUS_OK;
}

void hf_directory_close(struct hf_directory *directory)
{
    struct hf_directory *d = directory;
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->n_tensors; i++)
        free((char *)d->tensors[i].name);
    free(d->tensors);
    for (size_t i = 0; i < d->n_files; i++)
        safetensors_close(d->files[i]);
    for (size_t i = 0; i < d->n_parts; i++)
        free((char *)d->parts[i].path);
    free(d->files);
    free(d->parts);
    hf_keys_free(&d->keys);
    free(d->config_text);
    free(d->path);
    free(d);
}

size_t hf_directory_key_count(const struct hf_directory *directory)
{
    return directory->keys.n;
}

const struct model_key *hf_directory_key_at(const struct hf_directory *directory, size_t index)
{
    return &directory->keys.keys[index];
}

size_t hf_directory_tensor_count(const struct hf_directory *directory)
{
    return directory->n_tensors;
}

const struct model_tensor *hf_directory_tensor_at(const struct hf_directory *directory,
                                                  size_t index)
{
    return &directory->tensors[index];
}

size_t hf_directory_part_count(const struct hf_directory *directory)
{
    return directory->n_parts;
}

const struct model_part *hf_directory_part_at(const struct hf_directory *directory, size_t index)
{
    return &directory->parts[index];
}

void hf_directory_fingerprint(const struct hf_directory *directory,
                              uint8_t fingerprint[HF_FINGERPRINT_BYTES])
{
    struct sha256 hash;
    const uint64_t n = directory->n_config;
    sha256_init(&hash);
    sha256_update(&hash, &n, sizeof(n));
    sha256_update(&hash, directory->config_text, directory->n_config);
    for (size_t i = 0; i < directory->n_files; i++)
        safetensors_hash(directory->files[i], &hash);
    sha256_final(&hash, fingerprint);
}
