/* gguf_writer.c - keys and tensor descriptions collect in two byte buffers in their final form,
 * which the first data call writes out behind the header; data then streams to the temporary file.
 *
 * The writer checks its input with the reader's rules, so that gguf_open accepts what it wrote. */
#include "model/gguf_writer.h"
#include "model/gguf.h"
#include "model/string_table.h"
#include "sys/array.h"
#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct buffer {
    uint8_t *data;
    size_t n, capacity;
    bool failed; /* no memory; sticks */
};

struct gguf_writer {
    char *path, *temporary;
    FILE *file;
    bool named;           /* the file is at `temporary`; else it has no name yet */
    struct error failure; /* the first one */
    struct buffer keys, tensors;
    uint64_t n_keys, n_tensors;
    uint64_t *tensor_bytes; /* [n_tensors], in order of declaration */
    size_t tensors_capacity;
    uint64_t data_end;   /* where the next declared tensor goes, from the start of the data */
    bool began;          /* header and descriptions are in the file */
    uint64_t at_tensor;  /* whose data comes next */
    uint64_t tensor_got; /* bytes of it that came */
    char **names;        /* of keys and tensors; owned, for the two tables */
    size_t n_names, names_capacity;
    struct string_table key_names, tensor_names;
};

/* Records the first failure and gives it to the caller. */
static enum status fail(struct gguf_writer *writer, struct error *error)
{
    if (error != NULL)
        *error = writer->failure;
    return writer->failure.status;
}

static enum status fail_memory(struct gguf_writer *writer, struct error *error)
{
    error_set(&writer->failure, STATUS_NO_MEMORY, "%s: no memory to write it", writer->path);
    return fail(writer, error);
}

static void put(struct buffer *buffer, const void *data, size_t n)
{
    if (buffer->failed || n == 0)
        return;
    if (n > SIZE_MAX - buffer->n ||
        !array_grow(&buffer->data, &buffer->capacity, buffer->n + n, 1)) {
        buffer->failed = true;
        return;
    }
    memcpy(buffer->data + buffer->n, data, n);
    buffer->n += n;
}

static void put_u32(struct buffer *buffer, uint32_t value)
{
    put(buffer, &value, sizeof(value));
}

static void put_u64(struct buffer *buffer, uint64_t value)
{
    put(buffer, &value, sizeof(value));
}

static void put_string(struct buffer *buffer, const char *data, size_t n_bytes)
{
    put_u64(buffer, n_bytes);
    put(buffer, data, n_bytes);
}

/* A file in the folder of `path` that has no name, so that the system removes it with the process,
 * however that ends; where the file system has no such files (NFS), one with a name. */
static FILE *open_temporary(struct gguf_writer *writer)
{
    const char *slash = strrchr(writer->path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - writer->path) + 1;
    char *folder = n == 0 ? strdup(".") : strndup(writer->path, n);
    if (folder == NULL)
        return NULL;
    const int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    free(folder);
    if (fd < 0) {
        writer->named = true;
        return fopen(writer->temporary, "wbe");
    }
    FILE *file = fdopen(fd, "wb");
    if (file == NULL)
        close(fd);
    return file;
}

/* Under the temporary name, for a moment: only a rename can take another file's place. */
static bool give_name(struct gguf_writer *writer)
{
    char self[40];
    if (writer->named)
        return true;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", fileno(writer->file));
    unlink(writer->temporary); /* of a process with our number that is gone */
    writer->named = linkat(AT_FDCWD, self, AT_FDCWD, writer->temporary, AT_SYMLINK_FOLLOW) == 0;
    return writer->named;
}

enum status gguf_writer_create(struct gguf_writer **writer, const char *path, struct error *error)
{
    struct gguf_writer *w = calloc(1, sizeof(*w));
    if (w == NULL || (w->path = strdup(path)) == NULL ||
        asprintf(&w->temporary, "%s.tmp-%ld", path, (long)getpid()) < 0) {
        if (w != NULL)
            w->temporary = NULL; /* undefined after a failed asprintf */
        gguf_writer_destroy(w);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory to write it", path);
    }
    struct stat old;
    if (stat(path, &old) == 0 && !S_ISREG(old.st_mode)) {
        gguf_writer_destroy(w);
        return error_set(error, STATUS_INVALID,
                         "%s: it exists and is no file: it would be replaced", path);
    }
    w->file = open_temporary(w);
    if (w->file == NULL) {
        const enum status status = file_not_made(path, errno, error);
        gguf_writer_destroy(w);
        return status;
    }
    *writer = w;
    return STATUS_OK;
}

