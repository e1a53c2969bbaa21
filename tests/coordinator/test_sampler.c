/* test_sampler.c - cuts and draws are what their definitions say, and a seed means the same ids on
 * every host. */
#include "coordinator/sampler.h"

#include "tests/cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 1000, DRAWS = 20000 };

/* A row of logits, and what the workers make of it. */
struct row {
    float logits[VOCAB];
    int32_t ids[VOCAB];
    float sorted[VOCAB];
    uint32_t scratch[VOCAB];
    double log_sum_exp;
    uint32_t vocab;
};

static int by_logit(const void *a, const void *b, void *row)
{
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    const float *logits = row;
    return logits[i] > logits[j] ? -1 : logits[i] < logits[j] ? 1 : i - j;
}

static void finish(struct row *row, uint32_t vocab)
{
    double sum = 0.0;
    row->vocab = vocab;
    for (uint32_t i = 0; i < vocab; i++) {
        row->ids[i] = (int32_t)i;
        sum += exp((double)row->logits[i]);
    }
    row->log_sum_exp = log(sum);
    qsort_r(row->ids, vocab, sizeof(row->ids[0]), by_logit, row->logits);
    for (uint32_t i = 0; i < vocab; i++)
        row->sorted[i] = row->logits[row->ids[i]];
}

static void fill(struct row *row, uint32_t vocab, uint64_t seed)
{
    struct random_state random;
    random_seed(&random, seed);
    for (uint32_t i = 0; i < vocab; i++)
        row->logits[i] = 3.0f * random_normal(&random);
    finish(row, vocab);
}

static struct sampler_row view(const struct row *row, uint32_t n, bool whole)
{
    return (struct sampler_row){.ids = row->ids,
                                .logits = row->sorted,
                                .n = n,
                                .log_sum_exp = row->log_sum_exp,
                                .row = whole ? row->logits : NULL,
                                .vocab = row->vocab};
}

static void test_greedy_takes_the_lowest_id_of_the_best(void **state)
{
    static struct row row;
    fill(&row, 100, 1);
    row.logits[70] = row.logits[30] = row.logits[90] = 20.0f;
    finish(&row, 100);
    const struct sampler_settings greedy = {.temperature = 0.0f, .seed = 9};
    struct sampler sampler;
    sampler_start(&sampler, &greedy);
    assert_int_equal(sampler_candidates(&greedy, 0, 100), 1);
    assert_int_equal(sampler_candidates(&greedy, 5, 100), 5);
    assert_false(sampler_needs_row(&greedy));
    const struct sampler_row one = view(&row, 1, false);
    float logprob;
    assert_int_equal(sampler_take(&sampler, &one, NULL, &logprob), 30);
    assert_true(fabs((double)logprob - (20.0 - row.log_sum_exp)) < 1e-5);
}

/* What remains after the cuts, in plain double precision. */
static void expected(const struct row *row, const struct sampler_settings *s, double *p)
{
    uint32_t n = s->top_k > 0 && s->top_k < row->vocab ? s->top_k : row->vocab;
    memset(p, 0, VOCAB * sizeof(*p));
    double total = 0.0, sum = 0.0;
    for (uint32_t i = 0; i < n; i++)
        total += exp((double)row->sorted[i] - (double)row->sorted[0]);
    if (s->top_p > 0.0f && s->top_p < 1.0f) {
        uint32_t kept = 0;
        while (kept < n && (kept == 0 || sum < (double)s->top_p * total))
            sum += exp((double)row->sorted[kept++] - (double)row->sorted[0]);
        n = kept;
    }
    total = 0.0;
    for (uint32_t i = 0; i < n; i++)
        if (exp((double)row->sorted[i] - (double)row->sorted[0]) >= (double)s->min_p)
            total += p[row->ids[i]] =
                exp(((double)row->sorted[i] - (double)row->sorted[0]) / (double)s->temperature);
    for (uint32_t i = 0; i < row->vocab; i++)
        p[i] /= total;
}

