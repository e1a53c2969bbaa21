/* kernels/attention/kv_holder_state.h - what kv_holder.c (who has which pages), kv_holder_tokens.c
 * (tokens come, are shared, read and released) and kv_holder_pages.c (whole pages) share.
 *
 * Of a layer with a window, a sequence has at most so many pages as lie in kv_window_pages
 * consecutive ones (kv_spans_most_pages); so many were promised. What is released goes back to the
 * sequence's promise, for the pages that come. These pages have one user: a fork copies them. */
#ifndef LONGSPAN_KERNELS_ATTENTION_KV_HOLDER_STATE_H
#define LONGSPAN_KERNELS_ATTENTION_KV_HOLDER_STATE_H

#include "kernels/attention/device.h"
#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_pool.h"
#include "kernels/attention/kv_sequences.h"
#include "kernels/attention/kv_window.h"
#include "kernels/kernels.h"

struct kv_holder {
    const struct kernels *kernels;
    struct device *device;
    struct kv_holder_shape shape;
    uint32_t *windows; /* [n_layers] */
    void *memory;      /* of the pages, on the device; NULL: the pool's own */
    struct kv_pool *pool;
    struct tile_tokens *writes; /* [KV_MOST_WRITES] collected; NULL in host memory */
    size_t n_writes, writes_stride;
    size_t row_bytes, tile_bytes, page_bytes;
    uint64_t max_table_bytes;
    struct kv_sequences sequences;
};

enum { KV_MOST_WRITES = 1024 }; /* that are collected; tokens of one tile each */

/* Whether the layer and the heads are the holder's; what to say if not. */
bool kv_planes_inside(const struct kv_holder *holder, struct kv_heads heads);
enum status kv_planes_outside(const struct kv_holder *holder, enum status status,
                              struct kv_heads heads, struct error *error);

/* The plane of a layer and head; those of the next heads follow. */
size_t kv_plane_of(const struct kv_holder *holder, uint32_t layer, uint32_t head);

uint32_t kv_plane_window(const struct kv_holder *holder, size_t plane);

enum status kv_not_open(uint64_t id, uint32_t incarnation, struct error *error);

/* Takes a promised page for the table's entry. */
void kv_take_page(struct kv_holder *holder, struct kv_sequence *sequence, size_t plane,
                  uint32_t page);

/* Tokens of the plane below `first` are not needed any more: their pages go back to the promise.
 * Only planes with a window. */
void kv_release_below(struct kv_holder *holder, struct kv_sequence *sequence, size_t plane,
                      uint32_t first);

#endif