void gguf_writer_destroy(struct gguf_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->file != NULL) {
        fclose(writer->file);
        if (writer->named)
            unlink(writer->temporary);
    }
    for (size_t i = 0; i < writer->n_names; i++)
        free(writer->names[i]);
    free(writer->names);
    string_table_free(&writer->key_names);
    string_table_free(&writer->tensor_names);
    free(writer->keys.data);
    free(writer->tensors.data);
    free(writer->tensor_bytes);
    free(writer->temporary);
    free(writer->path);
    free(writer);
}

/* Checks a new name and remembers it, so that the next one like it is refused. */
static enum status add_name(struct gguf_writer *writer, struct string_table *table,
                            const char *name, size_t max_bytes, const char *what,
                            struct error *error)
{
    const size_t n_bytes = strlen(name);
    if (writer->failure.status != STATUS_OK)
        return fail(writer, error);
    if (writer->began) {
        error_set(&writer->failure, STATUS_INVALID, "%s: %s %s comes after the first data",
                  writer->path, what, name);
        return fail(writer, error);
    }
    if (n_bytes == 0 || n_bytes > max_bytes) {
        error_set(&writer->failure, STATUS_INVALID,
                  "%s: the name of a %s has %zu bytes; 1 to %zu are possible", writer->path, what,
                  n_bytes, max_bytes);
        return fail(writer, error);
    }
    if (!array_grow(&writer->names, &writer->names_capacity, writer->n_names + 1,
                    sizeof(*writer->names)))
        return fail_memory(writer, error);
    char *copy = strdup(name);
    if (copy == NULL)
        return fail_memory(writer, error);
    const uint32_t index = (uint32_t)writer->n_names;
    writer->names[writer->n_names++] = copy;
    const uint32_t owner = string_table_add(table, copy, n_bytes, index);
    if (owner == STRING_TABLE_NONE)
        return fail_memory(writer, error);
    if (owner != index) {
        error_set(&writer->failure, STATUS_INVALID, "%s: %s %s is added twice", writer->path, what,
                  name);
        return fail(writer, error);
    }
    return STATUS_OK;
}

bool gguf_writer_is_own_key(const char *name)
{
    return strcmp(name, "general.alignment") == 0;
}

/* Name and type of a key; the value's bytes follow. */
static enum status begin_key(struct gguf_writer *writer, const char *name,
                             enum gguf_value_type type, struct error *error)
{
    if (writer->failure.status == STATUS_OK && gguf_writer_is_own_key(name)) {
        error_set(&writer->failure, STATUS_INVALID,
                  "%s: key general.alignment cannot be chosen; tensors are aligned to %d bytes",
                  writer->path, GGUF_DEFAULT_ALIGNMENT);
        return fail(writer, error);
    }
    const enum status status =
        add_name(writer, &writer->key_names, name, GGUF_MAX_KEY_BYTES, "key", error);
    if (status != STATUS_OK)
        return status;
    put_string(&writer->keys, name, strlen(name));
    put_u32(&writer->keys, type);
    writer->n_keys++;
    return STATUS_OK;
}

static enum status end_key(struct gguf_writer *writer, struct error *error)
{
    return writer->keys.failed ? fail_memory(writer, error) : STATUS_OK;
}

static enum status add_value(struct gguf_writer *writer, const char *name,
                             enum gguf_value_type type, const void *value, size_t n_bytes,
                             struct error *error)
{
    const enum status status = begin_key(writer, name, type, error);
    if (status != STATUS_OK)
        return status;
    put(&writer->keys, value, n_bytes);
    return end_key(writer, error);
}

enum status gguf_writer_add_u16(struct gguf_writer *writer, const char *name, uint16_t value,
                                struct error *error)
{
    return add_value(writer, name, GGUF_VALUE_U16, &value, sizeof(value), error);
}

enum status gguf_writer_add_u32(struct gguf_writer *writer, const char *name, uint32_t value,
                                struct error *error)
{
    return add_value(writer, name, GGUF_VALUE_U32, &value, sizeof(value), error);
}

enum status gguf_writer_add_i32(struct gguf_writer *writer, const char *name, int32_t value,
                                struct error *error)
{
    return add_value(writer, name, GGUF_VALUE_I32, &value, sizeof(value), error);
}

enum status gguf_writer_add_f32(struct gguf_writer *writer, const char *name, float value,
                                struct error *error)
{
    return add_value(writer, name, GGUF_VALUE_F32, &value, sizeof(value), error);
}

enum status gguf_writer_add_bool(struct gguf_writer *writer, const char *name, bool value,
                                 struct error *error)
{
    const uint8_t byte = value;
    return add_value(writer, name, GGUF_VALUE_BOOL, &byte, sizeof(byte), error);
}

