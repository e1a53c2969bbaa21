/* test_step.c - a Step from the wire, hostile or not, becomes rows or errors, the same everywhere.
 */
#include "worker/step.h"

#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum { JOB = 77, ROWS = 64, SEQUENCES = 4, TOKENS = 4096, VOCAB = 100, HOLDERS = 2 };

static const struct step_limits LIMITS = {.job = JOB,
                                          .n_holders = HOLDERS,
                                          .max_rows = ROWS,
                                          .max_sequences = SEQUENCES,
                                          .max_tokens = TOKENS,
                                          .vocab = VOCAB};

/* A message of up to 8 segments of up to 128 tokens and 2 spans, all fine until a test breaks it.
 */
struct draft {
    Longspan__Step step;
    Longspan__Segment segments[8], *segment_list[8];
    Longspan__Span spans[8][2], *span_lists[8][2];
    Longspan__SequenceName closed[2], *closed_list[2];
    int32_t tokens[8][128];
};

static void draft(struct draft *d, uint32_t n_segments, uint32_t n_tokens)
{
    longspan__step__init(&d->step);
    d->step.job = JOB;
    d->step.step = 1;
    d->step.segments = d->segment_list;
    d->step.n_segments = n_segments;
    d->step.closed = d->closed_list;
    for (uint32_t i = 0; i < 2; i++) {
        longspan__sequence_name__init(&d->closed[i]);
        d->closed_list[i] = &d->closed[i];
    }
    for (uint32_t i = 0; i < 8; i++) {
        Longspan__Segment *s = d->segment_list[i] = &d->segments[i];
        longspan__segment__init(s);
        s->sequence = 10 + i;
        s->incarnation = 3;
        s->position = 256 * i;
        s->tokens = d->tokens[i];
        s->n_tokens = n_tokens;
        for (uint32_t t = 0; t < 128; t++)
            d->tokens[i][t] = (int32_t)((i * 31 + t) % VOCAB);
        s->spans = d->span_lists[i];
        for (uint32_t j = 0; j < 2; j++) {
            longspan__span__init(&d->spans[i][j]);
            d->spans[i][j].holder = j;
            d->spans[i][j].begin = 256 * j;
            d->spans[i][j].end = 256 * (j + 1);
            d->span_lists[i][j] = &d->spans[i][j];
        }
    }
}

static struct step *new_step(void)
{
    struct step *step = NULL;
    struct error error = {.status = STATUS_OK};
    assert_int_equal(step_create(&step, &LIMITS, &error), STATUS_OK);
    return step;
}

static void decode(struct step *step, const struct draft *d)
{
    struct error error;
    assert_int_equal(step_decode(step, &d->step, &error), STATUS_OK);
}

static void test_a_good_step_becomes_rows(void **state)
{
    struct draft d;
    draft(&d, 3, 5);
    d.segments[0].want = LONGSPAN__WANT__WANT_CANDIDATES;
    d.segments[0].n_candidates = 40;
    d.segments[1].n_spans = 2;
    d.segments[1].fork = true;
    d.segments[1].fork_parent = 10;
    d.segments[1].fork_incarnation = 9;
    d.segments[2].want = LONGSPAN__WANT__WANT_LOGITS;
    d.segments[2].n_candidates = 100000;
    d.step.n_closed = 2;
    d.closed[1].sequence = 5;
    d.closed[1].incarnation = 6;
    struct step *step = new_step();
    decode(step, &d);
    assert_int_equal(step->fault.status, STATUS_OK);
    assert_int_equal(step->number, 1);
    assert_int_equal(step->n_rows, 15);
    assert_int_equal(step->n_attention, 3);
    assert_int_equal(step->n_wanted, 2);
    assert_int_equal(step->n_closed, 2);
    assert_int_equal(step->closed[1].sequence, 5);
    assert_int_equal(step->closed[1].incarnation, 6);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(step->segments[i].error.status, STATUS_OK);
        assert_int_equal(step->segments[i].row, 5 * i);
        for (uint32_t t = 0; t < 5; t++) {
            assert_int_equal(step->tokens[5 * i + t], d.tokens[i][t]);
            assert_int_equal(step->positions[5 * i + t], 256 * i + t);
        }
        assert_int_equal(step->attention[i].sequence, 10 + i);
        assert_int_equal(step->attention[i].incarnation, 3);
        assert_int_equal(step->attention[i].position, 256 * i);
        assert_int_equal(step->attention[i].n_tokens, 5);
    }
    assert_int_equal(step->segments[0].want, STEP_WANT_CANDIDATES);
    assert_int_equal(step->segments[0].n_candidates, 40);
    assert_int_equal(step->segments[2].want, STEP_WANT_LOGITS);
    assert_int_equal(step->segments[2].n_candidates, VOCAB); /* no more than there are */
    assert_true(step->attention[1].fork);
    assert_int_equal(step->attention[1].parent, 10);
    assert_int_equal(step->attention[1].parent_incarnation, 9);
    assert_int_equal(step->attention[1].n_spans, 2);
    assert_int_equal(step->attention[1].spans[1].holder, 1);
    assert_int_equal(step->attention[1].spans[1].tokens.begin, 256);
    assert_int_equal(step->attention[1].spans[1].tokens.end, 512);
    step_destroy(step);
}

