/* scheduler_step.c - what the next step has: closings, fills, or decodes and prompts. */
#include "coordinator/scheduler_state.h"

#include <string.h>

enum { WHOLE_ROWS = 16 }; /* prompts are cut at multiples of it: products take rows by eights */

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void add_segment(struct scheduler *s, struct scheduler_step *step, uint32_t index,
                        uint32_t n_tokens)
{
    struct scheduler_sequence *q = &s->sequences[index];
    const bool forks = q->parent != SCHEDULER_NONE && !q->known_to_workers;
    step->segments[step->n_segments++] = (struct scheduler_segment){
        .sequence = index,
        .position = q->n_sent,
        .n_tokens = n_tokens,
        .fills = q->n_sent < q->n_fill,
        .wants = q->n_sent + n_tokens == q->n_tokens,
        .forks = forks,
        .spans_begin = q->n_told,
        .spans_end = q->n_acked,
    };
    q->n_told = q->n_acked;
    q->released_from = q->n_sent; /* once the holders have these tokens */
    q->n_sent += n_tokens;
    q->known_to_workers = true;
    if (forks)
        s->sequences[q->parent].n_forks--; /* from the next step on it may be closed */
}

/* How many tokens of it may go now. */
static uint32_t sendable(const struct scheduler *s, uint32_t index)
{
    const struct scheduler_sequence *q = &s->sequences[index];
    const uint32_t known = smaller(q->n_tokens, q->n_acked);
    if (q->state != SCHEDULER_RUNNING || known <= q->n_sent ||
        !scheduler_forks_can_wait(s, index, q->n_sent))
        return 0;
    return known - q->n_sent;
}

static uint32_t collect_running(struct scheduler *s)
{
    uint32_t n = 0;
    for (uint32_t j = 0; j < s->n_active; j++) {
        const uint32_t i = s->active[j];
        if (s->sequences[i].state != SCHEDULER_RUNNING)
            continue;
        uint32_t at = n++;
        for (; at > 0 && scheduler_ranks_before(&s->sequences[i], &s->sequences[s->ready[at - 1]]);
             at--)
            s->ready[at] = s->ready[at - 1];
        s->ready[at] = i;
    }
    return n;
}

static void add_fills(struct scheduler *s, struct scheduler_step *step, uint32_t n)
{
    uint32_t budget = s->config.chunk;
    for (uint32_t i = 0; i < n && budget > 0; i++) {
        struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        if (q->n_sent >= q->n_fill)
            continue;
        const uint32_t n_tokens =
            smaller(smaller(sendable(s, s->ready[i]), q->n_fill - q->n_sent), budget);
        if (n_tokens == 0)
            continue;
        add_segment(s, step, s->ready[i], n_tokens);
        budget -= n_tokens;
    }
}

/* It has a sample that is not computed yet, or is in flight with it. */
static bool decodes(const struct scheduler_sequence *q)
{
    return q->n_tokens > q->n_again;
}

/* Deals the `n` running sequences that decode to micro-batches. */
static void deal(struct scheduler *s, uint32_t n)
{
    uint32_t n_members = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        if (decodes(q))
            s->members[n_members++] =
                (struct micro_batches_member){.batch = q->micro_batch, .n_tokens = q->n_tokens};
    }
    micro_batches_deal(s->members, n_members, s->load, s->config.depth);
    n_members = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        if (decodes(q))
            q->micro_batch = s->members[n_members++].batch;
    }
}

/* Whether the micro-batch can leave: somebody has something to send, and nobody is under way. */
static bool can_leave(struct scheduler *s, uint32_t n, uint32_t batch)
{
    bool some = false;
    for (uint32_t i = 0; i < n; i++) {
        struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        if (!decodes(q) || q->micro_batch != batch)
            continue;
        if (q->n_done < q->n_sent)
            return false;
        some = some || sendable(s, s->ready[i]) > 0;
    }
    return some;
}

/* The micro-batch that left longest ago, of those that can leave; NONE: no decode can. */
static uint32_t choose_micro_batch(struct scheduler *s, uint32_t n)
{
    uint32_t chosen = MICRO_BATCHES_NONE;
    for (uint32_t i = 0; i < s->config.depth; i++)
        if ((chosen == MICRO_BATCHES_NONE || s->left[i] < s->left[chosen]) && can_leave(s, n, i))
            chosen = i;
    return chosen;
}