enum status gguf_writer_add_string(struct gguf_writer *writer, const char *name, const char *value,
                                   struct error *error)
{
    const enum status status = begin_key(writer, name, GGUF_VALUE_STRING, error);
    if (status != STATUS_OK)
        return status;
    put_string(&writer->keys, value, strlen(value));
    return end_key(writer, error);
}

enum status gguf_writer_add_strings(struct gguf_writer *writer, const char *name,
                                    const struct model_string *values, size_t n,
                                    struct error *error)
{
    const enum status status = begin_key(writer, name, GGUF_VALUE_ARRAY, error);
    if (status != STATUS_OK)
        return status;
    put_u32(&writer->keys, GGUF_VALUE_STRING);
    put_u64(&writer->keys, n);
    for (size_t i = 0; i < n; i++)
        put_string(&writer->keys, values[i].data, values[i].n_bytes);
    return end_key(writer, error);
}

enum status gguf_writer_add_array(struct gguf_writer *writer, const char *name,
                                  enum gguf_value_type element_type, const void *values, size_t n,
                                  struct error *error)
{
    static const uint8_t element_bytes[GGUF_VALUE_COUNT] = {
        [GGUF_VALUE_U8] = 1,  [GGUF_VALUE_I8] = 1,  [GGUF_VALUE_BOOL] = 1, [GGUF_VALUE_U16] = 2,
        [GGUF_VALUE_I16] = 2, [GGUF_VALUE_U32] = 4, [GGUF_VALUE_I32] = 4,  [GGUF_VALUE_F32] = 4,
        [GGUF_VALUE_U64] = 8, [GGUF_VALUE_I64] = 8, [GGUF_VALUE_F64] = 8};
    const size_t bytes =
        (unsigned)element_type < GGUF_VALUE_COUNT ? element_bytes[element_type] : 0;
    if (writer->failure.status == STATUS_OK && (bytes == 0 || n > SIZE_MAX / bytes)) {
        error_set(&writer->failure, STATUS_INVALID, "%s: key %s: no array of %zu %s", writer->path,
                  name, n, gguf_value_type_name(element_type));
        return fail(writer, error);
    }
    const enum status status = begin_key(writer, name, GGUF_VALUE_ARRAY, error);
    if (status != STATUS_OK)
        return status;
    put_u32(&writer->keys, element_type);
    put_u64(&writer->keys, n);
    put(&writer->keys, values, n * bytes);
    return end_key(writer, error);
}

enum status gguf_writer_copy_key(struct gguf_writer *writer, const struct model_key *key,
                                 struct error *error)
{
    const enum status status = begin_key(writer, key->name, key->type, error);
    if (status != STATUS_OK)
        return status;
    if (key->type == GGUF_VALUE_ARRAY) {
        put_u32(&writer->keys, key->element_type);
        put_u64(&writer->keys, key->n);
    }
    put(&writer->keys, key->data, key->n_bytes);
    return end_key(writer, error);
}