/* The last row where something is wanted, all where some are scored. */
static void test_needed_rows_are_counted(void **state)
{
    struct draft d;
    draft(&d, 4, 5);
    d.segments[0].want = LONGSPAN__WANT__WANT_CANDIDATES;
    d.segments[1].tokens[0] = -1; /* a bad one has no rows */
    d.segments[1].want = LONGSPAN__WANT__WANT_LOGITS;
    d.segments[3].next = d.tokens[3] + 1;
    d.segments[3].n_next = 2;
    static const uint32_t n_needed[] = {1, 0, 0, 5}, first[] = {0, 0, 1, 1};
    struct step *step = new_step();
    decode(step, &d);
    assert_int_equal(step->n_rows, 15);
    assert_int_equal(step->n_needed, 6);
    for (uint32_t i = 0; i < 4; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status != STATUS_OK)
            continue;
        assert_int_equal(segment->n_needed, n_needed[i]);
        assert_int_equal(step->attention[segment->attention].n_needed, n_needed[i]);
        assert_int_equal(segment->needed, first[i]);
        for (uint32_t row = 0; row < n_needed[i]; row++)
            assert_int_equal(step->needed_positions[first[i] + row],
                             256 * i + 5 - n_needed[i] + row);
    }
    step_destroy(step);
}

static void test_tokens_to_be_scored_lie_together(void **state)
{
    struct draft d;
    draft(&d, 3, 5);
    d.segments[0].next = d.tokens[0] + 1;
    d.segments[0].n_next = 5;
    d.segments[0].n_top = 3;
    d.segments[2].next = d.tokens[2] + 1;
    d.segments[2].n_next = 4;
    d.segments[2].n_top = UINT32_MAX;
    struct step *step = new_step();
    decode(step, &d);
    assert_int_equal(step->n_scored, 9);
    assert_int_equal(step->segments[0].n_scored, 5);
    assert_int_equal(step->segments[1].n_scored, 0);
    assert_int_equal(step->segments[0].n_top, 3);
    assert_int_equal(step->segments[2].n_top, VOCAB);
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(step->next[i], i < 5 ? d.tokens[0][1 + i] : d.tokens[2][i - 4]);
    assert_ptr_equal(step->segments[2].next, step->next + 5);
    step_destroy(step);
}

