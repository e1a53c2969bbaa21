/* scheduler.c - see scheduler.h.
 *
 * Sequences live in a table that is searched in full: a batch has tens of them and a step takes
 * milliseconds at least, so nothing faster is worth a data structure. Steps in flight are a ring of
 * `depth` entries whose arrays are allocated once. */
#include "coordinator/scheduler.h"

#include "kernels/attention/kv_holder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct scheduler {
    struct scheduler_config config;
    struct placement *placement;
    struct scheduler_sequence *sequences;
    uint32_t n_sequences; /* of the table */
    uint32_t n_open;      /* RESERVING to CLOSING: a place in the batch, and at the workers */
    uint64_t next_name, next_step, next_order;
    struct scheduler_step *ring; /* [depth] */
    uint32_t first, n_flying;
    uint32_t *ready; /* [max_batch] scratch: running sequences in order of admission */
    struct micro_batches_member *members; /* [max_batch] scratch: those of them that decode */
    uint64_t *load;                       /* [depth] scratch: of micro-batches */
    uint64_t *left;                       /* [depth]: the step in which each one left last */
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

enum status scheduler_create(struct scheduler **scheduler, const struct scheduler_config *config,
                             struct placement *placement, struct error *error)
{
    if (config->chunk == 0 || config->max_batch == 0 || config->depth == 0)
        return error_set(error, STATUS_INVALID, "scheduler: chunk %u, batch %u, depth %u: no zero",
                         config->chunk, config->max_batch, config->depth);
    struct scheduler *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory");
    s->config = *config;
    s->placement = placement;
    s->next_name = s->next_step = 1;
    s->ring = calloc(config->depth, sizeof(*s->ring));
    s->ready = calloc(config->max_batch, sizeof(*s->ready));
    s->members = calloc(config->max_batch, sizeof(*s->members));
    s->load = calloc(config->depth, sizeof(*s->load));
    s->left = calloc(config->depth, sizeof(*s->left));
    bool complete = s->ring != NULL && s->ready != NULL && s->members != NULL && s->load != NULL &&
                    s->left != NULL;
    for (uint32_t i = 0; complete && i < config->depth; i++) {
        s->ring[i].segments = calloc(config->max_batch, sizeof(*s->ring[i].segments));
        s->ring[i].closed = calloc(config->max_batch, sizeof(*s->ring[i].closed));
        complete = s->ring[i].segments != NULL && s->ring[i].closed != NULL;
    }
    if (!complete) {
        scheduler_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u sequences",
                         config->max_batch);
    }
    *scheduler = s;
    return STATUS_OK;
}

void scheduler_destroy(struct scheduler *scheduler)
{
    if (scheduler == NULL)
        return;
    for (uint32_t i = 0; i < scheduler->n_sequences; i++)
        free(scheduler->sequences[i].tokens);
    for (uint32_t i = 0; scheduler->ring != NULL && i < scheduler->config.depth; i++) {
        free(scheduler->ring[i].segments);
        free(scheduler->ring[i].closed);
    }
    free(scheduler->sequences);
    free(scheduler->ring);
    free(scheduler->ready);
    free(scheduler->members);
    free(scheduler->load);
    free(scheduler->left);
    free(scheduler);
}

static enum status find_slot(struct scheduler *s, uint32_t *slot, struct error *error)
{
    for (uint32_t i = 0; i < s->n_sequences; i++)
        if (s->sequences[i].state == SCHEDULER_UNUSED) {
            *slot = i;
            return STATUS_OK;
        }
    const uint32_t n = s->n_sequences == 0 ? 16 : s->n_sequences * 2;
    struct scheduler_sequence *sequences = realloc(s->sequences, n * sizeof(*sequences));
    if (sequences == NULL)
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u sequences", n);
    memset(sequences + s->n_sequences, 0, (n - s->n_sequences) * sizeof(*sequences));
    *slot = s->n_sequences;
    s->sequences = sequences;
    s->n_sequences = n;
    return STATUS_OK;
}

