/* placement.c - see placement.h.
 *
 * A sequence is a list of blocks, one per page; a block is a page at some holder, with a reference
 * count. A million tokens are 4,096 blocks, so nothing cleverer is needed, and a fork at any page
 * is a copy of indices.
 *
 * In layers with a window a sequence pays each holder for the most pages of any `pages` consecutive ones:
 * a count of those among the newest ones slides along as pages are given, and `most` is its maximum so
 * far. Whoever gives pages back is counted anew. */
#include "coordinator/placement.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_window.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NO_HOLDER UINT32_MAX

enum {
    RUNS_PER_SHARE = 8, /* of a known prompt: a prefix is balanced within 1/8 of a share */
    MAX_RUNS = 128,     /* of a known prompt: each is a node of the merge tree (partial.h has room
                         * for 512) */
    GROWTH_UNITS = 64,  /* growth units get longer when a sequence has more of them */
    WINDOW_UNITS = 2,   /* stripes that each holder has of a window, where all layers have one */
};

static const struct page_cost plain_cost = {.whole = 1};

struct holder {
    double weight, share;          /* share: weight / sum of the weights that have capacity */
    uint64_t capacity, used, kept; /* units */
};

struct block {
    uint32_t holder;
    uint32_t references; /* 0: free; then `holder` is the next free block */
    uint32_t kept;       /* of them, those of sequences that nobody computes */
};

/* Of a sequence's newest pages in layers of one window, those at one holder. */
struct in_window {
    uint32_t now, most;
};

struct sequence {
    bool open, kept;
    uint32_t n_pages, max_pages;
    uint32_t run_end; /* pages below it belong to the holder of the page before them */
    uint32_t *blocks; /* [max_pages], NULL when closed */
    uint32_t *dealt;  /* [n_holders] pages, inherited ones included: all of them are read */
    uint32_t shared;  /* inherited pages; of those, layers with a window have what the rest sees */
    struct in_window *in_window; /* [n_windows][n_holders] */
};

struct placement {
    struct holder *holders;
    uint32_t n_holders, stripe_pages;
    const struct page_cost *cost;
    uint64_t total, used; /* units */
    struct block *blocks;
    uint32_t n_blocks, block_capacity, free_block; /* free_block: UINT32_MAX is none */
    struct sequence *sequences;
    uint32_t n_sequences;
};

static uint32_t pages_of(uint32_t n_tokens)
{
    return n_tokens / PAGE_TOKENS + (n_tokens % PAGE_TOKENS != 0);
}

/* The largest power of two that is at most n; 1 for 0. */
static uint32_t power_of_two_below(uint32_t n)
{
    uint32_t power = 1;
    while (power <= n / 2)
        power *= 2;
    return power;
}

