/* kernels/attention/kv_window.h - what a layer with a sliding window still needs of a sequence.
 *
 * A row at position p of a layer with window w sees the tokens (p - w, p]; window 0: all up to p.
 * As rows move on, whole pages leave the windows of all rows to come, and are released. Holders and
 * the coordinator's accounts both count by these functions, so that what was reserved suffices:
 *
 *     position p in page q = p / PAGE_TOKENS       pages needed from then on: q - back and later ones
 *     back = (w - 1) / PAGE_TOKENS, rounded up     pages before its own that any row of a page sees
 *
 * The first page is counted from the beginning of p's page, so that a sequence can still be forked
 * there: a fork at a page's edge sees what the parent's page saw. Pure. */
#ifndef LONGSPAN_KERNELS_ATTENTION_KV_WINDOW_H
#define LONGSPAN_KERNELS_ATTENTION_KV_WINDOW_H

#include <stdint.h>

/* Pages before its own page that a row can see; UINT32_MAX without a window. */
uint32_t kv_window_back(uint32_t window);

/* The first token that is needed by rows from `position` on, and by forks there: a multiple of
 * PAGE_TOKENS. */
uint32_t kv_window_first(uint32_t window, uint32_t position);

/* The first token that a row at `position` sees. */
uint32_t kv_window_begin(uint32_t window, uint32_t position);

/* Consecutive pages that a sequence has at a time, at most, when rows come `chunk` at a time;
 * UINT32_MAX without a window. */
uint32_t kv_window_pages(uint32_t window, uint32_t chunk);

#endif
