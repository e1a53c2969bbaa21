/* safetensors.c - the JSON gives up one tensor after the other; what they say of the data is
 * checked once they are sorted by where they lie. */
#include "model/huggingface/safetensors.h"

#include "model/mapping.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, HASH_PER_TENSOR = 4096 };

struct safetensors {
    char *path;
    struct mapping map;
    uint64_t data_offset;
    struct model_tensor *tensors; /* [n]; names are owned */
    size_t n;
};

/* ---- one tensor ------------------------------------------------------------------------------ */

static enum status read_type(const struct safetensors *file, struct model_tensor *tensor,
                             const json_t *entry, struct error *error)
{
    static const enum gguf_type types[] = {GGUF_TYPE_F32, GGUF_TYPE_F16, GGUF_TYPE_BF16,
                                           GGUF_TYPE_F64, GGUF_TYPE_I8,  GGUF_TYPE_I16,
                                           GGUF_TYPE_I32, GGUF_TYPE_I64};
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (name == NULL)
        return error_set(error, STATUS_INVALID, "%s: corrupt: tensor %s has no dtype", file->path,
                         tensor->name);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(name, gguf_type_traits(types[i])->name) == 0) {
            tensor->type = types[i];
            return STATUS_OK;
        }
    return error_set(error, STATUS_UNSUPPORTED,
                     "%s: tensor %s has type %.32s, which is not supported; supported: F32, F16, "
                     "BF16",
                     file->path, tensor->name, name);
}

static enum status read_shape(const struct safetensors *file, struct model_tensor *tensor,
                              const json_t *entry, struct error *error)
{
    const json_t *shape = json_object_get(entry, "shape");
    const size_t n = json_array_size(shape);
    if (!json_is_array(shape))
        return error_set(error, STATUS_INVALID, "%s: corrupt: tensor %s has no shape", file->path,
                         tensor->name);
    if (n > GGUF_MAX_DIMS)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: tensor %s has %zu dimensions; at most %d are supported", file->path,
                         tensor->name, n, GGUF_MAX_DIMS);
    tensor->n_dims = n == 0 ? 1 : (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(shape, n - 1 - i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return error_set(error, STATUS_INVALID,
                             "%s: corrupt: the shape of tensor %s is not made of counts",
                             file->path, tensor->name);
        tensor->dims[i] = (uint64_t)json_integer_value(dim);
    }
    struct error why = {0};
    const enum status status =
        gguf_tensor_bytes(&tensor->n_bytes, tensor->type, tensor->n_dims, tensor->dims, &why);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: tensor %s: %s", file->path, tensor->name, why.text);
    return STATUS_OK;
}

static enum status read_place(const struct safetensors *file, struct model_tensor *tensor,
                              const json_t *entry, struct error *error)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    const uint64_t n_data = file->map.n_bytes - file->data_offset;
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
        return error_set(error, STATUS_INVALID, "%s: corrupt: tensor %s has no data_offsets",
                         file->path, tensor->name);
    const uint64_t begin = (uint64_t)json_integer_value(first);
    const uint64_t end = (uint64_t)json_integer_value(last);
    if (end > n_data)
        return error_set(error, STATUS_INVALID,
                         "%s: truncated or corrupt: tensor %s ends at byte %llu of the data, of "
                         "which there are %llu",
                         file->path, tensor->name, (unsigned long long)end,
                         (unsigned long long)n_data);
    if (end - begin != tensor->n_bytes)
        return error_set(error, STATUS_INVALID,
                         "%s: corrupt: tensor %s has %llu bytes; its shape asks for %llu",
                         file->path, tensor->name, (unsigned long long)(end - begin),
                         (unsigned long long)tensor->n_bytes);
    tensor->offset = file->data_offset + begin;
    tensor->data = file->map.data + tensor->offset;
    return STATUS_OK;
}

