/* scheduler.c - the lives of sequences: they come, are told to end, are closed, kept, or return.
 *
 * Sequences live in a table. What a step looks at are the active ones, tens or hundreds that wait or
 * run, in a list that is searched in full; kept ones are searched only when one of them has to go,
 * or a sequence ends. Steps in flight are a ring of `depth` entries whose arrays are allocated
 * once. */
#include "coordinator/scheduler_state.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/attention/kv_window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static enum status create_steps(struct scheduler *s, struct error *error)
{
    const struct scheduler_config *config = &s->config;
    s->ring = calloc(config->depth, sizeof(*s->ring));
    s->ready = calloc(config->max_batch, sizeof(*s->ready));
    s->share = calloc(config->max_batch, sizeof(*s->share));
    s->short_first = calloc(config->max_batch, sizeof(*s->short_first));
    s->members = calloc(config->max_batch, sizeof(*s->members));
    s->load = calloc(config->depth, sizeof(*s->load));
    s->left = calloc(config->depth, sizeof(*s->left));
    bool complete = s->ring != NULL && s->ready != NULL && s->share != NULL &&
                    s->short_first != NULL && s->members != NULL && s->load != NULL &&
                    s->left != NULL;
    for (uint32_t i = 0; complete && i < config->depth; i++) {
        s->ring[i].segments = calloc(config->max_batch, sizeof(*s->ring[i].segments));
        s->ring[i].closed = calloc(config->max_batch, sizeof(*s->ring[i].closed));
        complete = s->ring[i].segments != NULL && s->ring[i].closed != NULL;
    }
    if (!complete)
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u sequences",
                         config->max_batch);
    return STATUS_OK;
}

void scheduler_set_budget(struct scheduler *s, const struct step_prices *prices, double us,
                          uint32_t most_tokens)
{
    s->prices = *prices;
    s->budget = us;
    s->most_tokens = most_tokens < s->config.chunk ? most_tokens : s->config.chunk;
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
    const struct step_prices by_token = {.per_token = 1.0};
    scheduler_set_budget(s, &by_token, config->chunk, config->chunk);
    enum status status = create_steps(s, error);
    if (status == STATUS_OK)
        status = prefix_index_create(&s->index, error);
    if (status != STATUS_OK) {
        scheduler_destroy(s);
        return status;
    }
    *scheduler = s;
    return STATUS_OK;
}

