/* gguf.c - one pass over the header with a cursor that cannot leave the file.
 *
 * Every number from the file is compared with what is left of the file before it is used, by
 * subtraction on the trusted side, so that nothing overflows. Tables grow with what was really
 * read, never with what a count claims. Values of keys: model_key.c. */
#include "model/gguf.h"
#include "model/mapping.h"
#include "model/string_table.h"
#include "sys/array.h"
#include "sys/sha256.h"

#include <stdlib.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF files are little endian and used in place: this needs a little-endian machine"
#endif

#define MAX_ALIGNMENT          (1u << 20)
#define FINGERPRINT_PER_TENSOR 4096

struct gguf {
    char *path;
    struct mapping map;
    uint32_t version, alignment;
    uint64_t data_offset;
    struct model_key *keys;
    size_t n_keys, keys_capacity;
    struct model_tensor *tensors;
    size_t n_tensors, tensors_capacity;
    struct string_table key_table, tensor_table;
};

struct cursor {
    const struct gguf *gguf;
    uint64_t at;
};

static uint64_t left(const struct cursor *cursor)
{
    return cursor->gguf->map.n_bytes - cursor->at;
}

/* NULL: the file ends before `n_bytes` more. */
static const uint8_t *take(struct cursor *cursor, uint64_t n_bytes)
{
    if (n_bytes > left(cursor))
        return NULL;
    const uint8_t *data = cursor->gguf->map.data + cursor->at;
    cursor->at += n_bytes;
    return data;
}

static bool take_u32(struct cursor *cursor, uint32_t *value)
{
    const uint8_t *data = take(cursor, sizeof(*value));
    if (data != NULL)
        memcpy(value, data, sizeof(*value));
    return data != NULL;
}

static bool take_u64(struct cursor *cursor, uint64_t *value)
{
    const uint8_t *data = take(cursor, sizeof(*value));
    if (data != NULL)
        memcpy(value, data, sizeof(*value));
    return data != NULL;
}

static bool take_string(struct cursor *cursor, struct model_string *string)
{
    uint64_t n_bytes;
    if (!take_u64(cursor, &n_bytes))
        return false;
    string->data = (const char *)take(cursor, n_bytes);
    string->n_bytes = n_bytes;
    return string->data != NULL;
}

static enum status truncated(const struct cursor *cursor, const char *what, struct error *error)
{
    return error_set(error, STATUS_INVALID,
                     "%s: truncated or corrupt: %s at byte %llu goes beyond the end, %llu bytes",
                     cursor->gguf->path, what, (unsigned long long)cursor->at,
                     (unsigned long long)cursor->gguf->map.n_bytes);
}

