/* prefix_index.c - a chained hash table with one entry for each page of each owner. A million
 * tokens are 4,096 entries, and a hundred questions about one text a hundred times as many, those of
 * a page all in one chain: chains are linked both ways, and so are the entries of an owner, so that
 * the one that goes, most often the last of its chain, does so without a search. */
#include "coordinator/prefix_index.h"

#include "kernels/attention/kv_holder.h"
#include "sys/array.h"

#include <stdlib.h>
#include <string.h>

#define NO_ENTRY UINT32_MAX

struct links {
    uint32_t before, next;
};

struct entry {
    struct prefix_name name;
    uint32_t owner;
    struct links bucket; /* only `next`, where it is free */
    struct links owners; /* others of the same owner */
};

struct prefix_index {
    struct entry *entries;
    uint32_t n_entries, capacity, free;
    uint32_t *buckets; /* [capacity], a power of two: the first of each */
    uint32_t *owners;  /* [n_owners] likewise */
    size_t n_owners, owners_capacity;
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
    free(index->owners);
    free(index);
}

/* The names are hashes: any of their bytes will do. */
static uint32_t *bucket_of(const struct prefix_index *x, const struct prefix_name *name)
{
    uint32_t hash;
    memcpy(&hash, name->bytes, sizeof(hash));
    return &x->buckets[hash & (x->capacity - 1)];
}

static void link_to_bucket(struct prefix_index *x, uint32_t at)
{
    uint32_t *first = bucket_of(x, &x->entries[at].name);
    x->entries[at].bucket = (struct links){NO_ENTRY, *first};
    if (*first != NO_ENTRY)
        x->entries[*first].bucket.before = at;
    *first = at;
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
    for (uint32_t i = 0; i < x->n_entries; i++) /* none is free: that is why it grows */
        link_to_bucket(x, i);
    return STATUS_OK;
}

static enum status know_owner(struct prefix_index *x, uint32_t owner, struct error *error)
{
    if (!array_grow(&x->owners, &x->owners_capacity, (size_t)owner + 1, sizeof(*x->owners)))
        return error_set(error, STATUS_NO_MEMORY, "no memory to index the pages of %u", owner);
    while (x->n_owners <= owner)
        x->owners[x->n_owners++] = NO_ENTRY;
    return STATUS_OK;
}

enum status prefix_index_add(struct prefix_index *x, uint32_t owner, const struct prefix_name *name,
                             struct error *error)
{
    uint32_t at = x->free;
    enum status status = know_owner(x, owner, error);
    if (status == STATUS_OK && at == NO_ENTRY && x->n_entries == x->capacity)
        status = grow(x, error);
    if (status != STATUS_OK)
        return status;
    if (at != NO_ENTRY)
        x->free = x->entries[at].bucket.next;
    else
        at = x->n_entries++;
    struct entry *entry = &x->entries[at];
    uint32_t *first = &x->owners[owner];
    *entry = (struct entry){.name = *name, .owner = owner, .owners = {NO_ENTRY, *first}};
    if (*first != NO_ENTRY)
        x->entries[*first].owners.before = at;
    *first = at;
    link_to_bucket(x, at);
    return STATUS_OK;
}

static void free_entry(struct prefix_index *x, uint32_t at)
{
    struct entry *entry = &x->entries[at];
    const struct links bucket = entry->bucket, owners = entry->owners;
    *(bucket.before != NO_ENTRY ? &x->entries[bucket.before].bucket.next
                                : bucket_of(x, &entry->name)) = bucket.next;
    if (bucket.next != NO_ENTRY)
        x->entries[bucket.next].bucket.before = bucket.before;
    *(owners.before != NO_ENTRY ? &x->entries[owners.before].owners.next
                                : &x->owners[entry->owner]) = owners.next;
    if (owners.next != NO_ENTRY)
        x->entries[owners.next].owners.before = owners.before;
    entry->bucket.next = x->free;
    x->free = at;
}

void prefix_index_remove(struct prefix_index *x, uint32_t owner)
{
    while (owner < x->n_owners && x->owners[owner] != NO_ENTRY)
        free_entry(x, x->owners[owner]);
}

void prefix_index_remove_one(struct prefix_index *x, uint32_t owner, const struct prefix_name *name)
{
    uint32_t at = PREFIX_INDEX_NONE, found;
    while (prefix_index_next(x, name, &at, &found))
        if (found == owner) {
            free_entry(x, at);
            return;
        }
}

static const struct entry *find(const struct prefix_index *x, const struct prefix_name *name)
{
    if (x->capacity == 0)
        return NULL;
    for (uint32_t at = *bucket_of(x, name); at != NO_ENTRY; at = x->entries[at].bucket.next)
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
        next = x->entries[*at].bucket.next;
    else if (x->capacity > 0)
        next = *bucket_of(x, name);
    while (next != NO_ENTRY && !prefix_name_equal(&x->entries[next].name, name))
        next = x->entries[next].bucket.next;
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
