/* test_attention_plan.c - every tile before a row has one source, every new token one holder. */
#include "worker/attention_plan.h"

#include "sys/random.h"
#include "tests/cmocka.h"

#include <string.h>

enum { N_HOLDERS = 7, N_PARTS = 9, N_ROUNDS = 200, MOST_PAGES = 60, MOST_TILES = MOST_PAGES * 2 };

struct step {
    struct attention_sequences sequences;
    struct attention_part parts[N_PARTS];
    bool remote[N_HOLDERS];
    struct attention_plan plan;
};

static uint32_t below(struct random_state *random, uint32_t n)
{
    return (uint32_t)random_below(random, n);
}

/* Pages at holders, in runs; then some tokens of the last ones are a part. */
static void fill_part(struct step *s, uint32_t i, struct random_state *random)
{
    struct attention_part *part = &s->parts[i];
    struct attention_sequence *sequence;
    const uint32_t n_pages = 1 + below(random, MOST_PAGES);
    assert_int_equal(attention_sequences_add(&s->sequences, i + 1, 1, &sequence, NULL), STATUS_OK);
    for (uint32_t page = 0, n; page < n_pages; page += n) {
        n = 1 + below(random, 4);
        n = n < n_pages - page ? n : n_pages - page;
        const struct attention_span span = {below(random, N_HOLDERS),
                                            {page * PAGE_TOKENS, (page + n) * PAGE_TOKENS}};
        assert_int_equal(attention_sequence_add_spans(sequence, &span, 1, N_HOLDERS, NULL),
                         STATUS_OK);
    }
    const uint32_t position = below(random, n_pages * PAGE_TOKENS);
    const uint32_t left = n_pages * PAGE_TOKENS - position;
    *part = (struct attention_part){.sequence = sequence,
                                    .id = i + 1,
                                    .incarnation = 1,
                                    .position = position,
                                    .n_tokens = 1 + below(random, left < 700 ? left : 700)};
    part->n_needed = part->n_tokens;
}

static void plan_step(struct step *s, uint32_t window, struct random_state *random)
{
    const struct attention_plan_shape shape = {.head_dim = 8,
                                               .group = 1,
                                               .n_heads = 1,
                                               .n_holders = N_HOLDERS,
                                               .window = window,
                                               .remote = s->remote};
    assert_int_equal(attention_sequences_open(&s->sequences, N_PARTS, NULL), STATUS_OK);
    for (uint32_t i = 0; i < N_HOLDERS; i++)
        s->remote[i] = i > 0; /* the first one is the rank itself */
    assert_int_equal(attention_plan_open(&s->plan, &shape, NULL), STATUS_OK);
    for (uint32_t i = 0; i < N_PARTS; i++) {
        fill_part(s, i, random);
        assert_int_equal(attention_plan_add(&s->plan, &s->parts[i], i, NULL), STATUS_OK);
    }
    s->parts[below(random, N_PARTS)].error.status = STATUS_FAILED; /* it gets no appends */
    assert_int_equal(attention_plan_appends(&s->plan, s->parts, N_PARTS, NULL), STATUS_OK);
}

static void end_step(struct step *s)
{
    attention_plan_close(&s->plan);
    attention_sequences_close(&s->sequences);
}

static uint32_t holder_of(const struct attention_sequence *sequence, uint32_t token)
{
    for (size_t i = 0; i < sequence->n_spans; i++)
        if (token < sequence->spans[i].tokens.end)
            return sequence->spans[i].holder;
    fail();
    return 0;
}

static void test_every_tile_before_a_row_has_one_source(void **state)
{
    for (uint64_t round = 0; round < N_ROUNDS; round++) {
        struct step s = {0};
        struct random_state random;
        random_seed(&random, round);
        plan_step(&s, round % 3 == 0 ? 1000 : 0, &random);
        for (size_t r = 0; r < s.plan.n_runs; r++) {
            const struct attention_run *run = &s.plan.runs[r];
            const struct attention_part *part = &s.parts[run->part];
            uint32_t n_sources[MOST_TILES] = {0};
            for (size_t i = 0; i < run->n_pieces; i++) {
                const struct attention_piece *piece = &s.plan.pieces[run->first_piece + i];
                for (size_t j = 0; j < piece->n_ranges; j++) {
                    const struct tile_range range = s.plan.ranges[piece->first_range + j];
                    assert_true(range.begin < range.end && range.end <= run->tile);
                    for (uint32_t tile = range.begin; tile < range.end; tile++) {
                        n_sources[tile]++;
                        if (piece->source < N_HOLDERS)
                            assert_int_equal(piece->source,
                                             holder_of(part->sequence, tile * TILE_TOKENS));
                    }
                }
            }
            for (uint32_t tile = 0; tile < run->tile; tile++)
                assert_int_equal(n_sources[tile], 1);
        }
        end_step(&s);
    }
}

static void test_every_new_token_goes_to_its_holder_once(void **state)
{
    for (uint64_t round = 0; round < N_ROUNDS; round++) {
        struct step s = {0};
        struct random_state random;
        uint32_t n_planned[N_PARTS] = {0};
        size_t next = 0;
        random_seed(&random, 1000 + round);
        plan_step(&s, 0, &random);
        for (uint32_t holder = 0; holder < N_HOLDERS; holder++) {
            const struct attention_plan_list *list = &s.plan.lists[holder];
            assert_int_equal(list->first_append, next); /* one holder's behind another's */
            uint32_t part = 0, end = 0;
            for (size_t i = 0; i < list->n_appends; i++, next++) {
                const struct attention_plan_append *append = &s.plan.appends[next];
                assert_true(append->part > part ||
                            (append->part == part && append->tokens.begin >= end));
                part = append->part;
                end = append->tokens.end;
                for (uint32_t token = append->tokens.begin; token < end; token++, n_planned[part]++)
                    assert_int_equal(holder_of(s.parts[part].sequence, token), holder);
            }
        }
        assert_int_equal(next, s.plan.n_appends);
        for (uint32_t i = 0; i < N_PARTS; i++)
            assert_int_equal(n_planned[i],
                             s.parts[i].error.status == STATUS_OK ? s.parts[i].n_tokens : 0);
        end_step(&s);
    }
}

static void test_what_nobody_holds_is_named(void **state)
{
    struct step s = {0};
    struct error error;
    struct attention_sequence *sequence;
    const struct attention_plan_shape shape = {
        .head_dim = 8, .group = 1, .n_heads = 1, .n_holders = N_HOLDERS, .remote = s.remote};
    const struct attention_span span = {1, {0, PAGE_TOKENS}};
    assert_int_equal(attention_sequences_open(&s.sequences, N_PARTS, NULL), STATUS_OK);
    assert_int_equal(attention_plan_open(&s.plan, &shape, NULL), STATUS_OK);
    assert_int_equal(attention_sequences_add(&s.sequences, 1, 1, &sequence, NULL), STATUS_OK);
    assert_int_equal(attention_sequence_add_spans(sequence, &span, 1, N_HOLDERS, NULL), STATUS_OK);
    s.parts[0] = (struct attention_part){
        .sequence = sequence, .id = 1, .position = 3 * PAGE_TOKENS, .n_tokens = 1, .n_needed = 1};
    assert_int_equal(attention_plan_add(&s.plan, &s.parts[0], 0, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "nobody was named to hold its tokens from 256 on"));
    end_step(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tile_before_a_row_has_one_source),
        cmocka_unit_test(test_every_new_token_goes_to_its_holder_once),
        cmocka_unit_test(test_what_nobody_holds_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
