/* test_reports.c - a step counts when all ranks have reported it, and only reports that fit what
 * was asked are kept. */
#include "coordinator/reports.h"

#include "tests/cmocka.h"

#include <math.h>
#include <string.h>

enum { RANKS = 2, LAST = 1, VOCAB = 8, SEGMENTS = 3, LAYERS = 2 };

/* Three segments: a prompt chunk, one that wants candidates, one that wants the row too. */
static const struct reports_want wants[SEGMENTS] = {
    {0}, {.candidates = true, .n_candidates = 2}, {.candidates = true, .row = true}};

/* A right report of the last rank, for tests to spoil. */
struct report {
    int32_t ids[2];
    float logits[2], row[VOCAB + 1];
    size_t row_bytes;
    Longspan__Candidates candidates[SEGMENTS], *results[SEGMENTS];
    Longspan__Failure failure;
    Longspan__SegmentError error, *errors[1];
    Longspan__HolderTraffic holder, *traffic[1];
    Longspan__StepDone done;
};

static void fill(struct report *r, uint64_t step)
{
    memset(r, 0, sizeof(*r));
    r->ids[0] = 5;
    r->logits[0] = r->row[5] = 1.5f;
    r->logits[1] = 0.0f;
    r->row_bytes = VOCAB * sizeof(float);
    longspan__step_done__init(&r->done);
    for (int i = 0; i < SEGMENTS; i++) {
        longspan__candidates__init(&r->candidates[i]);
        r->candidates[i].ids = r->ids;
        r->candidates[i].logits = r->logits;
        r->candidates[i].n_ids = r->candidates[i].n_logits = 2;
        r->candidates[i].log_sum_exp = 2.0 + i;
        r->results[i] = &r->candidates[i];
    }
    longspan__failure__init(&r->failure);
    r->failure.status = STATUS_TIMEOUT;
    r->failure.text = "late";
    longspan__segment_error__init(&r->error);
    r->error.failure = &r->failure;
    r->errors[0] = &r->error;
    longspan__holder_traffic__init(&r->holder);
    r->holder.kv_bytes = 7;
    r->traffic[0] = &r->holder;
    r->done.step = step;
    r->done.results = r->results;
    r->done.n_results = 2;
    r->done.errors = r->errors;
    r->done.traffic = r->traffic;
    r->done.n_traffic = 1;
}

static enum status take(struct reports *reports, uint32_t rank, struct report *r)
{
    struct frames frames;
    frames_init(&frames);
    assert_int_equal(frames_add_copy(&frames, "header", 6, NULL), STATUS_OK);
    if (rank == LAST && r->row_bytes > 0)
        assert_int_equal(frames_add_copy(&frames, r->row, r->row_bytes, NULL), STATUS_OK);
    struct error error;
    const enum status status = reports_take(reports, rank, &r->done, &frames, &error);
    frames_clear(&frames);
    return status;
}

static struct reports *open_reports(void)
{
    struct reports *reports = NULL;
    const struct reports_shape shape = {.n_ranks = RANKS,
                                        .result_rank = LAST,
                                        .depth = 2,
                                        .max_segments = SEGMENTS,
                                        .n_holders = 1,
                                        .vocab = VOCAB,
                                        .n_layers = LAYERS};
    assert_int_equal(reports_create(&reports, &shape, NULL), STATUS_OK);
    reports_expect(reports, 1, wants, SEGMENTS, 1000);
    return reports;
}

