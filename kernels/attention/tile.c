/* tile.c - the layout of a tile, and the table of tile kernels.
 *
 * K lies transposed in blocks of 16 tokens, so that one vector holds one dimension of 16 tokens:
 * the sums over head_dim of 16 scores then run side by side, and no kernel ever adds across a
 * vector. */
#include "kernels/attention/tile.h"

#include "kernels/kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

size_t tile_bytes(enum kv_type type, uint32_t head_dim)
{
    return 2 * (size_t)TILE_TOKENS * head_dim * kv_type_bytes(type);
}

/* One width of element at a time: the compiler sees plain copies. */
#define TILE_COPY(name, element)                                                                   \
    static void name##_write(void *tile, uint32_t head_dim, uint32_t first, uint32_t n_tokens,     \
                             const char *k, const char *v, size_t stride_bytes)                    \
    {                                                                                              \
        element *tile_k = tile, *tile_v = tile_k + (size_t)TILE_TOKENS * head_dim;                 \
        for (uint32_t i = 0; i < n_tokens; i++) {                                                  \
            const uint32_t token = first + i;                                                      \
            const element *row = (const element *)(const void *)(k + i * stride_bytes);            \
            element *column = tile_k + (size_t)(token / TILE_BLOCK) * TILE_BLOCK * head_dim +      \
                              token % TILE_BLOCK;                                                  \
            for (uint32_t d = 0; d < head_dim; d++)                                                \
                column[(size_t)d * TILE_BLOCK] = row[d];                                           \
            memcpy(tile_v + (size_t)token * head_dim, v + i * stride_bytes,                        \
                   head_dim * sizeof(element));                                                    \
        }                                                                                          \
    }                                                                                              \
    static void name##_read(const void *tile, uint32_t head_dim, uint32_t first,                   \
                            uint32_t n_tokens, char *k, char *v, size_t stride_bytes)              \
    {                                                                                              \
        const element *tile_k = tile, *tile_v = tile_k + (size_t)TILE_TOKENS * head_dim;           \
        for (uint32_t i = 0; i < n_tokens; i++) {                                                  \
            const uint32_t token = first + i;                                                      \
            element *row = (element *)(void *)(k + i * stride_bytes);                              \
            const element *column = tile_k +                                                       \
                                    (size_t)(token / TILE_BLOCK) * TILE_BLOCK * head_dim +         \
                                    token % TILE_BLOCK;                                            \
            for (uint32_t d = 0; d < head_dim; d++)                                                \
                row[d] = column[(size_t)d * TILE_BLOCK];                                           \
            memcpy(v + i * stride_bytes, tile_v + (size_t)token * head_dim,                        \
                   head_dim * sizeof(element));                                                    \
        }                                                                                          \
    }
TILE_COPY(halves, uint16_t)
TILE_COPY(floats, uint32_t)
#undef TILE_COPY

void tile_write(void *tile, enum kv_type type, uint32_t head_dim, uint32_t first, uint32_t n_tokens,
                const void *k, const void *v, size_t stride_bytes)
{
    assert(first + n_tokens <= TILE_TOKENS);
    (type == KV_F16 ? halves_write : floats_write)(tile, head_dim, first, n_tokens, k, v,
                                                   stride_bytes);
}

void tile_read(const void *tile, enum kv_type type, uint32_t head_dim, uint32_t first,
               uint32_t n_tokens, void *k, void *v, size_t stride_bytes)
{
    assert(first + n_tokens <= TILE_TOKENS);
    (type == KV_F16 ? halves_read : floats_read)(tile, head_dim, first, n_tokens, k, v,
                                                 stride_bytes);
}

const struct tile_kernels *tile_kernels_find(const char *name)
{
    static const struct tile_kernels *const all[] = {
        &tile_kernels_scalar,
#if defined(__x86_64__)
        &tile_kernels_avx2,
        &tile_kernels_avx512,
#endif
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

const struct tile_kernels *tile_kernels_fastest(void)
{
    const struct tile_kernels *fastest = &tile_kernels_scalar;
    for (const struct kernels *const *k = kernels_all; *k != NULL; k++) /* slowest first */
        if (strcmp((*k)->device, "cpu") == 0 && tile_kernels_find((*k)->name) != NULL &&
            (*k)->usable())
            fastest = tile_kernels_find((*k)->name);
    return fastest;
}

size_t tile_scratch_floats(uint32_t head_dim)
{
    const size_t padded = (head_dim + 15) / 16 * 16;
    return 2 * TILE_TOKENS * padded + TILE_BLOCK_ROWS * (TILE_TOKENS + padded);
}

struct tile_partial tile_partial_at(float *partial, size_t n_rows, size_t head_dim, size_t row)
{
    return (struct tile_partial){.m = partial + row,
                                 .l = partial + n_rows + row,
                                 .o = partial + 2 * n_rows + row * head_dim};
}

void tile_partial_clear(struct tile_partial partial, size_t n_rows, size_t head_dim)
{
    for (size_t row = 0; row < n_rows; row++) {
        partial.m[row] = -INFINITY;
        partial.l[row] = 0.0f;
    }
    memset(partial.o, 0, n_rows * head_dim * sizeof(*partial.o));
}
