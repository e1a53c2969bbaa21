/* model_key.c - typed values out of metadata entries that a reader has checked.
 *
 * All integers pass through a sign and a 64-bit magnitude, so that one range check serves every
 * pair of stored and wanted width. */
#include "model/model_file.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

struct integer {
    bool negative;
    uint64_t magnitude;
};

#define LOAD_UNSIGNED(type)                                                                        \
    do {                                                                                           \
        type value;                                                                                \
        memcpy(&value, data, sizeof(value));                                                       \
        *integer = (struct integer){false, value};                                                 \
        return true;                                                                               \
    } while (0)
#define LOAD_SIGNED(type)                                                                          \
    do {                                                                                           \
        type value;                                                                                \
        memcpy(&value, data, sizeof(value));                                                       \
        *integer = (struct integer){value < 0, value < 0 ? -(uint64_t)value : (uint64_t)value};    \
        return true;                                                                               \
    } while (0)

/* False: the type is no integer. */
static bool load_integer(struct integer *integer, enum gguf_value_type type, const uint8_t *data)
{
    switch (type) {
    case GGUF_VALUE_U8:
        LOAD_UNSIGNED(uint8_t);
    case GGUF_VALUE_U16:
        LOAD_UNSIGNED(uint16_t);
    case GGUF_VALUE_U32:
        LOAD_UNSIGNED(uint32_t);
    case GGUF_VALUE_U64:
        LOAD_UNSIGNED(uint64_t);
    case GGUF_VALUE_I8:
        LOAD_SIGNED(int8_t);
    case GGUF_VALUE_I16:
        LOAD_SIGNED(int16_t);
    case GGUF_VALUE_I32:
        LOAD_SIGNED(int32_t);
    case GGUF_VALUE_I64:
        LOAD_SIGNED(int64_t);
    default:
        return false;
    }
}

static enum status find(const struct model_file *file, const char *name,
                        const struct model_key **key, struct error *error)
{
    *key = model_key_find(file, name);
    if (*key == NULL)
        return error_set(error, STATUS_NOT_FOUND, "%s: key %s is missing", model_path(file), name);
    return STATUS_OK;
}

static enum status wrong_type(const struct model_key *key, const char *path, const char *wanted,
                              struct error *error)
{
    const bool array = key->type == GGUF_VALUE_ARRAY;
    return error_set(error, STATUS_INVALID, "%s: key %s is %s%s; %s was expected", path, key->name,
                     array ? "an array of " : "of type ", gguf_value_type_name(key->element_type),
                     wanted);
}

static enum status unsigned_value(const struct model_key *key, const char *path, uint64_t max,
                                  uint64_t *value, struct error *error)
{
    struct integer integer;
    if (!load_integer(&integer, key->type, key->data))
        return wrong_type(key, path, "an integer", error);
    if ((integer.negative && integer.magnitude != 0) || integer.magnitude > max)
        return error_set(error, STATUS_INVALID, "%s: key %s is %s%llu; 0 to %llu is possible", path,
                         key->name, integer.negative ? "-" : "",
                         (unsigned long long)integer.magnitude, (unsigned long long)max);
    *value = integer.magnitude;
    return STATUS_OK;
}

enum status model_key_u32(const struct model_key *key, const char *path, uint32_t *value,
                          struct error *error)
{
    uint64_t wide = 0;
    const enum status status = unsigned_value(key, path, UINT32_MAX, &wide, error);
    if (status == STATUS_OK)
        *value = (uint32_t)wide;
    return status;
}

enum status model_get_u32(const struct model_file *file, const char *name, uint32_t *value,
                          struct error *error)
{
    const struct model_key *key;
    const enum status status = find(file, name, &key, error);
    return status == STATUS_OK ? model_key_u32(key, model_path(file), value, error) : status;
}

enum status model_get_u64(const struct model_file *file, const char *name, uint64_t *value,
                          struct error *error)
{
    const struct model_key *key;
    const enum status status = find(file, name, &key, error);
    return status == STATUS_OK ? unsigned_value(key, model_path(file), UINT64_MAX, value, error)
                               : status;
}

enum status model_get_f32(const struct model_file *file, const char *name, float *value,
                          struct error *error)
{
    const struct model_key *key;
    const enum status status = find(file, name, &key, error);
    if (status != STATUS_OK)
        return status;
    if (key->type == GGUF_VALUE_F32) {
        memcpy(value, key->data, sizeof(*value));
        return STATUS_OK;
    }
    if (key->type != GGUF_VALUE_F64)
        return wrong_type(key, model_path(file), "f32", error);
    double wide;
    memcpy(&wide, key->data, sizeof(wide));
    if (wide > FLT_MAX || wide < -FLT_MAX) /* NaN passes on as NaN */
        return error_set(error, STATUS_INVALID, "%s: key %s is %g, too large for f32",
                         model_path(file), name, wide);
    *value = (float)wide;
    return STATUS_OK;
}