static void test_a_step_counts_when_all_have_reported(void **state)
{
    struct reports *reports = open_reports();
    struct report r;
    reports_expect(reports, 2, wants, 1, 2000);
    fill(&r, 1);
    assert_int_equal(take(reports, LAST, &r), STATUS_OK);
    assert_false(reports_complete(reports));
    fill(&r, 2); /* the last rank is ahead */
    r.done.n_results = 0;
    r.row_bytes = 0;
    assert_int_equal(take(reports, LAST, &r), STATUS_OK);
    assert_false(reports_complete(reports));
    assert_false(reports_has(reports, 0));
    assert_int_equal(reports_deadline(reports), 1000);
    fill(&r, 1);
    r.done.n_errors = 1;
    r.error.segment = 1;
    assert_int_equal(take(reports, 0, &r), STATUS_OK);
    assert_true(reports_complete(reports));
    /* the error of a rank without results counts; the row is that of the third segment */
    assert_null(reports_error(reports, 0));
    assert_non_null(reports_error(reports, 1));
    assert_string_equal(reports_error(reports, 1)->text, "late");
    const struct sampler_row row = reports_row(reports, 2);
    assert_int_equal(row.n, 2);
    assert_true(row.log_sum_exp == 3.0);
    assert_non_null(row.row);
    assert_true(row.row[5] == 1.5f);
    assert_null(reports_row(reports, 1).row);
    assert_int_equal(reports_traffic(reports, 0).kv_bytes, 21);
    reports_pop(reports);
    /* nothing of it is left for the next step */
    assert_int_equal(reports_oldest(reports), 2);
    assert_false(reports_complete(reports));
    fill(&r, 2);
    assert_int_equal(take(reports, 0, &r), STATUS_OK);
    assert_true(reports_complete(reports));
    assert_null(reports_error(reports, 0));
    reports_pop(reports);
    assert_int_equal(reports_deadline(reports), UINT64_MAX);
    reports_destroy(reports);
}

static void expect_refused(uint32_t rank, struct report *r)
{
    struct reports *reports = open_reports();
    assert_int_equal(take(reports, rank, r), STATUS_PROTOCOL);
    assert_false(reports_has(reports, rank));
    reports_destroy(reports);
}

static void test_figures_are_kept_by_rank_and_layer(void **state)
{
    struct reports *reports = open_reports();
    struct report r;
    uint32_t waits[LAYERS + 1] = {30, 40, 50}; /* one layer more than there is */
    fill(&r, 1);
    r.holder.sent_bytes = 100;
    r.holder.round_trips = 2;
    r.holder.round_trip_us = 70;
    r.done.layer_wait_us = waits;
    r.done.n_layer_wait_us = LAYERS + 1;
    r.done.compute_us = 900;
    assert_int_equal(take(reports, LAST, &r), STATUS_OK);
    r.holder.holder = 1; /* there is no such holder */
    r.done.n_results = 0;
    assert_int_equal(take(reports, 0, &r), STATUS_OK);
    assert_true(reports_complete(reports));

    const struct reports_traffic link = reports_link(reports, LAST, 0);
    assert_int_equal(link.sent_bytes, 100);
    assert_int_equal(link.round_trips, 2);
    assert_int_equal(link.round_trip_us, 70);
    assert_int_equal(reports_link(reports, 0, 0).sent_bytes, 0);
    assert_int_equal(reports_traffic(reports, 0).round_trips, 2);
    const struct reports_rank rank = reports_rank(reports, LAST);
    assert_int_equal(rank.steps, 1);
    assert_int_equal(rank.compute_us, 900);
    assert_int_equal(rank.layer_wait_us[0], 30);
    assert_int_equal(rank.layer_wait_us[1], 40);
    assert_int_equal(reports_rank(reports, 0).layer_wait_us[0], 30); /* not the other's third */
    reports_destroy(reports);
}

