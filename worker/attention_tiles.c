/* attention_tiles.c - one address range with a slab for every sequence, one buffer for the chunk.
 */
#include "worker/attention_tiles.h"

#include "kernels/attention/attend.h"
#include "sys/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum status attention_tiles_open(struct attention_tiles *tiles, enum kv_type type,
                                 uint32_t head_dim, uint32_t n_layers, uint32_t n_heads,
                                 uint32_t n_slabs, struct error *error)
{
    struct attention_tiles t = {.type = type,
                                .head_dim = head_dim,
                                .n_layers = n_layers,
                                .n_heads = n_heads,
                                .tile_bytes = tile_bytes(type, head_dim)};
    if (__builtin_mul_overflow(t.tile_bytes, (size_t)n_layers * n_heads, &t.slab_bytes) ||
        __builtin_mul_overflow(t.slab_bytes, (size_t)n_slabs, &t.slabs_bytes))
        return error_set(error, STATUS_NO_MEMORY,
                         "attention: the open tiles of %u sequences do not fit an address space; "
                         "allow fewer sequences at once",
                         n_slabs);
    void *base = NULL;
    const enum status status = memory_reserve(&base, t.slabs_bytes, error);
    if (status != STATUS_OK)
        return status;
    t.slabs = base;
    *tiles = t;
    return STATUS_OK;
}

void attention_tiles_close(struct attention_tiles *tiles)
{
    memory_release(tiles->slabs, tiles->slabs_bytes);
    free(tiles->chunk);
    memset(tiles, 0, sizeof(*tiles));
}

void *attention_tiles_slab(const struct attention_tiles *tiles, uint32_t slab, uint32_t layer,
                           uint32_t head)
{
    assert(layer < tiles->n_layers && head < tiles->n_heads);
    return tiles->slabs + slab * tiles->slab_bytes +
           ((size_t)layer * tiles->n_heads + head) * tiles->tile_bytes;
}

enum status attention_tiles_reserve(struct attention_tiles *tiles, size_t n_tiles,
                                    struct error *error)
{
    if (n_tiles <= tiles->n_chunk)
        return STATUS_OK;
    size_t bytes;
    unsigned char *chunk = NULL;
    if (!__builtin_mul_overflow(n_tiles, tiles->tile_bytes, &bytes))
        chunk = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (chunk == NULL)
        return error_set(error, STATUS_NO_MEMORY,
                         "attention: no memory for %zu tiles of %zu bytes; use smaller chunks",
                         n_tiles, tiles->tile_bytes);
    free(tiles->chunk); /* nothing in it outlives a step */
    tiles->chunk = chunk;
    tiles->n_chunk = n_tiles;
    return STATUS_OK;
}

void *attention_tiles_chunk(const struct attention_tiles *tiles, size_t index)
{
    assert(index < tiles->n_chunk);
    return tiles->chunk + index * tiles->tile_bytes;
}

void attention_tiles_write(const struct attention_tiles *tiles, void *const *pages,
                           uint32_t position, uint32_t n_tokens, const void *k, const void *v,
                           size_t stride_bytes)
{
    const unsigned char *k_bytes = k, *v_bytes = v;
    uint32_t first = position % TILE_TOKENS;
    for (size_t page = 0; n_tokens > 0; page++, first = 0) {
        const uint32_t room = TILE_TOKENS - first, n = n_tokens < room ? n_tokens : room;
        tile_write(pages[page], tiles->type, tiles->head_dim, first, n, k_bytes, v_bytes,
                   stride_bytes);
        k_bytes += n * stride_bytes;
        v_bytes += n * stride_bytes;
        n_tokens -= n;
    }
}
