/* test_scheduler_simulation.c - ten thousand random workloads on a simulated cluster: whatever
 * comes, each token is computed once and in order in each incarnation, on pages that have what they
 * should, nobody starves, and in the end nothing is left.
 *
 * The simulated workers keep what they were sent as a hash of all tokens so far, and the next
 * sample is that hash: so a token that is missing, doubled, or read from somebody else's pages
 * changes an answer. The bounds are those that scheduler.h states. */
#include "coordinator/scheduler.h"

#include "kernels/attention/kv_holder.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum {
    WORKLOADS = 10000,
    CLIENTS = 14,
    MAX_TOKENS = 20 * PAGE_TOKENS,
    RECORDS = 64,
    MAX_PENDING = 64,
    MAX_TURNS = 200000,
    VOCABULARY = 1000
};

/* What workers and holders have of one incarnation. */
struct record {
    uint64_t name; /* 0: unused */
    uint32_t incarnation;
    bool open;     /* at the workers */
    uint32_t good; /* tokens before the first segment that failed */
    uint32_t n_tokens, spans;
    int32_t tokens[MAX_TOKENS];
};

struct client {
    bool alive, cancelled;
    uint32_t sequence, n_prompt, n_predict, n_generated, max_tokens, parent;
    int32_t tokens[MAX_TOKENS];
    uint32_t late; /* steps that left without it since it could have had a token */
};

struct world {
    struct random_state random;
    struct placement *placement;
    struct scheduler *scheduler;
    struct scheduler_config config;
    uint64_t n_pages;
    uint32_t rate;                              /* a client comes every so many turns */
    bool priorities, sharing, fails, talkative; /* long answers to short prompts */
    struct client clients[CLIENTS];
    uint32_t n_clients;
    struct {
        uint32_t sequence, incarnation;
    } pending[MAX_PENDING]; /* reservations that are not acknowledged */
    uint32_t n_pending;
    uint64_t number; /* of steps */
    uint64_t n_preempted, n_forks, n_evicted;
    struct record records[RECORDS]; /* the last: only the names are cleared */
};

static uint32_t below(struct world *w, uint32_t n)
{
    return (uint32_t)random_below(&w->random, n);
}

/* ---- the simulated workers and holders ------------------------------------------------------- */

static int32_t next_token(const int32_t *tokens, uint32_t n)
{
    uint64_t hash = n;
    for (uint32_t i = n > 600 ? n - 600 : 0; i < n; i++)
        hash = random_mix(hash ^ (uint32_t)tokens[i]);
    return (int32_t)(hash % VOCABULARY);
}

static struct record *find_record(struct world *w, uint64_t name, uint32_t incarnation)
{
    for (uint32_t i = 0; i < RECORDS; i++)
        if (w->records[i].name == name && (name == 0 || w->records[i].incarnation == incarnation))
            return &w->records[i];
    return NULL;
}

static struct record *open_record(struct world *w, const struct scheduler_sequence *q,
                                  const struct scheduler_segment *segment)
{
    struct record *r = find_record(w, 0, 0);
    assert_non_null(r);
    r->name = q->name;
    r->incarnation = q->incarnation;
    r->open = true;
    r->good = UINT32_MAX;
    r->n_tokens = r->spans = 0;
    assert_int_equal(segment->forks, segment->position > 0);
    if (segment->forks) {
        const struct scheduler_sequence *parent = scheduler_sequence(w->scheduler, q->parent);
        const struct record *p = find_record(w, parent->name, parent->incarnation);
        assert_non_null(p); /* its pages are still there */
        assert_true(p->n_tokens >= segment->position && p->good >= segment->position);
        assert_true(segment->position % PAGE_TOKENS == 0 && segment->position < q->n_tokens);
        memcpy(r->tokens, p->tokens, segment->position * sizeof(r->tokens[0]));
        r->n_tokens = segment->position;
        w->n_forks++;
    }
    return r;
}

