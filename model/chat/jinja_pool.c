/* jinja_pool.c - see jinja_pool.h. Small pieces share blocks, large ones have their own. */
#include "model/chat/jinja_pool.h"

#include <stdalign.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 1 << 16, LARGE_BYTES = 1 << 13 };

struct jinja_block {
    struct jinja_block *next;
    size_t used, capacity;
    alignas(max_align_t) unsigned char data[];
};

static struct jinja_block *add_block(struct jinja_pool *pool, size_t capacity)
{
    struct jinja_block *block = calloc(1, sizeof(*block) + capacity);
    if (block == NULL)
        return NULL;
    block->capacity = capacity;
    /* A large piece goes behind the block that still has room. */
    if (pool->blocks != NULL && capacity != BLOCK_BYTES) {
        block->next = pool->blocks->next;
        pool->blocks->next = block;
    } else {
        block->next = pool->blocks;
        pool->blocks = block;
    }
    return block;
}

void *jinja_pool_take(struct jinja_pool *pool, size_t n_bytes)
{
    const size_t unit = alignof(max_align_t);
    if (n_bytes > pool->limit || pool->used > pool->limit - n_bytes)
        return NULL;
    const size_t rounded = (n_bytes + unit - 1) / unit * unit;
    struct jinja_block *block = pool->blocks;
    if (rounded > LARGE_BYTES)
        block = add_block(pool, rounded);
    else if (block == NULL || block->capacity - block->used < rounded)
        block = add_block(pool, BLOCK_BYTES);
    if (block == NULL)
        return NULL;
    void *memory = block->data + block->used;
    block->used += rounded;
    pool->used += n_bytes + 1; /* also pieces of nothing come to an end */
    return memory;
}

void jinja_pool_free(struct jinja_pool *pool)
{
    while (pool->blocks != NULL) {
        struct jinja_block *next = pool->blocks->next;
        free(pool->blocks);
        pool->blocks = next;
    }
    pool->used = 0;
}