/* A NUL-terminated copy of a name, which must not be empty, too long or contain a NUL. */
static enum status copy_name(const struct gguf *gguf, char **name, struct model_string string,
                             size_t max_bytes, const char *what, uint64_t index,
                             struct error *error)
{
    if (string.n_bytes == 0 || string.n_bytes > max_bytes ||
        memchr(string.data, '\0', string.n_bytes) != NULL)
        return error_set(error, STATUS_INVALID,
                         "%s: corrupt: the name of %s %llu has %zu bytes; 1 to %zu without NUL are "
                         "possible",
                         gguf->path, what, (unsigned long long)index, string.n_bytes, max_bytes);
    char *copy = malloc(string.n_bytes + 1);
    if (copy == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its keys", gguf->path);
    memcpy(copy, string.data, string.n_bytes);
    copy[string.n_bytes] = '\0';
    *name = copy;
    return STATUS_OK;
}

static uint32_t value_bytes(enum gguf_value_type type)
{
    switch (type) {
    case GGUF_VALUE_U8:
    case GGUF_VALUE_I8:
    case GGUF_VALUE_BOOL:
        return 1;
    case GGUF_VALUE_U16:
    case GGUF_VALUE_I16:
        return 2;
    case GGUF_VALUE_U32:
    case GGUF_VALUE_I32:
    case GGUF_VALUE_F32:
        return 4;
    case GGUF_VALUE_U64:
    case GGUF_VALUE_I64:
    case GGUF_VALUE_F64:
        return 8;
    default:
        return 0; /* string, array, unknown: no fixed size */
    }
}

/* The elements of key->element_type, key->n of them. */
static enum status read_elements(struct cursor *cursor, struct model_key *key, struct error *error)
{
    const struct gguf *gguf = cursor->gguf;
    const uint64_t begin = cursor->at;
    key->data = gguf->map.data + begin;
    if (key->element_type == GGUF_VALUE_STRING) {
        struct model_string string;
        for (uint64_t i = 0; i < key->n; i++)
            if (!take_string(cursor, &string))
                return truncated(cursor, "a string", error);
    } else {
        const uint32_t bytes = value_bytes(key->element_type);
        if (bytes == 0)
            return error_set(error, STATUS_UNSUPPORTED,
                             "%s: key %s has a value of type %u, which is not known here",
                             gguf->path, key->name, (unsigned)key->element_type);
        if (key->n > left(cursor) / bytes || take(cursor, key->n * bytes) == NULL)
            return truncated(cursor, "a value", error);
        if (key->element_type == GGUF_VALUE_BOOL)
            for (uint64_t i = 0; i < key->n; i++)
                if (key->data[i] > 1)
                    return error_set(error, STATUS_INVALID,
                                     "%s: corrupt: key %s holds %u, which is no boolean",
                                     gguf->path, key->name, key->data[i]);
    }
    key->n_bytes = cursor->at - begin;
    return STATUS_OK;
}

static enum status read_key(struct gguf *gguf, struct cursor *cursor, struct error *error)
{
    struct model_string string;
    uint32_t type;
    if (!take_string(cursor, &string))
        return truncated(cursor, "a key", error);
    if (!array_grow(&gguf->keys, &gguf->keys_capacity, gguf->n_keys + 1, sizeof(*gguf->keys)))
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its keys", gguf->path);
    char *name = NULL;
    const enum status status =
        copy_name(gguf, &name, string, GGUF_MAX_KEY_BYTES, "key", gguf->n_keys, error);
    if (status != STATUS_OK)
        return status;
    const size_t index = gguf->n_keys++;
    struct model_key *key = &gguf->keys[index];
    *key = (struct model_key){.name = name, .n = 1};
    const uint32_t owner =
        string_table_add(&gguf->key_table, name, string.n_bytes, (uint32_t)index);
    if (owner == STRING_TABLE_NONE)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its keys", gguf->path);
    if (owner != index)
        return error_set(error, STATUS_INVALID, "%s: corrupt: key %s is there twice", gguf->path,
                         name);
    if (!take_u32(cursor, &type))
        return truncated(cursor, "a value type", error);
    key->type = key->element_type = (enum gguf_value_type)type;
    if (type == GGUF_VALUE_ARRAY) {
        if (!take_u32(cursor, &type) || !take_u64(cursor, &key->n))
            return truncated(cursor, "an array", error);
        key->element_type = (enum gguf_value_type)type;
        if (type == GGUF_VALUE_ARRAY)
            return error_set(error, STATUS_UNSUPPORTED,
                             "%s: key %s is an array of arrays, which is not supported", gguf->path,
                             name);
    }
    return read_elements(cursor, key, error);
}

static enum status read_alignment(struct gguf *gguf, struct error *error)
{
    uint32_t alignment = GGUF_DEFAULT_ALIGNMENT;
    static const char name[] = "general.alignment";
    const uint32_t index = string_table_find(&gguf->key_table, name, sizeof(name) - 1);
    if (index != STRING_TABLE_NONE) {
        const enum status status = model_key_u32(&gguf->keys[index], gguf->path, &alignment, error);
        if (status != STATUS_OK)
            return status;
    }
    if (alignment < 8 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0)
        return error_set(error, STATUS_INVALID,
                         "%s: corrupt: general.alignment is %u; a power of two from 8 to %u is "
                         "possible",
                         gguf->path, alignment, MAX_ALIGNMENT);
    gguf->alignment = alignment;
    return STATUS_OK;
}

static enum status read_tensor(struct gguf *gguf, struct cursor *cursor, struct error *error)
{
    struct model_string string;
    if (!take_string(cursor, &string))
        return truncated(cursor, "a tensor name", error);
    if (!array_grow(&gguf->tensors, &gguf->tensors_capacity, gguf->n_tensors + 1,
                    sizeof(*gguf->tensors)))
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", gguf->path);
    char *name = NULL;
    enum status status =
        copy_name(gguf, &name, string, GGUF_MAX_NAME_BYTES, "tensor", gguf->n_tensors, error);
    if (status != STATUS_OK)
        return status;
    const size_t index = gguf->n_tensors++;
    struct model_tensor *tensor = &gguf->tensors[index];
    *tensor = (struct model_tensor){.name = name, .dims = {1, 1, 1, 1}};
    const uint32_t owner =
        string_table_add(&gguf->tensor_table, name, string.n_bytes, (uint32_t)index);
    if (owner == STRING_TABLE_NONE)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", gguf->path);
    if (owner != index)
        return error_set(error, STATUS_INVALID, "%s: corrupt: tensor %s is there twice", gguf->path,
                         name);

