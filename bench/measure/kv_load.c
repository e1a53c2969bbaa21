/* kv_load.c - some tiles are written through kv_round and tile_write, and copied everywhere. */
#include "bench/measure/kv_load.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_pool.h"
#include "kernels/attention/tile.h"
#include "sys/machine.h"
#include "sys/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 16 }; /* different tiles */

static float *seeded(size_t n, float scale)
{
    float *x = aligned_alloc(64, (n * sizeof(*x) + 63) / 64 * 64);
    uint64_t state = 1;
    for (size_t i = 0; x != NULL && i < n; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        x[i] = scale * (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    return x;
}

/* Tiles one after the other; NULL: no memory. */
static char *sample_tiles(enum kv_type type, uint32_t head_dim, uint32_t n_tiles)
{
    const size_t one = tile_bytes(type, head_dim), row = kv_row_bytes(type, head_dim);
    const size_t n = (size_t)n_tiles * TILE_TOKENS;
    char *tiles = aligned_alloc(64, n_tiles * one), *rows = malloc(n * row);
    float *x = seeded(n * head_dim, 1.0f);
    if (tiles == NULL || rows == NULL || x == NULL) {
        free(tiles);
        tiles = NULL;
    } else {
        kv_round(type, rows, x, n * head_dim);
        for (uint32_t i = 0; i < n_tiles; i++) {
            const char *k = rows + (size_t)i * TILE_TOKENS * row;
            const char *v = rows + (size_t)(n_tiles - 1 - i) * TILE_TOKENS * row;
            tile_write(tiles + i * one, type, head_dim, 0, TILE_TOKENS, k, v, row);
        }
    }
    free(rows);
    free(x);
    return tiles;
}

static uint32_t total_pages(const struct kv_load_shape *shape)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < shape->n_sequences; s++)
        n += (shape->contexts[s] + shape->n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
    return n;
}

/* Query tokens are cut at tiles, as a worker does: tile by tile, the causal own tile last. */
static void make_works(struct kv_load *load)
{
    const struct kv_load_shape *shape = &load->shape;
    const struct attend_shape *attend = &shape->attend;
    const size_t q_row = (size_t)shape->n_kv_heads * attend->group * attend->head_dim;
    struct attend_work *work = load->works;
    const float *q = load->q;
    float *out = load->out;
    void **pages = load->pages;
    size_t range = 0;
    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        const uint32_t context = shape->contexts[s];
        const uint32_t n_pages = (context + shape->n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
        for (uint32_t h = 0; h < shape->n_kv_heads; h++, pages += n_pages)
            for (uint32_t t = 0; t < shape->n_tokens; t += TILE_TOKENS) {
                const uint32_t left = shape->n_tokens - t, own = (context + t) / TILE_TOKENS;
                load->ranges[range] = (struct tile_range){0, own};
                *work = (struct attend_work){
                    .q = q + t * q_row + (size_t)h * attend->group * attend->head_dim,
                    .q_token_stride = q_row,
                    .n_tokens = left < TILE_TOKENS ? left : TILE_TOKENS,
                    .position = context + t,
                    .source = {pages, 0, PAGE_TILES},
                    .ranges = &load->ranges[range++],
                    .n_ranges = 1,
                    .own_tile = shape->n_tokens > 1, /* decode: the open tile is next to nothing */
                    .out = out,
                };
                out += attend_out_floats(attend, work);
                work++;
            }
        q += shape->n_tokens * q_row;
    }
}

static size_t out_floats(const struct kv_load *load)
{
    const struct attend_shape *attend = &load->shape.attend;
    size_t n = 0;
    for (uint32_t s = 0; s < load->shape.n_sequences; s++)
        for (uint32_t t = 0; t < load->shape.n_tokens; t += TILE_TOKENS) {
            const uint32_t left = load->shape.n_tokens - t;
            const uint32_t position = load->shape.contexts[s] + t;
            const struct tile_range range = {0, position / TILE_TOKENS};
            const struct attend_work work = {.n_tokens = left < TILE_TOKENS ? left : TILE_TOKENS,
                                             .position = position,
                                             .ranges = &range,
                                             .n_ranges = 1,
                                             .own_tile = true};
            n += attend_out_floats(attend, &work);
        }
    return n * load->shape.n_kv_heads;
}

/* Pages of all layers, heads and sequences, taken in turns: page 0 of every plane, then page 1. */
static void place_pages(struct kv_load *load, const char *tiles)
{
    const struct kv_load_shape *shape = &load->shape;
    const size_t page_bytes = PAGE_TILES * tile_bytes(shape->attend.type, shape->attend.head_dim);
    const size_t layer_pages = (size_t)total_pages(shape) * shape->n_kv_heads;
    uint32_t most = 0, sample = 0;
    for (uint32_t s = 0; s < shape->n_sequences; s++)
        most = shape->contexts[s] > most ? shape->contexts[s] : most;
    most = (most + shape->n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
    for (uint32_t page = 0; page < most; page++)
        for (uint32_t layer = 0; layer < load->n_layers; layer++) {
            size_t first = layer * layer_pages;
            for (uint32_t s = 0; s < shape->n_sequences; s++) {
                const uint32_t n =
                    (shape->contexts[s] + shape->n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
                for (uint32_t h = 0; h < shape->n_kv_heads; h++, first += n) {
                    if (page >= n)
                        continue;
                    void **here = &load->pages[first + page];
                    *here = kv_pool_take(load->kv, page > 0 ? here[-1] : NULL, page >= KV_POOL_RUN);
                    memcpy(*here, tiles + (size_t)(sample++ % (SAMPLES / PAGE_TILES)) * page_bytes,
                           page_bytes);
                }
            }
        }
}

/* The works of the other layers: those of the first, over other pages. */
static void copy_layers(struct kv_load *load)
{
    const size_t layer_pages = (size_t)total_pages(&load->shape) * load->shape.n_kv_heads;
    for (uint32_t layer = 1; layer < load->n_layers; layer++)
        for (size_t i = 0; i < load->n_works; i++) {
            struct attend_work *work = &load->works[layer * load->n_works + i];
            *work = load->works[i];
            work->source.pages += layer * layer_pages;
        }
}

static void count_layer(struct kv_load *load)
{
    const struct kv_load_shape *shape = &load->shape;
    const size_t one = tile_bytes(shape->attend.type, shape->attend.head_dim);
    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        const double past = shape->contexts[s], n = shape->n_tokens;
        const double seen = n * past + (shape->n_tokens > 1 ? n * (n + 1) / 2 : 0);
        load->layer_flops +=
            4.0 * shape->attend.head_dim * shape->attend.group * shape->n_kv_heads * seen;
        load->layer_bytes += shape->contexts[s] / TILE_TOKENS * one * shape->n_kv_heads;
    }
}

/* One that is not scarce: a plane's last run may stay half empty. */
static enum status make_pool(struct kv_load *load, size_t n_pages, size_t page_bytes,
                             struct error *error)
{
    const size_t n_planes =
        (size_t)load->n_layers * load->shape.n_sequences * load->shape.n_kv_heads;
    const enum status status =
        kv_pool_create(&load->kv, NULL, n_pages + n_planes * KV_POOL_RUN, page_bytes, error);
    if (status == STATUS_OK && !kv_pool_promise(load->kv, n_pages))
        assert(!"as many pages as were made");
    return status;
}

enum status kv_load_create(struct kv_load *load, const struct kv_load_shape *shape,
                           struct error *error)
{
    const struct attend_shape *attend = &shape->attend;
    enum status status = tile_check(attend->type, attend->head_dim, error);
    if (status != STATUS_OK)
        return status;
    assert(shape->n_sequences <= KV_LOAD_SEQUENCES && shape->n_kv_heads <= KV_LOAD_HEADS);
    *load = (struct kv_load){.shape = *shape};
    count_layer(load);
    const size_t layer_pages = (size_t)total_pages(shape) * shape->n_kv_heads;
    const size_t page_bytes = PAGE_TILES * tile_bytes(attend->type, attend->head_dim);
    load->n_layers =
        load->layer_bytes > 0 ? (uint32_t)(shape->least_bytes / load->layer_bytes + 1) : 1;
    load->n_works = (size_t)shape->n_sequences * shape->n_kv_heads *
                    ((shape->n_tokens + TILE_TOKENS - 1) / TILE_TOKENS);
    load->kv_bytes = load->n_layers * layer_pages * page_bytes;
    load->q_bytes = (size_t)shape->n_sequences * shape->n_tokens * shape->n_kv_heads *
                    attend->group * attend->head_dim * sizeof(float);
    load->out_bytes = out_floats(load) * sizeof(float);
    load->works = calloc(load->n_layers * load->n_works, sizeof(*load->works));
    load->ranges = calloc(load->n_works, sizeof(*load->ranges));
    load->pages = calloc(load->n_layers * layer_pages, sizeof(*load->pages));
    load->q = seeded(load->q_bytes / sizeof(float), 1.0f);
    char *tiles = sample_tiles(attend->type, attend->head_dim, SAMPLES);
    if (load->works == NULL || load->ranges == NULL || load->pages == NULL || load->q == NULL ||
        tiles == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a load of %zu works",
                           load->n_layers * load->n_works);
    if (status == STATUS_OK)
        status = make_pool(load, load->n_layers * layer_pages, page_bytes, error);
    if (status == STATUS_OK)
        status = memory_reserve(&load->out, load->out_bytes, error);
    if (status == STATUS_OK) {
        place_pages(load, tiles);
        make_works(load);
        copy_layers(load);
    } else {
        kv_load_destroy(load);
    }
    free(tiles);
    return status;
}

void kv_load_destroy(struct kv_load *load)
{
    kv_pool_destroy(load->kv);
    memory_release(load->out, load->out_bytes);
    free(load->q);
    free(load->works);
    free(load->ranges);
    free(load->pages);
    memset(load, 0, sizeof(*load));
}

enum status kv_load_layers(const struct kv_load *load, struct attend *attend, uint32_t first,
                           uint32_t n, struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < n && status == STATUS_OK; i++)
        status = attend_run(attend, load->works + (first + i) % load->n_layers * load->n_works,
                            load->n_works, error);
    return status;
}

enum status kv_load_pass(const struct kv_load *load, struct attend *attend, struct error *error)
{
    return kv_load_layers(load, attend, 0, load->n_layers, error);
}

uint64_t kv_load_beyond_caches(void)
{
    const uint64_t cache = machine_last_cache_bytes();
    return 8 * (cache > 0 ? cache : (uint64_t)32 << 20);
}

void kv_load_name(const struct kv_load_shape *shape, char *text, size_t size)
{
    bool uniform = true;
    for (uint32_t s = 1; s < shape->n_sequences; s++)
        uniform &= shape->contexts[s] == shape->contexts[0];
    size_t used = 0;
    if (uniform && shape->n_sequences > 1)
        used += (size_t)snprintf(text, size, "%u x ", shape->n_sequences);
    for (uint32_t s = 0; s < (uniform ? 1 : shape->n_sequences) && used < size; s++) {
        const uint32_t n = shape->contexts[s];
        used += (size_t)snprintf(text + used, size - used, "%s%u%s", s == 0 ? "" : "+",
                                 n % 1024 == 0 ? n / 1024 : n, n % 1024 == 0 ? "k" : "");
    }
}
