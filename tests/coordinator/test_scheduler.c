/* test_scheduler.c - what a step has, case by case; test_scheduler_simulation.c has everything at
 * once. */
#include "coordinator/scheduler.h"

#include "kernels/attention/kv_holder.h"
#include "tests/cmocka.h"

#include <string.h>

enum { MAX_FLYING = 3 };

static void test_prompt_chunks_fill_the_pipeline(void **state)
{
    const struct placement_holder holder = {1.0, 100};
    struct placement *p = NULL;
    struct scheduler *s = NULL;
    const struct scheduler_config config = {.chunk = 100, .max_batch = 4, .depth = 3};
    assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL, NULL), STATUS_OK);
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
    scheduler_commit(s, NULL);
    scheduler_pop(s);
    const struct scheduler_step *last = scheduler_next(s);
    assert_non_null(last);
    assert_int_equal(last->segments[0].n_tokens, 50);
    assert_true(last->segments[0].wants);
    for (uint32_t i = 0; i < 3; i++) {
        scheduler_commit(s, NULL);
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
    const struct placement_holder holder = {1.0, 100};
    struct placement *p = NULL;
    struct scheduler *s = NULL;
    const struct scheduler_config config = {.chunk = 100, .max_batch = 4, .depth = 1};
    assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL, NULL), STATUS_OK);
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
        scheduler_commit(s, NULL);
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
    assert_int_equal(placement_create(&p, &holder, 1, 4096, NULL, NULL), STATUS_OK);
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
            scheduler_commit(s, NULL);
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

/* ---- sharing a step -------------------------------------------------------------------------- */

struct bench {
    struct placement *placement;
    struct scheduler *scheduler;
    uint32_t index[8];
};

static void open_bench(struct bench *b, uint64_t pages, const struct scheduler_config *config)
{
    const struct placement_holder holder = {1.0, pages};
    assert_int_equal(placement_create(&b->placement, &holder, 1, 4096, NULL, NULL), STATUS_OK);
    assert_int_equal(scheduler_create(&b->scheduler, config, b->placement, NULL), STATUS_OK);
}

static void close_bench(struct bench *b)
{
    scheduler_destroy(b->scheduler);
    placement_destroy(b->placement);
}

/* A prompt of tokens that nobody else has. */
static void add_prompt(struct bench *b, uint32_t i, uint32_t n_prompt, uint32_t max_tokens,
                       int32_t priority)
{
    static int32_t tokens[1 << 16];
    for (uint32_t j = 0; j < n_prompt; j++)
        tokens[j] = (int32_t)(j + 1000 * (i + 1));
    const struct scheduler_prompt prompt = {.tokens = tokens,
                                            .n_tokens = n_prompt,
                                            .max_tokens = max_tokens,
                                            .priority = priority,
                                            .parent = SCHEDULER_NONE,
                                            .owner_index = i};
    assert_int_equal(scheduler_add(b->scheduler, &prompt, &b->index[i], NULL), STATUS_OK);
}

static void admit_all(struct bench *b)
{
    uint32_t index, begin;
    while (scheduler_admit(b->scheduler, &index, NULL) ||
           scheduler_grow(b->scheduler, &index, &begin, NULL))
        scheduler_acked(b->scheduler, index);
}

static void report(struct bench *b)
{
    const struct scheduler_step *step = scheduler_oldest(b->scheduler);
    scheduler_commit(b->scheduler, NULL);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_segment *segment = &step->segments[i];
        const struct scheduler_sequence *q = scheduler_sequence(b->scheduler, segment->sequence);
        if (segment->wants && q->state == SCHEDULER_RUNNING && q->n_tokens < q->max_tokens)
            scheduler_sampled(b->scheduler, segment->sequence, 1);
    }
    scheduler_pop(b->scheduler);
    uint32_t index;
    while ((index = scheduler_closed(b->scheduler)) != SCHEDULER_NONE)
        scheduler_release(b->scheduler, index);
}

static uint32_t tokens_of(const struct bench *b, const struct scheduler_step *step, uint32_t i)
{
    for (uint32_t j = 0; j < step->n_segments; j++)
        if (step->segments[j].sequence == b->index[i])
            return step->segments[j].n_tokens;
    return 0;
}

