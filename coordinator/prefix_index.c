/* prefix_index.c - a chained hash table with one entry for each page of each owner. A million
 * tokens are 4,096 entries. */
#include "coordinator/prefix_index.h"

#include "kernels/attention/kv_holder.h"

#include <stdlib.h>
#include <string.h>

#define NO_ENTRY UINT32_MAX

struct entry {
    struct prefix_name name;
    uint32_t owner;
    uint32_t next; /* of the bucket, or of the free list */
};

struct prefix_index {
    struct entry *entries;
    uint32_t n_entries, capacity, free;
    uint32_t *buckets; /* [capacity], a power of two */
};

struct prefix_name prefix_name_next(const struct prefix_name *before, const int32_t *tokens)
{
    struct prefix_name name;
    struct sha256 hash;
    sha256_init(&hash);
    sha256_update(&hash, before->bytes, sizeof(before->bytes));
    sha256_update(&hash, tokens, PAGE_TOKENS * sizeof(*tokens));
    sha256_final(&hash, name.bytes);
    return name;
}

bool prefix_name_equal(const struct prefix_name *a, const struct prefix_name *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

enum status prefix_index_create(struct prefix_index **index, struct error *error)
{
    struct prefix_index *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an index of prefixes");
    x->free = NO_ENTRY;
    *index = x;
    return STATUS_OK;
}

void prefix_index_destroy(struct prefix_index *index)
{
    if (index == NULL)
        return;
    free(index->entries);
    free(index->buckets);
    free(index);
}

/* The names are hashes: any of their bytes will do. */
static uint32_t *bucket_of(const struct prefix_index *x, const struct prefix_name *name)
{
    uint32_t hash;
    memcpy(&hash, name->bytes, sizeof(hash));
    return &x->buckets[hash & (x->capacity - 1)];
}

static enum status grow(struct prefix_index *x, struct error *error)
{
    const uint32_t capacity = x->capacity == 0 ? 1024 : x->capacity * 2;
    struct entry *entries = realloc(x->entries, capacity * sizeof(*entries));
    uint32_t *buckets = malloc(capacity * sizeof(*buckets));
    if (entries != NULL)
        x->entries = entries;
    if (entries == NULL || buckets == NULL || capacity == 0) {
        free(buckets);
        return error_set(error, STATUS_NO_MEMORY, "no memory to index %u pages", capacity);
    }
    free(x->buckets);
    x->buckets = buckets;
    x->capacity = capacity;
    for (uint32_t i = 0; i < capacity; i++)
        buckets[i] = NO_ENTRY;
    for (uint32_t i = 0; i < x->n_entries; i++) { /* none is free: that is why it grows */
        uint32_t *bucket = bucket_of(x, &x->entries[i].name);
        x->entries[i].next = *bucket;
        *bucket = i;
    }
    return STATUS_OK;
}

enum status prefix_index_add(struct prefix_index *x, uint32_t owner, const struct prefix_name *name,
                             struct error *error)
{
    uint32_t at = x->free;
    if (at != NO_ENTRY) {
        x->free = x->entries[at].next;
    } else {
        const enum status status = x->n_entries == x->capacity ? grow(x, error) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
        at = x->n_entries++;
    }
    uint32_t *bucket = bucket_of(x, name);
    x->entries[at] = (struct entry){.name = *name, .owner = owner, .next = *bucket};
    *bucket = at;
    return STATUS_OK;
}

void prefix_index_remove(struct prefix_index *x, uint32_t owner, const struct prefix_name *names,
                         uint32_t n_pages)
{
    for (uint32_t i = 0; i < n_pages && x->capacity > 0; i++)
        for (uint32_t *link = bucket_of(x, &names[i]); *link != NO_ENTRY;
             link = &x->entries[*link].next) {
            struct entry *entry = &x->entries[*link];
            if (entry->owner != owner || !prefix_name_equal(&entry->name, &names[i]))
                continue;
            const uint32_t at = *link;
            *link = entry->next;
            entry->next = x->free;
            x->free = at;
            break;
        }
}

static const struct entry *find(const struct prefix_index *x, const struct prefix_name *name)
{
    if (x->capacity == 0)
        return NULL;
    for (uint32_t at = *bucket_of(x, name); at != NO_ENTRY; at = x->entries[at].next)
        if (prefix_name_equal(&x->entries[at].name, name))
            return &x->entries[at];
    return NULL;
}

uint32_t prefix_index_owner(const struct prefix_index *x, const struct prefix_name *name)
{
    const struct entry *entry = find(x, name);
    return entry != NULL ? entry->owner : PREFIX_INDEX_NONE;
}

bool prefix_index_next(const struct prefix_index *x, const struct prefix_name *name, uint32_t *at,
                       uint32_t *owner)
{
    uint32_t next = NO_ENTRY;
    if (*at != PREFIX_INDEX_NONE)
        next = x->entries[*at].next;
    else if (x->capacity > 0)
        next = *bucket_of(x, name);
    while (next != NO_ENTRY && !prefix_name_equal(&x->entries[next].name, name))
        next = x->entries[next].next;
    if (next == NO_ENTRY)
        return false;
    *at = next;
    *owner = x->entries[next].owner;
    return true;
}

uint32_t prefix_index_find(const struct prefix_index *x, const struct prefix_name *names,
                           uint32_t n_names, uint32_t *owner)
{
    uint32_t held = 0, not_held = n_names + 1; /* pages */
    while (not_held - held > 1) {
        const uint32_t middle = held + (not_held - held) / 2;
        const struct entry *entry = find(x, &names[middle - 1]);
        if (entry == NULL) {
            not_held = middle;
        } else {
            held = middle;
            *owner = entry->owner;
        }
    }
    return held;
}
