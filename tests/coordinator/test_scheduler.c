/* test_scheduler.c - a simulated cluster: whatever comes, every token is computed exactly once and
 * in order, nothing is used before it is there, and in the end nothing is left. */
#include "coordinator/scheduler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/attention/kv_holder.h"
#include "sys/random.h"

enum { MAX_SEQUENCES = 64, MAX_TOKENS = 4096, MAX_FLYING = 3 };

/* What the workers know of a sequence: they see steps in order. */
struct seen {
    uint64_t name;
    bool open, was_open;
    uint32_t position, spans; /* next token; tokens whose spans they were told */
};

/* One prompt of the test's client. */
struct client {
    bool waiting, alive;
    uint32_t sequence, n_prompt, n_predict, n_generated;
    uint32_t parent; /* client; SCHEDULER_NONE */
    uint32_t shared;
    uint32_t max_tokens;
    int32_t tokens[MAX_TOKENS];
    uint32_t computed; /* tokens that came back */
};

struct world {
    struct random_state random;
    struct placement *placement;
    struct scheduler *scheduler;
    struct scheduler_config config;
    struct client clients[MAX_SEQUENCES];
    uint32_t n_clients;
    struct seen seen[MAX_SEQUENCES];
    uint32_t n_open_at_workers;
    uint32_t pending[MAX_SEQUENCES]; /* reservations that are not acknowledged */
    uint32_t n_pending;
};

static struct seen *find_seen(struct world *w, uint64_t name)
{
    for (uint32_t i = 0; i < MAX_SEQUENCES; i++)
        if (w->seen[i].name == name)
            return &w->seen[i];
    return NULL;
}

static struct client *client_of(struct world *w, uint32_t sequence)
{
    return scheduler_sequence(w->scheduler, sequence)->owner;
}

/* A new request of some prompts, some of which begin alike. */
static void add_request(struct world *w, bool greedy_sharing)
{
    const uint32_t n = 1 + (uint32_t)random_below(&w->random, 4);
    const uint32_t first = w->n_clients;
    for (uint32_t i = 0; i < n && w->n_clients < MAX_SEQUENCES; i++) {
        struct client *c = &w->clients[w->n_clients];
        *c = (struct client){.waiting = true, .alive = true, .parent = SCHEDULER_NONE};
        c->n_prompt = 1 + (uint32_t)random_below(&w->random, 1500);
        c->n_predict = 1 + (uint32_t)random_below(&w->random, 300);
        c->max_tokens = c->n_prompt + c->n_predict - 1;
        for (uint32_t j = 0; j < c->n_prompt; j++)
            c->tokens[j] = (int32_t)random_below(&w->random, 1000);
        if (i > 0 && (greedy_sharing || random_below(&w->random, 2))) {
            const struct client *from = &w->clients[first + random_below(&w->random, i)];
            const uint32_t common = (uint32_t)random_below(&w->random, from->n_prompt + 1);
            memcpy(c->tokens, from->tokens,
                   (common < c->n_prompt ? common : c->n_prompt) * sizeof(c->tokens[0]));
        }
        const int32_t *earlier[4];
        uint32_t lengths[4], which = 0;
        for (uint32_t j = 0; j < i; j++) {
            earlier[j] = w->clients[first + j].tokens;
            lengths[j] = w->clients[first + j].n_prompt;
        }
        c->shared = scheduler_common_prefix(c->tokens, c->n_prompt, earlier, lengths, i, &which);
        assert_true(c->shared < c->n_prompt && c->shared % PAGE_TOKENS == 0);
        if (c->shared > 0) {
            c->parent = first + which;
            assert_memory_equal(c->tokens, earlier[which], c->shared * sizeof(c->tokens[0]));
        }
        const struct scheduler_prompt prompt = {
            .tokens = c->tokens,
            .n_tokens = c->n_prompt,
            .max_tokens = c->max_tokens,
            .parent = c->shared > 0 ? w->clients[c->parent].sequence : SCHEDULER_NONE,
            .shared_tokens = c->shared,
            .owner = c,
            .owner_index = i};
        assert_int_equal(scheduler_add(w->scheduler, &prompt, &c->sequence, NULL), STATUS_OK);
        w->n_clients++;
    }
}

