/* weights_set.c - see weights_set.h. */
#include "cluster/weights_set.h"

#include "cluster/weights_cache.h"
#include "model/model_file.h"
#include "sys/clock.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the files of a model -------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strlen(name) < WEIGHTS_SET_NAME_BYTES &&
           strchr(name, '/') == NULL && strpbrk(name, "\n\r") == NULL;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* Once: what is a part may lie among what goes along. */
static enum status add(struct weights_set *set, const char *path, struct error *error)
{
    const char *name = name_of(path);
    struct stat info;
    for (uint32_t i = 0; i < set->n; i++)
        if (strcmp(set->files[i].name, name) == 0)
            return STATUS_OK;
    if (!is_name(name))
        return error_set(
            error, STATUS_UNSUPPORTED,
            "%s: a file of this name is not pushed (no dot in front, at most %d bytes)", path,
            WEIGHTS_SET_NAME_BYTES - 1);
    if (set->n == WEIGHTS_SET_MOST)
        return error_set(error, STATUS_UNSUPPORTED, "%s: more than %d files", path,
                         WEIGHTS_SET_MOST);
    if (stat(path, &info) != 0)
        return error_set(error, STATUS_IO, "%s: %s", path, strerror(errno));
    struct weights_file *files = realloc(set->files, (set->n + 1) * sizeof(*files));
    if (files == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the names of a model's files");
    set->files = files;
    struct weights_file *file = &files[set->n];
    *file = (struct weights_file){.n_bytes = (uint64_t)info.st_size, .path = strdup(path)};
    if (file->path == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the names of a model's files");
    snprintf(file->name, sizeof(file->name), "%s", name);
    set->n_bytes += file->n_bytes;
    set->n++;
    return STATUS_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weights_file *)a)->name, ((const struct weights_file *)b)->name);
}

/* What stands in a model's folder beside its weights: configuration, tokenizer, templates. */
static bool goes_along(const char *name)
{
    static const char *const endings[] = {".json", ".model", ".txt", ".jinja"};
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        const size_t ending = strlen(endings[i]);
        if (length > ending && strcmp(name + length - ending, endings[i]) == 0)
            return name[0] != '.';
    }
    return false;
}

static enum status add_directory(struct weights_set *set, const char *directory,
                                 struct error *error)
{
    DIR *entries = opendir(directory);
    enum status status = STATUS_OK;
    if (entries == NULL)
        return error_set(error, STATUS_IO, "%s: %s", directory, strerror(errno));
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(entries)) != NULL;) {
        char path[FILE_PATH_BYTES];
        struct stat info;
        if (!goes_along(entry->d_name))
            continue;
        const int length = snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        if (length > 0 && (size_t)length < sizeof(path) && stat(path, &info) == 0 &&
            S_ISREG(info.st_mode))
            status = add(set, path, error);
    }
    closedir(entries);
    return status;
}

static enum status add_model(struct weights_set *set, const char *path, struct error *error)
{
    struct model_file *model = NULL;
    enum status status = model_open(&model, path, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; status == STATUS_OK && i < model_part_count(model); i++)
        status = add(set, model_part_at(model, i)->path, error);
    if (status == STATUS_OK && model_directory(model) != NULL)
        status = add_directory(set, model_directory(model), error);
    else if (status == STATUS_OK)
        snprintf(set->open, sizeof(set->open), "%s", name_of(model_path(model)));
    model_close(model);
    return status;
}

static void set_id(struct weights_set *set)
{
    struct sha256 state;
    uint8_t digest[SHA256_BYTES];
    sha256_init(&state);
    for (uint32_t i = 0; i < set->n; i++) {
        const struct weights_file *file = &set->files[i];
        sha256_update(&state, file->hash, strlen(file->hash));
        sha256_update(&state, "  ", 2);
        sha256_update(&state, file->name, strlen(file->name));
        sha256_update(&state, "\n", 1);
    }
    sha256_final(&state, digest);
    if (set->n == 1)
        memcpy(set->id, set->files[0].hash, sizeof(set->id));
    else
        content_hash_text(set->id, digest);
}

