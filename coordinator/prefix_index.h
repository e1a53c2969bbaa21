/* coordinator/prefix_index.h - finds the sequence that already holds the beginning of a prompt.
 *
 * A prefix of whole pages has a name, which no other prefix has: the SHA-256 of the name of the
 * prefix that is one page shorter, and of the tokens of its last page (chained block hashes, as in
 * vLLM's prefix caching). The name of the empty prefix stands for everything else that the pages
 * depend on: the model's file, the type of the KV cache, the tile. So equal names mean equal pages,
 * in memory and on disk, and no tokens need to be compared.
 *
 * The index knows for each *owner*, a small number, of how many pages it holds which prefixes.
 * Since an owner holds every prefix of what it holds, the longest common one is found by bisection.
 *
 * Pure: no I/O. One thread. */
#ifndef LONGSPAN_COORDINATOR_PREFIX_INDEX_H
#define LONGSPAN_COORDINATOR_PREFIX_INDEX_H

#include "sys/sha256.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

#define PREFIX_INDEX_NONE UINT32_MAX

struct prefix_name {
    uint8_t bytes[SHA256_BYTES];
};

/* The name of a prefix that is one page longer than `before`: `tokens` has PAGE_TOKENS of them.
 * About 5 us. */
struct prefix_name prefix_name_next(const struct prefix_name *before, const int32_t *tokens);

bool prefix_name_equal(const struct prefix_name *a, const struct prefix_name *b);

struct prefix_index; /* opaque */

/* STATUS_NO_MEMORY. */
enum status prefix_index_create(struct prefix_index **index, struct error *error);
void prefix_index_destroy(struct prefix_index *index);

/* `owner` holds one page more than it did: `name` is that of its prefix now. STATUS_NO_MEMORY:
 * nothing is changed, and the page is not found. */
enum status prefix_index_add(struct prefix_index *index, uint32_t owner,
                             const struct prefix_name *name, struct error *error);

/* `owner` holds nothing any more. Time grows with its pages, not with those who hold the same. */
void prefix_index_remove(struct prefix_index *index, uint32_t owner);

/* `owner` does not hold the prefix of this name any more. Searches all that hold it. */
void prefix_index_remove_one(struct prefix_index *index, uint32_t owner,
                             const struct prefix_name *name);

/* Who holds the prefix of this name, the one that was added last; PREFIX_INDEX_NONE: nobody. */
uint32_t prefix_index_owner(const struct prefix_index *index, const struct prefix_name *name);

/* Goes through all that hold the prefix of this name, the one that was added last first: *at is
 * PREFIX_INDEX_NONE before the first call. False: there is no other. The index is not changed
 * meanwhile. */
bool prefix_index_next(const struct prefix_index *index, const struct prefix_name *name,
                       uint32_t *at, uint32_t *owner);

/* names[i]: of a prompt's prefix of i + 1 pages. Returns how many pages the longest prefix has that
 * somebody holds, and sets *owner to one of them, the one that was added last; 0: nobody holds
 * any. */
uint32_t prefix_index_find(const struct prefix_index *index, const struct prefix_name *names,
                           uint32_t n_names, uint32_t *owner);

#endif