/* Ends a client and the forks that may depend on it, as a request's failure does. */
static void cancel(struct world *w, uint32_t index)
{
    for (uint32_t i = w->n_clients; i-- > 0;)
        if (w->clients[i].parent == index && w->clients[i].alive)
            cancel(w, i);
    if (!w->clients[index].alive)
        return;
    scheduler_finish(w->scheduler, w->clients[index].sequence);
    w->clients[index].alive = false;
}

static void check_segment(struct world *w, const struct scheduler_segment *segment)
{
    const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, segment->sequence);
    const struct client *c = client_of(w, segment->sequence);
    struct seen *s = find_seen(w, q->name);
    if (s == NULL) { /* the workers hear of it for the first time */
        s = find_seen(w, 0);
        assert_non_null(s);
        *s = (struct seen){.name = q->name, .open = true};
        assert_true(++w->n_open_at_workers <= w->config.max_batch);
        assert_int_equal(segment->forks, segment->position > 0);
        if (segment->forks) {
            const struct scheduler_sequence *parent = scheduler_sequence(w->scheduler, q->parent);
            const struct seen *p = find_seen(w, parent->name);
            assert_non_null(p);
            assert_true(p->open);
            assert_true(parent->n_done >= segment->position);
            assert_int_equal(segment->position, c->shared);
            s->position = segment->position;
        }
    } else {
        assert_false(segment->forks);
    }
    assert_true(s->open);
    assert_int_equal(segment->position, s->position);
    assert_true(segment->n_tokens > 0);
    s->position += segment->n_tokens;
    assert_true(s->position <= c->max_tokens);
    assert_int_equal(segment->spans_begin, s->spans);
    s->spans = segment->spans_end;
    assert_true(s->spans >= s->position); /* a place for each token, told and acknowledged */
    assert_true(q->n_acked >= s->spans);
    assert_int_equal(segment->wants, s->position == q->n_tokens);
    for (uint32_t i = 0; i < segment->n_tokens; i++)
        assert_int_equal(q->tokens[segment->position + i], c->tokens[segment->position + i]);
}

static void check_step(struct world *w, const struct scheduler_step *step, uint64_t number)
{
    assert_int_equal(step->number, number);
    assert_true(step->n_segments + step->n_closed > 0);
    for (uint32_t i = 0; i < step->n_closed; i++) {
        struct seen *s = find_seen(w, scheduler_sequence(w->scheduler, step->closed[i])->name);
        if (s == NULL)
            continue; /* never begun */
        assert_true(s->open);
        s->open = false;
        w->n_open_at_workers--;
    }
    uint32_t prompt_rows = 0, rows = 0;
    bool prompts_began = false;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        const struct client *c = client_of(w, segment->sequence);
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(segment->sequence, step->segments[j].sequence);
        rows += segment->n_tokens;
        if (segment->position < c->n_prompt) {
            prompts_began = true;
            prompt_rows += segment->n_tokens;
        } else {
            assert_false(prompts_began); /* decodes first */
            assert_int_equal(segment->n_tokens, 1);
        }
        check_segment(w, segment);
    }
    assert_true(prompt_rows <= w->config.chunk);
    assert_true(rows <= w->config.chunk + w->config.max_batch);
}