static enum status hash_files(struct weights_set *set, FILE *show, struct error *error)
{
    struct write_progress progress = {
        .out = show, .verb = "hashing", .n_all = set->n_bytes, .began_us = clock_us()};
    char folder[FILE_PATH_BYTES], memory[FILE_PATH_BYTES + 64];
    enum status status = STATUS_OK;
    const bool remembers = weights_cache_folder(folder, NULL, "hashes", NULL) == STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < set->n; i++) {
        struct stat info = {0};
        stat(set->files[i].path, &info);
        snprintf(memory, sizeof(memory), "%s/%llx-%llx", folder, (unsigned long long)info.st_dev,
                 (unsigned long long)info.st_ino);
        status = content_hash_file(set->files[i].hash, set->files[i].path,
                                   remembers ? memory : NULL, &progress, error);
    }
    write_progress_clear(&progress);
    return status;
}

enum status weights_set_read(struct weights_set *set, const char *model, FILE *show,
                             struct error *error)
{
    struct weights_set read = {0};
    enum status status = add_model(&read, model, error);
    if (status == STATUS_OK)
        status = hash_files(&read, show, error);
    if (status != STATUS_OK) {
        weights_set_free(&read);
        return status;
    }
    qsort(read.files, read.n, sizeof(*read.files), by_name);
    set_id(&read);
    *set = read;
    return STATUS_OK;
}

void weights_set_free(struct weights_set *set)
{
    for (uint32_t i = 0; i < set->n; i++)
        free(set->files[i].path);
    free(set->files);
    *set = (struct weights_set){0};
}

/* ---- JSON ------------------------------------------------------------------------------------ */

json_t *weights_set_json(const struct weights_set *set)
{
    json_t *files = json_array();
    for (uint32_t i = 0; i < set->n; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "name", set->files[i].name,
                                               "bytes", (json_int_t)set->files[i].n_bytes, "hash",
                                               set->files[i].hash));
    return json_pack("{s:s, s:s, s:o}", "id", set->id, "open", set->open, "files", files);
}

static enum status parse_file(struct weights_set *set, const json_t *json, struct error *error)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *hash = json_string_value(json_object_get(json, "hash"));
    const json_t *bytes = json_object_get(json, "bytes");
    const json_int_t n_bytes = json_integer_value(bytes);
    struct weights_file *file = &set->files[set->n];
    if (name == NULL || !is_name(name) || hash == NULL || !content_hash_is_text(hash) ||
        !json_is_integer(bytes) || n_bytes < 0 || n_bytes > INT64_MAX - (int64_t)set->n_bytes ||
        (set->n > 0 && strcmp(set->files[set->n - 1].name, name) >= 0))
        return error_set(error, STATUS_PROTOCOL, "weights: entry %u is no file of a model", set->n);
    snprintf(file->name, sizeof(file->name), "%s", name);
    snprintf(file->hash, sizeof(file->hash), "%s", hash);
    file->n_bytes = (uint64_t)n_bytes;
    set->n_bytes += file->n_bytes;
    set->n++;
    return STATUS_OK;
}

enum status weights_set_parse(struct weights_set *set, const json_t *json, struct error *error)
{
    const char *id = json_string_value(json_object_get(json, "id"));
    const char *open = json_string_value(json_object_get(json, "open"));
    const json_t *files = json_object_get(json, "files");
    const size_t n = json_array_size(files);
    if (id == NULL || !content_hash_is_text(id) || open == NULL ||
        (open[0] != '\0' && !is_name(open)) || n == 0 || n > WEIGHTS_SET_MOST)
        return error_set(error, STATUS_PROTOCOL, "weights: no list of files");
    struct weights_set parsed = {0};
    parsed.files = calloc(n, sizeof(*parsed.files));
    enum status status = parsed.files != NULL
                             ? STATUS_OK
                             : error_set(error, STATUS_NO_MEMORY, "no memory for %zu names", n);
    for (size_t i = 0; status == STATUS_OK && i < n; i++)
        status = parse_file(&parsed, json_array_get(files, i), error);
    if (status == STATUS_OK) {
        set_id(&parsed);
        if (strcmp(parsed.id, id) != 0)
            status = error_set(error, STATUS_PROTOCOL, "weights: the id is not that of the files");
    }
    if (status == STATUS_OK) {
        snprintf(parsed.open, sizeof(parsed.open), "%s", open);
        *set = parsed;
    } else {
        weights_set_free(&parsed);
    }
    return status;
}
