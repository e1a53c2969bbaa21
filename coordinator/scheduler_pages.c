/* scheduler_pages.c - who is admitted, who grows, and who has to go.
 *
 * Pages come back late: a sequence that goes is named in a step, and its pages are free when that
 * step is reported. So what is about to come back counts before more is taken away. */
#include "coordinator/scheduler_state.h"

#include "kernels/attention/kv_holder.h"

#include <assert.h>

/* Waiting sequences that are looked at: the first ones by rank. */
enum { LOOKED_AT = 16 };

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t pages_of(uint32_t n_tokens)
{
    return n_tokens / PAGE_TOKENS + (n_tokens % PAGE_TOKENS != 0);
}

/* ---- room ------------------------------------------------------------------------------------ */

/* It goes, and nothing of it stays. */
static bool going(const struct scheduler_sequence *q)
{
    return q->state >= SCHEDULER_FINISHED && q->state <= SCHEDULER_CLOSED && q->has_place;
}

/* Units (page_cost.h) that come back by themselves. */
static uint64_t coming_units(const struct scheduler *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_active; i++) {
        const struct scheduler_sequence *q = &s->sequences[s->active[i]];
        if (going(q) && q->kept_tokens == 0)
            n += placement_own(s->placement, q->place);
    }
    return n;
}

static bool anything_goes(const struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_active; i++)
        if (going(&s->sequences[s->active[i]]))
            return true;
    return false;
}

/* The kept sequence that was used longest ago, of those that nobody is about to fork. */
static uint32_t oldest_kept(const struct scheduler *s, uint32_t spared)
{
    uint32_t oldest = SCHEDULER_NONE;
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state == SCHEDULER_KEPT && q->n_forks == 0 && i != spared &&
            (oldest == SCHEDULER_NONE || q->used < s->sequences[oldest].used))
            oldest = i;
    }
    return oldest;
}

/* Evicts kept sequences, but `spared`, until so many units are about to come. Of pages that several
 * kept ones share nothing is known to come before the last one goes. */
static void make_room(struct scheduler *s, uint64_t units, uint32_t spared)
{
    uint64_t coming = coming_units(s);
    uint32_t oldest;
    while (coming < units && (oldest = oldest_kept(s, spared)) != SCHEDULER_NONE) {
        coming += placement_own(s->placement, s->sequences[oldest].place);
        scheduler_evict(s, oldest);
    }
}

/* Whether all kept sequences together would do: otherwise none of them need go in vain. */
static bool room_can_be_made(const struct scheduler *s, uint64_t units)
{
    uint64_t n = coming_units(s);
    if (n < units && n + placement_all_kept(s->placement) < units)
        return false; /* without looking at each of them */
    for (uint32_t i = 0; i < s->n_sequences && n < units; i++)
        if (s->sequences[i].state == SCHEDULER_KEPT)
            n += placement_own(s->placement, s->sequences[i].place);
    return n >= units;
}

/* One page more for each sequence that has a place in the batch. */
static uint64_t growing_units(const struct scheduler *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_active; i++) {
        const struct scheduler_sequence *q = &s->sequences[s->active[i]];
        if (q->counts && q->has_place)
            n += placement_growth(s->placement, q->place);
    }
    return n;
}

/* ---- admission ------------------------------------------------------------------------------- */

/* Whether an earlier one will have computed more of what it can take over. */
static bool awaits(const struct scheduler *s, const struct scheduler_sequence *q)
{
    if (q->awaited == SCHEDULER_NONE)
        return false;
    const struct scheduler_sequence *parent = &s->sequences[q->awaited];
    return parent->name == q->awaited_name && parent->n_done < q->awaited_tokens &&
           (parent->state <= SCHEDULER_RUNNING || parent->returns);
}

/* The longest prefix that somebody can still be forked at. */
static uint32_t find_whole(const struct scheduler *s, const struct scheduler_sequence *q,
                           uint32_t most, uint32_t *parent)
{
    for (uint32_t n = prefix_index_find(s->index, q->names, most, parent); n > 0; n--) {
        uint32_t at = PREFIX_INDEX_NONE;
        while (prefix_index_next(s->index, &q->names[n - 1], &at, parent))
            if (scheduler_can_fork(s, *parent, n * PAGE_TOKENS))
                return n;
    }
    return 0;
}