static void commit(struct world *w)
{
    const struct scheduler_step *step = scheduler_oldest(w->scheduler);
    assert_non_null(step);
    scheduler_commit(w->scheduler);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        const struct scheduler_sequence *q = scheduler_sequence(w->scheduler, segment->sequence);
        if (q->state != SCHEDULER_RUNNING)
            continue;
        struct client *c = q->owner;
        c->computed += segment->n_tokens;
        assert_int_equal(q->n_done, segment->position + segment->n_tokens);
        if (!segment->wants)
            continue;
        c->n_generated++;
        if (c->n_generated == c->n_predict || random_below(&w->random, 200) == 0) {
            c->alive = false;
            scheduler_finish(w->scheduler, segment->sequence);
        } else {
            const int32_t token = (int32_t)random_below(&w->random, 1000);
            c->tokens[c->n_prompt + c->n_generated - 1] = token;
            scheduler_sampled(w->scheduler, segment->sequence, token);
        }
    }
    scheduler_pop(w->scheduler);
    uint32_t index;
    while ((index = scheduler_closed(w->scheduler)) != SCHEDULER_NONE) {
        struct seen *s = find_seen(w, scheduler_sequence(w->scheduler, index)->name);
        if (s != NULL) {
            assert_false(s->open);
            *s = (struct seen){0};
        }
        for (uint32_t i = 0; i < w->n_pending; i++)
            if (w->pending[i] == index)
                w->pending[i--] = w->pending[--w->n_pending];
        scheduler_release(w->scheduler, index);
    }
}

static void admit(struct world *w)
{
    uint32_t index, begin;
    struct error error = {.status = STATUS_OK};
    while (scheduler_admit(w->scheduler, &index, &error) ||
           scheduler_grow(w->scheduler, &index, &begin, &error)) {
        client_of(w, index)->waiting = false;
        assert_true(w->n_pending < MAX_SEQUENCES);
        w->pending[w->n_pending++] = index;
    }
    assert_int_equal(error.status, STATUS_OK);
}

static bool acknowledge(struct world *w)
{
    if (w->n_pending == 0)
        return false;
    const uint32_t i = (uint32_t)random_below(&w->random, w->n_pending);
    scheduler_acked(w->scheduler, w->pending[i]);
    w->pending[i] = w->pending[--w->n_pending];
    return true;
}

static void run(uint64_t seed, uint32_t depth, uint64_t pages, uint32_t max_batch, uint32_t chunk,
                bool cancels)
{
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    random_seed(&w->random, seed);
    const struct placement_holder holders[3] = {
        {1.0, pages / 3}, {2.0, pages / 3}, {0.5, pages - 2 * (pages / 3)}};
    assert_int_equal(placement_create(&w->placement, holders, 3, 512, NULL), STATUS_OK);
    w->config = (struct scheduler_config){.chunk = chunk, .max_batch = max_batch, .depth = depth};
    assert_int_equal(scheduler_create(&w->scheduler, &w->config, w->placement, NULL), STATUS_OK);

    uint64_t number = 0;
    uint32_t idle = 0;
    for (uint32_t turn = 0; turn < 200000; turn++) {
        if (w->n_clients + 4 <= 24 && random_below(&w->random, 20) == 0)
            add_request(w, seed % 2);
        if (cancels && w->n_clients > 0 && random_below(&w->random, 400) == 0) {
            /* the whole family goes, as requests do */
            uint32_t root = (uint32_t)random_below(&w->random, w->n_clients);
            while (w->clients[root].parent != SCHEDULER_NONE)
                root = w->clients[root].parent;
            bool any = false;
            for (uint32_t i = 0; i < w->n_pending; i++)
                any = any || client_of(w, w->pending[i])->parent == root;
            if (!any && w->clients[root].alive)
                cancel(w, root);
        }
        for (uint32_t i = 0; i < w->n_pending; i++)
            if (scheduler_sequence(w->scheduler, w->pending[i])->state > SCHEDULER_RUNNING)
                w->pending[i--] = w->pending[--w->n_pending];
        uint32_t index;
        while ((index = scheduler_closed(w->scheduler)) != SCHEDULER_NONE)
            scheduler_release(w->scheduler, index);
        admit(w);
        bool moved = random_below(&w->random, 2) && acknowledge(w);
        const struct scheduler_step *step;
        while ((step = scheduler_next(w->scheduler)) != NULL) {
            assert_true(scheduler_in_flight(w->scheduler) <= depth);
            check_step(w, step, ++number);
            moved = true;
        }
        if (scheduler_in_flight(w->scheduler) > 0 &&
            (scheduler_in_flight(w->scheduler) == depth || random_below(&w->random, 2))) {
            commit(w);
            moved = true;
        }
        idle = moved || w->n_pending > 0 ? 0 : idle + 1;
        if (w->n_clients > 20 && scheduler_n_sequences(w->scheduler) == 0)
            break;
        assert_true(idle < 1000); /* never stuck */
    }
    assert_int_equal(scheduler_n_sequences(w->scheduler), 0);
    assert_int_equal(scheduler_in_flight(w->scheduler), 0);
    assert_int_equal(placement_free_pages(w->placement), pages); /* nothing leaks */
    assert_int_equal(w->n_open_at_workers, 0);
    for (uint32_t i = 0; i < w->n_clients; i++) {
        const struct client *c = &w->clients[i];
        assert_false(c->alive);
        if (!cancels) {
            /* each token once: all of the prompt that is not shared, and all samples but the last
             */
            const uint32_t all = c->n_prompt + c->n_generated - 1;
            assert_true(c->computed == all || c->computed == all - c->shared);
        }
    }
    scheduler_destroy(w->scheduler);
    placement_destroy(w->placement);
    free(w);
}