static void test_reports_that_do_not_fit_are_refused(void **state)
{
    struct report r;
    fill(&r, 2); /* a step to come */
    expect_refused(0, &r);
    fill(&r, 1);
    r.done.n_results = 1;
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.done.n_results = 3;
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.candidates[0].n_logits = 1;
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.candidates[1].n_ids = r.candidates[1].n_logits = VOCAB + 1;
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.row_bytes -= 1;
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.row_bytes += sizeof(float);
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.row_bytes = 0;
    expect_refused(LAST, &r);
    fill(&r, 1);
    r.done.n_errors = 1;
    r.error.segment = SEGMENTS;
    expect_refused(0, &r);
    fill(&r, 1);
    r.done.n_errors = 1;
    r.error.failure = NULL;
    expect_refused(0, &r);

    struct reports *reports = open_reports(); /* twice */
    fill(&r, 1);
    assert_int_equal(take(reports, 0, &r), STATUS_OK);
    assert_int_equal(take(reports, 0, &r), STATUS_PROTOCOL);
    reports_destroy(reports);

    reports = open_reports(); /* a holder that is none is nobody's traffic */
    fill(&r, 1);
    r.holder.holder = 1;
    assert_int_equal(take(reports, 0, &r), STATUS_OK);
    assert_int_equal(reports_traffic(reports, 0).kv_bytes, 0);
    reports_destroy(reports);
}

/* Two segments with tokens to be scored, of which the first one failed. */
static void test_scores_are_kept_by_segment(void **state)
{
    static const struct reports_want scored[] = {{.n_scored = 2, .n_top = 2},
                                                 {.candidates = true, .n_candidates = 1},
                                                 {.n_scored = 3, .n_top = 1}};
    float logits[] = {-1.0f, -INFINITY, 2.0f}, top_logits[] = {4.0f, 4.0f, 2.0f};
    double sums[] = {5.0, 6.0, 7.0};
    int32_t top_ids[] = {1, 7, 3};
    Longspan__Scores none = LONGSPAN__SCORES__INIT, some = LONGSPAN__SCORES__INIT;
    Longspan__Scores *list[] = {&none, &some};
    for (int c = 0; c < 6; c++) {
        struct reports *reports = NULL;
        struct report r;
        const struct reports_shape shape = {.n_ranks = 1,
                                            .result_rank = 0,
                                            .depth = 1,
                                            .max_segments = SEGMENTS,
                                            .n_holders = 1,
                                            .vocab = VOCAB,
                                            .n_layers = LAYERS};
        assert_int_equal(reports_create(&reports, &shape, NULL), STATUS_OK);
        reports_expect(reports, 1, scored, SEGMENTS, 1000);
        fill(&r, 1);
        r.done.n_results = 1;
        r.done.scores = list;
        r.done.n_scores = c == 1 ? 1 : 2;
        some.logits = logits;
        some.n_logits = c == 2 ? 2 : 3;
        some.log_sum_exps = sums;
        some.n_log_sum_exps = c == 3 ? 0 : 3;
        some.top_ids = top_ids;
        some.n_top_ids = c == 4 ? 6 : 3;
        some.top_logits = top_logits;
        some.n_top_logits = c == 5 ? 2 : 3;
        assert_int_equal(take(reports, 0, &r), c == 0 ? STATUS_OK : STATUS_PROTOCOL);
        struct error error;
        if (c == 0) {
            struct scores_row row = reports_scores(reports, 2, 1);
            assert_int_equal(scores_check(&row, &error), STATUS_OK); /* impossible, but a logit */
            assert_true(row.row.log_sum_exp == 6.0 && row.row.ids[0] == 7 && row.row.n == 1);
            row.logit = 4.5f; /* better than the best */
            assert_int_equal(scores_check(&row, &error), STATUS_PROTOCOL);
            row.logit = NAN;
            assert_int_equal(scores_check(&row, &error), STATUS_PROTOCOL);
            row = reports_scores(reports, 0, 0); /* it did not come */
            assert_int_equal(scores_check(&row, &error), STATUS_PROTOCOL);
        }
        reports_destroy(reports);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_counts_when_all_have_reported),
        cmocka_unit_test(test_figures_are_kept_by_rank_and_layer),
        cmocka_unit_test(test_reports_that_do_not_fit_are_refused),
        cmocka_unit_test(test_scores_are_kept_by_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
