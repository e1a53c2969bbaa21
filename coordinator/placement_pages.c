/* placement_pages.c - what each holder has given to whom: blocks, and what layers with a window
 * cost.
 *
 * In layers with a window a sequence pays each holder for the most pages of any `pages` consecutive
 * ones: a count of those among the newest ones slides along as pages are given, and `most` is its
 * maximum so far. Whoever gives pages back is counted anew. */
#include "coordinator/placement_state.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_window.h"
#include "sys/array.h"

struct placement_window_count *placement_in_window(const struct placement *p,
                                                   const struct placement_sequence *s,
                                                   uint32_t window, uint32_t holder)
{
    return &s->in_window[(size_t)window * p->n_holders + holder];
}

/* The first page that the sequence has in layers of that window. */
static uint32_t first_in_window(const struct placement *p, const struct placement_sequence *s,
                                uint32_t window)
{
    return kv_window_first(p->cost->windows[window].window, s->shared * PAGE_TOKENS) / PAGE_TOKENS;
}

/* The units of a sequence go up, or down. */
static void charge(struct placement *p, const struct placement_sequence *s, uint32_t holder,
                   int64_t units)
{
    struct placement_site *h = &p->holders[holder];
    h->used += (uint64_t)units;
    p->used += (uint64_t)units;
    if (s->kept)
        h->kept += (uint64_t)units;
}

uint32_t placement_holder_of(const struct placement *p, const struct placement_sequence *s,
                             uint32_t page)
{
    return p->blocks[s->blocks[page]].holder;
}

/* Page number `page` is the newest one now. */
static void slide(struct placement *p, struct placement_sequence *s, uint32_t page)
{
    const uint32_t holder = placement_holder_of(p, s, page);
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        const struct page_cost_window *window = &p->cost->windows[w];
        const uint32_t first = first_in_window(p, s, w);
        if (page < first)
            continue;
        if (page - first >= window->pages)
            placement_in_window(p, s, w, placement_holder_of(p, s, page - window->pages))->now--;
        struct placement_window_count *count = placement_in_window(p, s, w, holder);
        if (++count->now <= count->most)
            continue;
        count->most++;
        charge(p, s, holder, window->n_layers);
    }
}

void placement_slide_again(struct placement *p, struct placement_sequence *s)
{
    for (uint32_t w = 0; w < p->cost->n_windows; w++)
        for (uint32_t i = 0; i < p->n_holders; i++) {
            struct placement_window_count *count = placement_in_window(p, s, w, i);
            charge(p, s, i, -(int64_t)count->most * p->cost->windows[w].n_layers);
            *count = (struct placement_window_count){0};
        }
    for (uint32_t page = 0; p->cost->n_windows > 0 && page < s->n_pages; page++)
        slide(p, s, page);
}

/* Units that the next `count` pages would cost the holder. */
static uint64_t cost_there(const struct placement *p, const struct placement_sequence *s,
                           uint32_t holder, uint32_t count)
{
    uint64_t units = (uint64_t)count * p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        const struct page_cost_window *window = &p->cost->windows[w];
        const uint32_t first = first_in_window(p, s, w), end = s->n_pages + count;
        const uint32_t begin = end > window->pages ? end - window->pages : 0;
        uint32_t n = placement_smaller(count, window->pages);
        for (uint32_t page = begin > first ? begin : first; page < s->n_pages; page++)
            n += placement_holder_of(p, s, page) == holder;
        const uint32_t most = placement_in_window(p, s, w, holder)->most;
        units += n > most ? (uint64_t)(n - most) * window->n_layers : 0;
    }
    return units;
}

bool placement_has_room(const struct placement *p, const struct placement_sequence *s,
                        uint32_t holder, uint32_t count)
{
    return cost_there(p, s, holder, count) <= placement_holder_free(&p->holders[holder]);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

enum status placement_make_room(struct placement *p, uint32_t n, struct error *error)
{
    /* Free blocks in the list are not counted: a little memory more is never wrong. */
    const size_t wanted = (size_t)p->n_blocks + n;
    return wanted < UINT32_MAX &&
                   array_grow(&p->blocks, &p->block_capacity, wanted, sizeof(*p->blocks))
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY, "placement: no memory for %zu pages", wanted);
}

static bool is_kept(const struct placement_block *block)
{
    return block->references > 0 && block->kept == block->references;
}

void placement_refer(struct placement *p, struct placement_block *block, int references, int kept)
{
    const bool before = is_kept(block);
    block->references += (uint32_t)references;
    block->kept += (uint32_t)kept;
    const int64_t change = (int64_t)is_kept(block) - before;
    p->holders[block->holder].kept += (uint64_t)(change * (int64_t)p->cost->whole);
}

void placement_give_page(struct placement *p, struct placement_sequence *s, uint32_t holder)
{
    uint32_t block = p->free_block;
    if (block != UINT32_MAX)
        p->free_block = p->blocks[block].holder;
    else
        block = p->n_blocks++;
    p->blocks[block] = (struct placement_block){.holder = holder, .references = 1};
    s->blocks[s->n_pages++] = block;
    s->dealt[holder]++;
    charge(p, s, holder, p->cost->whole);
    slide(p, s, s->n_pages - 1);
}

void placement_take_page(struct placement *p, struct placement_sequence *s)
{
    const uint32_t at = s->blocks[--s->n_pages];
    struct placement_block *block = &p->blocks[at];
    s->dealt[block->holder]--;
    placement_refer(p, block, -1, s->kept ? -1 : 0);
    if (block->references > 0)
        return;
    p->holders[block->holder].used -= p->cost->whole;
    p->used -= p->cost->whole;
    block->holder = p->free_block;
    p->free_block = at;
}