static void take_segment(struct world *w, const struct scheduler_segment *segment)
{
    const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, segment->sequence);
    struct record *r = find_record(w, q->name, q->incarnation);
    if (r == NULL)
        r = open_record(w, q, segment);
    else
        assert_false(segment->forks);
    assert_true(r->open);
    assert_true(segment->n_tokens > 0);
    assert_int_equal(segment->position, r->n_tokens);
    assert_int_equal(segment->spans_begin, r->spans);
    r->spans = segment->spans_end;
    memcpy(r->tokens + r->n_tokens, q->tokens + segment->position,
           segment->n_tokens * sizeof(r->tokens[0]));
    r->n_tokens += segment->n_tokens;
    assert_true(r->spans >= r->n_tokens && q->n_acked >= r->spans); /* each token has a place */
    assert_true(r->n_tokens <= q->max_tokens);
    assert_int_equal(segment->wants, r->n_tokens == q->n_tokens);
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static bool decodes(const struct scheduler_sequence *q)
{
    return q->state == SCHEDULER_RUNNING && q->n_tokens > q->n_again;
}

static const struct scheduler_segment *segment_of(const struct scheduler_step *step, uint32_t index)
{
    for (uint32_t i = 0; i < step->n_segments; i++)
        if (step->segments[i].sequence == index)
            return &step->segments[i];
    return NULL;
}

static bool ranks_before(const struct scheduler_sequence *a, const struct scheduler_sequence *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->order < b->order;
}

static uint32_t prompt_tokens(const struct world *w, const struct scheduler_segment *segment)
{
    const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, segment->sequence);
    return segment->position < q->n_again ? segment->n_tokens : 0;
}

/* A decode that could have been in the step and was not has waited one step more. */
static void check_decodes(struct world *w, const struct scheduler_step *step)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = &w->clients[i];
        const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, c->sequence);
        if (!c->alive || !decodes(q) || q->n_done < q->n_sent || q->n_tokens > q->n_acked ||
            segment_of(step, c->sequence) != NULL)
            c->late = 0;
        else
            assert_true(++c->late < 2 * w->config.depth);
    }
}

/* Of the prompt tokens of a step, a sequence and those that rank before it together get half at
 * least, but for the step with the last prompt token of one of these: so it waits at most so many
 * steps as scheduler.h says. */
static void check_prompts(struct world *w, const struct scheduler_step *step)
{
    uint32_t n_decodes = 0, given = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const uint32_t n = prompt_tokens(w, &step->segments[i]);
        n_decodes += n == 0;
        given += n;
    }
    const uint32_t least =
        w->config.chunk < SCHEDULER_LEAST_PROMPT ? w->config.chunk : SCHEDULER_LEAST_PROMPT;
    const uint32_t rest = w->config.chunk > n_decodes ? w->config.chunk - n_decodes : 0;
    const uint32_t budget = rest > least ? rest : least;
    assert_true(given <= budget);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        struct client *c = &w->clients[i];
        const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, c->sequence);
        const struct scheduler_segment *own = segment_of(step, c->sequence);
        const uint32_t n_own = own != NULL ? prompt_tokens(w, own) : 0;
        if (!c->alive || q->state != SCHEDULER_RUNNING || (n_own == 0 && q->n_sent >= q->n_again))
            continue;
        uint32_t before = n_own;
        bool ends = n_own > 0 && q->n_sent >= q->n_again;
        for (uint32_t j = 0; j < w->n_clients; j++) {
            const struct scheduler_sequence *other =
                scheduler_sequence(w->scheduler, w->clients[j].sequence);
            if (j == i || !w->clients[j].alive || other->state != SCHEDULER_RUNNING ||
                !ranks_before(other, q))
                continue;
            const struct scheduler_segment *segment = segment_of(step, w->clients[j].sequence);
            const uint32_t n = segment != NULL ? prompt_tokens(w, segment) : 0;
            before += n;
            ends = ends || (n > 0 && other->n_sent >= other->n_again);
        }
        assert_true(ends || before >= budget / 2 - (budget / 2 > 16 ? budget / 2 % 16 : 0));
    }
}

static void check_step(struct world *w, const struct scheduler_step *step)
{
    assert_int_equal(step->number, ++w->number);
    assert_true(step->n_segments + step->n_closed > 0);
    for (uint32_t i = 0; i < step->n_closed; i++) {
        const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, step->closed[i]);
        struct record *r = find_record(w, q->name, q->incarnation);
        assert_non_null(r);
        if (q->kept_tokens > 0) {
            assert_true(q->kept_tokens % PAGE_TOKENS == 0 && q->kept_tokens <= r->n_tokens);
            assert_true(q->kept_tokens <= r->good);
        }
        r->open = false;
    }
    uint32_t n_open = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(step->segments[i].sequence, step->segments[j].sequence);
        take_segment(w, &step->segments[i]);
    }
    for (uint32_t i = 0; i < RECORDS; i++)
        n_open += w->records[i].name != 0 && w->records[i].open;
    assert_true(n_open <= w->config.max_batch);
    if (step->n_segments > 0) {
        check_decodes(w, step);
        check_prompts(w, step);
    }
}

