/* worker/attention_tiles.h - the tiles that a rank keeps itself: open tiles and the chunk's tiles.
 *
 * The open tile of a sequence (one for every layer of the stage and KV head of the shard) outlives
 * the step: it takes the newest tokens until it is whole. The other tiles that a segment touches
 * are chunk tiles, needed during one layer only, so that every layer uses the same memory.
 * They are device memory; a tile is laid out as the device has it. One thread owns it. */
#ifndef LONGSPAN_WORKER_ATTENTION_TILES_H
#define LONGSPAN_WORKER_ATTENTION_TILES_H

#include "kernels/kernels.h"
#include "kernels/quant/kv_type.h"
#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

struct attention_tiles_shape {
    enum kv_type type;
    uint32_t head_dim, n_layers, n_heads;
    uint32_t n_slabs; /* sequences that have open tiles */
};

struct attention_tiles {
    const struct kernels *kernels;
    struct device *device;
    struct attention_tiles_shape shape;
    size_t tile_bytes;
    size_t slab_bytes;     /* the open tiles of one sequence: [layer][head] */
    unsigned char **slabs; /* [n_slabs]; NULL: not used yet */
    unsigned char *chunk;
    size_t n_chunk; /* chunk tiles that there is memory for */
};

/* Memory is taken as slabs are used. In host memory their address space is one, and reserved now.
 * STATUS_NO_MEMORY. */
enum status attention_tiles_open(struct attention_tiles *tiles, const struct kernels *kernels,
                                 struct device *device, const struct attention_tiles_shape *shape,
                                 struct error *error);

/* Zeroed memory is fine. */
void attention_tiles_close(struct attention_tiles *tiles);

/* Makes slab `slab` usable. STATUS_NO_MEMORY. */
enum status attention_tiles_use(struct attention_tiles *tiles, uint32_t slab, struct error *error);

/* The open tile of a usable slab; `layer` and `head` count from this rank's first. */
void *attention_tiles_slab(const struct attention_tiles *tiles, uint32_t slab, uint32_t layer,
                           uint32_t head);

/* Makes chunk tiles [0, n_tiles) usable; grows only. STATUS_NO_MEMORY: as before. */
enum status attention_tiles_reserve(struct attention_tiles *tiles, size_t n_tiles,
                                    struct error *error);

void *attention_tiles_chunk(const struct attention_tiles *tiles, size_t index);

/* In host memory: writes n_tokens tokens of one head from `position` on, as tile_write does;
 * pages[0] is the tile of `position`, the next ones follow. What lies past the last token stays
 * undefined: kernels never use it. */
void attention_tiles_write(const struct attention_tiles *tiles, void *const *pages,
                           uint32_t position, uint32_t n_tokens, const void *k, const void *v,
                           size_t stride_bytes);

#endif
