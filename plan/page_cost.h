/* plan/page_cost.h - what the pages of a sequence cost the holders that have them.
 *
 * Memory is counted in *units*. Of a model without sliding windows a unit is a page of tokens in
 * all layers, and a page costs one. Otherwise it is a page in one layer (all KV heads): a page of
 * tokens costs one for each layer without a window, for as long as any sequence has it; in layers
 * with a window a sequence costs, at each holder, the most pages that this holder has of any
 * `pages` consecutive ones, however long it is (kv_window.h): exactly what kv_holder_reserve
 * promises.
 *
 * Pure. */
#ifndef LONGSPAN_PLAN_PAGE_COST_H
#define LONGSPAN_PLAN_PAGE_COST_H

#include "sys/status.h"

#include <stdint.h>

/* The layers that have one and the same window. */
struct page_cost_window {
    uint32_t window; /* tokens */
    uint32_t pages;  /* consecutive ones that a sequence has at a time */
    uint32_t n_layers;
};

struct page_cost {
    uint32_t whole; /* units of a page in the layers without a window */
    struct page_cost_window *windows;
    uint32_t n_windows;
};

/* `windows`: of each layer in tokens, 0: none; NULL: no layer has one. `chunk`: tokens of one
 * sequence in a step, at most. Ended with page_cost_clear. STATUS_NO_MEMORY. */
enum status page_cost_create(struct page_cost *cost, const uint32_t *windows, uint32_t n_layers,
                             uint32_t chunk, struct error *error);
/* Zeroed memory is fine. */
void page_cost_clear(struct page_cost *cost);

/* Units of one page of tokens, where nothing has left a window. */
uint32_t page_cost_page(const struct page_cost *cost);

/* Units of a sequence of n_pages pages that are all at one holder. */
uint64_t page_cost_sequence(const struct page_cost *cost, uint64_t n_pages);

/* The most pages of one sequence that a holder with so many units has room for, whoever has the
 * others; at most `most`. */
uint64_t page_cost_room(const struct page_cost *cost, uint64_t units, uint64_t most);

/* The smallest window, in tokens; 0: there is none. What one of that can be forked at, all can. */
uint32_t page_cost_smallest_window(const struct page_cost *cost);

#endif
