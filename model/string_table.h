/* model/string_table.h - a hash table from byte strings to numbers.
 *
 * Strings are borrowed: they must outlive the table and stay where they are. Keys and vocabularies
 * come from files that we do not trust, so the hash (SipHash-1-3, Aumasson and Bernstein 2012) has
 * a random key: nobody can write a file whose strings all collide. Nothing that users see depends
 * on the key. Lookups may come from any number of threads once the last string is in. */
#ifndef LONGSPAN_MODEL_STRING_TABLE_H
#define LONGSPAN_MODEL_STRING_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STRING_TABLE_NONE UINT32_MAX

struct string_table_slot {
    const char *data; /* NULL: free */
    uint32_t n_bytes, value;
};

/* Zero-initialised is empty and may be searched, added to and freed. */
struct string_table {
    struct string_table_slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n;
    uint64_t key[2];
};

/* Returns the value that the string has after the call: `value`, or an older one, which is kept; or
 * STRING_TABLE_NONE when there is no memory. n_bytes < 2^32, value < STRING_TABLE_NONE, data not
 * NULL. */
uint32_t string_table_add(struct string_table *table, const char *data, size_t n_bytes,
                          uint32_t value);

/* STRING_TABLE_NONE: not there. */
uint32_t string_table_find(const struct string_table *table, const char *data, size_t n_bytes);

/* Leaves an empty table. */
void string_table_free(struct string_table *table);

#endif