static uint32_t round_up(uint32_t n, uint32_t multiple)
{
    const uint64_t rounded = ((uint64_t)n + multiple - 1) / multiple * multiple;
    return rounded > UINT32_MAX ? UINT32_MAX : (uint32_t)rounded;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Where all layers have a window, stripes are short. */
static uint32_t stripe_for(const struct page_cost *cost, uint32_t stripe_pages, uint32_t n_holders)
{
    const uint32_t window = page_cost_smallest_window(cost);
    if (cost->whole > 0 || window == 0)
        return stripe_pages;
    const uint32_t most = kv_window_back(window) / (WINDOW_UNITS * n_holders);
    return smaller(stripe_pages, power_of_two_below(most));
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
    p->stripe_pages = stripe_for(p->cost, stripe_pages, n_holders);
    p->free_block = UINT32_MAX;
    for (uint32_t i = 0; i < n_holders; i++) {
        /* 2^48 are more than any sequence numbers can use, and their sum cannot overflow. */
        const uint64_t capacity =
            holders[i].capacity < 1ull << 48 ? holders[i].capacity : 1ull << 48;
        p->holders[i] = (struct holder){.weight = holders[i].weight,
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

static uint64_t holder_free(const struct holder *holder)
{
    return holder->capacity - holder->used;
}

/* ---- windows --------------------------------------------------------------------------------- */

static struct in_window *in_window(const struct placement *p, const struct sequence *s,
                                   uint32_t window, uint32_t holder)
{
    return &s->in_window[(size_t)window * p->n_holders + holder];
}

/* The first page that the sequence has in layers of that window. */
static uint32_t first_in_window(const struct placement *p, const struct sequence *s,
                                uint32_t window)
{
    return kv_window_first(p->cost->windows[window].window, s->shared * PAGE_TOKENS) / PAGE_TOKENS;
}

/* The units of a sequence go up, or down. */
static void charge(struct placement *p, const struct sequence *s, uint32_t holder, int64_t units)
{
    struct holder *h = &p->holders[holder];
    h->used += (uint64_t)units;
    p->used += (uint64_t)units;
    if (s->kept)
        h->kept += (uint64_t)units;
}

static uint32_t holder_of(const struct placement *p, const struct sequence *s, uint32_t page)
{
    return p->blocks[s->blocks[page]].holder;
}

/* Page number `page` is the newest one now. */
static void slide(struct placement *p, struct sequence *s, uint32_t page)
{
    const uint32_t holder = holder_of(p, s, page);
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        const struct page_cost_window *window = &p->cost->windows[w];
        const uint32_t first = first_in_window(p, s, w);
        if (page < first)
            continue;
        if (page - first >= window->pages)
            in_window(p, s, w, holder_of(p, s, page - window->pages))->now--;
        struct in_window *count = in_window(p, s, w, holder);
        if (++count->now <= count->most)
            continue;
        count->most++;
        charge(p, s, holder, window->n_layers);
    }
}

/* Counts anew, after pages have gone. */
static void slide_again(struct placement *p, struct sequence *s)
{
    for (uint32_t w = 0; w < p->cost->n_windows; w++)
        for (uint32_t i = 0; i < p->n_holders; i++) {
            struct in_window *count = in_window(p, s, w, i);
            charge(p, s, i, -(int64_t)count->most * p->cost->windows[w].n_layers);
            *count = (struct in_window){0};
        }
    for (uint32_t page = 0; p->cost->n_windows > 0 && page < s->n_pages; page++)
        slide(p, s, page);
}

/* Units that the next `count` pages would cost the holder. */
static uint64_t cost_there(const struct placement *p, const struct sequence *s, uint32_t holder,
                           uint32_t count)
{
    uint64_t units = (uint64_t)count * p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        const struct page_cost_window *window = &p->cost->windows[w];
        const uint32_t first = first_in_window(p, s, w), end = s->n_pages + count;
        const uint32_t begin = end > window->pages ? end - window->pages : 0;
        uint32_t n = smaller(count, window->pages);
        for (uint32_t page = begin > first ? begin : first; page < s->n_pages; page++)
            n += holder_of(p, s, page) == holder;
        const uint32_t most = in_window(p, s, w, holder)->most;
        units += n > most ? (uint64_t)(n - most) * window->n_layers : 0;
    }
    return units;
}

static bool has_room(const struct placement *p, const struct sequence *s, uint32_t holder,
                     uint32_t count)
{
    return cost_there(p, s, holder, count) <= holder_free(&p->holders[holder]);
}

/* ---- whose turn it is ------------------------------------------------------------------------ */

static bool less_loaded(const struct placement *p, uint32_t a, uint32_t b, uint32_t pages)
{
    const struct holder *x = &p->holders[a], *y = &p->holders[b];
    const double units = (double)pages * page_cost_page(p->cost);
    return ((double)x->used + units) / x->weight < ((double)y->used + units) / y->weight;
}

static uint32_t choose_least_loaded(const struct placement *p, const struct sequence *s,
                                    uint32_t pages, uint32_t need)
{
    uint32_t best = NO_HOLDER;
    for (uint32_t i = 0; i < p->n_holders; i++)
        if (p->holders[i].capacity > 0 && has_room(p, s, i, need) &&
            (best == NO_HOLDER || less_loaded(p, i, best, pages)))
            best = i;
    return best;
}

/* Whose turn it is for the next `pages` pages of a sequence, among holders with room for `need`.
 * In units of `pages`, with t units dealt after this one: holder i is eligible when it is behind,
 * t f_i - a_i >= 1 / (2n - 2), and of these the one goes first that would be the first to be a
 * whole unit behind. When others were passed over for lack of pages, nobody may be eligible: then
 * the one that is furthest behind for its share. */
static uint32_t choose_by_share(const struct placement *p, const struct sequence *s, uint32_t pages,
                                uint32_t need)
{
    const double slack = p->n_holders > 1 ? 1.0 / (2.0 * p->n_holders - 2.0) : 0.0;
    const double t = ((double)s->n_pages + pages) / pages;
    uint32_t best = NO_HOLDER;
    double best_key = 0.0;
    bool best_eligible = false;
    for (uint32_t i = 0; i < p->n_holders; i++) {
        const struct holder *h = &p->holders[i];
        if (h->share == 0.0 || !has_room(p, s, i, need))
            continue;
        const double behind = t * h->share - (double)s->dealt[i] / pages;
        /* rounding in t f_i must not make an exact tie ineligible */
        const bool eligible = behind >= slack - 1e-9;
        const double key = eligible ? (1.0 - slack - behind) / h->share : -behind / h->share;
        if (best == NO_HOLDER || (eligible && !best_eligible) ||
            (eligible == best_eligible &&
             (key < best_key || (key == best_key && less_loaded(p, i, best, pages))))) {
            best = i;
            best_key = key;
            best_eligible = eligible;
        }
    }
    return best;
}

static enum status blocks_ensure(struct placement *p, uint32_t n, struct error *error)
{
    /* Free blocks in the list are not counted: a little memory more is never wrong. */
    if (p->block_capacity - p->n_blocks >= n)
        return STATUS_OK;
    const uint64_t wanted = 2ull * p->block_capacity + n;
    struct block *blocks =
        wanted < UINT32_MAX ? realloc(p->blocks, (size_t)wanted * sizeof(*blocks)) : NULL;
    if (blocks == NULL)
        return error_set(error, STATUS_NO_MEMORY, "placement: no memory for %llu pages",
                         (unsigned long long)wanted);
    p->blocks = blocks;
    p->block_capacity = (uint32_t)wanted;
    return STATUS_OK;
}

static bool is_kept(const struct block *block)
{
    return block->references > 0 && block->kept == block->references;
}

/* So many more sequences have the block, and so many more of those are kept ones. */
static void refer(struct placement *p, struct block *block, int references, int kept)
{
    const bool before = is_kept(block);
    block->references += (uint32_t)references;
    block->kept += (uint32_t)kept;
    const int64_t change = (int64_t)is_kept(block) - before;
    p->holders[block->holder].kept += (uint64_t)(change * (int64_t)p->cost->whole);
}

static void give_page(struct placement *p, struct sequence *s, uint32_t holder)
{
    uint32_t block = p->free_block;
    if (block != UINT32_MAX)
        p->free_block = p->blocks[block].holder;
    else
        block = p->n_blocks++;
    p->blocks[block] = (struct block){.holder = holder, .references = 1};
    s->blocks[s->n_pages++] = block;
    s->dealt[holder]++;
    charge(p, s, holder, p->cost->whole);
    slide(p, s, s->n_pages - 1);
}

/* The newest page goes; slide_again is the caller's. */
static void take_page(struct placement *p, struct sequence *s)
{
    const uint32_t at = s->blocks[--s->n_pages];
    struct block *block = &p->blocks[at];
    s->dealt[block->holder]--;
    refer(p, block, -1, s->kept ? -1 : 0);
    if (block->references > 0)
        return;
    p->holders[block->holder].used -= p->cost->whole;
    p->used -= p->cost->whole;
    block->holder = p->free_block;
    p->free_block = at;
}

/* The length of the next unit in pages, and therefore its alignment: `page` begins a stripe. */
static uint32_t unit_pages(const struct placement *p, const struct sequence *s, uint32_t page,
                           uint32_t target, bool known)
{
    const uint32_t at = page / p->stripe_pages;
    const uint32_t n_stripes = target / p->stripe_pages + (target % p->stripe_pages != 0);
    uint32_t stripes;
    if (p->cost->whole == 0)
        return p->stripe_pages;
    if (known) {
        double least = 1.0;
        for (uint32_t i = 0; i < p->n_holders; i++)
            if (p->holders[i].share > 0.0 && p->holders[i].share < least)
                least = p->holders[i].share;
        stripes = power_of_two_below((uint32_t)(least * n_stripes / RUNS_PER_SHARE));
        const uint32_t fewest = power_of_two_below(n_stripes / MAX_RUNS);
        if (stripes < fewest)
            stripes = fewest;
    } else {
        stripes = power_of_two_below(s->n_pages / p->stripe_pages / GROWTH_UNITS);
    }
    while (at % stripes != 0)
        stripes /= 2;
    return stripes * p->stripe_pages;
}

/* Covers pages below `target`. False: they did not suffice, some were given. */
static bool deal(struct placement *p, struct sequence *s, uint32_t target, bool known)
{
    const uint32_t n_stripes = target / p->stripe_pages + (target % p->stripe_pages != 0);
    while (s->n_pages < target) {
        const uint32_t page = s->n_pages;
        uint32_t holder = NO_HOLDER, count;
        if (page > 0 && page < s->run_end) {
            count = smaller(s->run_end, target) - page;
            holder = holder_of(p, s, page - 1);
            if (!has_room(p, s, holder, 1))
                holder = NO_HOLDER;
        } else {
            const uint32_t unit = unit_pages(p, s, page, target, known);
            count = smaller(unit, target - page);
            /* A prompt that ends inside a run leaves the rest of the run to growth. */
            s->run_end = smaller(page + unit, round_up(page + count, p->stripe_pages));
        }
        const bool few = known && n_stripes <= p->n_holders;
        for (int attempt = 0; holder == NO_HOLDER && attempt < 2; attempt++) {
            const uint32_t need =
                attempt == 0 ? count : 1; /* whole if anybody can, else in parts */
            holder = few || page == 0 ? choose_least_loaded(p, s, count, need)
                                      : choose_by_share(p, s, count, need);
        }
        if (holder == NO_HOLDER)
            return false;
        for (uint32_t i = 0; i < count && has_room(p, s, holder, 1); i++)
            give_page(p, s, holder);
    }
    return true;
}

static enum status slot_find(struct placement *p, uint32_t *slot, struct error *error)
{
    for (uint32_t i = 0; i < p->n_sequences; i++)
        if (!p->sequences[i].open) {
            *slot = i;
            return STATUS_OK;
        }
    const uint32_t n = p->n_sequences < 8 ? 16 : p->n_sequences * 2;
    struct sequence *sequences = realloc(p->sequences, n * sizeof(*sequences));
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
        status = blocks_ensure(p, target, error);
    if (status != STATUS_OK)
        return status;
    struct sequence *s = &p->sequences[slot];
    s->blocks = malloc((size_t)most * sizeof(*s->blocks));
    s->dealt = calloc(p->n_holders, sizeof(*s->dealt));
    s->in_window = calloc((size_t)p->cost->n_windows * p->n_holders + 1, sizeof(*s->in_window));
    if (s->blocks == NULL || s->dealt == NULL || s->in_window == NULL) {
        free(s->blocks);
        free(s->dealt);
        free(s->in_window);
        *s = (struct sequence){0};
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
        if (n > holder_free(&p->holders[i]) / p->cost->whole)
            return error_set(error, STATUS_EXHAUSTED,
                             "%u KV pages are needed at holder %u, %llu are free", n, i,
                             (unsigned long long)holder_free(&p->holders[i]) / p->cost->whole);
    }
    const enum status status = open_sequence(p, n_pages, n_pages, sequence, error);
    for (uint32_t page = 0; status == STATUS_OK && page < n_pages; page++)
        give_page(p, &p->sequences[*sequence], holders[page]);
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
    struct sequence *s = &p->sequences[*sequence];
    for (uint32_t i = 0; i < shared; i++) {
        const uint32_t block = p->sequences[parent].blocks[i];
        refer(p, &p->blocks[block], 1, 0);
        s->blocks[i] = block;
        s->dealt[p->blocks[block].holder]++;
    }
    s->n_pages = s->shared = shared;
    slide_again(p, s);
    s->run_end = round_up(shared, p->stripe_pages); /* a stripe stays where it began */
    if (!overdrawn(p) && deal(p, s, target, true))
        return STATUS_OK;
    placement_close(p, *sequence);
    return exhausted(p, target - shared, error);
}

enum status placement_grow(struct placement *p, uint32_t sequence, uint32_t n_tokens,
                           struct error *error)
{
    struct sequence *s = &p->sequences[sequence];
    const uint32_t target = pages_of(n_tokens);
    assert(s->open && target <= s->max_pages);
    if (target <= s->n_pages)
        return STATUS_OK;
    enum status status = check_free(p, target - s->n_pages, error);
    if (status == STATUS_OK)
        status = blocks_ensure(p, target - s->n_pages, error);
    const uint32_t before = s->n_pages;
    if (status != STATUS_OK || deal(p, s, target, false))
        return status;
    const uint32_t wanted = target - before;
    while (s->n_pages > before)
        take_page(p, s);
    slide_again(p, s);
    return exhausted(p, wanted, error);
}

bool placement_can_grow(const struct placement *p, uint32_t sequence)
{
    const struct sequence *s = &p->sequences[sequence];
    for (uint32_t i = 0; i < p->n_holders; i++)
        if (p->holders[i].capacity > 0 && has_room(p, s, i, 1))
            return true;
    return false;
}

void placement_trim(struct placement *p, uint32_t sequence, uint32_t n_tokens)
{
    struct sequence *s = &p->sequences[sequence];
    assert(s->open && n_tokens % PAGE_TOKENS == 0 && n_tokens / PAGE_TOKENS <= s->n_pages);
    while (s->n_pages > n_tokens / PAGE_TOKENS)
        take_page(p, s);
    slide_again(p, s);
    s->max_pages = s->n_pages;
}

void placement_keep(struct placement *p, uint32_t sequence)
{
    struct sequence *s = &p->sequences[sequence];
    assert(s->open && !s->kept);
    for (uint32_t i = 0; i < s->n_pages; i++)
        refer(p, &p->blocks[s->blocks[i]], 0, 1);
    for (uint32_t w = 0; w < p->cost->n_windows; w++)
        for (uint32_t i = 0; i < p->n_holders; i++)
            p->holders[i].kept +=
                (uint64_t)in_window(p, s, w, i)->most * p->cost->windows[w].n_layers;
    s->kept = true;
    s->max_pages = s->n_pages;
}

void placement_close(struct placement *p, uint32_t sequence)
{
    struct sequence *s = &p->sequences[sequence];
    placement_trim(p, sequence, 0);
    free(s->blocks);
    free(s->dealt);
    free(s->in_window);
    *s = (struct sequence){0};
}

uint32_t placement_tokens(const struct placement *p, uint32_t sequence)
{
    return p->sequences[sequence].n_pages * PAGE_TOKENS;
}

size_t placement_spans(const struct placement *p, uint32_t sequence, uint32_t begin, uint32_t end,
                       struct placement_span *spans, size_t max)
{
    const struct sequence *s = &p->sequences[sequence];
    assert(begin % PAGE_TOKENS == 0 && end / PAGE_TOKENS <= s->n_pages);
    size_t n = 0;
    uint32_t last = NO_HOLDER;
    for (uint32_t page = begin / PAGE_TOKENS; page < end / PAGE_TOKENS; page++) {
        const uint32_t holder = holder_of(p, s, page);
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

uint64_t placement_own(const struct placement *p, uint32_t sequence)
{
    const struct sequence *s = &p->sequences[sequence];
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_pages; i++)
        n += p->blocks[s->blocks[i]].references == 1;
    n *= p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++)
        for (uint32_t i = 0; i < p->n_holders; i++)
            n += (uint64_t)in_window(p, s, w, i)->most * p->cost->windows[w].n_layers;
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
        pages += holder_free(&p->holders[i]) / page_cost_page(p->cost);
    return pages;
}

uint64_t placement_least_cost(const struct placement *p, uint32_t n_pages, uint32_t shared)
{
    uint64_t units = (uint64_t)(n_pages - shared) * p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        const struct page_cost_window *window = &p->cost->windows[w];
        const uint32_t first = kv_window_first(window->window, shared * PAGE_TOKENS) / PAGE_TOKENS;
        units += (uint64_t)smaller(n_pages - first, window->pages) * window->n_layers;
    }
    return units;
}

uint64_t placement_page(const struct placement *p)
{
    return page_cost_page(p->cost);
}

uint64_t placement_growth(const struct placement *p, uint32_t sequence)
{
    const struct sequence *s = &p->sequences[sequence];
    uint64_t units = p->cost->whole;
    for (uint32_t w = 0; w < p->cost->n_windows; w++) {
        uint64_t most = 0;
        for (uint32_t i = 0; i < p->n_holders; i++)
            most += in_window(p, s, w, i)->most;
        units += most < p->cost->windows[w].pages ? p->cost->windows[w].n_layers : 0;
    }
    return units;
}
