/* arena.c - a block that is filled from its beginning, and a list for what it cannot hold yet. */
#include "proto/arena.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, DEFAULT_LIMIT = 64 << 20 };

struct arena_extra {
    struct arena_extra *next;
    size_t padding; /* keeps what follows aligned */
};
_Static_assert(sizeof(struct arena_extra) % ALIGNMENT == 0, "memory behind it is aligned");

static void *allocate(void *data, size_t bytes)
{
    return arena_take(data, bytes);
}

static void keep(void *data, void *pointer)
{
    (void)data;
    (void)pointer; /* freed by the next reset */
}

void arena_init(struct arena *arena, size_t limit)
{
    *arena = (struct arena){.limit = limit > 0 ? limit : DEFAULT_LIMIT};
    arena->allocator = (ProtobufCAllocator){allocate, keep, arena};
}

static void free_extra(struct arena *arena)
{
    while (arena->extra != NULL) {
        struct arena_extra *extra = arena->extra;
        arena->extra = extra->next;
        free(extra);
    }
}

void arena_destroy(struct arena *arena)
{
    free_extra(arena);
    free(arena->block);
    arena->block = NULL;
    arena->block_bytes = arena->used = arena->total = 0;
}

void arena_reset(struct arena *arena)
{
    if (arena->extra != NULL) {
        const size_t wanted = arena->total < ARENA_KEPT_BYTES ? arena->total : ARENA_KEPT_BYTES;
        free_extra(arena);
        if (wanted > arena->block_bytes) {
            free(arena->block);
            arena->block = malloc(wanted);
            arena->block_bytes = arena->block != NULL ? wanted : 0;
        }
    }
    arena->used = arena->total = 0;
}

void *arena_take(struct arena *arena, size_t bytes)
{
    if (bytes > arena->limit)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    bytes = bytes > 0 ? bytes : ALIGNMENT;
    if (bytes > arena->limit - arena->total)
        return NULL;
    if (bytes <= arena->block_bytes - arena->used) {
        void *memory = arena->block + arena->used;
        arena->used += bytes;
        arena->total += bytes;
        return memory;
    }
    struct arena_extra *extra = malloc(sizeof(*extra) + bytes);
    if (extra == NULL)
        return NULL;
    extra->next = arena->extra;
    arena->extra = extra;
    arena->total += bytes;
    return extra + 1;
}

void *arena_array(struct arena *arena, size_t n, size_t bytes)
{
    size_t total;
    if (__builtin_mul_overflow(n, bytes, &total))
        return NULL;
    void *memory = arena_take(arena, total);
    if (memory != NULL)
        memset(memory, 0, total);
    return memory;
}