/* The first gets half, the shortest its all, the next what is left; the first gets what is over. */
static void test_prompts_share_a_step(void **state)
{
    struct bench b;
    const struct scheduler_config config = {.chunk = 512, .max_batch = 8, .depth = 1};
    open_bench(&b, 1000, &config);
    add_prompt(&b, 0, 50000, 50100, 0);
    add_prompt(&b, 1, 3000, 3100, 0);
    add_prompt(&b, 2, 20, 100, 0);
    admit_all(&b);
    const struct scheduler_step *step = scheduler_next(b.scheduler);
    assert_int_equal(tokens_of(&b, step, 0), 256);
    assert_int_equal(tokens_of(&b, step, 1), 512 - 256 - 20);
    assert_int_equal(tokens_of(&b, step, 2), 20);
    report(&b);
    step = scheduler_next(b.scheduler); /* a decode, and two prompts for 511 tokens */
    assert_int_equal(tokens_of(&b, step, 2), 1);
    assert_int_equal(tokens_of(&b, step, 0), 240 + 15);
    assert_int_equal(tokens_of(&b, step, 1), 256);
    close_bench(&b);
}

/* A time instead of a number of tokens: the further the prompt, the fewer tokens fit. */
static void test_a_budget_of_time(void **state)
{
    struct bench b;
    const struct scheduler_config config = {.chunk = 512, .max_batch = 8, .depth = 1};
    const struct step_prices prices = {.per_step = 1000.0, .per_token = 50.0, .per_attended = 0.01};
    open_bench(&b, 1000, &config);
    add_prompt(&b, 0, 60000, 60100, 0);
    admit_all(&b);
    scheduler_set_budget(b.scheduler, &prices, 20000.0, 512);
    uint32_t last = 512, least = 512;
    for (uint32_t position = 0; position + 512 < 60000;) {
        const struct scheduler_step *step = scheduler_next(b.scheduler);
        struct step_work work = {0};
        const uint32_t n = tokens_of(&b, step, 0);
        step_work_add(&work, position, n);
        const double us = step_prices_of(&prices, &work);
        assert_true(us <= 20000.0 && us > 20000.0 - 16.0 * 51.0 - 0.01 * 16.0 * position);
        assert_true(n <= last);
        least = last = n;
        position += n;
        report(&b);
    }
    assert_true(least < 64);
    scheduler_set_budget(b.scheduler, &prices, 10.0, 512); /* no time for anything */
    assert_int_equal(tokens_of(&b, scheduler_next(b.scheduler), 0), SCHEDULER_LEAST_PROMPT);
    close_bench(&b);
}

/* Pages for three of four answers: the last one by rank goes, and comes back. */
static void test_the_last_by_rank_is_preempted(void **state)
{
    struct bench b;
    const struct scheduler_config config = {.chunk = 512, .max_batch = 8, .depth = 1};
    open_bench(&b, 8, &config);
    for (uint32_t i = 0; i < 4; i++)
        add_prompt(&b, i, 100, 700, i == 1 ? -1 : 0);
    admit_all(&b);
    uint32_t victim = SCHEDULER_NONE, turns = 0;
    for (; victim == SCHEDULER_NONE && turns < 1000; turns++) {
        assert_non_null(scheduler_next(b.scheduler));
        report(&b);
        admit_all(&b);
        victim = scheduler_preempt(b.scheduler);
    }
    assert_int_equal(victim, b.index[1]);
    const struct scheduler_sequence *q = scheduler_sequence(b.scheduler, victim);
    assert_true(q->returns && q->n_tokens > 256);
    assert_int_equal(scheduler_preempt(b.scheduler), SCHEDULER_NONE); /* pages are about to come */
    const struct scheduler_step *step = scheduler_next(b.scheduler);
    assert_int_equal(step->n_closed, 1);
    assert_int_equal(tokens_of(&b, step, 1), 0);
    report(&b);
    assert_int_equal(q->state, SCHEDULER_WAITING);
    assert_int_equal(q->incarnation, 2);
    scheduler_finish(b.scheduler, b.index[0]);
    scheduler_finish(b.scheduler, b.index[2]);
    assert_non_null(scheduler_next(b.scheduler));
    report(&b);
    admit_all(&b);
    step = scheduler_next(b.scheduler); /* prompt and answer again, then the next token */
    assert_int_equal(tokens_of(&b, step, 1), 512 - 1); /* another one decodes */
    close_bench(&b);
}

/* What was computed is found again, by requests that come later and while it runs; the one that was
 * used longest ago goes first. */