enum status scheduler_add(struct scheduler *s, const struct scheduler_prompt *prompt,
                          uint32_t *index, struct error *error)
{
    assert(prompt->n_tokens >= 1 && prompt->max_tokens >= prompt->n_tokens);
    assert(prompt->n_fill < prompt->n_tokens);
    uint32_t slot = 0;
    const enum status status = find_slot(s, &slot, error);
    if (status != STATUS_OK)
        return status;
    int32_t *tokens = malloc((size_t)prompt->max_tokens * sizeof(*tokens));
    if (tokens == NULL)
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u tokens",
                         prompt->max_tokens);
    memcpy(tokens, prompt->tokens, (size_t)prompt->n_tokens * sizeof(*tokens));
    s->sequences[slot] = (struct scheduler_sequence){
        .state = SCHEDULER_WAITING,
        .name = s->next_name++,
        .owner = prompt->owner,
        .owner_index = prompt->owner_index,
        .tokens = tokens,
        .n_prompt = prompt->n_tokens,
        .n_tokens = prompt->n_tokens,
        .max_tokens = prompt->max_tokens,
        .n_fill = prompt->n_fill,
        .fill_seed = prompt->fill_seed,
        .parent = prompt->parent,
        .shared_tokens = prompt->parent != SCHEDULER_NONE ? prompt->shared_tokens : 0,
        .order = s->next_order++,
        .micro_batch = MICRO_BATCHES_NONE,
    };
    if (prompt->parent != SCHEDULER_NONE)
        s->sequences[prompt->parent].n_forks++;
    *index = slot;
    return STATUS_OK;
}

const struct scheduler_sequence *scheduler_sequence(const struct scheduler *s, uint32_t index)
{
    return &s->sequences[index];
}

static void close_sequence(struct scheduler *s, struct scheduler_sequence *q)
{
    if (q->has_place)
        s->n_open--;
    q->state = SCHEDULER_CLOSED;
}

static void begin_alone(struct scheduler *s, struct scheduler_sequence *q)
{
    if (q->parent != SCHEDULER_NONE)
        s->sequences[q->parent].n_forks--;
    q->parent = SCHEDULER_NONE;
}

/* Does anything move that will give back pages or places by itself? */
static bool anything_moves(const struct scheduler *s)
{
    if (s->n_flying > 0)
        return true;
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state == SCHEDULER_RESERVING || q->state == SCHEDULER_RUNNING ||
            q->state == SCHEDULER_CLOSING || q->state == SCHEDULER_CLOSED ||
            (q->state == SCHEDULER_FINISHED && q->n_forks == 0))
            return true;
    }
    return false;
}

/* Finished parents that are kept for forks hold what the next sequence needs: let the forks go
 * alone. The parents are then closed, and a later call finds the pages free. */
static void give_up_sharing(struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        struct scheduler_sequence *q = &s->sequences[i];
        if (q->state == SCHEDULER_WAITING && q->parent != SCHEDULER_NONE &&
            s->sequences[q->parent].state == SCHEDULER_FINISHED) {
            begin_alone(s, q);
            q->shared_tokens = 0;
        }
    }
}

static uint32_t first_waiting(const struct scheduler *s)
{
    uint32_t first = SCHEDULER_NONE;
    for (uint32_t i = 0; i < s->n_sequences; i++)
        if (s->sequences[i].state == SCHEDULER_WAITING &&
            (first == SCHEDULER_NONE || s->sequences[i].order < s->sequences[first].order))
            first = i;
    return first;
}