/* What breaks one segment takes that one out, and the others keep their places. */
static void test_a_bad_segment_fails_alone(void **state)
{
    enum { CASES = 17 };
    for (int c = 0; c < CASES; c++) {
        struct draft d;
        draft(&d, 3, 5);
        Longspan__Segment *bad = &d.segments[1];
        int32_t too_large = VOCAB;
        bad->want = LONGSPAN__WANT__WANT_CANDIDATES;
        bad->n_spans = 1;
        switch (c) {
        case 0:
            bad->tokens[4] = VOCAB;
            break;
        case 1:
            bad->tokens[0] = -1;
            break;
        case 2:
            bad->tokens[2] = INT32_MIN;
            break;
        case 3:
            bad->n_tokens = 0;
            break;
        case 4:
            bad->position = TOKENS - 4;
            break;
        case 5:
            bad->position = UINT32_MAX;
            break;
        case 6:
            bad->want = (Longspan__Want)17;
            break;
        case 7:
            d.spans[1][0].holder = HOLDERS;
            break;
        case 8:
            d.spans[1][0].begin = 1;
            break;
        case 9:
            d.spans[1][0].end = d.spans[1][0].begin;
            break;
        case 10:
            d.spans[1][0].begin = 512;
            break;
        case 11:
            d.spans[1][0].begin = TOKENS;
            d.spans[1][0].end = UINT32_MAX / 256 * 256;
            break;
        case 12:
            bad->fork = true;
            bad->position = 0;
            break;
        case 13:
            bad->sequence = d.segments[0].sequence; /* twice in one step */
            break;
        case 14:
            bad->next = d.tokens[1];
            bad->n_next = 6; /* more than it has rows */
            break;
        case 15:
            bad->next = d.tokens[1] + 1;
            bad->n_next = 4;
            bad->next[3] = -1;
            break;
        case 16:
            bad->next = &too_large;
            bad->n_next = 1;
            break;
        default:
            break;
        }
        struct step *step = new_step();
        decode(step, &d);
        assert_int_equal(step->fault.status, STATUS_OK);
        assert_int_not_equal(step->segments[1].error.status, STATUS_OK);
        assert_true(step->segments[1].error.text[0] != '\0');
        assert_true(step->segments[1].answered);
        assert_int_equal(step->segments[0].error.status, STATUS_OK);
        assert_int_equal(step->segments[2].error.status, STATUS_OK);
        assert_int_equal(step->segments[2].row, 5);
        assert_int_equal(step->segments[2].attention, 1);
        assert_int_equal(step->n_rows, 10);
        assert_int_equal(step->n_attention, 2);
        assert_int_equal(step->n_wanted, 0);
        assert_int_equal(step->n_scored, 0);
        assert_true(step->segments[1].scored == (bad->n_next > 0));
        step_destroy(step);
    }
}

static void test_a_bad_step_fails_whole(void **state)
{
    enum { CASES = 6 };
    for (int c = 0; c < CASES; c++) {
        struct draft d;
        draft(&d, 3, 5);
        switch (c) {
        case 0:
            d.step.job = JOB + 1;
            break;
        case 1:
            d.step.step = 0; /* numbers begin at 1 */
            break;
        case 2:
            d.segments[0].n_tokens = 60; /* 70 rows */
            break;
        case 3:
            d.step.n_segments = SEQUENCES + 1;
            break;
        case 4: /* one fills, two compute */
            d.segments[1].n_tokens = 0;
            d.segments[1].fill_tokens = 5;
            break;
        case 5: /* more rows than 32 bits hold */
            for (uint32_t i = 0; i < 3; i++) {
                d.segments[i].n_tokens = 0;
                d.segments[i].fill_tokens = UINT32_MAX;
            }
            break;
        default:
            break;
        }
        struct step *step = new_step();
        decode(step, &d);
        assert_int_not_equal(step->fault.status, STATUS_OK);
        assert_int_equal(step->n_rows, 0);
        assert_int_equal(step->n_attention, 0);
        assert_int_equal(step->n_wanted, 0);
        for (uint32_t i = 0; i < step->n_segments; i++)
            assert_int_not_equal(step->segments[i].error.status, STATUS_OK);

        draft(&d, 2, 5); /* the next one is fine */
        d.step.step = 2;
        decode(step, &d);
        assert_int_equal(step->fault.status, STATUS_OK);
        assert_int_equal(step->n_rows, 10);
        step_destroy(step);
    }
}

static void test_an_old_number_is_refused_and_changes_nothing(void **state)
{
    struct draft d;
    draft(&d, 1, 5);
    struct step *step = new_step();
    d.step.step = 7;
    decode(step, &d);
    assert_int_equal(step->fault.status, STATUS_OK);
    d.step.n_closed = 1;
    decode(step, &d);
    assert_int_equal(step->fault.status, STATUS_PROTOCOL);
    assert_int_equal(step->n_closed, 0);
    d.step.step = UINT64_MAX;
    decode(step, &d);
    assert_int_equal(step->fault.status, STATUS_OK);
    assert_int_equal(step->n_closed, 1);
    step_destroy(step);
}

static void test_a_step_of_closings_only(void **state)
{
    struct draft d;
    draft(&d, 0, 0);
    d.step.n_closed = 2;
    struct step *step = new_step();
    decode(step, &d);
    assert_int_equal(step->fault.status, STATUS_OK);
    assert_int_equal(step->n_closed, 2);
    assert_int_equal(step->n_rows, 0);
    step_destroy(step);
}