static void test_prefixes_are_kept_and_evicted(void **state)
{
    struct bench b;
    const struct scheduler_config config = {
        .chunk = 512, .max_batch = 8, .depth = 1, .keeps = true};
    open_bench(&b, 12, &config);
    add_prompt(&b, 0, 600, 601, 0);
    add_prompt(&b, 1, 600, 601, 0);
    admit_all(&b);
    while (scheduler_next(b.scheduler) != NULL)
        report(&b);
    scheduler_finish(b.scheduler, b.index[0]);
    scheduler_finish(b.scheduler, b.index[1]);
    assert_int_equal(scheduler_next(b.scheduler)->n_closed, 2);
    report(&b);
    assert_int_equal(scheduler_usage(b.scheduler).n_kept, 2);
    assert_int_equal(placement_free(b.placement), 8); /* two whole pages each */
    const uint32_t kept = b.index[1];
    add_prompt(&b, 0, 600, 601, 0); /* the same again: now it was used last */
    admit_all(&b);
    const struct scheduler_sequence *q = scheduler_sequence(b.scheduler, b.index[0]);
    assert_int_equal(q->cached_tokens, 512);
    const struct scheduler_step *step = scheduler_next(b.scheduler);
    assert_true(step->segments[0].forks);
    assert_int_equal(step->segments[0].position, 512);
    assert_int_equal(step->segments[0].n_tokens, 88);
    report(&b);
    scheduler_finish(b.scheduler, b.index[0]); /* it has nothing that is not kept already */
    assert_int_equal(scheduler_next(b.scheduler)->n_closed, 1);
    report(&b);
    assert_int_equal(scheduler_usage(b.scheduler).n_kept, 2);
    add_prompt(&b, 2, 9 * PAGE_TOKENS, 9 * PAGE_TOKENS, 0);
    admit_all(&b);
    assert_int_equal(scheduler_sequence(b.scheduler, b.index[2])->state, SCHEDULER_WAITING);
    assert_int_equal(scheduler_next(b.scheduler)->closed[0], kept);
    report(&b);
    admit_all(&b);
    assert_int_equal(scheduler_sequence(b.scheduler, b.index[2])->state, SCHEDULER_RUNNING);
    assert_int_equal(scheduler_usage(b.scheduler).n_kept, 1);
    close_bench(&b);
}

/* Pages that were kept and are not there: their heir computes them, and nobody inherits them
 * again. */
static void test_what_cannot_be_taken_over_is_computed(void **state)
{
    struct bench b;
    const struct scheduler_config config = {
        .chunk = 1024, .max_batch = 8, .depth = 1, .keeps = true};
    const bool failed[] = {true};
    open_bench(&b, 12, &config);
    add_prompt(&b, 0, 600, 601, 0);
    admit_all(&b);
    assert_non_null(scheduler_next(b.scheduler));
    report(&b);
    assert_false(scheduler_recompute(b.scheduler, b.index[0])); /* it took over nothing */
    scheduler_finish(b.scheduler, b.index[0]);
    assert_non_null(scheduler_next(b.scheduler));
    report(&b);
    assert_int_equal(scheduler_usage(b.scheduler).n_kept, 1);
    add_prompt(&b, 0, 600, 601, 0);
    admit_all(&b);
    assert_int_equal(scheduler_next(b.scheduler)->segments[0].position, 512);
    scheduler_commit(b.scheduler, failed);
    assert_true(scheduler_recompute(b.scheduler, b.index[0]));
    scheduler_pop(b.scheduler);
    assert_int_equal(scheduler_next(b.scheduler)->n_closed, 2); /* both go */
    report(&b);
    assert_int_equal(scheduler_usage(b.scheduler).n_kept, 0);
    assert_int_equal(placement_free(b.placement), 12);
    admit_all(&b);
    const struct scheduler_step *step = scheduler_next(b.scheduler);
    assert_int_equal(step->segments[0].position, 0);
    assert_int_equal(step->segments[0].n_tokens, 600);
    assert_true(step->segments[0].wants);
    assert_int_equal(scheduler_sequence(b.scheduler, b.index[0])->incarnation, 2);
    assert_int_equal(scheduler_sequence(b.scheduler, b.index[0])->cached_tokens, 0);
    report(&b);
    assert_false(scheduler_recompute(b.scheduler, b.index[0])); /* once is enough */
    close_bench(&b);
}