static void test_simulations(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++)
        for (uint32_t depth = 1; depth <= MAX_FLYING; depth++)
            run(seed, depth, 400, 8, 64, false);
}

static void test_simulations_with_cancellations(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++)
        run(seed, 1 + seed % 3, 300, 6, 100, true);
}

/* Pages for hardly one sequence, places for one or two: forks must give up sharing, never wait
 * for ever. */
static void test_scarce_pages_and_places(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        run(seed, 1 + seed % 3, 8, 8, 512, seed % 5 == 0);
        run(seed, 1 + seed % 3, 400, 1 + seed % 2, 7, seed % 5 == 0);
    }
}

static void test_prompt_chunks_fill_the_pipeline(void **state)
{
    (void)state;
    const struct placement_holder holder = {1.0, 100};
    struct placement *p = NULL;
    struct scheduler *s = NULL;
    const struct scheduler_config config = {.chunk = 100, .max_batch = 4, .depth = 3};
    assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL), STATUS_OK);
    assert_int_equal(scheduler_create(&s, &config, p, NULL), STATUS_OK);
    static const int32_t tokens[350];
    const struct scheduler_prompt prompt = {
        .tokens = tokens, .n_tokens = 350, .max_tokens = 351, .parent = SCHEDULER_NONE};
    uint32_t index = 0;
    assert_int_equal(scheduler_add(s, &prompt, &index, NULL), STATUS_OK);
    assert_null(scheduler_next(s)); /* no pages yet */
    assert_true(scheduler_admit(s, &index, NULL));
    assert_null(scheduler_next(s)); /* not acknowledged yet */
    scheduler_acked(s, index);
    for (uint32_t i = 0; i < 3; i++) {
        const struct scheduler_step *step = scheduler_next(s);
        assert_non_null(step);
        assert_int_equal(step->segments[0].position, 100 * i);
        assert_int_equal(step->segments[0].n_tokens, 100);
        assert_false(step->segments[0].wants);
    }
    assert_null(scheduler_next(s)); /* three stages, three steps */
    scheduler_commit(s);
    scheduler_pop(s);
    const struct scheduler_step *last = scheduler_next(s);
    assert_non_null(last);
    assert_int_equal(last->segments[0].n_tokens, 50);
    assert_true(last->segments[0].wants);
    for (uint32_t i = 0; i < 3; i++) {
        scheduler_commit(s);
        scheduler_pop(s);
    }
    assert_null(scheduler_next(s)); /* waits for the sample */
    scheduler_sampled(s, index, 5);
    const struct scheduler_step *decode = scheduler_next(s);
    assert_non_null(decode);
    assert_int_equal(decode->segments[0].position, 350);
    assert_true(decode->segments[0].wants);
    scheduler_destroy(s);
    placement_destroy(p);
}