/* Whose pages it takes over, and how many. Without keeping, only those of the one that it
 * awaited. */
static uint32_t find_shared(const struct scheduler *s, const struct scheduler_sequence *q,
                            uint32_t *parent)
{
    const uint32_t most = smaller((q->n_tokens - 1) / PAGE_TOKENS, q->n_named);
    *parent = SCHEDULER_NONE;
    if (!q->shares)
        return 0;
    if (s->config.keeps)
        return find_whole(s, q, most, parent);
    if (q->awaited == SCHEDULER_NONE || s->sequences[q->awaited].name != q->awaited_name)
        return 0;
    *parent = q->awaited;
    const uint32_t n = smaller(smaller(most, s->sequences[q->awaited].n_published),
                               q->awaited_tokens / PAGE_TOKENS);
    return scheduler_can_fork(s, q->awaited, n * PAGE_TOKENS) ? n : 0;
}

uint32_t scheduler_found(const struct scheduler *s, uint32_t index)
{
    uint32_t parent;
    return find_shared(s, &s->sequences[index], &parent);
}

/* Nobody before this one waits: kept sequences go for it, those that it can be forked from last. */
static void make_room_for_first(struct scheduler *s, uint64_t lacking, uint32_t parent)
{
    const bool alone = s->n_open == 0;
    if (alone || room_can_be_made(s, lacking))
        make_room(s, lacking, parent);
    if (alone && !anything_goes(s))
        make_room(s, lacking, SCHEDULER_NONE); /* better computed twice than never */
}

/* `first`: nobody before it waits, so room is made for it. */
static enum status try_to_admit(struct scheduler *s, uint32_t index, bool first,
                                struct error *error)
{
    struct scheduler_sequence *q = &s->sequences[index];
    uint32_t parent;
    const uint32_t shared = find_shared(s, q, &parent);
    const uint64_t wanted =
        placement_least_cost(s->placement, pages_of(q->n_tokens), shared) + growing_units(s);
    const uint64_t n_free = placement_free(s->placement);
    uint64_t lacking = wanted > n_free ? wanted - n_free : 0;
    enum status status = STATUS_EXHAUSTED;
    if (lacking == 0)
        status = placement_open(s->placement, q->n_tokens, q->max_tokens,
                                shared > 0 ? s->sequences[parent].place : PLACEMENT_NO_PARENT,
                                shared * PAGE_TOKENS, &q->place, error);
    if (status == STATUS_OK && placement_free_pages(s->placement) < s->n_open) {
        placement_close(s->placement, q->place); /* somebody could not grow */
        status = STATUS_EXHAUSTED;
    }
    if (status == STATUS_EXHAUSTED && first) {
        if (lacking == 0) /* with windows the cost depends on who has room: little by little */
            lacking = placement_page(s->placement);
        make_room_for_first(s, lacking, shared > 0 ? parent : SCHEDULER_NONE);
    }
    if (status != STATUS_OK)
        return status;
    if (q->incarnation == 1)
        q->cached_tokens = shared * PAGE_TOKENS;
    scheduler_stop_awaiting(s, q);
    if (shared > 0) {
        q->parent = parent;
        q->parent_name = s->sequences[parent].name;
        s->sequences[parent].n_forks++;
        s->sequences[parent].used = ++s->clock;
    }
    q->shared_tokens = q->n_sent = q->n_done = q->released_from = shared * PAGE_TOKENS;
    q->state = SCHEDULER_RESERVING;
    q->has_place = q->counts = true;
    q->n_again = q->n_tokens;
    q->n_asked = placement_tokens(s->placement, q->place);
    s->n_open++;
    return STATUS_OK;
}

/* The first waiting sequences by rank, those that await nobody. */
static uint32_t first_waiting(const struct scheduler *s, uint32_t first[LOOKED_AT])
{
    uint32_t n = 0;
    for (uint32_t j = 0; j < s->n_active; j++) {
        const uint32_t i = s->active[j];
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state != SCHEDULER_WAITING || awaits(s, q))
            continue;
        uint32_t at = n < LOOKED_AT ? n++ : LOOKED_AT;
        for (; at > 0 && scheduler_ranks_before(q, &s->sequences[first[at - 1]]); at--)
            if (at < LOOKED_AT)
                first[at] = first[at - 1];
        if (at < LOOKED_AT)
            first[at] = i;
    }
    return n;
}

