/* placement.c - sequences open, grow, are kept and close. Which pages they have is
 * placement_pages.c's account, which holder gets the next ones placement_deal.c's choice. */
#include "coordinator/placement_state.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const struct page_cost plain_cost = {.whole = 1};

static uint32_t pages_of(uint32_t n_tokens)
{
    return n_tokens / PAGE_TOKENS + (n_tokens % PAGE_TOKENS != 0);
}

enum status placement_create(struct placement **placement, const struct placement_holder *holders,
                             uint32_t n_holders, uint32_t stripe_tokens,
                             const struct page_cost *cost, struct error *error)
{
    const uint32_t stripe_pages = stripe_tokens / PAGE_TOKENS;
    if (stripe_pages == 0 || stripe_tokens % PAGE_TOKENS != 0 ||
        (stripe_pages & (stripe_pages - 1)) != 0)
        return error_set(error, STATUS_INVALID,
                         "--stripe %u: must be the page of %d tokens times a power of two, "
                         "such as 4096",
                         stripe_tokens, PAGE_TOKENS);
    if (n_holders == 0 || n_holders > PLACEMENT_MAX_HOLDERS)
        return error_set(error, STATUS_INVALID, "%u KV holders: there must be 1 to %d", n_holders,
                         PLACEMENT_MAX_HOLDERS);
    double sum = 0.0;
    for (uint32_t i = 0; i < n_holders; i++) {
        if (!(holders[i].weight > 0.0) || !(holders[i].weight < 1e300))
            return error_set(error, STATUS_INVALID, "KV holder %u: the weight %g is not positive",
                             i, holders[i].weight);
        if (holders[i].capacity > 0)
            sum += holders[i].weight;
    }

    struct placement *p = calloc(1, sizeof(*p));
    if (p == NULL || (p->holders = calloc(n_holders, sizeof(*p->holders))) == NULL) {
        placement_destroy(p);
        return error_set(error, STATUS_NO_MEMORY, "placement: no memory for %u holders", n_holders);
    }
    p->n_holders = n_holders;
    p->cost = cost != NULL ? cost : &plain_cost;
    p->stripe_pages = placement_stripe(p->cost, stripe_pages, n_holders);
    p->free_block = UINT32_MAX;
    for (uint32_t i = 0; i < n_holders; i++) {
        /* 2^48 are more than any sequence numbers can use, and their sum cannot overflow. */
        const uint64_t capacity =
            holders[i].capacity < 1ull << 48 ? holders[i].capacity : 1ull << 48;
        p->holders[i] =
            (struct placement_site){.weight = holders[i].weight,
                                    .share = capacity > 0 ? holders[i].weight / sum : 0.0,
                                    .capacity = capacity};
        p->total += capacity;
    }
    *placement = p;
    return STATUS_OK;
}

void placement_destroy(struct placement *placement)
{
    if (placement == NULL)
        return;
    for (uint32_t i = 0; i < placement->n_sequences; i++) {
        free(placement->sequences[i].blocks);
        free(placement->sequences[i].dealt);
        free(placement->sequences[i].in_window);
    }
    free(placement->sequences);
    free(placement->blocks);
    free(placement->holders);
    free(placement);
}

static enum status slot_find(struct placement *p, uint32_t *slot, struct error *error)
{
    for (uint32_t i = 0; i < p->n_sequences; i++)
        if (!p->sequences[i].open) {
            *slot = i;
            return STATUS_OK;
        }
    const uint32_t n = p->n_sequences < 8 ? 16 : p->n_sequences * 2;
    struct placement_sequence *sequences = realloc(p->sequences, n * sizeof(*sequences));
    if (sequences == NULL)
        return error_set(error, STATUS_NO_MEMORY, "placement: no memory for %u sequences", n);
    memset(sequences + p->n_sequences, 0, (n - p->n_sequences) * sizeof(*sequences));
    *slot = p->n_sequences;
    p->sequences = sequences;
    p->n_sequences = n;
    return STATUS_OK;
}

static enum status exhausted(const struct placement *p, uint32_t n_pages, struct error *error)
{
    const uint32_t each = page_cost_page(p->cost);
    return error_set(error, STATUS_EXHAUSTED,
                     "%u KV pages of %d tokens are needed, %llu of %llu are free", n_pages,
                     PAGE_TOKENS, (unsigned long long)placement_free(p) / each,
                     (unsigned long long)p->total / each);
}

/* Whether so many pages more can be free at all: what windows cost depends on who gets them. */
static enum status check_free(const struct placement *p, uint32_t n_pages, struct error *error)
{
    return (uint64_t)n_pages * p->cost->whole <= placement_free(p) ? STATUS_OK
                                                                   : exhausted(p, n_pages, error);
}