/* One token of each decode of a micro-batch. */
static void add_decodes(struct scheduler *s, struct scheduler_step *step, uint32_t n)
{
    deal(s, n);
    const uint32_t batch = choose_micro_batch(s, n);
    for (uint32_t i = 0; i < n && batch != MICRO_BATCHES_NONE; i++) {
        struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        if (decodes(q) && q->micro_batch == batch && sendable(s, s->ready[i]) > 0)
            add_segment(s, step, s->ready[i], 1);
    }
    if (batch != MICRO_BATCHES_NONE)
        s->left[batch] = s->next_step;
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* Prompt tokens that it can have in this step. */
static uint32_t prompt_left(const struct scheduler *s, uint32_t index)
{
    const struct scheduler_sequence *q = &s->sequences[index];
    return q->n_sent < q->n_again && q->n_sent >= q->n_fill ? sendable(s, index) : 0;
}

/* Running sequences with prompt left, but the first one by rank: the ones with the highest
 * priority, and of those the ones with the fewest tokens left, first. */
static uint32_t collect_short_first(struct scheduler *s, uint32_t n, uint32_t *head)
{
    uint32_t n_others = 0;
    *head = SCHEDULER_NONE;
    for (uint32_t i = 0; i < n; i++) {
        const struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        const uint32_t left = prompt_left(s, s->ready[i]);
        if (left == 0)
            continue;
        if (*head == SCHEDULER_NONE) {
            *head = i;
            continue;
        }
        uint32_t at = n_others++;
        for (; at > 0; at--) {
            const uint32_t other = s->ready[s->short_first[at - 1]];
            const struct scheduler_sequence *before = &s->sequences[other];
            if (before->priority != q->priority ? before->priority > q->priority
                                                : prompt_left(s, other) <= left)
                break;
            s->short_first[at] = s->short_first[at - 1];
        }
        s->short_first[at] = i;
    }
    return n_others;
}

/* What is left to give. */
struct rest {
    double budget;
    uint32_t n_tokens;
};

/* Gives ready[i] as many more tokens as `budget` of the rest allows. */
static void give(struct scheduler *s, struct rest *rest, uint32_t i, double budget)
{
    const struct scheduler_sequence *q = &s->sequences[s->ready[i]];
    const uint32_t left = prompt_left(s, s->ready[i]) - s->share[i];
    const uint32_t position = q->n_sent + s->share[i];
    const uint32_t most = smaller(left, rest->n_tokens);
    uint32_t n = step_prices_tokens(&s->prices, position, budget, most);
    if (n < most && n > WHOLE_ROWS)
        n -= n % WHOLE_ROWS;
    struct step_work work = {0};
    step_work_add(&work, position, n);
    s->share[i] += n;
    rest->n_tokens -= n;
    rest->budget -= step_prices_of(&s->prices, &work) - s->prices.per_step;
}

/* Half for the first one by rank, the rest for the shortest, what is left for the first again. */
static void add_prompts(struct scheduler *s, struct scheduler_step *step, uint32_t n, double budget)
{
    uint32_t head;
    struct rest rest = {.budget = budget, .n_tokens = s->most_tokens};
    const uint32_t n_others = collect_short_first(s, n, &head);
    if (head == SCHEDULER_NONE)
        return;
    memset(s->share, 0, n * sizeof(*s->share));
    give(s, &rest, head, n_others > 0 ? rest.budget / 2 : rest.budget);
    for (uint32_t i = 0; i < n_others && rest.n_tokens > 0; i++)
        give(s, &rest, s->short_first[i], rest.budget);
    give(s, &rest, head, rest.budget);
    const uint32_t least = smaller(s->most_tokens, SCHEDULER_LEAST_PROMPT);
    const uint32_t given = s->most_tokens - rest.n_tokens;
    if (given < least) { /* a long step now and then is better than a prompt that never ends */
        const uint32_t left = prompt_left(s, s->ready[head]) - s->share[head];
        s->share[head] += smaller(left, least - given);
    }
    for (uint32_t i = 0; i < n; i++)
        if (s->share[i] > 0)
            add_segment(s, step, s->ready[i], s->share[i]);
}

static void add_computed(struct scheduler *s, struct scheduler_step *step, uint32_t n)
{
    struct step_work work = {0};
    add_decodes(s, step, n);
    for (uint32_t i = 0; i < step->n_segments; i++)
        step_work_add(&work, step->segments[i].position, step->segments[i].n_tokens);
    add_prompts(s, step, n, s->budget - step_prices_of(&s->prices, &work));
}

/* ---- the step -------------------------------------------------------------------------------- */

/* What nobody awaits is not kept for long, where nothing is kept for later. */
static void drop_unawaited(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state == SCHEDULER_KEPT && q->n_awaiting == 0 && q->n_forks == 0)
            scheduler_evict(s, i);
    }
}

static void add_closings(struct scheduler *s, struct scheduler_step *step)
{
    for (uint32_t j = 0; j < s->n_active; j++) {
        const uint32_t i = s->active[j];
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state == SCHEDULER_FINISHED && step->n_closed < s->config.max_batch &&
            (q->n_forks == 0 || /* forks need not the workers, but the holders */
             (q->kept_tokens > 0 && scheduler_forks_can_wait(s, i, q->kept_tokens))))
            step->closed[step->n_closed++] = i;
    }
}

const struct scheduler_step *scheduler_next(struct scheduler *s)
{
    if (s->n_flying == s->config.depth)
        return NULL;
    struct scheduler_step *step = &s->ring[(s->first + s->n_flying) % s->config.depth];
    step->n_segments = step->n_closed = 0;
    if (!s->config.keeps)
        drop_unawaited(s);
    add_closings(s, step);
    const uint32_t n = collect_running(s);
    add_fills(s, step, n);
    if (step->n_segments == 0)
        add_computed(s, step, n);
    if (step->n_segments == 0 && step->n_closed == 0)
        return NULL;
    for (uint32_t i = 0; i < step->n_closed; i++)
        s->sequences[step->closed[i]].state = SCHEDULER_CLOSING;
    step->number = s->next_step++;
    s->n_flying++;
    return step;
}
