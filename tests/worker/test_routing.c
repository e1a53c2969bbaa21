/* test_routing.c - who goes where: against the definition, and the parts of ranks make the
 * whole. */
#include "worker/routing.h"

#include "model/weights.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROWS = 70, MOST_EXPERTS = 160 };

/* Few different values, so that there are ties. */
static void fill(float *logits, size_t n, uint64_t seed, bool ties)
{
    struct random_state random;
    random_seed(&random, seed);
    for (size_t i = 0; i < n; i++)
        logits[i] = ties ? (float)random_below(&random, 4) - 1.5f : 3.0f * random_normal(&random);
}

/* How many experts of the row come before: larger ones, and equal ones with a lower index. */
static uint32_t rank_of(const float *logits, uint32_t n_experts, uint32_t expert)
{
    uint32_t rank = 0;
    for (uint32_t e = 0; e < n_experts; e++)
        rank += logits[e] > logits[expert] || (logits[e] == logits[expert] && e < expert);
    return rank;
}

/* The definition in double; 0: not chosen. */
static double weight_of(const float *logits, const struct routing_shape *s, uint32_t expert)
{
    double sum = 0;
    if (rank_of(logits, s->n_experts, expert) >= s->n_used)
        return 0;
    for (uint32_t e = 0; e < s->n_experts; e++)
        if (!s->normalise || rank_of(logits, s->n_experts, e) < s->n_used)
            sum += exp((double)logits[e]);
    return exp((double)logits[expert]) / sum;
}

static uint32_t group_begin(const struct routing *r, uint32_t group)
{
    return group > 0 ? r->end[group - 1] : 0;
}

/* Every pair is there once, groups ascend and rows within them, terms name the right pairs in the
 * order of experts, each in its range, with the right weight. */
static void check(const struct routing *r, const float *logits, uint32_t n_rows)
{
    const struct routing_shape *s = &r->shape;
    uint32_t expert_of[MOST_ROWS * MOST_EXPERTS], n_wanted = 0;
    for (uint32_t g = 0; g < r->n_groups; g++) {
        assert_true(r->end[g] > group_begin(r, g));
        assert_true(g == 0 || r->expert[g] > r->expert[g - 1]);
        assert_true(r->expert[g] < s->end - s->first);
        for (uint32_t i = group_begin(r, g); i < r->end[g]; i++) {
            assert_true(r->row[i] < n_rows);
            assert_true(i == group_begin(r, g) || r->row[i] > r->row[i - 1]);
            expert_of[i] = s->first + r->expert[g];
        }
    }
    assert_int_equal(r->n_pairs, r->n_groups > 0 ? r->end[r->n_groups - 1] : 0);
    uint32_t term = 0;
    for (uint32_t row = 0; row < n_rows; row++) {
        const float *of_row = logits + (size_t)row * s->n_experts;
        for (uint32_t e = s->first; e < s->end; e++) {
            const double wanted = weight_of(of_row, s, e);
            if (wanted == 0)
                continue;
            n_wanted++;
            const uint32_t range = (e - s->first) / r->range_experts;
            const uint32_t *end = r->terms.end + (size_t)row * r->terms.n_ranges;
            assert_true(term < end[range] && (range == 0 || term >= end[range - 1]));
            assert_int_equal(r->row[r->terms.row[term]], row);
            assert_int_equal(expert_of[r->terms.row[term]], e);
            /* an exponential, a sum of up to 160 and a division in f32 */
            assert_true(fabs((double)r->terms.weight[term] - wanted) <= 1e-5 * wanted);
            term++;
        }
        assert_int_equal(r->terms.end[(row + 1) * r->terms.n_ranges - 1], term);
    }
    assert_int_equal(n_wanted, r->n_pairs);
}

