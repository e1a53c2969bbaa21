/* coordinator/placement_state.h - what placement.c (sequences), placement_pages.c (accounts) and
 * placement_deal.c (whose turn it is) share.
 *
 * A sequence is a list of blocks, one per page; a block is a page at some holder, with a reference
 * count. A million tokens are 4,096 blocks, so nothing cleverer is needed, and a fork at any page
 * is a copy of indices. */
#ifndef LONGSPAN_COORDINATOR_PLACEMENT_STATE_H
#define LONGSPAN_COORDINATOR_PLACEMENT_STATE_H

#include "coordinator/placement.h"

#define PLACEMENT_NO_HOLDER UINT32_MAX

/* One of the KV holders. */
struct placement_site {
    double weight, share;          /* share: weight / sum of the weights that have capacity */
    uint64_t capacity, used, kept; /* units */
};

struct placement_block {
    uint32_t holder;
    uint32_t references; /* 0: free; then `holder` is the next free block */
    uint32_t kept;       /* of them, those of sequences that nobody computes */
};

/* Of a sequence's newest pages in layers of one window, those at one holder. */
struct placement_window_count {
    uint32_t now, most;
};

struct placement_sequence {
    bool open, kept;
    uint32_t n_pages, max_pages;
    uint32_t run_end; /* pages below it belong to the holder of the page before them */
    uint32_t *blocks; /* [max_pages], NULL when closed */
    uint32_t *dealt;  /* [n_holders] pages, inherited ones included: all of them are read */
    uint32_t shared;  /* inherited pages; of those, layers with a window have what the rest sees */
    struct placement_window_count *in_window; /* [n_windows][n_holders] */
};

struct placement {
    struct placement_site *holders;
    uint32_t n_holders, stripe_pages;
    const struct page_cost *cost;
    uint64_t total, used; /* units */
    struct placement_block *blocks;
    uint32_t n_blocks, free_block; /* free_block: UINT32_MAX is none */
    size_t block_capacity;
    struct placement_sequence *sequences;
    uint32_t n_sequences;
};

/* ---- accounts: placement_pages.c ---- */

static inline uint64_t placement_holder_free(const struct placement_site *holder)
{
    return holder->capacity - holder->used;
}

/* Counts of a sequence's pages at one holder, in layers of that window. */
struct placement_window_count *placement_in_window(const struct placement *placement,
                                                   const struct placement_sequence *sequence,
                                                   uint32_t window, uint32_t holder);

/* Of page number `page`. */
uint32_t placement_holder_of(const struct placement *placement,
                             const struct placement_sequence *sequence, uint32_t page);

/* Whether the holder has room for the sequence's next `count` pages. */
bool placement_has_room(const struct placement *placement,
                        const struct placement_sequence *sequence, uint32_t holder, uint32_t count);

/* Memory for n more blocks. STATUS_NO_MEMORY. */
enum status placement_make_room(struct placement *placement, uint32_t n, struct error *error);

/* The holder gives the sequence its next page; there is memory for a block. */
void placement_give_page(struct placement *placement, struct placement_sequence *sequence,
                         uint32_t holder);

/* The newest page goes; placement_slide_again, after the last one, is the caller's. */
void placement_take_page(struct placement *placement, struct placement_sequence *sequence);
void placement_slide_again(struct placement *placement, struct placement_sequence *sequence);

/* So many more sequences have the block, and so many more of those are kept ones. */
void placement_refer(struct placement *placement, struct placement_block *block, int references,
                     int kept);

/* ---- whose turn it is: placement_deal.c ---- */

/* Pages of a stripe; where all layers have a window, stripes are short. */
uint32_t placement_stripe(const struct page_cost *cost, uint32_t stripe_pages, uint32_t n_holders);

/* Gives the sequence its pages below `target`; `known`: it is known that there will be so many.
 * False: they did not suffice, some were given. */
bool placement_deal(struct placement *placement, struct placement_sequence *sequence,
                    uint32_t target, bool known);

/* `n`, to a multiple; UINT32_MAX where that is more. */
uint32_t placement_round_up(uint32_t n, uint32_t multiple);

static inline uint32_t placement_smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

#endif