/* Filling goes first and alone, so that both begin to decode in one step. */
static void test_fills_go_first_and_alone(void **state)
{
    (void)state;
    const struct placement_holder holder = {1.0, 100};
    struct placement *p = NULL;
    struct scheduler *s = NULL;
    const struct scheduler_config config = {.chunk = 100, .max_batch = 4, .depth = 1};
    assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL), STATUS_OK);
    assert_int_equal(scheduler_create(&s, &config, p, NULL), STATUS_OK);
    static const int32_t tokens[200];
    const uint32_t n_fill[] = {0, 30, 150};
    for (uint32_t i = 0; i < 3; i++) {
        const struct scheduler_prompt prompt = {.tokens = tokens,
                                                .n_tokens = n_fill[i] + 2,
                                                .max_tokens = n_fill[i] + 3,
                                                .n_fill = n_fill[i],
                                                .fill_seed = i,
                                                .parent = SCHEDULER_NONE};
        uint32_t index = 0;
        assert_int_equal(scheduler_add(s, &prompt, &index, NULL), STATUS_OK);
        assert_true(scheduler_admit(s, &index, NULL));
        scheduler_acked(s, index);
    }
    const struct {
        uint32_t n, sequence, position, n_tokens;
        bool fills;
    } expected[] = {
        {2, 1, 0, 30, true},  /* and 70 of the third */
        {1, 2, 70, 80, true}, /* not its prompt too */
        {3, 0, 0, 2, false},  /* all three prompts in one step */
    };
    for (uint32_t i = 0; i < 3; i++) {
        const struct scheduler_step *step = scheduler_next(s);
        assert_non_null(step);
        assert_int_equal(step->n_segments, expected[i].n);
        assert_int_equal(step->segments[0].sequence, expected[i].sequence);
        assert_int_equal(step->segments[0].position, expected[i].position);
        assert_int_equal(step->segments[0].n_tokens, expected[i].n_tokens);
        for (uint32_t j = 0; j < step->n_segments; j++) {
            assert_int_equal(step->segments[j].fills, expected[i].fills);
            assert_int_equal(step->segments[j].wants, !expected[i].fills);
        }
        scheduler_commit(s);
        scheduler_pop(s);
    }
    scheduler_destroy(s);
    placement_destroy(p);
}

/* A pipeline whose stages each take one unit of time for a step, of `n` sequences that decode. Says
 * how many steps were reported in `time` units; tokens[i]: of sequence i. */
