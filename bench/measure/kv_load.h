/* bench/measure/kv_load.h - a batch of sequences with KV caches of seeded values, for measuring
 * attention.
 *
 * Layers are made until K and V together are larger than `least_bytes`, and a pass walks them all,
 * as a step does: so what a layer leaves in the last-level cache is gone when its turn comes again.
 * Pages lie as in a KV holder where all sequences' planes grew in turns, a page each (kv_pool.h),
 * as they do in decode: the hardest order. Values are ordinary numbers, the same few tiles again
 * and again: time does not depend on them. */
#ifndef LONGSPAN_BENCH_MEASURE_KV_LOAD_H
#define LONGSPAN_BENCH_MEASURE_KV_LOAD_H

#include "kernels/attention/attend.h"

enum { KV_LOAD_SEQUENCES = 64, KV_LOAD_HEADS = 8 };

struct kv_load_shape {
    struct attend_shape attend;
    uint32_t n_kv_heads;                               /* up to KV_LOAD_HEADS */
    uint32_t n_sequences, contexts[KV_LOAD_SEQUENCES]; /* tokens before the query: whole pages */
    uint32_t n_tokens; /* query tokens of each sequence; causal among themselves */
    uint64_t least_bytes;
};

struct kv_load {
    struct kv_load_shape shape;
    uint32_t n_layers;
    size_t layer_bytes;        /* K and V that one layer's pass reads */
    double layer_flops;        /* 4 * head_dim for each row, query head and token that it sees */
    struct attend_work *works; /* [n_layers][n_works] */
    size_t n_works;
    struct tile_range past[KV_LOAD_SEQUENCES]; /* each sequence's tiles before its queries */
    struct tile_range *ranges;                 /* of each work of a layer */
    void **pages;
    struct kv_pool *kv;
    void *q, *out;
    size_t kv_bytes, q_bytes, out_bytes;
};

/* STATUS_UNSUPPORTED: tile_check. STATUS_NO_MEMORY. The caller ends *load with kv_load_destroy. */
enum status kv_load_create(struct kv_load *load, const struct kv_load_shape *shape,
                           struct error *error);
void kv_load_destroy(struct kv_load *load);

/* One call of attend_run for each layer. */
enum status kv_load_pass(const struct kv_load *load, struct attend *attend, struct error *error);

/* The same for n layers from `first` on, the first one again behind the last. */
enum status kv_load_layers(const struct kv_load *load, struct attend *attend, uint32_t first,
                           uint32_t n, struct error *error);

/* What least_bytes should be: eight times the last-level cache, which is four times where a guest's
 * processors lie on two caches of the host and it is told of one. */
uint64_t kv_load_beyond_caches(void);

/* "64k", "8 x 4k", "1k+4k+16k+64k" */
void kv_load_name(const struct kv_load_shape *shape, char *text, size_t size);

#endif