    uint32_t type;
    if (!take_u32(cursor, &tensor->n_dims))
        return truncated(cursor, "a tensor", error);
    if (tensor->n_dims < 1 || tensor->n_dims > GGUF_MAX_DIMS)
        return error_set(error, STATUS_INVALID,
                         "%s: corrupt: tensor %s has %u dimensions; 1 to %d are possible",
                         gguf->path, name, tensor->n_dims, GGUF_MAX_DIMS);
    for (uint32_t i = 0; i < tensor->n_dims; i++)
        if (!take_u64(cursor, &tensor->dims[i]))
            return truncated(cursor, "a tensor", error);
    if (!take_u32(cursor, &type) || !take_u64(cursor, &tensor->offset))
        return truncated(cursor, "a tensor", error);
    tensor->type = (enum gguf_type)type;
    struct error why = {0};
    status = gguf_tensor_bytes(&tensor->n_bytes, tensor->type, tensor->n_dims, tensor->dims, &why);
    if (status != STATUS_OK)
        return error_set(error, status, "%s: tensor %s: %s", gguf->path, name, why.text);
    return STATUS_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct model_tensor *const *left_tensor = a, *const *right_tensor = b;
    const uint64_t x = (*left_tensor)->offset, y = (*right_tensor)->offset;
    return x < y ? -1 : x > y;
}

/* Offsets, so far relative to the data, become places in the file; no two tensors share a byte. */
static enum status place_tensors(struct gguf *gguf, uint64_t header_end, struct error *error)
{
    if (gguf->n_tensors == 0) {
        gguf->data_offset = gguf->map.n_bytes;
        return STATUS_OK;
    }
    const uint64_t padding = -header_end & (gguf->alignment - 1);
    if (padding > gguf->map.n_bytes - header_end)
        return error_set(error, STATUS_INVALID,
                         "%s: truncated: the header ends at byte %llu of %llu, tensors are missing",
                         gguf->path, (unsigned long long)header_end,
                         (unsigned long long)gguf->map.n_bytes);
    gguf->data_offset = header_end + padding;
    const uint64_t n_data = gguf->map.n_bytes - gguf->data_offset;
    const struct model_tensor **order =
        malloc(gguf->n_tensors * sizeof(const struct model_tensor *));
    if (order == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tensors", gguf->path);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < gguf->n_tensors && status == STATUS_OK; i++) {
        struct model_tensor *tensor = &gguf->tensors[i];
        if (tensor->offset % gguf->alignment != 0)
            status = error_set(error, STATUS_INVALID,
                               "%s: corrupt: tensor %s at offset %llu is not aligned to %u bytes",
                               gguf->path, tensor->name, (unsigned long long)tensor->offset,
                               gguf->alignment);
        else if (tensor->offset > n_data || tensor->n_bytes > n_data - tensor->offset)
            status = error_set(error, STATUS_INVALID,
                               "%s: truncated or corrupt: tensor %s (%llu bytes at offset %llu of "
                               "the data) goes beyond the end: there are %llu bytes of data",
                               gguf->path, tensor->name, (unsigned long long)tensor->n_bytes,
                               (unsigned long long)tensor->offset, (unsigned long long)n_data);
        tensor->offset += gguf->data_offset;
        order[i] = tensor;
    }
    if (status == STATUS_OK)
        qsort(order, gguf->n_tensors, sizeof(const struct model_tensor *), by_offset);
    for (size_t i = 0; i < gguf->n_tensors && status == STATUS_OK; i++) {
        if (i > 0 && order[i]->offset - order[i - 1]->offset < order[i - 1]->n_bytes)
            status = error_set(error, STATUS_INVALID, "%s: corrupt: tensors %s and %s overlap",
                               gguf->path, order[i - 1]->name, order[i]->name);
        gguf->tensors[i].data = gguf->map.data + gguf->tensors[i].offset;
    }
    free(order);
    return status;
}

static enum status read_header(struct gguf *gguf, struct error *error)
{
    struct cursor cursor = {.gguf = gguf};
    const uint8_t *magic = take(&cursor, 4);
    uint64_t n_tensors, n_keys;
    if (magic == NULL || memcmp(magic, "GGUF", 4) != 0)
        return error_set(error, STATUS_INVALID, "%s: not a GGUF file: it begins with other bytes",
                         gguf->path);
    if (!take_u32(&cursor, &gguf->version))
        return truncated(&cursor, "the version", error);
    if (gguf->version != 0 && (gguf->version & 0xffff) == 0)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: a big-endian GGUF file; only little-endian ones are supported",
                         gguf->path);
    if (gguf->version != 2 && gguf->version != 3)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: GGUF version %u; versions 2 and 3 are supported", gguf->path,
                         gguf->version);
    if (!take_u64(&cursor, &n_tensors) || !take_u64(&cursor, &n_keys))
        return truncated(&cursor, "the header", error);
    /* The smallest possible key and tensor: a better message than running into the end. */
    if (n_keys > left(&cursor) / 14 || n_tensors > left(&cursor) / 33 ||
        n_keys >= STRING_TABLE_NONE || n_tensors >= STRING_TABLE_NONE)
        return error_set(error, STATUS_INVALID,
                         "%s: truncated or corrupt: %llu keys and %llu tensors cannot be in a file "
                         "of %llu bytes",
                         gguf->path, (unsigned long long)n_keys, (unsigned long long)n_tensors,
                         (unsigned long long)gguf->map.n_bytes);
    enum status status = STATUS_OK;
    for (uint64_t i = 0; i < n_keys && status == STATUS_OK; i++)
        status = read_key(gguf, &cursor, error);
    if (status == STATUS_OK)
        status = read_alignment(gguf, error);
    for (uint64_t i = 0; i < n_tensors && status == STATUS_OK; i++)
        status = read_tensor(gguf, &cursor, error);
    return status == STATUS_OK ? place_tensors(gguf, cursor.at, error) : status;
}

