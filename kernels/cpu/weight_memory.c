/* weight_memory.c - a block is filled from its beginning; what is given back inside one is not used
 * again, because models are loaded and dropped as a whole. */
#include "kernels/cpu/weight_memory.h"

#include "sys/memory.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

static const size_t BLOCK_BYTES = (size_t)256 << 20;

struct weight_block {
    struct weight_block *next;
    char *base;
    size_t bytes, used;
    uint32_t n_lent;
};

static enum status add_block(struct weight_memory *memory, size_t bytes, struct error *error)
{
    struct weight_block *block = calloc(1, sizeof(*block));
    void *base;
    if (block == NULL)
        return error_set(error, STATUS_NO_MEMORY, "kernels: no memory for weights");
    const enum status status = memory_reserve(&base, bytes, error);
    if (status != STATUS_OK) {
        free(block);
        return status;
    }
    *block = (struct weight_block){.next = memory->blocks, .base = base, .bytes = bytes};
    memory->blocks = block;
    return STATUS_OK;
}

enum status weight_memory_take(struct weight_memory *memory, void **start, size_t bytes,
                               struct error *error)
{
    assert(bytes > 0);
    if (bytes > SIZE_MAX / 2)
        return error_set(error, STATUS_NO_MEMORY, "kernels: no memory for %zu bytes", bytes);
    const size_t whole =
        (bytes + WEIGHT_MEMORY_ALIGNMENT - 1) / WEIGHT_MEMORY_ALIGNMENT * WEIGHT_MEMORY_ALIGNMENT;
    struct weight_block *block = memory->blocks;
    while (block != NULL && block->bytes - block->used < whole)
        block = block->next;
    if (block == NULL) {
        const enum status status =
            add_block(memory, whole > BLOCK_BYTES ? whole : BLOCK_BYTES, error);
        if (status != STATUS_OK)
            return status;
        block = memory->blocks;
    }
    *start = block->base + block->used;
    block->used += whole;
    block->n_lent++;
    return STATUS_OK;
}

void weight_memory_give(struct weight_memory *memory, void *start)
{
    if (start == NULL)
        return;
    struct weight_block **link = &memory->blocks;
    while (*link != NULL &&
           ((char *)start < (*link)->base || (char *)start >= (*link)->base + (*link)->bytes))
        link = &(*link)->next;
    struct weight_block *block = *link;
    assert(block != NULL && block->n_lent > 0);
    if (--block->n_lent > 0)
        return;
    *link = block->next;
    memory_release(block->base, block->bytes);
    free(block);
}