static void check_distribution(const struct row *row, const struct sampler_settings *settings)
{
    static double p[VOCAB];
    static uint32_t counts[VOCAB];
    expected(row, settings, p);
    memset(counts, 0, sizeof(counts));
    struct sampler sampler;
    sampler_start(&sampler, settings);
    const bool whole = sampler_needs_row(settings);
    const struct sampler_row from = view(row, sampler_candidates(settings, 0, row->vocab), whole);
    assert_int_equal(sampler_row_check(&from, from.n, NULL), STATUS_OK);
    static uint32_t scratch[VOCAB];
    for (int i = 0; i < DRAWS; i++) {
        float logprob;
        const int32_t id = sampler_take(&sampler, &from, scratch, &logprob);
        assert_in_range(id, 0, row->vocab - 1);
        /* of the model, whatever temperature and cuts */
        assert_true(fabs((double)logprob - ((double)row->logits[id] - row->log_sum_exp)) < 1e-5);
        counts[id]++;
    }
    for (uint32_t i = 0; i < row->vocab; i++) {
        if (p[i] == 0.0)
            assert_int_equal(counts[i], 0); /* cut away */
        const double deviation = sqrt(p[i] * (1.0 - p[i]) / DRAWS);
        /* five standard deviations: one false alarm in a million rows */
        assert_true(fabs((double)counts[i] / DRAWS - p[i]) <= 5.0 * deviation + 1e-4);
    }
}

static void test_draws_follow_the_distribution(void **state)
{
    static struct row row;
    static const struct sampler_settings cases[] = {
        {.temperature = 1.0f, .top_p = 1.0f, .seed = 1},
        {.temperature = 0.7f, .top_p = 1.0f, .seed = 2},
        {.temperature = 2.0f, .top_k = 5, .top_p = 1.0f, .seed = 3},
        {.temperature = 1.0f, .top_k = 40, .top_p = 0.8f, .seed = 4},
        {.temperature = 1.0f, .top_p = 0.5f, .seed = 5},
        {.temperature = 1.5f, .top_p = 1.0f, .min_p = 0.1f, .seed = 6},
        {.temperature = 1.2f, .top_k = 20, .top_p = 0.9f, .min_p = 0.05f, .seed = 7},
        {.temperature = 1.0f, .top_p = 0.0f, .seed = 8}, /* the field left out: no cut */
        {.temperature = 0.01f, .top_p = 1.0f, .seed = 9},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fill(&row, 30, 100 + i);
        check_distribution(&row, &cases[i]);
    }
}

/* Exactly these, on every host and compiler: found once, they may never change by accident. */
static void test_golden_ids_of_seeds(void **state)
{
    static struct row row;
    struct random_state random; /* no libm in the logits either: multiples of 1/16 */
    random_seed(&random, 42);
    for (uint32_t i = 0; i < VOCAB; i++)
        row.logits[i] = (float)((int64_t)random_below(&random, 161) - 80) / 16.0f;
    finish(&row, VOCAB);
    static const struct {
        struct sampler_settings settings;
        int32_t ids[8];
    } cases[] = {
        {{.temperature = 1.0f, .top_p = 1.0f, .seed = 0}, {582, 743, 85, 444, 731, 997, 458, 526}},
        {{.temperature = 1.0f, .top_p = 1.0f, .seed = 1}, {686, 518, 559, 414, 681, 114, 52, 399}},
        {{.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .seed = 1},
         {270, 31, 416, 290, 270, 89, 658, 290}},
        {{.temperature = 1.3f, .top_p = 0.3f, .seed = 123456789},
         {467, 629, 658, 220, 629, 31, 290, 255}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sampler sampler;
        sampler_start(&sampler, &cases[i].settings);
        const struct sampler_row from = view(&row, sampler_candidates(&cases[i].settings, 0, VOCAB),
                                             sampler_needs_row(&cases[i].settings));
        for (int j = 0; j < 8; j++) {
            float logprob;
            assert_int_equal(sampler_take(&sampler, &from, row.scratch, &logprob), cases[i].ids[j]);
        }
    }
}

/* Where the cuts leave fewer than the candidates, candidates and the whole row give the same. */
static void test_candidates_suffice(void **state)
{
    static struct row row;
    fill(&row, VOCAB, 3);
    const struct sampler_settings settings = {
        .temperature = 0.9f, .top_k = 50, .top_p = 0.9f, .seed = 77};
    const struct sampler_row few = view(&row, 50, false), more = view(&row, 64, true);
    struct sampler a, b;
    sampler_start(&a, &settings);
    sampler_start(&b, &settings);
    for (int i = 0; i < 200; i++) {
        float x, y;
        assert_int_equal(sampler_take(&a, &few, NULL, &x), sampler_take(&b, &more, NULL, &y));
        assert_true(x == y);
    }
}

static void test_settings_out_of_range_are_refused(void **state)
{
    static const struct sampler_settings bad[] = {
        {.temperature = -1.0f}, {.temperature = NAN}, {.temperature = INFINITY},
        {.top_p = 1.5f},        {.top_p = -0.1f},     {.top_p = NAN},
        {.min_p = 2.0f},        {.min_p = NAN},       {.top_k = SAMPLER_MAX_TOP_K + 1},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sampler_check(&bad[i], NULL), STATUS_INVALID);
    const struct sampler_settings good = {.temperature = 1.0f, .top_k = 1024, .top_p = 1.0f};
    assert_int_equal(sampler_check(&good, NULL), STATUS_OK);
}

static void test_rows_of_a_peer_are_checked(void **state)
{
    static struct row row;
    struct sampler_row r;
    fill(&row, 20, 5);
    r = view(&row, 8, true);
    assert_int_equal(sampler_row_check(&r, 8, NULL), STATUS_OK);
    assert_int_equal(sampler_row_check(&r, 9, NULL), STATUS_PROTOCOL);
    r.log_sum_exp = (double)NAN;
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_FAILED);
    row.sorted[3] = NAN;
    r = view(&row, 8, false);
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_FAILED);
    finish(&row, 20);
    row.ids[2] = 20;
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_PROTOCOL);
    row.ids[2] = -1;
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_PROTOCOL);
    finish(&row, 20);
    row.ids[1] = row.ids[0]; /* the same id and logit twice */
    row.sorted[1] = row.sorted[0];
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_PROTOCOL);
    finish(&row, 20);
    row.logits[7] = NAN;
    r = view(&row, 8, true);
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_FAILED);
    row.logits[7] = row.sorted[0] + 1.0f; /* better than the best */
    assert_int_equal(sampler_row_check(&r, 1, NULL), STATUS_PROTOCOL);
    r = view(&row, 0, false);
    assert_int_equal(sampler_row_check(&r, 0, NULL), STATUS_PROTOCOL);
}