/* Memory for a sequence of at most `most` pages, `target` of which are dealt next. */
static enum status open_sequence(struct placement *p, uint32_t most, uint32_t target,
                                 uint32_t *sequence, struct error *error)
{
    uint32_t slot = 0;
    enum status status = slot_find(p, &slot, error);
    if (status == STATUS_OK)
        status = placement_make_room(p, target, error);
    if (status != STATUS_OK)
        return status;
    struct placement_sequence *s = &p->sequences[slot];
    s->blocks = malloc((size_t)most * sizeof(*s->blocks));
    s->dealt = calloc(p->n_holders, sizeof(*s->dealt));
    s->in_window = calloc((size_t)p->cost->n_windows * p->n_holders + 1, sizeof(*s->in_window));
    if (s->blocks == NULL || s->dealt == NULL || s->in_window == NULL) {
        free(s->blocks);
        free(s->dealt);
        free(s->in_window);
        *s = (struct placement_sequence){0};
        return error_set(error, STATUS_NO_MEMORY, "placement: no memory for %u pages", most);
    }
    s->open = true;
    s->max_pages = most;
    *sequence = slot;
    return STATUS_OK;
}

enum status placement_open_at(struct placement *p, const uint32_t *holders, uint32_t n_pages,
                              uint32_t *sequence, struct error *error)
{
    assert(p->cost->n_windows == 0); /* nothing is stored of models with windows */
    for (uint32_t i = 0; i < p->n_holders; i++) {
        uint32_t n = 0;
        for (uint32_t page = 0; page < n_pages; page++)
            n += holders[page] == i;
        if (n > placement_holder_free(&p->holders[i]) / p->cost->whole)
            return error_set(
                error, STATUS_EXHAUSTED, "%u KV pages are needed at holder %u, %llu are free", n, i,
                (unsigned long long)placement_holder_free(&p->holders[i]) / p->cost->whole);
    }
    const enum status status = open_sequence(p, n_pages, n_pages, sequence, error);
    for (uint32_t page = 0; status == STATUS_OK && page < n_pages; page++)
        placement_give_page(p, &p->sequences[*sequence], holders[page]);
    return status;
}

/* In layers with a window a fork needs memory at the parent's holders, whatever they have. */
static bool overdrawn(const struct placement *p)
{
    for (uint32_t i = 0; i < p->n_holders; i++)
        if (p->holders[i].used > p->holders[i].capacity)
            return true;
    return false;
}

enum status placement_open(struct placement *p, uint32_t n_tokens, uint32_t max_tokens,
                           uint32_t parent, uint32_t shared_tokens, uint32_t *sequence,
                           struct error *error)
{
    assert(n_tokens > 0 && n_tokens <= max_tokens);
    assert(shared_tokens % PAGE_TOKENS == 0 && shared_tokens < n_tokens);
    const uint32_t shared = parent == PLACEMENT_NO_PARENT ? 0 : shared_tokens / PAGE_TOKENS;
    const uint32_t target = pages_of(n_tokens), most = pages_of(max_tokens);
    enum status status = check_free(p, target - shared, error);
    if (status == STATUS_OK)
        status = open_sequence(p, most, target - shared, sequence, error);
    if (status != STATUS_OK)
        return status;
    struct placement_sequence *s = &p->sequences[*sequence];
    for (uint32_t i = 0; i < shared; i++) {
        const uint32_t block = p->sequences[parent].blocks[i];
        placement_refer(p, &p->blocks[block], 1, 0);
        s->blocks[i] = block;
        s->dealt[p->blocks[block].holder]++;
    }
    s->n_pages = s->shared = shared;
    placement_slide_again(p, s);
    s->run_end = placement_round_up(shared, p->stripe_pages); /* a stripe stays where it began */
    if (!overdrawn(p) && placement_deal(p, s, target, true))
        return STATUS_OK;
    placement_close(p, *sequence);
    return exhausted(p, target - shared, error);
}

enum status placement_grow(struct placement *p, uint32_t sequence, uint32_t n_tokens,
                           struct error *error)
{
    struct placement_sequence *s = &p->sequences[sequence];
    const uint32_t target = pages_of(n_tokens);
    assert(s->open && target <= s->max_pages);
    if (target <= s->n_pages)
        return STATUS_OK;
    enum status status = check_free(p, target - s->n_pages, error);
    if (status == STATUS_OK)
        status = placement_make_room(p, target - s->n_pages, error);
    const uint32_t before = s->n_pages;
    if (status != STATUS_OK || placement_deal(p, s, target, false))
        return status;
    const uint32_t wanted = target - before;
    while (s->n_pages > before)
        placement_take_page(p, s);
    placement_slide_again(p, s);
    return exhausted(p, wanted, error);
}

bool placement_can_grow(const struct placement *p, uint32_t sequence)
{
    const struct placement_sequence *s = &p->sequences[sequence];
    for (uint32_t i = 0; i < p->n_holders; i++)
        if (p->holders[i].capacity > 0 && placement_has_room(p, s, i, 1))
            return true;
    return false;
}