enum status gguf_open(struct gguf **gguf, const char *path, struct error *error)
{
    struct gguf *g = calloc(1, sizeof(*g));
    if (g == NULL || (g->path = strdup(path)) == NULL) {
        gguf_close(g);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", path);
    }
    enum status status = mapping_open(&g->map, path, error);
    if (status == STATUS_OK)
        status = read_header(g, error);
    if (status != STATUS_OK) {
        gguf_close(g);
        return status;
    }
    *gguf = g;
    return STATUS_OK;
}

void gguf_close(struct gguf *gguf)
{
    if (gguf == NULL)
        return;
    for (size_t i = 0; i < gguf->n_keys; i++)
        free((char *)gguf->keys[i].name);
    for (size_t i = 0; i < gguf->n_tensors; i++)
        free((char *)gguf->tensors[i].name);
    free(gguf->keys);
    free(gguf->tensors);
    string_table_free(&gguf->key_table);
    string_table_free(&gguf->tensor_table);
    mapping_close(&gguf->map);
    free(gguf->path);
    free(gguf);
}

const char *gguf_path(const struct gguf *gguf)
{
    return gguf->path;
}

uint64_t gguf_file_bytes(const struct gguf *gguf)
{
    return gguf->map.n_bytes;
}

uint32_t gguf_version(const struct gguf *gguf)
{
    return gguf->version;
}

size_t gguf_key_count(const struct gguf *gguf)
{
    return gguf->n_keys;
}

const struct model_key *gguf_key_at(const struct gguf *gguf, size_t index)
{
    return &gguf->keys[index];
}

size_t gguf_tensor_count(const struct gguf *gguf)
{
    return gguf->n_tensors;
}

const struct model_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index)
{
    return &gguf->tensors[index];
}

void gguf_fingerprint(const struct gguf *gguf, uint8_t fingerprint[GGUF_FINGERPRINT_BYTES])
{
    struct sha256 hash;
    sha256_init(&hash);
    sha256_update(&hash, &gguf->map.n_bytes, sizeof(gguf->map.n_bytes));
    sha256_update(&hash, gguf->map.data, gguf->data_offset);
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const struct model_tensor *tensor = &gguf->tensors[i];
        const uint64_t n = tensor->n_bytes;
        sha256_update(&hash, tensor->data, n < FINGERPRINT_PER_TENSOR ? n : FINGERPRINT_PER_TENSOR);
    }
    sha256_final(&hash, fingerprint);
}
