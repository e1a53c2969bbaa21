/* tests/kernels/attention/kv_holder_tokens.h - a small holder, and tokens whose values say what
 * they are. */
#ifndef LONGSPAN_TESTS_KERNELS_ATTENTION_KV_HOLDER_TOKENS_H
#define LONGSPAN_TESTS_KERNELS_ATTENTION_KV_HOLDER_TOKENS_H

#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "tests/cmocka.h"

#include <stdlib.h>

enum {
    D = 8,
    LAYER = 4,
    N_LAYERS = 2,
    HEAD = 2,
    N_HEADS = 3,
    N_PLANES = N_LAYERS * N_HEADS,
    PAGE_BYTES = 2 * PAGE_TOKENS * D * 4, /* of a plane: K and V, f32 */
    CHUNK = 512
};

static const struct kv_holder_shape shape = {.type = KV_F32,
                                             .head_dim = D,
                                             .first_layer = LAYER,
                                             .n_layers = N_LAYERS,
                                             .first_kv_head = HEAD,
                                             .n_kv_heads = N_HEADS};

/* `window`: of the last layer; 0: no layer has one. */
static inline struct kv_holder *holder_with_window(uint64_t n_pages, uint32_t window)
{
    struct kv_holder *holder = NULL;
    const uint32_t windows[N_LAYERS] = {0, window};
    struct kv_holder_shape windowed = shape;
    windowed.windows = windows;
    windowed.chunk = CHUNK;
    assert_int_equal(kv_holder_create(&holder, kernels_all[0], NULL, &windowed,
                                      n_pages * PAGE_BYTES + 100, NULL),
                     STATUS_OK);
    assert_int_equal(kv_holder_usage(holder).pages_total, n_pages);
    assert_int_equal(kv_holder_usage(holder).page_bytes, PAGE_BYTES);
    return holder;
}

static inline struct kv_holder *holder_of(uint64_t n_pages)
{
    return holder_with_window(n_pages, 0);
}

/* The value that is stored for a token: its writer, plane, dimension and place. */
static inline float value_of(uint32_t seed, uint32_t plane, uint32_t token, uint32_t d, bool is_v)
{
    return (float)(((seed * 31 + plane) * 64 + d * 2 + is_v) % 4096) + (float)token / 16384.0f;
}

/* In a step from `position` on. */
static inline enum status append_at(struct kv_holder *holder, uint64_t sequence,
                                    uint32_t incarnation, uint32_t layer, uint32_t head,
                                    uint32_t n_heads, uint32_t position, uint32_t first,
                                    uint32_t n_tokens, uint32_t seed)
{
    const size_t n = (size_t)n_tokens * n_heads * D;
    float *k = malloc((n + 1) * sizeof(*k)), *v = malloc((n + 1) * sizeof(*v));
    for (uint32_t t = 0; t < n_tokens; t++)
        for (uint32_t h = 0; h < n_heads; h++)
            for (uint32_t d = 0; d < D; d++) {
                const uint32_t plane = (layer - LAYER) * N_HEADS + (head - HEAD) + h;
                k[(t * n_heads + h) * D + d] = value_of(seed, plane, first + t, d, false);
                v[(t * n_heads + h) * D + d] = value_of(seed, plane, first + t, d, true);
            }
    const enum status status = kv_holder_append(
        holder, sequence, incarnation, (struct kv_heads){layer, head, n_heads},
        &(struct kv_append){
            .position = position, .first = first, .n_tokens = n_tokens, .k = k, .v = v},
        NULL);
    free(k);
    free(v);
    return status;
}

static inline enum status append(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                                 uint32_t layer, uint32_t head, uint32_t n_heads, uint32_t first,
                                 uint32_t n_tokens, uint32_t seed)
{
    return append_at(holder, sequence, incarnation, layer, head, n_heads, first, first, n_tokens,
                     seed);
}

static inline void check_token(const struct tile_source *source, uint32_t plane, uint32_t token,
                               uint32_t seed)
{
    const uint32_t tile = token / TILE_TOKENS - source->first_tile;
    const char *page = source->pages[tile / source->page_tiles];
    float k[D], v[D];
    tile_read(page + tile % source->page_tiles * tile_bytes(KV_F32, D), KV_F32, D,
              token % TILE_TOKENS, 1, k, v, sizeof(k));
    for (uint32_t d = 0; d < D; d++) {
        assert_true(k[d] == value_of(seed, plane, token, d, false));
        assert_true(v[d] == value_of(seed, plane, token, d, true));
    }
}

#endif
