/* string_table.c - open addressing with linear probing, at most half full. */
#include "model/string_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t rotate_left(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[0] = rotate_left(v[0], 32);
    v[2] += v[3];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[2] = rotate_left(v[2], 32);
}

static uint64_t hash_bytes(const uint64_t key[2], const char *data, size_t n_bytes)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    size_t at = 0;
    uint64_t word;
    for (; n_bytes - at >= 8; at += 8) {
        memcpy(&word, data + at, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    word = 0;
    memcpy(&word, data + at, n_bytes - at);
    word |= (uint64_t)n_bytes << 56;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot of the string, or the free one where it would go. */
static struct string_table_slot *probe(const struct string_table *table, const char *data,
                                       size_t n_bytes)
{
    size_t i = hash_bytes(table->key, data, n_bytes) & (table->n_slots - 1);
    for (;; i = (i + 1) & (table->n_slots - 1)) {
        struct string_table_slot *slot = &table->slots[i];
        if (slot->data == NULL ||
            (slot->n_bytes == n_bytes && memcmp(slot->data, data, n_bytes) == 0))
            return slot;
    }
}

static bool grow(struct string_table *table)
{
    struct string_table bigger = {.n_slots = table->n_slots == 0 ? 64 : table->n_slots * 2,
                                  .n = table->n,
                                  .key = {table->key[0], table->key[1]}};
    if (table->n_slots == 0 &&
        getrandom(bigger.key, sizeof(bigger.key), 0) != (ssize_t)sizeof(bigger.key))
        bigger.key[0] = (uint64_t)(uintptr_t)table; /* no entropy: the table works all the same */
    bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return false;
    for (size_t i = 0; i < table->n_slots; i++) {
        const struct string_table_slot *slot = &table->slots[i];
        if (slot->data != NULL)
            *probe(&bigger, slot->data, slot->n_bytes) = *slot;
    }
    free(table->slots);
    *table = bigger;
    return true;
}

uint32_t string_table_add(struct string_table *table, const char *data, size_t n_bytes,
                          uint32_t value)
{
    if (2 * (table->n + 1) > table->n_slots && !grow(table))
        return STRING_TABLE_NONE;
    struct string_table_slot *slot = probe(table, data, n_bytes);
    if (slot->data == NULL) {
        *slot = (struct string_table_slot){data, (uint32_t)n_bytes, value};
        table->n++;
    }
    return slot->value;
}

uint32_t string_table_find(const struct string_table *table, const char *data, size_t n_bytes)
{
    if (table->n_slots == 0)
        return STRING_TABLE_NONE;
    const struct string_table_slot *slot = probe(table, data, n_bytes);
    return slot->data == NULL ? STRING_TABLE_NONE : slot->value;
}

void string_table_free(struct string_table *table)
{
    free(table->slots);
    *table = (struct string_table){0};
}