void scheduler_destroy(struct scheduler *scheduler)
{
    if (scheduler == NULL)
        return;
    for (uint32_t i = 0; i < scheduler->n_sequences; i++) {
        free(scheduler->sequences[i].tokens);
        free(scheduler->sequences[i].names);
    }
    for (uint32_t i = 0; scheduler->ring != NULL && i < scheduler->config.depth; i++) {
        free(scheduler->ring[i].segments);
        free(scheduler->ring[i].closed);
    }
    prefix_index_destroy(scheduler->index);
    free(scheduler->sequences);
    free(scheduler->active);
    free(scheduler->ring);
    free(scheduler->ready);
    free(scheduler->share);
    free(scheduler->short_first);
    free(scheduler->members);
    free(scheduler->load);
    free(scheduler->left);
    free(scheduler);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Names the first n pages, whose tokens are known. */
static void name_pages(const struct scheduler *s, struct scheduler_sequence *q, uint32_t n)
{
    for (; q->n_named < n; q->n_named++)
        q->names[q->n_named] =
            prefix_name_next(q->n_named > 0 ? &q->names[q->n_named - 1] : &s->config.root,
                             q->tokens + (size_t)q->n_named * PAGE_TOKENS);
}

/* Others may take over what has been computed by now. */
static void publish(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    if (q->n_fill > 0 || q->damaged)
        return;
    const uint32_t n = q->n_done / PAGE_TOKENS;
    name_pages(s, q, n);
    while (q->n_published < n &&
           prefix_index_add(s->index, index, &q->names[q->n_published], NULL) == STATUS_OK)
        q->n_published++;
}

/* Nobody finds its pages any more. */
static void unpublish(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    prefix_index_remove(s->index, index);
    q->n_published = 0;
}

/* ---- windows --------------------------------------------------------------------------------- */

/* Whether a fork at n_tokens finds all it needs when what rows from `position` on do not see has
 * gone. */
static bool window_is_whole(const struct scheduler *s, uint32_t position, uint32_t n_tokens)
{
    const uint32_t window = s->config.window;
    return kv_window_first(window, position) <= kv_window_first(window, n_tokens);
}

bool scheduler_can_fork(const struct scheduler *s, uint32_t index, uint32_t n_tokens)
{
    return window_is_whole(s, s->sequences[index].released_from, n_tokens);
}

bool scheduler_forks_can_wait(const struct scheduler *s, uint32_t index, uint32_t position)
{
    if (s->config.window == 0 || s->sequences[index].n_forks == 0)
        return true;
    for (uint32_t i = 0; i < s->n_active; i++) {
        const struct scheduler_sequence *q = &s->sequences[s->active[i]];
        if (q->parent == index && !q->known_to_workers && q->state >= SCHEDULER_RESERVING &&
            q->state <= SCHEDULER_RUNNING && !window_is_whole(s, position, q->shared_tokens))
            return false;
    }
    return true;
}

/* ---- active ones ----------------------------------------------------------------------------- */

static void activate(struct scheduler *s, uint32_t index)
{
    s->sequences[index].active_at = s->n_active;
    s->active[s->n_active++] = index;
}

/* The last one takes its place. */
static void deactivate(struct scheduler *s, uint32_t index)
{
    const uint32_t at = s->sequences[index].active_at, last = s->active[--s->n_active];
    assert(s->active[at] == index);
    s->active[at] = last;
    s->sequences[last].active_at = at;
}

/* ---- coming ---------------------------------------------------------------------------------- */

static enum status find_slot(struct scheduler *s, uint32_t *slot, struct error *error)
{
    for (uint32_t i = 0; i < s->n_sequences; i++)
        if (s->sequences[i].state == SCHEDULER_UNUSED) {
            *slot = i;
            return STATUS_OK;
        }
    const uint32_t n = s->n_sequences == 0 ? 16 : s->n_sequences * 2;
    uint32_t *active = realloc(s->active, n * sizeof(*active));
    if (active != NULL)
        s->active = active;
    struct scheduler_sequence *sequences = realloc(s->sequences, n * sizeof(*sequences));
    if (sequences != NULL)
        s->sequences = sequences;
    if (active == NULL || sequences == NULL)
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u sequences", n);
    memset(sequences + s->n_sequences, 0, (n - s->n_sequences) * sizeof(*sequences));
    *slot = s->n_sequences;
    s->n_sequences = n;
    return STATUS_OK;
}

/* The tokens that it may get, and the names of all their pages. */
static enum status take_tokens(struct scheduler *s, struct scheduler_sequence *q,
                               const struct scheduler_prompt *prompt, struct error *error)
{
    q->tokens = malloc((size_t)prompt->max_tokens * sizeof(*q->tokens));
    q->names = malloc((prompt->max_tokens / PAGE_TOKENS + 1u) * sizeof(*q->names));
    if (q->tokens == NULL || q->names == NULL) {
        free(q->tokens);
        free(q->names);
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u tokens",
                         prompt->max_tokens);
    }
    memcpy(q->tokens, prompt->tokens, (size_t)prompt->n_tokens * sizeof(*q->tokens));
    if (q->n_fill == 0)
        name_pages(s, q, q->n_prompt / PAGE_TOKENS);
    return STATUS_OK;
}

enum status scheduler_add(struct scheduler *s, const struct scheduler_prompt *prompt,
                          uint32_t *index, struct error *error)
{
    assert(prompt->n_tokens >= 1 && prompt->max_tokens >= prompt->n_tokens);
    assert(prompt->n_fill < prompt->n_tokens);
    uint32_t slot = 0;
    enum status status = find_slot(s, &slot, error);
    if (status != STATUS_OK)
        return status;
    struct scheduler_sequence q = {
        .state = SCHEDULER_WAITING,
        .name = s->next_name,
        .incarnation = 1,
        .owner = prompt->owner,
        .owner_index = prompt->owner_index,
        .priority = prompt->priority,
        .order = s->next_order,
        .n_prompt = prompt->n_tokens,
        .n_tokens = prompt->n_tokens,
        .n_fill = prompt->n_fill,
        .fill_seed = prompt->fill_seed,
        .max_tokens = prompt->max_tokens,
        .shares = !prompt->alone && prompt->n_fill == 0,
        .parent = SCHEDULER_NONE,
        .awaited = prompt->parent,
        .micro_batch = MICRO_BATCHES_NONE,
    };
    status = take_tokens(s, &q, prompt, error);
    if (status != STATUS_OK)
        return status;
    if (prompt->parent != SCHEDULER_NONE) {
        q.awaited_tokens = prompt->shared_tokens;
        q.awaited_name = s->sequences[prompt->parent].name;
        s->sequences[prompt->parent].n_awaiting++;
    }
    s->next_name++;
    s->next_order++;
    s->sequences[slot] = q;
    activate(s, slot);
    *index = slot;
    return STATUS_OK;
}