static void test_a_step_fills_positions(void **state)
{
    struct draft d;
    draft(&d, 4, 0);
    for (uint32_t i = 0; i < 4; i++) {
        d.segments[i].fill_tokens = 10;
        d.segments[i].fill_seed = 100 + i;
        d.segments[i].n_spans = 2;
    }
    d.segments[1].n_tokens = 5; /* computes too */
    d.segments[2].want = LONGSPAN__WANT__WANT_CANDIDATES;
    struct step *step = new_step();
    decode(step, &d);
    assert_int_equal(step->fault.status, STATUS_OK);
    assert_true(step->fill);
    assert_int_equal(step->segments[0].error.status, STATUS_OK);
    assert_int_equal(step->segments[1].error.status, STATUS_PROTOCOL);
    assert_int_equal(step->segments[2].error.status, STATUS_PROTOCOL);
    assert_int_equal(step->segments[3].error.status, STATUS_OK);
    assert_int_equal(step->segments[3].fill_seed, 103);
    assert_int_equal(step->segments[3].row, 10);
    assert_int_equal(step->n_rows, 20);
    assert_int_equal(step->n_wanted, 0);
    assert_int_equal(step->positions[10], 256 * 3);
    assert_int_equal(step->tokens[10], 0);
    assert_true(step->attention[1].fill);

    draft(&d, 1, 5); /* the next one computes */
    d.step.step = 2;
    decode(step, &d);
    assert_false(step->fill || step->attention[0].fill);
    step_destroy(step);
}

/* Damaged bytes either do not unpack, or decode to something inside the limits. */
static void test_damaged_bytes_stay_inside_the_limits(void **state)
{
    struct draft d;
    draft(&d, 3, 7);
    for (int i = 0; i < 3; i++) {
        d.segments[i].n_spans = 2;
        d.segments[i].want = (Longspan__Want)i;
    }
    uint8_t good[2048], bytes[2048];
    const size_t n = longspan__step__pack(&d.step, good);
    assert_true(n < sizeof(good));
    struct random_state random;
    random_seed(&random, 1);
    struct step *step = new_step();
    for (int round = 0; round < 20000; round++) {
        memcpy(bytes, good, n);
        const uint64_t n_flips = 1 + random_below(&random, 4);
        for (uint64_t i = 0; i < n_flips; i++)
            bytes[random_below(&random, n)] = (uint8_t)random_u64(&random);
        Longspan__Step *message = longspan__step__unpack(NULL, n - random_below(&random, 3), bytes);
        if (message == NULL)
            continue;
        struct error error;
        assert_int_equal(step_decode(step, message, &error), STATUS_OK);
        assert_true(step->n_rows <= ROWS && step->n_attention <= SEQUENCES);
        for (uint32_t i = 0; i < step->n_rows; i++) {
            assert_in_range(step->tokens[i], 0, VOCAB - 1);
            assert_true(step->positions[i] < TOKENS);
        }
        for (uint32_t i = 0; i < step->n_attention; i++)
            for (uint32_t j = 0; j < step->attention[i].n_spans; j++)
                assert_true(step->attention[i].spans[j].holder < HOLDERS);
        step->last_number = 0;
        longspan__step__free_unpacked(message, NULL);
    }
    step_destroy(step);
}

static void test_limits_of_zero_are_refused(void **state)
{
    struct step_limits limits = LIMITS;
    struct step *step = NULL;
    struct error error;
    limits.max_rows = 0;
    assert_int_equal(step_create(&step, &limits, &error), STATUS_INVALID);
    assert_null(step);
    step_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_step_becomes_rows),
        cmocka_unit_test(test_needed_rows_are_counted),
        cmocka_unit_test(test_tokens_to_be_scored_lie_together),
        cmocka_unit_test(test_a_bad_segment_fails_alone),
        cmocka_unit_test(test_a_bad_step_fails_whole),
        cmocka_unit_test(test_an_old_number_is_refused_and_changes_nothing),
        cmocka_unit_test(test_a_step_of_closings_only),
        cmocka_unit_test(test_a_step_fills_positions),
        cmocka_unit_test(test_damaged_bytes_stay_inside_the_limits),
        cmocka_unit_test(test_limits_of_zero_are_refused),
    };
    return cmocka_run_group_tests_name("worker/step", tests, NULL, NULL);
}
