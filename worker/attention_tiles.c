/* attention_tiles.c - a slab for every sequence, one buffer for the chunk. */
#include "worker/attention_tiles.h"

#include "kernels/attention/attend.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Slabs that are taken at once: in host memory all, which costs nothing before they are touched. */
static uint32_t slabs_at_once(const struct attention_tiles *tiles)
{
    return tiles->kernels->host_memory ? tiles->shape.n_slabs : 1;
}

enum status attention_tiles_open(struct attention_tiles *tiles, const struct kernels *kernels,
                                 struct device *device, const struct attention_tiles_shape *shape,
                                 struct error *error)
{
    const uint32_t n_slabs = shape->n_slabs;
    struct attention_tiles t = {.kernels = kernels,
                                .device = device,
                                .shape = *shape,
                                .tile_bytes = tile_bytes(shape->type, shape->head_dim)};
    size_t all;
    if (__builtin_mul_overflow(t.tile_bytes, (size_t)shape->n_layers * shape->n_heads,
                               &t.slab_bytes) ||
        __builtin_mul_overflow(t.slab_bytes, (size_t)n_slabs, &all))
        return error_set(error, STATUS_NO_MEMORY,
                         "attention: the open tiles of %u sequences do not fit an address space; "
                         "allow fewer sequences at once",
                         n_slabs);
    if ((t.slabs = calloc((size_t)n_slabs + 1, sizeof(*t.slabs))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory for %u sequences", n_slabs);
    enum status status = STATUS_OK;
    if (kernels->host_memory)
        status = attention_tiles_use(&t, 0, error);
    if (status != STATUS_OK)
        free(t.slabs);
    else
        *tiles = t;
    return status;
}

void attention_tiles_close(struct attention_tiles *tiles)
{
    if (tiles->slabs == NULL)
        return;
    for (uint32_t i = 0; i < tiles->shape.n_slabs; i += slabs_at_once(tiles))
        tiles->kernels->memory_give(tiles->device, tiles->slabs[i]);
    tiles->kernels->memory_give(tiles->device, tiles->chunk);
    free(tiles->slabs);
    memset(tiles, 0, sizeof(*tiles));
}

enum status attention_tiles_use(struct attention_tiles *tiles, uint32_t slab, struct error *error)
{
    assert(slab < tiles->shape.n_slabs);
    if (tiles->slabs[slab] != NULL)
        return STATUS_OK;
    const uint32_t n = slabs_at_once(tiles), first = slab / n * n;
    void *memory;
    const enum status status =
        tiles->kernels->memory_take(tiles->device, &memory, n * tiles->slab_bytes, error);
    for (uint32_t i = 0; status == STATUS_OK && i < n; i++)
        tiles->slabs[first + i] = (unsigned char *)memory + i * tiles->slab_bytes;
    return status;
}

void *attention_tiles_slab(const struct attention_tiles *tiles, uint32_t slab, uint32_t layer,
                           uint32_t head)
{
    assert(layer < tiles->shape.n_layers && head < tiles->shape.n_heads &&
           tiles->slabs[slab] != NULL);
    return tiles->slabs[slab] + ((size_t)layer * tiles->shape.n_heads + head) * tiles->tile_bytes;
}

enum status attention_tiles_reserve(struct attention_tiles *tiles, size_t n_tiles,
                                    struct error *error)
{
    if (n_tiles <= tiles->n_chunk)
        return STATUS_OK;
    size_t bytes;
    void *chunk = NULL;
    struct error why = {.status = STATUS_OK};
    if (__builtin_mul_overflow(n_tiles, tiles->tile_bytes, &bytes) ||
        tiles->kernels->memory_take(tiles->device, &chunk, bytes, &why) != STATUS_OK)
        return error_set(error, STATUS_NO_MEMORY,
                         "attention: no memory for %zu tiles of %zu bytes; use smaller chunks",
                         n_tiles, tiles->tile_bytes);
    tiles->kernels->memory_give(tiles->device, tiles->chunk); /* nothing there outlives a step */
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
        tile_write(pages[page], tiles->shape.type, tiles->shape.head_dim, first, n, k_bytes,
                   v_bytes, stride_bytes);
        k_bytes += n * stride_bytes;
        v_bytes += n * stride_bytes;
        n_tokens -= n;
    }
}