/* ---- the simulated coordinator --------------------------------------------------------------- */

static void forget_pending(struct world *w, uint32_t sequence)
{
    for (uint32_t i = 0; i < w->n_pending; i++)
        if (w->pending[i].sequence == sequence)
            w->pending[i--] = w->pending[--w->n_pending];
}

static void end(struct world *w, struct client *c, bool cancelled)
{
    if (!c->alive)
        return;
    forget_pending(w, c->sequence);
    scheduler_finish(w->scheduler, c->sequence);
    c->alive = false;
    c->cancelled = cancelled;
}

static void release_closed(struct world *w)
{
    uint32_t index;
    while ((index = scheduler_closed(w->scheduler)) != SCHEDULER_NONE) {
        const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, index);
        struct record *r = find_record(w, q->name, q->incarnation);
        if (r != NULL) {
            assert_false(r->open);
            r->n_tokens = q->kept_tokens;
            if (q->kept_tokens == 0)
                r->name = 0;
        }
        scheduler_release(w->scheduler, index);
    }
}

/* The victim is the last by rank of those that run, and not the first. */
static void check_victim(const struct world *w, uint32_t victim)
{
    const struct scheduler_sequence *v = scheduler_sequence(w->scheduler, victim);
    uint32_t n_before = 0;
    assert_true(v->returns);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct scheduler_sequence *q =
            scheduler_sequence(w->scheduler, w->clients[i].sequence);
        if (!w->clients[i].alive || w->clients[i].sequence == victim ||
            (q->state != SCHEDULER_RESERVING && q->state != SCHEDULER_RUNNING))
            continue;
        assert_true(ranks_before(q, v));
        n_before++;
    }
    assert_true(n_before > 0);
}

static void admit(struct world *w)
{
    uint32_t index, begin;
    struct error error = {.status = STATUS_OK};
    while (scheduler_admit(w->scheduler, &index, &error) ||
           scheduler_grow(w->scheduler, &index, &begin, &error)) {
        assert_true(w->n_pending < MAX_PENDING);
        w->pending[w->n_pending].sequence = index;
        w->pending[w->n_pending++].incarnation =
            scheduler_sequence(w->scheduler, index)->incarnation;
    }
    assert_int_equal(error.status, STATUS_OK);
    while ((index = scheduler_preempt(w->scheduler)) != SCHEDULER_NONE) {
        check_victim(w, index);
        forget_pending(w, index);
        w->n_preempted++;
    }
}

static bool acknowledge(struct world *w)
{
    if (w->n_pending == 0)
        return false;
    const uint32_t i = below(w, w->n_pending), index = w->pending[i].sequence;
    assert_int_equal(scheduler_sequence(w->scheduler, index)->incarnation,
                     w->pending[i].incarnation);
    scheduler_acked(w->scheduler, index);
    w->pending[i] = w->pending[--w->n_pending];
    return true;
}

static void commit(struct world *w)
{
    const struct scheduler_step *step = scheduler_oldest(w->scheduler);
    bool failed[64] = {false};
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_sequence *q =
            scheduler_sequence(w->scheduler, step->segments[i].sequence);
        failed[i] = w->fails && below(w, 2000) == 0;
        if (failed[i] && q->state == SCHEDULER_RUNNING)
            find_record(w, q->name, q->incarnation)->good = step->segments[i].position;
    }
    scheduler_commit(w->scheduler, failed);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, segment->sequence);
        if (q->state != SCHEDULER_RUNNING)
            continue;
        struct client *c = q->owner;
        assert_int_equal(q->n_done, segment->position + segment->n_tokens);
        if (failed[i]) {
            end(w, c, true);
        } else if (segment->wants) {
            const struct record *r = find_record(w, q->name, q->incarnation);
            const int32_t token = next_token(r->tokens, q->n_done);
            assert_int_equal(c->n_prompt + c->n_generated, q->n_tokens);
            c->tokens[c->n_prompt + c->n_generated++] = token;
            if (c->n_generated == c->n_predict)
                end(w, c, false);
            else
                scheduler_sampled(w->scheduler, segment->sequence, token);
        }
    }
    scheduler_pop(w->scheduler);
    release_closed(w);
}