enum status model_get_bool(const struct model_file *file, const char *name, bool *value,
                           struct error *error)
{
    const struct model_key *key;
    const enum status status = find(file, name, &key, error);
    if (status != STATUS_OK)
        return status;
    if (key->type != GGUF_VALUE_BOOL)
        return wrong_type(key, model_path(file), "bool", error);
    *value = key->data[0] != 0;
    return STATUS_OK;
}

static const uint8_t *load_string(struct model_string *string, const uint8_t *data)
{
    uint64_t n_bytes;
    memcpy(&n_bytes, data, sizeof(n_bytes));
    *string = (struct model_string){(const char *)data + sizeof(n_bytes), n_bytes};
    return data + sizeof(n_bytes) + n_bytes;
}

enum status model_get_string(const struct model_file *file, const char *name,
                             struct model_string *value, struct error *error)
{
    const struct model_key *key;
    const enum status status = find(file, name, &key, error);
    if (status != STATUS_OK)
        return status;
    if (key->type != GGUF_VALUE_STRING)
        return wrong_type(key, model_path(file), "a string", error);
    load_string(value, key->data);
    return STATUS_OK;
}

/* Finds an array and allocates room for its elements. A reader has compared n with the file's size,
 * which bounds n * item_bytes far below overflow. */
static enum status open_array(const struct model_file *file, const char *name, size_t item_bytes,
                              const struct model_key **key, void **items, struct error *error)
{
    const enum status status = find(file, name, key, error);
    if (status != STATUS_OK)
        return status;
    if ((*key)->type != GGUF_VALUE_ARRAY)
        return wrong_type(*key, model_path(file), "an array", error);
    *items = calloc((*key)->n == 0 ? 1 : (*key)->n, item_bytes);
    if (*items == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the %llu elements of %s",
                         model_path(file), (unsigned long long)(*key)->n, name);
    return STATUS_OK;
}

enum status model_get_strings(const struct model_file *file, const char *name,
                              struct model_string **values, size_t *n, struct error *error)
{
    const struct model_key *key;
    void *memory;
    const enum status status =
        open_array(file, name, sizeof(struct model_string), &key, &memory, error);
    if (status != STATUS_OK)
        return status;
    struct model_string *items = memory;
    if (key->element_type != GGUF_VALUE_STRING) {
        free(items);
        return wrong_type(key, model_path(file), "an array of strings", error);
    }
    const uint8_t *data = key->data;
    for (uint64_t i = 0; i < key->n; i++)
        data = load_string(&items[i], data);
    *values = items;
    *n = key->n;
    return STATUS_OK;
}

enum status model_get_f32s(const struct model_file *file, const char *name, float **values,
                           size_t *n, struct error *error)
{
    const struct model_key *key;
    void *memory;
    const enum status status = open_array(file, name, sizeof(float), &key, &memory, error);
    if (status != STATUS_OK)
        return status;
    float *items = memory;
    if (key->element_type != GGUF_VALUE_F32) {
        free(items);
        return wrong_type(key, model_path(file), "an array of f32", error);
    }
    if (key->n > 0)
        memcpy(items, key->data, key->n * sizeof(*items));
    *values = items;
    *n = key->n;
    return STATUS_OK;
}

enum status model_get_i32s(const struct model_file *file, const char *name, int32_t **values,
                           size_t *n, struct error *error)
{
    const struct model_key *key;
    void *memory;
    const enum status status = open_array(file, name, sizeof(int32_t), &key, &memory, error);
    if (status != STATUS_OK)
        return status;
    int32_t *items = memory;
    const uint64_t bytes = key->n > 0 ? key->n_bytes / key->n : 0; /* of one */
    for (uint64_t i = 0; i < key->n; i++) {
        struct integer integer;
        if (!load_integer(&integer, key->element_type, key->data + i * bytes)) {
            free(items);
            return wrong_type(key, model_path(file), "an array of integers", error);
        }
        if (integer.magnitude > (integer.negative ? (uint64_t)INT32_MAX + 1 : INT32_MAX)) {
            free(items);
            return error_set(error, STATUS_INVALID,
                             "%s: element %llu of %s does not fit in 32 bits", model_path(file),
                             (unsigned long long)i, name);
        }
        items[i] =
            (int32_t)(integer.negative ? -(int64_t)integer.magnitude : (int64_t)integer.magnitude);
    }
    *values = items;
    *n = key->n;
    return STATUS_OK;
}

bool model_string_equals(struct model_string string, const char *text)
{
    return strlen(text) == string.n_bytes && memcmp(text, string.data, string.n_bytes) == 0;
}