/* A prompt of the tokens 0, 1, 2... below n_common, and others from there. */
static void add_beginning(struct bench *b, uint32_t i, uint32_t n_prompt, uint32_t n_common)
{
    static int32_t tokens[1 << 12];
    for (uint32_t j = 0; j < n_prompt; j++)
        tokens[j] = (int32_t)(j < n_common ? j : j + 10000 * (i + 1));
    const struct scheduler_prompt prompt = {.tokens = tokens,
                                            .n_tokens = n_prompt,
                                            .max_tokens = n_prompt + 8,
                                            .parent = SCHEDULER_NONE,
                                            .owner_index = i};
    assert_int_equal(scheduler_add(b->scheduler, &prompt, &b->index[i], NULL), STATUS_OK);
}

static const struct scheduler_sequence *sequence(const struct bench *b, uint32_t i)
{
    return scheduler_sequence(b->scheduler, b->index[i]);
}

/* With a window of 300: pages leave it two behind the one in which a step begins. */
static void test_forks_only_where_windows_are_whole(void **state)
{
    struct bench b;
    uint32_t index;
    const struct scheduler_config config = {
        .chunk = 256, .max_batch = 8, .depth = 1, .keeps = true, .window = 300};
    open_bench(&b, 1000, &config);
    add_beginning(&b, 0, 2000, 2000);
    admit_all(&b);
    for (uint32_t position = 0; position < 1024; position += 256) {
        assert_int_equal(scheduler_next(b.scheduler)->segments[0].position, position);
        report(&b);
    }
    /* Its last step began at 768: 1,024 tokens can be taken over, 512 not any more. */
    add_beginning(&b, 1, 1100, 1060);
    add_beginning(&b, 2, 1100, 600);
    assert_true(scheduler_admit(b.scheduler, &index, NULL));
    assert_int_equal(sequence(&b, 1)->shared_tokens, 1024);
    assert_true(scheduler_admit(b.scheduler, &index, NULL));
    assert_int_equal(sequence(&b, 2)->shared_tokens, 0);

    /* As long as the fork is not sent the parent goes to where it still can be, and no further. */
    const struct scheduler_step *step = scheduler_next(b.scheduler);
    assert_int_equal(step->n_segments, 1);
    assert_int_equal(step->segments[0].position, 1024);
    report(&b);
    assert_null(scheduler_next(b.scheduler));
    scheduler_acked(b.scheduler, b.index[1]);
    scheduler_acked(b.scheduler, b.index[2]);
    step = scheduler_next(b.scheduler);
    assert_int_equal(tokens_of(&b, step, 0), 0);
    assert_int_equal(tokens_of(&b, step, 1), 76);
    report(&b);
    step = scheduler_next(b.scheduler);
    assert_true(tokens_of(&b, step, 0) > 0);
    report(&b);
    for (;;) {
        admit_all(&b);
        if (scheduler_next(b.scheduler) == NULL)
            break;
        report(&b);
        for (uint32_t i = 0; i < 3; i++)
            if (sequence(&b, i)->state == SCHEDULER_RUNNING &&
                sequence(&b, i)->n_tokens == sequence(&b, i)->max_tokens)
                scheduler_finish(b.scheduler, b.index[i]);
    }
    /* The kept ones can be gone on from where they end, and from nowhere else. */
    assert_int_equal(sequence(&b, 0)->state, SCHEDULER_KEPT);
    add_beginning(&b, 3, 2100, 2000);
    add_beginning(&b, 4, 2100, 1300);
    add_beginning(&b, 5, 2100, 900);
    admit_all(&b);
    assert_int_equal(sequence(&b, 3)->shared_tokens, 1792);
    assert_int_equal(sequence(&b, 4)->shared_tokens, 1024); /* that is where the second ended */
    assert_int_equal(sequence(&b, 5)->shared_tokens, 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_chunks_fill_the_pipeline),
        cmocka_unit_test(test_fills_go_first_and_alone),
        cmocka_unit_test(test_decodes_fill_the_pipeline_and_share_it),
        cmocka_unit_test(test_prompts_share_a_step),
        cmocka_unit_test(test_a_budget_of_time),
        cmocka_unit_test(test_the_last_by_rank_is_preempted),
        cmocka_unit_test(test_prefixes_are_kept_and_evicted),
        cmocka_unit_test(test_what_cannot_be_taken_over_is_computed),
        cmocka_unit_test(test_common_prefix_leaves_a_token_to_compute),
        cmocka_unit_test(test_forks_only_where_windows_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