/* -inf for most of the vocabulary, and one token only: no NaN, no walk past the end. */
static void test_a_row_of_one_possible_token(void **state)
{
    static struct row row;
    for (int i = 0; i < 10; i++)
        row.logits[i] = -INFINITY;
    row.logits[4] = -3.0f;
    finish(&row, 10);
    const struct sampler_settings settings = {.temperature = 5.0f, .top_p = 0.9f, .seed = 1};
    struct sampler sampler;
    sampler_start(&sampler, &settings);
    const struct sampler_row from = view(&row, 1, true);
    assert_int_equal(sampler_row_check(&from, 1, NULL), STATUS_OK);
    for (int i = 0; i < 100; i++) {
        float logprob;
        assert_int_equal(sampler_take(&sampler, &from, row.scratch, &logprob), 4);
        assert_true(fabsf(logprob) < 1e-6f);
    }
}

/* An adjusted row is sampled as a row with these logits would be, by candidates or not; what is
 * reported is still the model's. */
static void test_an_adjusted_row_is_what_is_sampled(void **state)
{
    static struct row row, changed;
    for (uint64_t seed = 0; seed < 50; seed++) {
        fill(&row, 300, seed);
        changed = row;
        for (uint32_t i = 0; i < 300; i += 3)
            changed.logits[i] -= 4.0f;
        changed.logits[7] = -INFINITY;
        finish(&changed, 300);
        struct sampler_row from = view(&row, 1, true), same = view(&changed, 64, true);
        from.adjusted = changed.logits;
        const struct sampler_settings all[] = {
            {.temperature = 0.0f, .adjusts = true},
            {.temperature = 0.9f, .top_k = 20, .seed = seed, .adjusts = true},
            {.temperature = 1.2f, .top_p = 0.8f, .min_p = 0.01f, .seed = seed, .adjusts = true}};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            struct sampler_settings plain = all[i];
            struct sampler a, b;
            float logprob, other;
            plain.adjusts = false;
            sampler_start(&a, &all[i]);
            sampler_start(&b, &plain);
            assert_true(sampler_needs_row(&all[i]));
            assert_int_equal(sampler_candidates(&all[i], 0, 300), 1);
            for (int n = 0; n < 20; n++) {
                const int32_t id = sampler_take(&a, &from, row.scratch, &logprob);
                assert_int_equal(id, sampler_take(&b, &same, changed.scratch, &other));
                assert_true(id != 7);
                assert_true(fabs((double)logprob - ((double)row.logits[id] - row.log_sum_exp)) <
                            1e-6); /* one rounding to float */
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_id_of_the_best),
        cmocka_unit_test(test_draws_follow_the_distribution),
        cmocka_unit_test(test_golden_ids_of_seeds),
        cmocka_unit_test(test_candidates_suffice),
        cmocka_unit_test(test_settings_out_of_range_are_refused),
        cmocka_unit_test(test_rows_of_a_peer_are_checked),
        cmocka_unit_test(test_a_row_of_one_possible_token),
        cmocka_unit_test(test_an_adjusted_row_is_what_is_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