bool scheduler_admit(struct scheduler *s, uint32_t *index, struct error *error)
{
    const uint32_t first = first_waiting(s);
    if (first == SCHEDULER_NONE)
        return false;
    struct scheduler_sequence *q = &s->sequences[first];
    struct error reason = {.status = STATUS_OK};
    enum status status = STATUS_EXHAUSTED;
    if (s->n_open < s->config.max_batch) {
        const bool fork = q->parent != SCHEDULER_NONE;
        status = placement_open(s->placement, q->n_prompt, q->max_tokens,
                                fork ? s->sequences[q->parent].place : PLACEMENT_NO_PARENT,
                                q->shared_tokens, &q->place, &reason);
    }
    if (status == STATUS_EXHAUSTED) {
        if (!anything_moves(s))
            give_up_sharing(s);
        return false;
    }
    if (status != STATUS_OK) {
        if (error != NULL)
            *error = reason;
        return false;
    }
    q->state = SCHEDULER_RESERVING;
    q->has_place = true;
    q->n_asked = placement_tokens(s->placement, q->place);
    s->n_open++;
    *index = first;
    return true;
}

bool scheduler_grow(struct scheduler *s, uint32_t *index, uint32_t *begin, struct error *error)
{
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        struct scheduler_sequence *q = &s->sequences[i];
        if (q->state != SCHEDULER_RUNNING || q->n_asked != q->n_acked ||
            q->n_asked >= q->max_tokens || q->n_sent + PAGE_TOKENS / 2 < q->n_acked)
            continue;
        if (placement_grow(s->placement, q->place, smaller(q->n_asked + PAGE_TOKENS, q->max_tokens),
                           error) != STATUS_OK)
            return false;
        *index = i;
        *begin = q->n_asked;
        q->n_asked = placement_tokens(s->placement, q->place);
        return true;
    }
    return false;
}

void scheduler_acked(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    q->n_acked = q->n_asked;
    if (q->state == SCHEDULER_RESERVING)
        q->state = SCHEDULER_RUNNING;
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
    q->n_sent += n_tokens;
    q->known_to_workers = true;
    if (forks)
        s->sequences[q->parent].n_forks--; /* from the next step on it may be closed */
}

/* How many tokens of it may go now; a fork's position begins at its fork point. */
static uint32_t sendable(struct scheduler *s, struct scheduler_sequence *q)
{
    if (q->state != SCHEDULER_RUNNING)
        return 0;
    if (q->parent != SCHEDULER_NONE && !q->known_to_workers) {
        if (s->sequences[q->parent].n_done < q->shared_tokens)
            return 0;
        q->n_sent = q->n_done = q->shared_tokens;
    }
    const uint32_t known = smaller(q->n_tokens, q->n_acked);
    return known > q->n_sent ? known - q->n_sent : 0;
}

static uint32_t collect_running(struct scheduler *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        if (s->sequences[i].state != SCHEDULER_RUNNING)
            continue;
        uint32_t at = n++;
        for (; at > 0 && s->sequences[s->ready[at - 1]].order > s->sequences[i].order; at--)
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
        const uint32_t n_tokens = smaller(smaller(sendable(s, q), q->n_fill - q->n_sent), budget);
        if (n_tokens == 0)
            continue;
        add_segment(s, step, s->ready[i], n_tokens);
        budget -= n_tokens;
    }
}

/* It has a sample that is not computed yet, or is in flight with it. */
static bool decodes(const struct scheduler_sequence *q)
{
    return q->n_tokens > q->n_prompt;
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
        some = some || sendable(s, q) > 0;
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
        if (decodes(q) && q->micro_batch == batch && sendable(s, q) > 0)
            add_segment(s, step, s->ready[i], 1);
    }
    if (batch != MICRO_BATCHES_NONE)
        s->left[batch] = s->next_step;
}

/* Decodes, then prompts. */
static void add_computed(struct scheduler *s, struct scheduler_step *step, uint32_t n)
{
    add_decodes(s, step, n);
    uint32_t budget = s->config.chunk;
    for (uint32_t i = 0; i < n && budget > 0; i++) {
        struct scheduler_sequence *q = &s->sequences[s->ready[i]];
        if (q->n_sent >= q->n_prompt || q->n_sent < q->n_fill)
            continue;
        const uint32_t n_tokens = smaller(sendable(s, q), budget);
        if (n_tokens == 0)
            continue;
        add_segment(s, step, s->ready[i], n_tokens);
        budget -= n_tokens;
    }
}

