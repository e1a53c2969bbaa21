/* tokenizer_files.c - one table of files and keys; everything else goes by it. */
#include "model/tokenizer_files.h"

#include "model/huggingface/json_file.h"
#include "model/tokenizer/tokenizer_json.h"
#include "sys/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *file, *key;
    uint64_t max_bytes;
} files[] = {
    [TOKENIZER_FILE_TOKENIZER] = {"tokenizer.json", "tokenizer.huggingface.json",
                                  (uint64_t)256 << 20},
    [TOKENIZER_FILE_CONFIG] = {"tokenizer_config.json", "tokenizer.huggingface.tokenizer_config",
                               (uint64_t)64 << 20},
    [TOKENIZER_FILE_GENERATION] = {"generation_config.json",
                                   "tokenizer.huggingface.generation_config", (uint64_t)16 << 20},
    [TOKENIZER_FILE_MODEL] = {"config.json", "tokenizer.huggingface.config", (uint64_t)16 << 20},
};
enum { N_FILES = sizeof(files) / sizeof(files[0]) };

static enum status path_of(char path[FILE_PATH_BYTES], const char *directory, size_t which,
                           struct error *error)
{
    if (snprintf(path, FILE_PATH_BYTES, "%s/%s", directory, files[which].file) >=
        (int)FILE_PATH_BYTES)
        return error_set(error, STATUS_INVALID, "the path '%.64s...' is too long", directory);
    return STATUS_OK;
}

static enum status read_key(json_t **root, char path[FILE_PATH_BYTES],
                            const struct model_file *file, const char *key, struct error *error)
{
    struct model_string text;
    snprintf(path, FILE_PATH_BYTES, "%s, %s", model_path(file), key);
    const enum status status = model_get_string(file, key, &text, error);
    return status == STATUS_OK ? json_text_read(root, text.data, text.n_bytes, path, error)
                               : status;
}

enum status tokenizer_json_open(json_t **root, char path[FILE_PATH_BYTES],
                                const struct tokenizer_source *source, enum tokenizer_file which,
                                struct error *error)
{
    if (source->directory == NULL)
        return read_key(root, path, source->file, files[which].key, error);
    const enum status status = path_of(path, source->directory, which, error);
    return status == STATUS_OK
               ? json_file_read(root, path, files[which].max_bytes, NULL, NULL, error)
               : status;
}

bool tokenizer_files_in(const struct model_file *file)
{
    return model_key_find(file, "tokenizer.ggml.model") == NULL &&
           model_key_find(file, files[TOKENIZER_FILE_TOKENIZER].key) != NULL;
}

static enum status copy_file(struct gguf_writer *writer, const char *directory, size_t which,
                             struct error *error)
{
    char path[FILE_PATH_BYTES], *text = NULL;
    size_t n = 0;
    enum status status = path_of(path, directory, which, error);
    if (status == STATUS_OK)
        status = file_read(path, files[which].max_bytes, &text, &n, error);
    if (status == STATUS_NOT_FOUND && which != TOKENIZER_FILE_TOKENIZER)
        return STATUS_OK;
    if (status == STATUS_OK && memchr(text, '\0', n) != NULL)
        status = error_set(error, STATUS_INVALID, "%s: no JSON: a zero byte in it", path);
    if (status == STATUS_OK)
        status = gguf_writer_add_string(writer, files[which].key, text, error);
    free(text);
    return status;
}

enum status tokenizer_files_copy(struct gguf_writer *writer, const char *directory,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < N_FILES && status == STATUS_OK; i++)
        status = copy_file(writer, directory, i, error);
    return status;
}