bool scheduler_admit(struct scheduler *s, uint32_t *index, struct error *error)
{
    if (s->n_open >= s->config.max_batch)
        return false;
    uint32_t waiting[LOOKED_AT];
    const uint32_t n = first_waiting(s, waiting);
    for (uint32_t i = 0; i < n; i++) {
        struct error reason = {.status = STATUS_OK};
        const enum status status = try_to_admit(s, waiting[i], i == 0, &reason);
        if (status == STATUS_OK) {
            for (uint32_t j = 0; j < i; j++)
                s->sequences[waiting[j]].n_passed++;
            *index = waiting[i];
            return true;
        }
        if (status != STATUS_EXHAUSTED) {
            if (error != NULL)
                *error = reason;
            return false;
        }
        if (s->sequences[waiting[i]].n_passed >= SCHEDULER_PASSES)
            return false;
    }
    return false;
}

/* ---- growing --------------------------------------------------------------------------------- */

/* The first by rank that runs and has nothing asked for, of those that need pages soon, or now. */
static uint32_t first_in_need(const struct scheduler *s, bool now)
{
    uint32_t first = SCHEDULER_NONE;
    for (uint32_t j = 0; j < s->n_active; j++) {
        const uint32_t i = s->active[j];
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state != SCHEDULER_RUNNING || q->n_asked != q->n_acked ||
            q->n_asked >= q->max_tokens ||
            (now ? q->n_tokens <= q->n_acked : q->n_sent + PAGE_TOKENS / 2 < q->n_acked))
            continue;
        if (first == SCHEDULER_NONE || scheduler_ranks_before(q, &s->sequences[first]))
            first = i;
    }
    return first;
}

bool scheduler_grow(struct scheduler *s, uint32_t *index, uint32_t *begin, struct error *error)
{
    const uint32_t first = first_in_need(s, false);
    if (first == SCHEDULER_NONE)
        return false;
    struct scheduler_sequence *q = &s->sequences[first];
    struct error reason = {.status = STATUS_OK};
    const enum status status = placement_grow(
        s->placement, q->place, smaller(q->n_asked + PAGE_TOKENS, q->max_tokens), &reason);
    if (status == STATUS_EXHAUSTED)
        make_room(s, placement_page(s->placement), SCHEDULER_NONE);
    else if (status != STATUS_OK && error != NULL)
        *error = reason;
    if (status != STATUS_OK)
        return false;
    *index = first;
    *begin = q->n_asked;
    q->n_asked = placement_tokens(s->placement, q->place);
    return true;
}

void scheduler_acked(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    q->n_acked = q->n_asked;
    if (q->state == SCHEDULER_RESERVING)
        q->state = SCHEDULER_RUNNING;
}

uint32_t scheduler_preempt(struct scheduler *s)
{
    uint32_t last = SCHEDULER_NONE, n_running = 0;
    const uint32_t needs = first_in_need(s, true);
    if (needs == SCHEDULER_NONE || placement_can_grow(s->placement, s->sequences[needs].place) ||
        anything_goes(s))
        return SCHEDULER_NONE;
    for (uint32_t j = 0; j < s->n_active; j++) {
        const uint32_t i = s->active[j];
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state != SCHEDULER_RESERVING && q->state != SCHEDULER_RUNNING)
            continue;
        n_running++;
        if (last == SCHEDULER_NONE || scheduler_ranks_before(&s->sequences[last], q))
            last = i;
    }
    if (n_running < 2)
        return SCHEDULER_NONE; /* kept ones are about to go */
    s->sequences[last].returns = true;
    s->usage.n_preempted++;
    scheduler_retire(s, last, 0);
    return last;
}

bool scheduler_recompute(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    assert(q->state == SCHEDULER_RUNNING);
    if (q->shared_tokens == 0)
        return false;
    const struct scheduler_sequence *parent =
        q->parent != SCHEDULER_NONE ? &s->sequences[q->parent] : NULL;
    if (parent != NULL && parent->name == q->parent_name && parent->state == SCHEDULER_KEPT &&
        parent->n_forks == 0) /* else those that are about to fork it will find out */
        scheduler_evict(s, q->parent);
    q->shares = false;
    q->cached_tokens = 0;
    q->returns = true;
    scheduler_retire(s, index, 0);
    return true;
}