static uint32_t run_pipeline(uint32_t depth, uint32_t n, uint32_t n_prompt, uint32_t time,
                             uint32_t *tokens)
{
    const struct placement_holder holder = {1.0, 1000};
    struct placement *p = NULL;
    struct scheduler *s = NULL;
    const struct scheduler_config config = {.chunk = 64, .max_batch = 16, .depth = depth};
    static const int32_t text[64];
    uint32_t index[16] = {0}, n_done = 0, arrives[MAX_FLYING] = {0}, stage_free[MAX_FLYING] = {0};
    assert_true(depth <= MAX_FLYING);
    assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL), STATUS_OK);
    assert_int_equal(scheduler_create(&s, &config, p, NULL), STATUS_OK);
    for (uint32_t i = 0; i < n; i++) {
        const struct scheduler_prompt prompt = {.tokens = text,
                                                .n_tokens = n_prompt,
                                                .max_tokens = 4000,
                                                .parent = SCHEDULER_NONE,
                                                .owner_index = i};
        assert_int_equal(scheduler_add(s, &prompt, &index[i], NULL), STATUS_OK);
        tokens[i] = 0;
    }
    for (uint32_t now = 0; now < time; now++) {
        uint32_t i, begin;
        while (scheduler_admit(s, &i, NULL) || scheduler_grow(s, &i, &begin, NULL))
            scheduler_acked(s, i);
        while (scheduler_in_flight(s) > 0 && arrives[0] <= now) {
            const struct scheduler_step *step = scheduler_oldest(s);
            scheduler_commit(s);
            for (uint32_t j = 0; j < step->n_segments; j++)
                if (step->segments[j].wants) {
                    scheduler_sampled(s, step->segments[j].sequence, 1);
                    tokens[scheduler_sequence(s, step->segments[j].sequence)->owner_index]++;
                }
            scheduler_pop(s);
            n_done++;
            memmove(arrives, arrives + 1, (MAX_FLYING - 1) * sizeof(arrives[0]));
        }
        while (scheduler_next(s) != NULL) {
            uint32_t at = now;
            for (uint32_t stage = 0; stage < depth; stage++) {
                at = at > stage_free[stage] ? at : stage_free[stage];
                stage_free[stage] = ++at;
            }
            arrives[scheduler_in_flight(s) - 1] = at;
        }
    }
    scheduler_destroy(s);
    placement_destroy(p);
    return n_done;
}

static void test_decodes_fill_the_pipeline_and_share_it(void **state)
{
    (void)state;
    enum { TIME = 600 };
    for (uint32_t depth = 1; depth <= MAX_FLYING; depth++)
        for (uint32_t n = 1; n <= 9; n++) {
            uint32_t tokens[16], least = UINT32_MAX, most = 0;
            const uint32_t n_steps = run_pipeline(depth, n, 10, TIME, tokens);
            const uint32_t busy = n < depth ? n : depth; /* stages that can have work */
            assert_true(n_steps + 3 * depth >= TIME * busy / depth);
            for (uint32_t i = 0; i < n; i++) {
                least = tokens[i] < least ? tokens[i] : least;
                most = tokens[i] > most ? tokens[i] : most;
            }
            /* A token for everybody per passage of the pipeline; the prompts come first. */
            assert_true(least + 2 * n + 8 >= TIME / depth);
            assert_true(most - least <= n);
        }
}

static void test_common_prefix_leaves_a_token_to_compute(void **state)
{
    (void)state;
    int32_t a[1024] = {0}, b[1024] = {0};
    const int32_t *earlier[2] = {a, a};
    uint32_t which = 9;
    static const struct {
        uint32_t n, n_earlier, differs, shared;
    } cases[] = {
        {1024, 1024, 2000, 768}, /* equal: the last page has the token to compute */
        {1000, 1024, 2000, 768}, {769, 1024, 2000, 768}, {768, 1024, 2000, 512},
        {257, 1024, 2000, 256},  {256, 1024, 2000, 0},   {1, 1024, 2000, 0},
        {1024, 600, 2000, 512},  {1024, 1024, 255, 0},   {1024, 1024, 256, 256},
        {1024, 1024, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(b, 0, sizeof(b));
        if (cases[i].differs < 1024)
            b[cases[i].differs] = 1;
        const uint32_t lengths[2] = {cases[i].n_earlier, cases[i].n_earlier};
        assert_int_equal(scheduler_common_prefix(b, cases[i].n, earlier, lengths, 2, &which),
                         cases[i].shared);
        if (cases[i].shared > 0)
            assert_int_equal(which, 0); /* the earliest of equals */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simulations),
        cmocka_unit_test(test_simulations_with_cancellations),
        cmocka_unit_test(test_scarce_pages_and_places),
        cmocka_unit_test(test_prompt_chunks_fill_the_pipeline),
        cmocka_unit_test(test_fills_go_first_and_alone),
        cmocka_unit_test(test_decodes_fill_the_pipeline_and_share_it),
        cmocka_unit_test(test_common_prefix_leaves_a_token_to_compute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