const struct scheduler_sequence *scheduler_sequence(const struct scheduler *s, uint32_t index)
{
    return &s->sequences[index];
}

bool scheduler_ranks_before(const struct scheduler_sequence *a, const struct scheduler_sequence *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->order < b->order;
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void close_sequence(struct scheduler *s, struct scheduler_sequence *q)
{
    s->n_open -= q->counts;
    q->counts = false;
    q->state = SCHEDULER_CLOSED;
}

void scheduler_stop_awaiting(struct scheduler *s, struct scheduler_sequence *q)
{
    if (q->awaited != SCHEDULER_NONE && s->sequences[q->awaited].name == q->awaited_name)
        s->sequences[q->awaited].n_awaiting--;
    q->awaited = SCHEDULER_NONE;
}

void scheduler_retire(struct scheduler *s, uint32_t index, uint32_t kept_pages)
{
    struct scheduler_sequence *q = &s->sequences[index];
    if (q->parent != SCHEDULER_NONE && !q->known_to_workers)
        s->sequences[q->parent].n_forks--; /* a fork that will not be */
    q->parent = SCHEDULER_NONE;
    q->kept_tokens = kept_pages * PAGE_TOKENS;
    if (kept_pages == 0)
        unpublish(s, index);
    if (q->known_to_workers)
        q->state = SCHEDULER_FINISHED;
    else
        close_sequence(s, q); /* the workers have never heard of it */
}

/* The pages that are worth keeping: all that nobody else has. */
static uint32_t worth_keeping(const struct scheduler *s, uint32_t index)
{
    const struct scheduler_sequence *q = &s->sequences[index];
    if (q->state != SCHEDULER_RUNNING || q->damaged || q->n_published == 0 ||
        !(s->config.keeps || q->n_awaiting > 0) ||
        !scheduler_can_fork(s, index, q->n_published * PAGE_TOKENS))
        return 0;
    uint32_t at = PREFIX_INDEX_NONE, other;
    while (prefix_index_next(s->index, &q->names[q->n_published - 1], &at, &other))
        if (other != index && scheduler_can_fork(s, other, q->n_published * PAGE_TOKENS))
            return 0;
    return q->n_published;
}

void scheduler_finish(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    q->returns = false;
    q->owner = NULL;
    if (q->state == SCHEDULER_UNUSED || q->state >= SCHEDULER_FINISHED)
        return;
    scheduler_stop_awaiting(s, q);
    scheduler_retire(s, index, worth_keeping(s, index));
}

void scheduler_evict(struct scheduler *s, uint32_t index)
{
    assert(s->sequences[index].state == SCHEDULER_KEPT);
    activate(s, index);
    scheduler_retire(s, index, 0);
    s->usage.n_evicted++;
}

uint32_t scheduler_closed(const struct scheduler *s)
{
    for (uint32_t i = 0; i < s->n_active; i++)
        if (s->sequences[s->active[i]].state == SCHEDULER_CLOSED)
            return s->active[i];
    return SCHEDULER_NONE;
}

/* Kept sequences that have nothing which the new one has not. */
static void evict_covered(struct scheduler *s, const struct scheduler_sequence *by)
{
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        const struct scheduler_sequence *q = &s->sequences[i];
        if (q->state == SCHEDULER_KEPT && q != by && q->n_forks == 0 && q->n_awaiting == 0 &&
            q->n_published <= by->n_published &&
            prefix_name_equal(&q->names[q->n_published - 1], &by->names[q->n_published - 1]) &&
            window_is_whole(s, by->released_from, q->kept_tokens))
            scheduler_evict(s, i);
    }
}

static void keep(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    deactivate(s, index);
    placement_trim(s->placement, q->place, q->kept_tokens);
    placement_keep(s->placement, q->place);
    free(q->tokens);
    q->tokens = NULL;
    q->state = SCHEDULER_KEPT;
    q->released_from = q->released_from > q->kept_tokens ? q->released_from : q->kept_tokens;
    q->used = ++s->clock;
    evict_covered(s, q);
}

/* A preempted one waits again, for its turn: nothing of it is computed any more. */
static void wait_again(struct scheduler_sequence *q)
{
    q->state = SCHEDULER_WAITING;
    q->incarnation++;
    q->n_sent = q->n_done = q->n_acked = q->n_asked = q->n_told = 0;
    q->returns = q->damaged = q->has_place = q->known_to_workers = false;
    q->shared_tokens = q->released_from = 0;
    q->micro_batch = MICRO_BATCHES_NONE;
}