const struct scheduler_step *scheduler_next(struct scheduler *s)
{
    if (s->n_flying == s->config.depth)
        return NULL;
    struct scheduler_step *step = &s->ring[(s->first + s->n_flying) % s->config.depth];
    step->n_segments = step->n_closed = 0;

    for (uint32_t i = 0; i < s->n_sequences; i++)
        if (s->sequences[i].state == SCHEDULER_FINISHED && s->sequences[i].n_forks == 0 &&
            step->n_closed < s->config.max_batch)
            step->closed[step->n_closed++] = i;

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

const struct scheduler_step *scheduler_oldest(const struct scheduler *s)
{
    return s->n_flying > 0 ? &s->ring[s->first] : NULL;
}

void scheduler_commit(struct scheduler *s)
{
    const struct scheduler_step *step = &s->ring[s->first];
    assert(s->n_flying > 0);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        s->sequences[segment->sequence].n_done = segment->position + segment->n_tokens;
    }
    for (uint32_t i = 0; i < step->n_closed; i++)
        close_sequence(s, &s->sequences[step->closed[i]]);
}

void scheduler_pop(struct scheduler *s)
{
    assert(s->n_flying > 0);
    s->first = (s->first + 1) % s->config.depth;
    s->n_flying--;
}

void scheduler_sampled(struct scheduler *s, uint32_t index, int32_t token)
{
    struct scheduler_sequence *q = &s->sequences[index];
    assert(q->state == SCHEDULER_RUNNING && q->n_sent == q->n_tokens &&
           q->n_tokens < q->max_tokens);
    q->tokens[q->n_tokens++] = token;
}

void scheduler_finish(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    if (q->state == SCHEDULER_UNUSED || q->state >= SCHEDULER_FINISHED)
        return;
    if (!q->known_to_workers)
        begin_alone(s, q); /* a fork that will not be: its parent need not wait for it */
    if (q->known_to_workers || q->n_forks > 0)
        q->state = SCHEDULER_FINISHED;
    else
        close_sequence(s, q); /* the workers have never heard of it */
}

uint32_t scheduler_closed(const struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_sequences; i++)
        if (s->sequences[i].state == SCHEDULER_CLOSED)
            return i;
    return SCHEDULER_NONE;
}

void scheduler_release(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    assert(q->state == SCHEDULER_CLOSED);
    if (q->has_place)
        placement_close(s->placement, q->place);
    free(q->tokens);
    *q = (struct scheduler_sequence){0};
}

uint32_t scheduler_in_flight(const struct scheduler *s)
{
    return s->n_flying;
}

uint32_t scheduler_n_sequences(const struct scheduler *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_sequences; i++)
        n += s->sequences[i].state != SCHEDULER_UNUSED;
    return n;
}

uint32_t scheduler_common_prefix(const int32_t *tokens, uint32_t n_tokens,
                                 const int32_t *const *earlier, const uint32_t *n_earlier,
                                 uint32_t n, uint32_t *which)
{
    uint32_t best = 0;
    const uint32_t most = n_tokens > 0 ? (n_tokens - 1) / PAGE_TOKENS * PAGE_TOKENS : 0;
    for (uint32_t i = 0; i < n && best < most; i++) {
        uint32_t shared = 0;
        while (shared < most && shared + PAGE_TOKENS <= n_earlier[i] &&
               memcmp(tokens + shared, earlier[i] + shared, PAGE_TOKENS * sizeof(*tokens)) == 0)
            shared += PAGE_TOKENS;
        if (shared > best) {
            best = shared;
            *which = i;
        }
    }
    return best;
}
