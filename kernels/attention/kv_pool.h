/* kernels/attention/kv_pool.h - the fixed-size pages that hold a KV holder's part of the cache.
 *
 * Create reserves address space, or is given memory, which is never touched here; a page's memory
 * is touched when it is first written. Attention reads a plane (one sequence, layer and KV head)
 * from end to end, and jumps to memory far away cost it time (bench/attention). So a plane's pages
 * lie in runs of KV_POOL_RUN, one after the other, once it is longer than that; shorter planes
 * share runs, so that they do not touch more memory than they need. Runs are a wish: every page of
 * the pool can be had by anybody. A page is promised (counted), then taken, then shared any number
 * of times, and back in the pool when it was given as often as it was taken and shared. promised +
 * taken never exceeds the pool, so that taking a promised page cannot fail (Kwon et al. 2023,
 * PagedAttention, sections 4.2 and 4.4). Nothing but create allocates. A pool belongs to one
 * thread. */
#ifndef LONGSPAN_KERNELS_ATTENTION_KV_POOL_H
#define LONGSPAN_KERNELS_ATTENTION_KV_POOL_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kv_pool; /* opaque */

enum { KV_POOL_RUN = 4 }; /* pages */

/* page_bytes: a multiple of 64. `memory`: where the pages are, the caller's, which outlives the
 * pool and may be a device's; NULL: address space is reserved. STATUS_NO_MEMORY: that, or more than
 * 2^34 pages. */
enum status kv_pool_create(struct kv_pool **pool, void *memory, uint64_t n_pages, size_t page_bytes,
                           struct error *error);
void kv_pool_destroy(struct kv_pool *pool);

/* Promises n more pages; false: there are not as many. */
bool kv_pool_promise(struct kv_pool *pool, uint64_t n);

/* Takes back the promise of n pages. */
void kv_pool_release(struct kv_pool *pool, uint64_t n);

/* Makes one promised page a taken one; content undefined, 64-byte aligned. Never NULL. `before`:
 * the taken page that comes before it in its plane, or NULL; `grows`: the plane has KV_POOL_RUN
 * pages or more, and a run of its own is worth it. */
void *kv_pool_take(struct kv_pool *pool, const void *before, bool grows);

/* One more user of a taken page. */
void kv_pool_share(struct kv_pool *pool, void *page);

/* One user less. */
void kv_pool_give(struct kv_pool *pool, void *page);

/* The memory of all pages, for whoever decides on which NUMA node it shall be. */
void kv_pool_memory(const struct kv_pool *pool, void **base, size_t *bytes);

uint64_t kv_pool_pages(const struct kv_pool *pool);
uint64_t kv_pool_promised(const struct kv_pool *pool); /* and not taken yet */
uint64_t kv_pool_taken(const struct kv_pool *pool);    /* a shared page counts once */

#endif