void scheduler_release(struct scheduler *s, uint32_t index)
{
    struct scheduler_sequence *q = &s->sequences[index];
    assert(q->state == SCHEDULER_CLOSED && (q->kept_tokens > 0 || q->n_forks == 0));
    if (q->kept_tokens > 0) {
        keep(s, index);
        return;
    }
    if (q->has_place)
        placement_close(s->placement, q->place);
    if (q->returns) {
        wait_again(q);
        return;
    }
    deactivate(s, index);
    free(q->tokens);
    free(q->names);
    *q = (struct scheduler_sequence){0};
}

/* ---- from disk ------------------------------------------------------------------------------- */

enum status scheduler_restore(struct scheduler *s, const struct prefix_name *names,
                              const uint32_t *holders, uint32_t n_pages, uint32_t *index,
                              struct error *error)
{
    uint32_t slot = 0, place = 0;
    enum status status = find_slot(s, &slot, error);
    if (status != STATUS_OK)
        return status;
    struct prefix_name *copy = malloc(n_pages * sizeof(*copy));
    if (copy == NULL)
        return error_set(error, STATUS_NO_MEMORY, "scheduler: no memory for %u pages", n_pages);
    status = placement_open_at(s->placement, holders, n_pages, &place, error);
    if (status != STATUS_OK) {
        free(copy);
        return status;
    }
    memcpy(copy, names, n_pages * sizeof(*copy));
    const uint32_t n_tokens = n_pages * PAGE_TOKENS;
    s->sequences[slot] = (struct scheduler_sequence){
        .state = SCHEDULER_RESTORING,
        .name = s->next_name++,
        .incarnation = 1,
        .order = s->next_order++,
        .n_prompt = n_tokens,
        .n_tokens = n_tokens,
        .max_tokens = n_tokens,
        .n_asked = n_tokens,
        .parent = SCHEDULER_NONE,
        .awaited = SCHEDULER_NONE,
        .names = copy,
        .n_named = n_pages,
        .has_place = true,
        .place = place,
        .micro_batch = MICRO_BATCHES_NONE,
    };
    activate(s, slot);
    *index = slot;
    return STATUS_OK;
}

void scheduler_restored(struct scheduler *s, uint32_t index, bool ok)
{
    struct scheduler_sequence *q = &s->sequences[index];
    assert(q->state == SCHEDULER_RESTORING);
    q->n_done = ok ? q->n_tokens : 0;
    if (ok)
        publish(s, index);
    if (q->n_published < q->n_named) {
        scheduler_retire(s, index, 0);
        return;
    }
    q->n_acked = q->n_tokens;
    q->known_to_workers = true; /* they will be told when it goes */
    q->kept_tokens = q->n_tokens;
    keep(s, index);
}

void scheduler_await(struct scheduler *s, uint32_t index, uint32_t restoring)
{
    struct scheduler_sequence *q = &s->sequences[index], *r = &s->sequences[restoring];
    assert(q->state == SCHEDULER_WAITING && q->awaited == SCHEDULER_NONE);
    q->awaited = restoring;
    q->awaited_name = r->name;
    q->awaited_tokens = r->n_tokens;
    r->n_awaiting++;
}

/* ---- computing ------------------------------------------------------------------------------- */

const struct scheduler_step *scheduler_oldest(const struct scheduler *s)
{
    return s->n_flying > 0 ? &s->ring[s->first] : NULL;
}

void scheduler_commit(struct scheduler *s, const bool *failed)
{
    const struct scheduler_step *step = &s->ring[s->first];
    assert(s->n_flying > 0);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        struct scheduler_sequence *q = &s->sequences[segment->sequence];
        q->n_done = segment->position + segment->n_tokens;
        q->damaged = q->damaged || (failed != NULL && failed[i]);
        if (q->state == SCHEDULER_RUNNING)
            publish(s, segment->sequence);
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

/* ---- counts ---------------------------------------------------------------------------------- */

uint32_t scheduler_in_flight(const struct scheduler *s)
{
    return s->n_flying;
}

struct scheduler_usage scheduler_usage(const struct scheduler *s)
{
    struct scheduler_usage usage = s->usage;
    for (uint32_t i = 0; i < s->n_sequences; i++) {
        const enum scheduler_state state = s->sequences[i].state;
        usage.n_waiting += state == SCHEDULER_WAITING;
        usage.n_kept += state == SCHEDULER_KEPT;
        usage.n_open += state >= SCHEDULER_RESERVING && state <= SCHEDULER_CLOSED;
    }
    return usage;
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
