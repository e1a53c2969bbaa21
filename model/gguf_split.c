/* gguf_split.c - the part that was named is opened first; its name gives those of the others. */
#include "model/gguf_split.h"

#include "sys/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_END "-%05zu-of-%05zu.gguf"

/* What a part says of itself. */
struct place {
    uint32_t number, count; /* count 1: no part of a split */
    uint64_t n_tensors;     /* of all parts */
};

bool gguf_split_is_key(const char *name)
{
    return strcmp(name, "split.no") == 0 || strcmp(name, "split.count") == 0 ||
           strcmp(name, "split.tensors.count") == 0;
}

static enum status read_number(const struct gguf *gguf, const char *name, uint32_t *value,
                               struct error *error)
{
    for (size_t i = 0; i < gguf_key_count(gguf); i++)
        if (strcmp(gguf_key_at(gguf, i)->name, name) == 0)
            return model_key_u32(gguf_key_at(gguf, i), gguf_path(gguf), value, error);
    return error_set(error, STATUS_INVALID,
                     "%s: corrupt: it is a part of a split model, but key %s is missing",
                     gguf_path(gguf), name);
}

static enum status read_place(const struct gguf *gguf, struct place *place, struct error *error)
{
    uint32_t n_tensors = 0;
    bool split = false;
    *place = (struct place){.count = 1};
    for (size_t i = 0; i < gguf_key_count(gguf); i++)
        split |= strcmp(gguf_key_at(gguf, i)->name, "split.count") == 0;
    if (!split)
        return STATUS_OK;
    enum status status = read_number(gguf, "split.count", &place->count, error);
    if (status != STATUS_OK || place->count == 0) { /* 0: a model that was put together again */
        place->count = 1;
        return status;
    }
    status = read_number(gguf, "split.no", &place->number, error);
    if (status == STATUS_OK)
        status = read_number(gguf, "split.tensors.count", &n_tensors, error);
    place->n_tensors = n_tensors;
    if (status == STATUS_OK && (place->count > GGUF_SPLIT_MOST || place->number >= place->count))
        status = error_set(error, STATUS_INVALID, "%s: corrupt: part %u (split.no, from 0) of %u",
                           gguf_path(gguf), place->number, place->count);
    return status;
}

char *gguf_split_path(const char *prefix, size_t index, size_t n)
{
    char *path;
    return asprintf(&path, "%s" NAME_END, prefix, index + 1, n) < 0 ? NULL : path;
}

/* The name without "-00001-of-00005.gguf"; the caller frees it. */
static enum status find_prefix(const struct gguf *gguf, const struct place *place, char **prefix,
                               struct error *error)
{
    char end[64];
    const char *path = gguf_path(gguf);
    const size_t n = strlen(path);
    const size_t n_end = (size_t)snprintf(end, sizeof(end), NAME_END, (size_t)place->number + 1,
                                          (size_t)place->count);
    if (n < n_end || strcmp(path + n - n_end, end) != 0)
        return error_set(error, STATUS_INVALID,
                         "%s: this is part %u of %u; give all parts names that end in " NAME_END
                         " and so on, so that the others can be found",
                         path, place->number + 1, place->count, (size_t)1, (size_t)place->count);
    if ((*prefix = strndup(path, n - n_end)) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", path);
    return STATUS_OK;
}

static enum status check_place(const struct gguf *gguf, const struct place *first, size_t index,
                               struct error *error)
{
    struct place place;
    const enum status status = read_place(gguf, &place, error);
    if (status != STATUS_OK)
        return status;
    if (place.number != index || place.count != first->count || place.n_tensors != first->n_tensors)
        return error_set(
            error, STATUS_INVALID,
            "%s: its keys say part %u of %u, %llu tensors in all; part %zu of %u, %llu "
            "tensors in all, was expected: a file of another model?",
            gguf_path(gguf), place.number + 1, place.count, (unsigned long long)place.n_tensors,
            index + 1, first->count, (unsigned long long)first->n_tensors);
    return STATUS_OK;
}

static enum status open_part(struct gguf_split *split, const char *prefix,
                             const struct place *first, size_t index, struct error *error)
{
    struct error why = {0};
    char *path = gguf_split_path(prefix, index, split->n);
    if (path == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory to open it", prefix);
    enum status status = gguf_open(&split->parts[index], path, &why);
    if (status == STATUS_NOT_FOUND)
        error_set(error, status, "%s: part %zu of %zu is missing", path, index + 1, split->n);
    else if (status != STATUS_OK && error != NULL)
        *error = why;
    free(path);
    return status == STATUS_OK ? check_place(split->parts[index], first, index, error) : status;
}

/* All parts beside the one that is open; on success it is one of them. */
static enum status open_others(struct gguf_split *split, struct gguf *gguf,
                               const struct place *place, struct error *error)
{
    char *prefix = NULL;
    uint64_t n_tensors = 0;
    enum status status = find_prefix(gguf, place, &prefix, error);
    for (size_t i = 0; status == STATUS_OK && i < split->n; i++) {
        if (i == place->number)
            split->parts[i] = gguf;
        else
            status = open_part(split, prefix, place, i, error);
        if (status == STATUS_OK)
            n_tensors += gguf_tensor_count(split->parts[i]);
    }
    free(prefix);
    if (status == STATUS_OK && n_tensors != place->n_tensors)
        status = error_set(error, STATUS_INVALID,
                           "%s: the %zu parts have %llu tensors; split.tensors.count is %llu",
                           gguf_path(gguf), split->n, (unsigned long long)n_tensors,
                           (unsigned long long)place->n_tensors);
    return status;
}

enum status gguf_split_open(struct gguf_split *split, const char *path, struct error *error)
{
    struct gguf_split s = {0};
    struct gguf *gguf = NULL;
    struct place place;
    enum status status = gguf_open(&gguf, path, error);
    if (status == STATUS_OK)
        status = read_place(gguf, &place, error);
    if (status == STATUS_OK) {
        s.n = place.count;
        if ((s.parts = calloc(s.n, sizeof(struct gguf *))) == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu parts", path, s.n);
    }
    if (status == STATUS_OK && s.n == 1)
        s.parts[0] = gguf;
    else if (status == STATUS_OK)
        status = open_others(&s, gguf, &place, error);
    if (status != STATUS_OK) {
        if (s.parts == NULL || s.parts[place.number] != gguf)
            gguf_close(gguf);
        gguf_split_close(&s);
        return status;
    }
    *split = s;
    return STATUS_OK;
}

void gguf_split_close(struct gguf_split *split)
{
    for (size_t i = 0; split->parts != NULL && i < split->n; i++)
        gguf_close(split->parts[i]);
    free(split->parts);
    *split = (struct gguf_split){0};
}

void gguf_split_fingerprint(const struct gguf_split *split,
                            uint8_t fingerprint[GGUF_FINGERPRINT_BYTES])
{
    struct sha256 hash;
    if (split->n == 1) {
        gguf_fingerprint(split->parts[0], fingerprint);
        return;
    }
    sha256_init(&hash);
    for (size_t i = 0; i < split->n; i++) {
        gguf_fingerprint(split->parts[i], fingerprint);
        sha256_update(&hash, fingerprint, GGUF_FINGERPRINT_BYTES);
    }
    sha256_final(&hash, fingerprint);
}