/* ---- workloads ------------------------------------------------------------------------------- */

static void add_client(struct world *w, uint32_t most_tokens)
{
    struct client *c = &w->clients[w->n_clients];
    *c = (struct client){.alive = true, .parent = SCHEDULER_NONE};
    const uint32_t longest = w->talkative       ? 200
                             : below(w, 2) == 0 ? most_tokens
                                                : most_tokens / 4 + 1;
    c->n_prompt = 1 + below(w, longest);
    c->n_predict = 1 + below(w, w->talkative ? 420 : 12);
    const bool goes_on = w->n_clients > 0 && w->sharing && below(w, 3) > 0;
    const uint32_t other = goes_on ? below(w, w->n_clients) : 0;
    const struct client *from = &w->clients[other];
    const uint32_t all = from->n_prompt + from->n_generated;
    if (goes_on && all > c->n_prompt && all + 40 < most_tokens && below(w, 2) == 0)
        c->n_prompt = all + below(w, 40); /* an answer is gone on with */
    if (c->n_prompt + c->n_predict - 1 > most_tokens)
        c->n_predict = most_tokens - c->n_prompt + 1;
    c->max_tokens = c->n_prompt + c->n_predict - 1;
    for (uint32_t i = 0; i < c->n_prompt; i++)
        c->tokens[i] = (int32_t)below(w, VOCABULARY);
    uint32_t shared = 0;
    if (goes_on) {
        const uint32_t common = below(w, 4) == 0 ? below(w, all + 1) : all;
        const uint32_t n = common < c->n_prompt ? common : c->n_prompt;
        memcpy(c->tokens, from->tokens, n * sizeof(c->tokens[0]));
        const int32_t *earlier = from->tokens;
        uint32_t which;
        if (from->alive && below(w, 2) == 0) {
            shared = scheduler_common_prefix(c->tokens, c->n_prompt, &earlier, &from->n_prompt, 1,
                                             &which);
            c->parent = shared > 0 ? other : SCHEDULER_NONE;
        }
    }
    const struct scheduler_prompt prompt = {
        .tokens = c->tokens,
        .n_tokens = c->n_prompt,
        .max_tokens = c->max_tokens,
        .priority = w->priorities ? (int32_t)below(w, 3) - 1 : 0,
        .alone = below(w, 10) == 0,
        .parent = shared > 0 ? w->clients[c->parent].sequence : SCHEDULER_NONE,
        .shared_tokens = shared,
        .owner = c};
    assert_int_equal(scheduler_add(w->scheduler, &prompt, &c->sequence, NULL), STATUS_OK);
    w->n_clients++;
}

static void check_answers(struct world *w)
{
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct client *c = &w->clients[i];
        assert_false(c->alive);
        assert_true(c->cancelled || c->n_generated == c->n_predict);
        for (uint32_t n = c->n_prompt; n < c->n_prompt + c->n_generated; n++)
            assert_int_equal(c->tokens[n], next_token(c->tokens, n));
    }
}

/* Goes on until all clients had their answers; `arrivals`: new ones come meanwhile. */
static void run(struct world *w, uint32_t n_clients, uint32_t most_tokens, bool cancels)
{
    uint32_t idle = 0;
    for (uint32_t turn = 0; turn < MAX_TURNS; turn++) {
        if (w->n_clients < n_clients && below(w, w->rate) == 0)
            add_client(w, most_tokens);
        if (cancels && w->n_clients > 0 && below(w, 1500) == 0)
            end(w, &w->clients[below(w, w->n_clients)], true);
        release_closed(w);
        admit(w);
        bool moved = below(w, 2) == 0 && acknowledge(w);
        const struct scheduler_step *step;
        while ((step = scheduler_next(w->scheduler)) != NULL) {
            assert_true(scheduler_in_flight(w->scheduler) <= w->config.depth);
            check_step(w, step);
            moved = true;
        }
        const uint32_t n_flying = scheduler_in_flight(w->scheduler);
        if (n_flying == w->config.depth || (n_flying > 0 && below(w, 2) == 0)) {
            commit(w);
            moved = true;
        }
        const struct scheduler_usage usage = scheduler_usage(w->scheduler);
        const bool nothing = usage.n_waiting + usage.n_open == 0 && n_flying == 0;
        if (w->n_clients == n_clients && nothing)
            return;
        idle = moved || nothing || w->n_pending > 0 ? 0 : idle + 1;
        assert_true(idle < 500); /* never stuck */
    }
    fail_msg("it does not end");
}

