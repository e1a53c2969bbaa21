/* placement_deal.c - which holder gets the next pages of a sequence, and how many at once. */
#include "coordinator/placement_state.h"

#include "kernels/attention/kv_window.h"

enum {
    RUNS_PER_SHARE = 8, /* of a known prompt: a prefix is balanced within 1/8 of a share */
    MAX_RUNS = 128,     /* of a known prompt: each is a node of the merge tree (partial.h has room
                         * for 512) */
    GROWTH_UNITS = 64,  /* growth units get longer when a sequence has more of them */
    WINDOW_UNITS = 2,   /* stripes that each holder has of a window, where all layers have one */
};

/* The largest power of two that is at most n; 1 for 0. */
static uint32_t power_of_two_below(uint32_t n)
{
    uint32_t power = 1;
    while (power <= n / 2)
        power *= 2;
    return power;
}

uint32_t placement_round_up(uint32_t n, uint32_t multiple)
{
    const uint64_t rounded = ((uint64_t)n + multiple - 1) / multiple * multiple;
    return rounded > UINT32_MAX ? UINT32_MAX : (uint32_t)rounded;
}

uint32_t placement_stripe(const struct page_cost *cost, uint32_t stripe_pages, uint32_t n_holders)
{
    const uint32_t window = page_cost_smallest_window(cost);
    if (cost->whole > 0 || window == 0)
        return stripe_pages;
    const uint32_t most = kv_window_back(window) / (WINDOW_UNITS * n_holders);
    return placement_smaller(stripe_pages, power_of_two_below(most));
}

static bool less_loaded(const struct placement *p, uint32_t a, uint32_t b, uint32_t pages)
{
    const struct placement_site *x = &p->holders[a], *y = &p->holders[b];
    const double units = (double)pages * page_cost_page(p->cost);
    return ((double)x->used + units) / x->weight < ((double)y->used + units) / y->weight;
}

static uint32_t choose_least_loaded(const struct placement *p, const struct placement_sequence *s,
                                    uint32_t pages, uint32_t need)
{
    uint32_t best = PLACEMENT_NO_HOLDER;
    for (uint32_t i = 0; i < p->n_holders; i++)
        if (p->holders[i].capacity > 0 && placement_has_room(p, s, i, need) &&
            (best == PLACEMENT_NO_HOLDER || less_loaded(p, i, best, pages)))
            best = i;
    return best;
}

/* Whose turn it is for the next `pages` pages of a sequence, among holders with room for `need`.
 * In units of `pages`, with t units dealt after this one: holder i is eligible when it is behind,
 * t f_i - a_i >= 1 / (2n - 2), and of these the one goes first that would be the first to be a
 * whole unit behind. When others were passed over for lack of pages, nobody may be eligible: then
 * the one that is furthest behind for its share. */
static uint32_t choose_by_share(const struct placement *p, const struct placement_sequence *s,
                                uint32_t pages, uint32_t need)
{
    const double slack = p->n_holders > 1 ? 1.0 / (2.0 * p->n_holders - 2.0) : 0.0;
    const double t = ((double)s->n_pages + pages) / pages;
    uint32_t best = PLACEMENT_NO_HOLDER;
    double best_key = 0.0;
    bool best_eligible = false;
    for (uint32_t i = 0; i < p->n_holders; i++) {
        const struct placement_site *h = &p->holders[i];
        if (h->share == 0.0 || !placement_has_room(p, s, i, need))
            continue;
        const double behind = t * h->share - (double)s->dealt[i] / pages;
        /* rounding in t f_i must not make an exact tie ineligible */
        const bool eligible = behind >= slack - 1e-9;
        const double key = eligible ? (1.0 - slack - behind) / h->share : -behind / h->share;
        if (best == PLACEMENT_NO_HOLDER || (eligible && !best_eligible) ||
            (eligible == best_eligible &&
             (key < best_key || (key == best_key && less_loaded(p, i, best, pages))))) {
            best = i;
            best_key = key;
            best_eligible = eligible;
        }
    }
    return best;
}

/* The length of the next unit in pages, and therefore its alignment: `page` begins a stripe. */
static uint32_t unit_pages(const struct placement *p, const struct placement_sequence *s,
                           uint32_t page, uint32_t target, bool known)
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

bool placement_deal(struct placement *p, struct placement_sequence *s, uint32_t target, bool known)
{
    const uint32_t n_stripes = target / p->stripe_pages + (target % p->stripe_pages != 0);
    while (s->n_pages < target) {
        const uint32_t page = s->n_pages;
        uint32_t holder = PLACEMENT_NO_HOLDER, count;
        if (page > 0 && page < s->run_end) {
            count = placement_smaller(s->run_end, target) - page;
            holder = placement_holder_of(p, s, page - 1);
            if (!placement_has_room(p, s, holder, 1))
                holder = PLACEMENT_NO_HOLDER;
        } else {
            const uint32_t unit = unit_pages(p, s, page, target, known);
            count = placement_smaller(unit, target - page);
            /* A prompt that ends inside a run leaves the rest of the run to growth. */
            s->run_end =
                placement_smaller(page + unit, placement_round_up(page + count, p->stripe_pages));
        }
        const bool few = known && n_stripes <= p->n_holders;
        for (int attempt = 0; holder == PLACEMENT_NO_HOLDER && attempt < 2; attempt++) {
            const uint32_t need =
                attempt == 0 ? count : 1; /* whole if anybody can, else in parts */
            holder = few || page == 0 ? choose_least_loaded(p, s, count, need)
                                      : choose_by_share(p, s, count, need);
        }
        if (holder == PLACEMENT_NO_HOLDER)
            return false;
        for (uint32_t i = 0; i < count && placement_has_room(p, s, holder, 1); i++)
            placement_give_page(p, s, holder);
    }
    return true;
}