void placement_trim(struct placement *p, uint32_t sequence, uint32_t n_tokens)
{
    struct placement_sequence *s = &p->sequences[sequence];
    assert(s->open && n_tokens % PAGE_TOKENS == 0 && n_tokens / PAGE_TOKENS <= s->n_pages);
    while (s->n_pages > n_tokens / PAGE_TOKENS)
        placement_take_page(p, s);
    placement_slide_again(p, s);
    s->max_pages = s->n_pages;
}

void placement_keep(struct placement *p, uint32_t sequence)
{
    struct placement_sequence *s = &p->sequences[sequence];
    assert(s->open && !s->kept);
    for (uint32_t i = 0; i < s->n_pages; i++)
        placement_refer(p, &p->blocks[s->blocks[i]], 0, 1);
    for (uint32_t w = 0; w < p->cost->n_windows; w++)
        for (uint32_t i = 0; i < p->n_holders; i++)
            p->holders[i].kept +=
                (uint64_t)placement_in_window(p, s, w, i)->most * p->cost->windows[w].n_layers;
    s->kept = true;
    s->max_pages = s->n_pages;
}

void placement_close(struct placement *p, uint32_t sequence)
{
    struct placement_sequence *s = &p->sequences[sequence];
    placement_trim(p, sequence, 0);
    free(s->blocks);
    free(s->dealt);
    free(s->in_window);
    *s = (struct placement_sequence){0};
}

uint32_t placement_tokens(const struct placement *p, uint32_t sequence)
{
    return p->sequences[sequence].n_pages * PAGE_TOKENS;
}

size_t placement_spans(const struct placement *p, uint32_t sequence, uint32_t begin, uint32_t end,
                       struct placement_span *spans, size_t max)
{
    const struct placement_sequence *s = &p->sequences[sequence];
    assert(begin % PAGE_TOKENS == 0 && end / PAGE_TOKENS <= s->n_pages);
    size_t n = 0;
    uint32_t last = PLACEMENT_NO_HOLDER;
    for (uint32_t page = begin / PAGE_TOKENS; page < end / PAGE_TOKENS; page++) {
        const uint32_t holder = placement_holder_of(p, s, page);
        if (holder != last) {
            if (n < max)
                spans[n] = (struct placement_span){.holder = holder, .begin = page * PAGE_TOKENS};
            n++;
            last = holder;
        }
        if (n <= max)
            spans[n - 1].end = (page + 1) * PAGE_TOKENS;
    }
    return n;
}

bool placement_holds(const struct placement *p, uint32_t sequence, uint32_t holder)
{
    return p->sequences[sequence].dealt[holder] > 0;
}

uint64_t placement_used(const struct placement *p, uint32_t holder)
{
    return p->holders[holder].used;
}

uint64_t placement_kept(const struct placement *p, uint32_t holder)
{
    return p->holders[holder].kept;
}

uint64_t placement_all_kept(const struct placement *p)
{
    uint64_t units = 0;
    for (uint32_t i = 0; i < p->n_holders; i++)
        units += p->holders[i].kept;
    return units;
}

uint64_t placement_own(const struct placement *p, uint32_t sequence)
{
    const struct placement_sequence *s = &p->sequences[sequence];
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_pages; i++)
        n += p->blocks[s->blocks[i]].references == 1;
    n *= p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++)
        for (uint32_t i = 0; i < p->n_holders; i++)
            n += (uint64_t)placement_in_window(p, s, w, i)->most * p->cost->windows[w].n_layers;
    return n;
}

uint64_t placement_free(const struct placement *p)
{
    return p->total - p->used;
}

uint64_t placement_free_pages(const struct placement *p)
{
    uint64_t pages = 0;
    for (uint32_t i = 0; i < p->n_holders; i++)
        pages += placement_holder_free(&p->holders[i]) / page_cost_page(p->cost);
    return pages;
}

uint64_t placement_least_cost(const struct placement *p, uint32_t n_pages, uint32_t shared)
{
    uint64_t units = (uint64_t)(n_pages - shared) * p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        const struct page_cost_window *window = &p->cost->windows[w];
        const uint32_t first = kv_window_first(window->window, shared * PAGE_TOKENS) / PAGE_TOKENS;
        units += (uint64_t)placement_smaller(n_pages - first, window->pages) * window->n_layers;
    }
    return units;
}

uint64_t placement_page(const struct placement *p)
{
    return page_cost_page(p->cost);
}

uint64_t placement_growth(const struct placement *p, uint32_t sequence)
{
    const struct placement_sequence *s = &p->sequences[sequence];
    uint64_t units = p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        uint64_t most = 0;
        for (uint32_t i = 0; i < p->n_holders; i++)
            most += placement_in_window(p, s, w, i)->most;
        units += most < p->cost->windows[w].pages ? p->cost->windows[w].n_layers : 0;
    }
    return units;
}