enum status gguf_writer_declare(struct gguf_writer *writer, const char *name, enum gguf_type type,
                                uint32_t n_dims, const uint64_t *dims, struct error *error)
{
    enum status status =
        add_name(writer, &writer->tensor_names, name, GGUF_MAX_NAME_BYTES, "tensor", error);
    if (status != STATUS_OK)
        return status;
    struct error why = {0};
    uint64_t n_bytes;
    status = gguf_tensor_bytes(&n_bytes, type, n_dims, dims, &why);
    const uint64_t limit = (uint64_t)INT64_MAX - GGUF_DEFAULT_ALIGNMENT;
    if (status == STATUS_OK && (n_bytes > limit || writer->data_end > limit - n_bytes))
        status = error_set(&why, STATUS_INVALID, "the file would have more than 2^63 bytes");
    if (status != STATUS_OK) {
        error_set(&writer->failure, status, "%s: tensor %s: %s", writer->path, name, why.text);
        return fail(writer, error);
    }
    if (!array_grow(&writer->tensor_bytes, &writer->tensors_capacity, writer->n_tensors + 1,
                    sizeof(*writer->tensor_bytes)))
        return fail_memory(writer, error);
    writer->tensor_bytes[writer->n_tensors++] = n_bytes;
    put_string(&writer->tensors, name, strlen(name));
    put_u32(&writer->tensors, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(&writer->tensors, dims[i]);
    put_u32(&writer->tensors, type);
    put_u64(&writer->tensors, writer->data_end);
    writer->data_end += n_bytes + (-n_bytes & (GGUF_DEFAULT_ALIGNMENT - 1));
    return writer->tensors.failed ? fail_memory(writer, error) : STATUS_OK;
}

static enum status write_bytes(struct gguf_writer *writer, const void *data, size_t n_bytes,
                               struct error *error)
{
    if (n_bytes > 0 && fwrite(data, 1, n_bytes, writer->file) != n_bytes) {
        error_set(&writer->failure, STATUS_IO, "%s: cannot write %zu bytes: %s", writer->temporary,
                  n_bytes, strerror(errno));
        return fail(writer, error);
    }
    return STATUS_OK;
}

/* Zeros from `n` up to the next multiple of the alignment. */
static enum status write_padding(struct gguf_writer *writer, uint64_t n, struct error *error)
{
    static const uint8_t zeros[GGUF_DEFAULT_ALIGNMENT];
    return write_bytes(writer, zeros, -n & (GGUF_DEFAULT_ALIGNMENT - 1), error);
}

/* Writes all that comes before the data, once. */
static enum status begin_data(struct gguf_writer *writer, struct error *error)
{
    if (writer->failure.status != STATUS_OK)
        return fail(writer, error);
    if (writer->began)
        return STATUS_OK;
    struct buffer header = {0};
    put(&header, "GGUF", 4);
    put_u32(&header, 3);
    put_u64(&header, writer->n_tensors);
    put_u64(&header, writer->n_keys);
    enum status status = header.failed ? fail_memory(writer, error) : STATUS_OK;
    if (status == STATUS_OK)
        status = write_bytes(writer, header.data, header.n, error);
    if (status == STATUS_OK)
        status = write_bytes(writer, writer->keys.data, writer->keys.n, error);
    if (status == STATUS_OK)
        status = write_bytes(writer, writer->tensors.data, writer->tensors.n, error);
    if (status == STATUS_OK && writer->n_tensors > 0)
        status = write_padding(writer, header.n + writer->keys.n + writer->tensors.n, error);
    free(header.data);
    writer->began = true;
    return status;
}

enum status gguf_writer_data(struct gguf_writer *writer, const void *data, size_t n_bytes,
                             struct error *error)
{
    enum status status = begin_data(writer, error);
    if (status != STATUS_OK || n_bytes == 0)
        return status;
    const uint64_t wanted = writer->at_tensor < writer->n_tensors
                                ? writer->tensor_bytes[writer->at_tensor] - writer->tensor_got
                                : 0;
    if (n_bytes > wanted) {
        error_set(&writer->failure, STATUS_INVALID,
                  "%s: %zu bytes of data for tensor %llu of %llu, which lacks %llu", writer->path,
                  n_bytes, (unsigned long long)writer->at_tensor,
                  (unsigned long long)writer->n_tensors, (unsigned long long)wanted);
        return fail(writer, error);
    }
    status = write_bytes(writer, data, n_bytes, error);
    writer->tensor_got += n_bytes;
    if (status == STATUS_OK && n_bytes == wanted) {
        status = write_padding(writer, writer->tensor_got, error);
        writer->at_tensor++;
        writer->tensor_got = 0;
    }
    return status;
}

/* The file is on the disk before the name is, and the name before we say so. */
static enum status publish(struct gguf_writer *writer, struct error *error)
{
    if (fflush(writer->file) != 0 || fsync(fileno(writer->file)) != 0 || !give_name(writer))
        return error_set(error, STATUS_IO, "%s: cannot write: %s", writer->temporary,
                         strerror(errno));
    if (fclose(writer->file) != 0) {
        const int code = errno;
        writer->file = NULL;
        unlink(writer->temporary);
        return error_set(error, STATUS_IO, "%s: cannot write: %s", writer->temporary,
                         strerror(code));
    }
    writer->file = NULL;
    if (rename(writer->temporary, writer->path) != 0) {
        const int code = errno;
        unlink(writer->temporary);
        return error_set(error, STATUS_IO, "%s: cannot rename %s to it: %s", writer->path,
                         writer->temporary, strerror(code));
    }
    return STATUS_OK;
}

enum status gguf_writer_finish(struct gguf_writer *writer, struct error *error)
{
    enum status status = begin_data(writer, error);
    if (status == STATUS_OK && writer->at_tensor < writer->n_tensors)
        status =
            error_set(error, STATUS_INVALID,
                      "%s: tensor %llu of %llu lacks data: %llu of its %llu bytes came",
                      writer->path, (unsigned long long)writer->at_tensor,
                      (unsigned long long)writer->n_tensors, (unsigned long long)writer->tensor_got,
                      (unsigned long long)writer->tensor_bytes[writer->at_tensor]);
    if (status == STATUS_OK)
        status = publish(writer, error);
    gguf_writer_destroy(writer);
    return status;
}