static void test_rows_go_to_their_largest(void **state)
{
    static const struct {
        uint32_t n_experts, n_used, first, end, n_ranges;
    } cases[] = {
        {8, 2, 0, 8, 8},      {8, 2, 4, 8, 4},      {128, 8, 0, 128, 8}, {128, 8, 32, 64, 2},
        {128, 8, 96, 112, 1}, {60, 4, 0, 60, 4},    {60, 4, 20, 40, 1},  {128, 8, 43, 86, 1},
        {7, 7, 0, 7, 1},      {160, 1, 80, 160, 4}, {8, 3, 2, 8, 1},     {16, 4, 2, 6, 1},
    };
    float *logits = malloc(MOST_ROWS * MOST_EXPERTS * sizeof(*logits));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (int kind = 0; kind < 4; kind++) {
            const struct routing_shape shape = {MOST_ROWS,      cases[i].n_experts, cases[i].n_used,
                                                cases[i].first, cases[i].end,       kind % 2 == 0};
            struct routing r;
            assert_int_equal(routing_open(&r, &shape, NULL), STATUS_OK);
            assert_int_equal(r.terms.n_ranges, cases[i].n_ranges);
            for (uint32_t n_rows = 0; n_rows <= MOST_ROWS; n_rows = 2 * n_rows + 1) {
                fill(logits, (size_t)n_rows * shape.n_experts, i * 100 + n_rows, kind / 2 != 0);
                routing_make(&r, logits, n_rows);
                check(&r, logits, n_rows);
            }
            routing_close(&r);
        }
    free(logits);
}

/* A rank's choices and weights are those of the whole, to the last bit. */
static void test_ranks_route_alike(void **state)
{
    enum { ROWS = 20, EXPERTS = 32, USED = 4, RANKS = 4 };
    float logits[ROWS * EXPERTS];
    struct routing whole, part[RANKS];
    uint32_t at[RANKS] = {0};
    struct routing_shape shape = {ROWS, EXPERTS, USED, 0, EXPERTS, true};
    fill(logits, ROWS * EXPERTS, 7, false);
    assert_int_equal(routing_open(&whole, &shape, NULL), STATUS_OK);
    routing_make(&whole, logits, ROWS);
    for (uint32_t i = 0; i < RANKS; i++) {
        shape.first = EXPERTS / RANKS * i;
        shape.end = EXPERTS / RANKS * (i + 1);
        assert_int_equal(routing_open(&part[i], &shape, NULL), STATUS_OK);
        routing_make(&part[i], logits, ROWS);
    }
    const uint32_t n_ranges = whole.terms.n_ranges, each = n_ranges / RANKS;
    for (uint32_t row = 0, term = 0; row < ROWS; row++)
        for (uint32_t range = 0; range < n_ranges; range++) {
            const struct routing *p = &part[range / each];
            uint32_t *next = &at[range / each];
            for (; term < whole.terms.end[row * n_ranges + range]; term++, (*next)++)
                assert_memory_equal(&p->terms.weight[*next], &whole.terms.weight[term],
                                    sizeof(float));
            assert_int_equal(*next, p->terms.end[row * each + range % each]);
        }
    for (uint32_t i = 0; i < RANKS; i++)
        routing_close(&part[i]);
    routing_close(&whole);
}

/* A failed segment's rows may hold anything: as many valid, different experts as otherwise. */
static void test_numbers_that_are_none_choose_valid_experts(void **state)
{
    enum { ROWS = 40, EXPERTS = 9, USED = 4 };
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f};
    const struct routing_shape shape = {ROWS, EXPERTS, USED, 0, EXPERTS, true};
    float logits[ROWS * EXPERTS];
    struct random_state random;
    struct routing r;
    random_seed(&random, 3);
    for (size_t i = 0; i < ROWS * EXPERTS; i++)
        logits[i] = odd[random_below(&random, i / EXPERTS % 2 == 0 ? 1 : 6)];
    assert_int_equal(routing_open(&r, &shape, NULL), STATUS_OK);
    routing_make(&r, logits, ROWS);
    assert_int_equal(r.n_pairs, ROWS * USED);
    for (uint32_t g = 0; g < r.n_groups; g++)
        for (uint32_t i = group_begin(&r, g) + 1; i < r.end[g]; i++)
            assert_true(r.row[i] > r.row[i - 1]);
    routing_close(&r);
}

static void test_ranges_are_a_power_of_two_that_divides(void **state)
{
    static const uint32_t wanted[][2] = {{8, 8}, {16, 8},  {60, 4}, {6, 2},
                                         {7, 1}, {128, 8}, {1, 1}};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        assert_int_equal(weights_expert_ranges(wanted[i][0]), wanted[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_go_to_their_largest),
        cmocka_unit_test(test_ranks_route_alike),
        cmocka_unit_test(test_numbers_that_are_none_choose_valid_experts),
        cmocka_unit_test(test_ranges_are_a_power_of_two_that_divides),
    };
    return cmocka_run_group_tests_name("worker/routing", tests, NULL, NULL);
}
