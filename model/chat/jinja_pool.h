/* model/chat/jinja_pool.h - memory that is given back all at once, with a limit.
 *
 * A template's syntax tree has one, and each rendering has one: values are made often and die
 * together. What a hostile template makes is bounded by the limit. */
#ifndef LONGSPAN_MODEL_CHAT_JINJA_POOL_H
#define LONGSPAN_MODEL_CHAT_JINJA_POOL_H

#include <stddef.h>

struct jinja_block;

/* {.limit = bytes} is empty and ready. */
struct jinja_pool {
    struct jinja_block *blocks;
    size_t used, limit; /* bytes that were asked for; at most */
};

/* Zeroed memory, aligned for anything, until jinja_pool_free. NULL: above the limit, or there is
 * none. n_bytes 0 gives a pointer that must not be read. */
void *jinja_pool_take(struct jinja_pool *pool, size_t n_bytes);

/* Leaves an empty pool with the same limit. */
void jinja_pool_free(struct jinja_pool *pool);

#endif