static enum status read_tensor(struct safetensors *file, const char *name, const json_t *entry,
                               struct error *error)
{
    const size_t n = strlen(name);
    if (n == 0 || n > SAFETENSORS_MOST_NAME_BYTES)
        return error_set(error, STATUS_INVALID,
                         "%s: corrupt: the name of a tensor has %zu bytes; 1 to %d are possible",
                         file->path, n, SAFETENSORS_MOST_NAME_BYTES);
    struct model_tensor *tensor = &file->tensors[file->n];
    *tensor = (struct model_tensor){.name = strdup(name), .dims = {1, 1, 1, 1}};
    if (tensor->name == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", file->path);
    file->n++;
    enum status status = read_type(file, tensor, entry, error);
    if (status == STATUS_OK)
        status = read_shape(file, tensor, entry, error);
    return status == STATUS_OK ? read_place(file, tensor, entry, error) : status;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const uint64_t x = ((const struct model_tensor *)a)->offset;
    const uint64_t y = ((const struct model_tensor *)b)->offset;
    return x < y ? -1 : x > y;
}

static enum status check_data(struct safetensors *file, struct error *error)
{
    uint64_t at = file->data_offset;
    const char *before = "the beginning of the data";
    qsort(file->tensors, file->n, sizeof(*file->tensors), by_offset);
    for (size_t i = 0; i < file->n; i++) {
        const struct model_tensor *tensor = &file->tensors[i];
        if (tensor->offset != at)
            return error_set(error, STATUS_INVALID, "%s: corrupt: tensor %s %s %s", file->path,
                             tensor->name,
                             tensor->offset < at ? "overlaps with" : "does not begin where data of",
                             tensor->offset < at ? before : "the one before it ends");
        at += tensor->n_bytes;
        before = tensor->name;
    }
    if (at != file->map.n_bytes)
        return error_set(error, STATUS_INVALID,
                         "%s: corrupt: %llu bytes at the end belong to no tensor", file->path,
                         (unsigned long long)(file->map.n_bytes - at));
    return STATUS_OK;
}

static enum status read_entries(struct safetensors *file, json_t *header, struct error *error)
{
    enum status status = STATUS_OK;
    const char *name;
    json_t *entry;
    if (!json_is_object(header))
        return error_set(error, STATUS_INVALID, "%s: corrupt: its JSON is no object", file->path);
    file->tensors = calloc(json_object_size(header) + 1, sizeof(*file->tensors));
    if (file->tensors == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", file->path);
    json_object_foreach(header, name,
                        entry) if (status == STATUS_OK && strcmp(name, "__metadata__") != 0)
        status = read_tensor(file, name, entry, error);
    return status == STATUS_OK ? check_data(file, error) : status;
}

static enum status read_header(struct safetensors *file, struct error *error)
{
    const uint64_t n_left = file->map.n_bytes - LENGTH_BYTES;
    uint64_t n_json;
    json_error_t why;
    if (file->map.n_bytes < LENGTH_BYTES)
        return error_set(error, STATUS_INVALID, "%s: not a safetensors file: it has %llu bytes",
                         file->path, (unsigned long long)file->map.n_bytes);
    memcpy(&n_json, file->map.data, sizeof(n_json));
    if (n_json > n_left || n_json > SAFETENSORS_MOST_JSON_BYTES)
        return error_set(error, STATUS_INVALID,
                         "%s: not a safetensors file, or truncated: a header of %llu bytes in a "
                         "file of %llu; at most %d are possible",
                         file->path, (unsigned long long)n_json,
                         (unsigned long long)file->map.n_bytes, SAFETENSORS_MOST_JSON_BYTES);
    file->data_offset = LENGTH_BYTES + n_json;
    json_t *header = json_loadb((const char *)file->map.data + LENGTH_BYTES, n_json,
                                JSON_REJECT_DUPLICATES, &why);
    const enum status status =
        header != NULL ? read_entries(file, header, error)
                       : error_set(error, STATUS_INVALID, "%s: corrupt: its JSON, byte %d: %s",
                                   file->path, why.position, why.text);
    json_decref(header);
    return status;
}

enum status safetensors_open(struct safetensors **file, const char *path, struct error *error)
{
    struct safetensors *f = calloc(1, sizeof(*f));
    if (f == NULL || (f->path = strdup(path)) == NULL) {
        safetensors_close(f);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", path);
    }
    enum status status = mapping_open(&f->map, path, error);
    if (status == STATUS_OK)
        status = read_header(f, error);
    if (status != STATUS_OK) {
        safetensors_close(f);
        return status;
    }
    *file = f;
    return STATUS_OK;
}

void safetensors_close(struct safetensors *file)
{
    if (file == NULL)
        return;
    for (size_t i = 0; i < file->n; i++)
        free((char *)file->tensors[i].name);
    free(file->tensors);
    mapping_close(&file->map);
    free(file->path);
    free(file);
}

const char *safetensors_path(const struct safetensors *file)
{
    return file->path;
}

uint64_t safetensors_bytes(const struct safetensors *file)
{
    return file->map.n_bytes;
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->n;
}

const struct model_tensor *safetensors_at(const struct safetensors *file, size_t index)
{
    return &file->tensors[index];
}

void safetensors_hash(const struct safetensors *file, struct sha256 *hash)
{
    sha256_update(hash, &file->map.n_bytes, sizeof(file->map.n_bytes));
    sha256_update(hash, file->map.data, file->data_offset);
    for (size_t i = 0; i < file->n; i++) {
        const uint64_t n = file->tensors[i].n_bytes;
        sha256_update(hash, file->tensors[i].data, n < HASH_PER_TENSOR ? n : HASH_PER_TENSOR);
    }
}
