/* bench/measure/kv_loop.h - the tile kernel on data that does not leave the nearest cache: what
 * arithmetic, conversions and exponentials of decode attention allow. */
#ifndef LONGSPAN_BENCH_MEASURE_KV_LOOP_H
#define LONGSPAN_BENCH_MEASURE_KV_LOOP_H

#include "bench/measure/kv_load.h"

struct kv_loop; /* opaque */

/* With the shape, a tile and the query rows of one KV head of `load`, copied: every lane has its
 * own. The pool must outlive it. STATUS_UNSUPPORTED: no such kernels. STATUS_NO_MEMORY. */
enum status kv_loop_create(struct kv_loop **loop, struct thread_pool *pool, const char *kernels,
                           const struct kv_load *load, struct error *error);
void kv_loop_destroy(struct kv_loop *loop);

/* Bytes of K and V per second of all lanes together, in the tile kernel over one and the same half
 * of a tile, as K and as V: it stays in the first-level cache (of 32 KiB: up to head_dim 64 of f16;
 * with 128 a part of it comes from the second level). Walks `bytes`; lanes take turns from one another, as they
 * do in attention. */
double kv_loop_rate(struct kv_loop *loop, size_t bytes);

#endif