/* A sequence of all pages: everything else has to go for it, and that is all there is. */
static void check_leaks(struct world *w)
{
    const uint32_t n = (uint32_t)w->n_pages * PAGE_TOKENS;
    struct client *c = &w->clients[w->n_clients];
    *c = (struct client){
        .alive = true, .parent = SCHEDULER_NONE, .n_prompt = n, .n_predict = 1, .max_tokens = n};
    for (uint32_t i = 0; i < n; i++)
        c->tokens[i] = -1;
    const struct scheduler_prompt prompt = {
        .tokens = c->tokens, .n_tokens = n, .max_tokens = n, .parent = SCHEDULER_NONE, .owner = c};
    assert_int_equal(scheduler_add(w->scheduler, &prompt, &c->sequence, NULL), STATUS_OK);
    w->n_clients++;
    w->fails = false;
    run(w, w->n_clients, n, false);
    const struct scheduler_usage usage = scheduler_usage(w->scheduler);
    assert_int_equal(usage.n_kept, w->config.keeps ? 1 : 0);
    assert_int_equal(placement_free(w->placement), w->config.keeps ? 0 : w->n_pages);
    w->n_evicted += usage.n_evicted;
    w->n_preempted = usage.n_preempted;
    for (uint32_t i = 0; i < RECORDS; i++)
        assert_false(w->records[i].name != 0 && w->records[i].open);
}

static void simulate(uint64_t seed, struct world *w)
{
    memset(w, 0, offsetof(struct world, records));
    for (uint32_t i = 0; i < RECORDS; i++)
        w->records[i].name = 0;
    random_seed(&w->random, seed);
    w->rate = 1u << below(w, 6);
    w->talkative = below(w, 5) == 0;
    w->n_pages = 3 + below(w, w->talkative ? 5 : 17);
    w->priorities = below(w, 3) == 0;
    w->sharing = below(w, 3) > 0;
    w->fails = below(w, 4) == 0;
    const uint32_t third = (uint32_t)w->n_pages / 3;
    const struct placement_holder holders[3] = {
        {1.0, third}, {2.0, third}, {0.5, w->n_pages - 2 * third}};
    assert_int_equal(placement_create(&w->placement, holders, 3, 512, NULL, NULL), STATUS_OK);
    w->config =
        (struct scheduler_config){.chunk = 8 + below(w, below(w, 3) == 0 ? 60 : 600),
                                  .max_batch = w->talkative ? CLIENTS : 1 + below(w, CLIENTS),
                                  .depth = 1 + below(w, 3),
                                  .keeps = below(w, 3) > 0};
    assert_int_equal(scheduler_create(&w->scheduler, &w->config, w->placement, NULL), STATUS_OK);
    const uint32_t most = PAGE_TOKENS + below(w, ((uint32_t)w->n_pages - 1) * PAGE_TOKENS);
    run(w, w->talkative ? CLIENTS - 1 : 1 + below(w, CLIENTS - 1), most, below(w, 2) == 0);
    check_leaks(w);
    check_answers(w);
    scheduler_destroy(w->scheduler);
    placement_destroy(w->placement);
}

static void test_ten_thousand_workloads(void **state)
{
    uint64_t n_preempted = 0, n_forks = 0, n_evicted = 0, n_steps = 0;
    struct world *w = malloc(sizeof(*w));
    assert_non_null(w);
    for (uint64_t seed = 0; seed < WORKLOADS; seed++) {
        simulate(seed, w);
        n_preempted += w->n_preempted;
        n_forks += w->n_forks;
        n_evicted += w->n_evicted;
        n_steps += w->number;
    }
    free(w);
    print_message("%llu steps, %llu forks, %llu evictions, %llu preemptions\n",
                  (unsigned long long)n_steps, (unsigned long long)n_forks,
                  (unsigned long long)n_evicted, (unsigned long long)n_preempted);
    assert_true(n_preempted > WORKLOADS / 20 && n_forks > WORKLOADS / 4 && n_evicted > WORKLOADS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_thousand_workloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
