/* tests/kernels/attention/place.h - the cases of attention on any device: K, V, q and results are
 * made in host memory, and brought to the device and back around each call. */
#ifndef LONGSPAN_TESTS_KERNELS_ATTENTION_PLACE_H
#define LONGSPAN_TESTS_KERNELS_ATTENTION_PLACE_H

#include "kernels/attention/device.h"
#include "kernels/kernels.h"
#include "tests/cmocka.h"
#include "tests/kernels/attention/reference.h"

enum { PLACE_KVS = 16 };

/* A made_kv, in tiles of the device. */
struct place_kv {
    const struct made_kv *kv;
    char *memory;
};

static struct place {
    const struct kernels *kernels; /* NULL: host memory, in the variant that a case asks for */
    struct device *device;
    uint32_t head_dim; /* of the cases in which it does not matter */
    struct place_kv kvs[PLACE_KVS];
} place = {.head_dim = 32};

static inline void *place_take(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(place.kernels->memory_take(place.device, &memory, bytes, NULL), STATUS_OK);
    return memory;
}

static inline void place_finish(void)
{
    struct error error = {0};
    if (place.kernels->finish(place.device, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

/* Copies of the kv's rounded rows, in its type. */
static inline void *place_rows(const struct made_kv *kv, const float *rows)
{
    const size_t bytes = kv->n_tokens * kv_row_bytes(kv->type, kv->head_dim);
    void *host = malloc(bytes + 1), *there = place_take(bytes);
    kv_round(kv->type, host, rows, (size_t)kv->n_tokens * kv->head_dim);
    place.kernels->upload(place.device, there, host, bytes);
    place_finish();
    free(host);
    return there;
}

static inline void place_add(const struct made_kv *kv)
{
    struct place_kv *to = place.kvs;
    while (to->kv != NULL)
        assert_true(++to < place.kvs + PLACE_KVS);
    const size_t row_bytes = kv_row_bytes(kv->type, kv->head_dim);
    const size_t bytes = tile_bytes(kv->type, kv->head_dim);
    *to = (struct place_kv){kv, place_take(kv->n_tiles * bytes)};
    char *nan = malloc(kv->n_tiles * bytes);
    memset(nan, 0xff, kv->n_tiles * bytes); /* where no token is written */
    place.kernels->upload(place.device, to->memory, nan, kv->n_tiles * bytes);
    char *k = place_rows(kv, kv->k), *v = place_rows(kv, kv->v);
    struct tile_tokens *writes = malloc((kv->n_tokens + 1) * sizeof(*writes));
    size_t n_writes = 0;
    for (uint32_t first = 0, n; first < kv->n_tokens; first += n) { /* in uneven pieces */
        const uint32_t left = TILE_TOKENS - first % TILE_TOKENS, step = 1 + first % 97;
        n = step < left ? step : left;
        n = n < kv->n_tokens - first ? n : kv->n_tokens - first;
        writes[n_writes++] = (struct tile_tokens){.tile = to->memory + first / TILE_TOKENS * bytes,
                                                  .k = k + first * row_bytes,
                                                  .v = v + first * row_bytes,
                                                  .first = first % TILE_TOKENS,
                                                  .n_tokens = n};
    }
    place.kernels->attention_device->write(place.device, kv->type, kv->head_dim, row_bytes, writes,
                                           n_writes);
    place_finish();
    free(writes);
    free(nan);
    place.kernels->memory_give(place.device, k);
    place.kernels->memory_give(place.device, v);
}

/* As made_kv_create and made_kv_destroy. */
static inline struct made_kv *place_kv_create(enum kv_type type, uint32_t head_dim,
                                              uint32_t n_tokens, uint32_t page_tiles, float k_scale,
                                              uint64_t seed)
{
    struct made_kv *kv = made_kv_create(type, head_dim, n_tokens, page_tiles, k_scale, seed);
    if (place.kernels != NULL)
        place_add(kv);
    return kv;
}

static inline void place_remove(const struct made_kv *kv)
{
    for (struct place_kv *at = place.kvs; at < place.kvs + PLACE_KVS; at++)
        if (place.kernels != NULL && at->kv == kv) {
            place.kernels->memory_give(place.device, at->memory);
            at->kv = NULL;
        }
}

static inline void place_kv_destroy(struct made_kv *kv)
{
    place_remove(kv);
    made_kv_destroy(kv);
}

/* As made_kv_store, of other rows than it was created with. */
static inline void place_kv_store(struct made_kv *kv)
{
    made_kv_store(kv);
    place_remove(kv);
    if (place.kernels != NULL)
        place_add(kv);
}

/* The device's address of what a page of a made_kv holds. */
static inline char *place_page(const char *page)
{
    for (struct place_kv *at = place.kvs; at < place.kvs + PLACE_KVS; at++)
        if (at->kv != NULL && page >= at->kv->memory &&
            page < at->kv->memory + at->kv->n_tiles * tile_bytes(at->kv->type, at->kv->head_dim))
            return at->memory + (page - at->kv->memory);
    fail_msg("a page of no K and V that are there");
    return NULL;
}

/* A work's memory on the device. */
struct place_work {
    void *q, *out;
    void **pages;
    size_t out_bytes;
};

static inline struct attend_work place_bring(const struct attend_shape *shape,
                                             const struct attend_work *work,
                                             struct place_work *there)
{
    struct attend_work moved = *work;
    const size_t row = (size_t)shape->group * shape->head_dim;
    const size_t q_bytes = ((work->n_tokens - 1) * work->q_token_stride + row) * sizeof(float);
    const uint32_t n_pages =
        (work->position / TILE_TOKENS + 1 - work->source.first_tile + work->source.page_tiles - 1) /
        work->source.page_tiles;
    there->out_bytes = work->final_out != NULL
                           ? ((work->n_tokens - 1) * work->final_token_stride + row) * sizeof(float)
                           : attend_out_floats(shape, work) * sizeof(float);
    there->q = place_take(q_bytes);
    there->out = place_take(there->out_bytes);
    there->pages = malloc((n_pages + 1) * sizeof(void *));
    for (uint32_t i = 0; i < n_pages; i++)
        there->pages[i] = place_page(work->source.pages[i]);
    place.kernels->upload(place.device, there->q, work->q, q_bytes);
    place.kernels->upload(place.device, there->out,
                          work->final_out != NULL ? work->final_out : work->out, there->out_bytes);
    moved.q = there->q;
    moved.source.pages = there->pages;
    moved.settled_tiles = work->position / TILE_TOKENS; /* place_kv_create brought them */
    *(work->final_out != NULL ? &moved.final_out : &moved.out) = there->out;
    return moved;
}

static inline float *place_out(const struct attend_work *work)
{
    return work->final_out != NULL ? work->final_out : work->out;
}

/* The same works as a prepared call, launched twice: the bits that attend_run gave. */
static inline void place_run_prepared(struct attend *attend, const struct attend_shape *shape,
                                      const struct attend_work *works,
                                      const struct attend_work *moved,
                                      const struct place_work *there, size_t n_works)
{
    enum { SLOT = 2 };
    struct error error = {0};
    if (attend_prepare(attend, SLOT, moved, n_works, NULL, NULL, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    for (int launch = 0; launch < 2; launch++) {
        for (size_t i = 0; i < n_works; i++)
            place.kernels->clear(place.device, there[i].out, there[i].out_bytes);
        if (attend_launch(attend, SLOT, &error) != STATUS_OK)
            fail_msg("%s", error.text);
        for (size_t i = 0; i < n_works; i++) {
            float *got = malloc(there[i].out_bytes + 1);
            place.kernels->download(place.device, got, there[i].out, there[i].out_bytes);
            place_finish();
            /* between finished rows may lie what is nobody's */
            const bool final = works[i].final_out != NULL;
            const size_t row = (size_t)shape->group * shape->head_dim * sizeof(float);
            for (size_t t = 0; t < (final ? works[i].n_tokens : 1); t++)
                assert_memory_equal(got + t * works[i].final_token_stride,
                                    place_out(&works[i]) + t * works[i].final_token_stride,
                                    final ? row : there[i].out_bytes);
            free(got);
        }
    }
}

/* attend_run, of works in host memory. */
static inline enum status place_run(struct attend *attend, const struct attend_shape *shape,
                                    const struct attend_work *works, size_t n_works)
{
    if (place.kernels == NULL)
        return attend_run(attend, works, n_works, NULL);
    struct attend_work *moved = calloc(n_works + 1, sizeof(*moved));
    struct place_work *there = calloc(n_works + 1, sizeof(*there));
    for (size_t i = 0; i < n_works; i++)
        moved[i] = place_bring(shape, &works[i], &there[i]);
    place_finish();
    struct error error = {0};
    const enum status status = attend_run(attend, moved, n_works, &error);
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
    for (size_t i = 0; i < n_works; i++)
        place.kernels->download(place.device, place_out(&works[i]), there[i].out,
                                there[i].out_bytes);
    place_finish();
    place_run_prepared(attend, shape, works, moved, there, n_works);
    for (size_t i = 0; i < n_works; i++) {
        place.kernels->memory_give(place.device, there[i].q);
        place.kernels->memory_give(place.device, there[i].out);
        free(there[i].pages);
    }
    free(there);
    free(moved);
    return status;
}

#endif
