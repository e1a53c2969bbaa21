/* test_estimate.c - times by hand of small cases: what bounds a step, and what is not known stays
 * so. */
#include "plan/estimate.h"

#include "tests/cmocka.h"
#include "tests/model/small_model.h"

#include <math.h>
#include <string.h>

enum { STRIPE = 4096, TOKEN_BYTES = 2 * 2 * 2 * 16 * 2 }; /* K and V, layers, KV heads, dims, f16 */

static const struct step_limit_machine fast_reader = {1e6, INFINITY, INFINITY, INFINITY};

/* The small model over some ranks and nodes, each on a host of its own; all read a megabyte a
 * second. */
struct small_cluster {
    struct capacity capacity;
    struct estimate_process ranks[4], nodes[4];
    struct estimate_host hosts[9];
    double shares[4];
    struct estimate_cluster estimate;
};

static void open_cluster(struct small_cluster *c, const struct small_model *m, uint32_t pipeline,
                         uint32_t tensor, uint32_t n_nodes)
{
    struct model_file *file = small_model_open(m);
    const struct capacity_options options = {.workers = pipeline * tensor,
                                             .nodes = n_nodes,
                                             .pipeline = pipeline,
                                             .tensor = tensor,
                                             .chunk = 512,
                                             .kv_type = KV_F16};
    assert_int_equal(capacity_open(&c->capacity, &options, &m->h, file, NULL), STATUS_OK);
    model_close(file);
    for (uint32_t i = 0; i < 4; i++) {
        c->ranks[i] = (struct estimate_process){.machine = fast_reader, .host = 1 + i};
        c->nodes[i] = (struct estimate_process){.machine = fast_reader, .host = 5 + i};
        c->shares[i] = n_nodes > 0 ? 1.0 / n_nodes : 0;
    }
    for (uint32_t i = 0; i < 9; i++)
        c->hosts[i] = (struct estimate_host){1e9, 0.002};
    c->estimate = (struct estimate_cluster){.capacity = &c->capacity,
                                            .hparams = &m->h,
                                            .ranks = c->ranks,
                                            .nodes = c->nodes,
                                            .shares = c->shares,
                                            .hosts = c->hosts,
                                            .stripe = STRIPE};
}

static void near_to(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-9 * fabs(expected) + 1e-15))
        fail_msg("%.12g is not %.12g", value, expected);
}

static void test_one_rank_reads_weights_and_cache(void **state)
{
    struct small_cluster c;
    open_cluster(&c, &small_model, 1, 1, 0);
    c.ranks[0].host = 0; /* the coordinator's */
    const double weights = (double)c.capacity.ranks[0].cost.read_bytes / 1e6;
    struct estimate_time time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL);
    near_to(time.weights_s, weights);
    near_to(time.kv_s, 1000 * TOKEN_BYTES / 1e6);
    near_to(time.links_s, 0);
    struct estimate_time expected = estimate_decode(&c.estimate, ESTIMATE_EXPECTED, 1, 1000, NULL);
    near_to(estimate_sum(&expected), estimate_sum(&time) / estimate_reached(false, false).read);
    near_to(estimate_rank(&c.estimate, 0, 1000), time.weights_s + time.kv_s);
    time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 4, 1000,
                           NULL); /* weights once, four caches */
    near_to(time.weights_s, weights);
    near_to(time.kv_s, 4 * 1000 * TOKEN_BYTES / 1e6);
    expected = estimate_decode(&c.estimate, ESTIMATE_EXPECTED, 4, 1000, NULL);
    near_to(estimate_decode_rate(&c.estimate, 4, 1000), 4 / estimate_sum(&expected));
    capacity_close(&c.capacity);
}

/* Eight stripes over two nodes, of which one has three quarters. */
static void test_the_slowest_node_counts(void **state)
{
    struct small_cluster c;
    open_cluster(&c, &small_model, 1, 1, 2);
    c.shares[0] = 0.75;
    c.shares[1] = 0.25;
    c.nodes[0].machine.read_bytes_per_s = 6e6;
    const double stripe_bytes = (double)STRIPE * TOKEN_BYTES;
    near_to(estimate_node(&c.estimate, 0, 8 * STRIPE), 6 * stripe_bytes / 6e6);
    near_to(estimate_node(&c.estimate, 1, 8 * STRIPE), 2 * stripe_bytes / 1e6);
    struct estimate_time time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 8 * STRIPE, NULL);
    near_to(time.kv_s, 2 * stripe_bytes / 1e6);
    /* A sequence of one stripe is all at one of them: the slower one, to be safe. */
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, STRIPE, NULL).kv_s,
            stripe_bytes / 1e6);
    /* Where arithmetic takes longer than reading, it counts: 8 rows' worth of 4 heads of 16, twice
     * two. */
    c.nodes[1].machine.f32_per_s = 1e6;
    time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 8 * STRIPE, NULL);
    near_to(time.kv_s, 2.0 * STRIPE * 2 * 4 * 4 * 16 / 1e6);
    capacity_close(&c.capacity);
}

static void test_messages_cross_links(void **state)
{
    struct small_cluster c;
    /* Two layers, each a round trip of a query and a partial, beside the step and its result. */
    open_cluster(&c, &small_model, 1, 1, 1);
    const struct estimate_exchange x = estimate_exchange(&c.estimate, 0, 1000);
    near_to(x.query, 4 * 16 * 4);
    near_to(x.answer, 4 * (16 + 2) * 4);
    near_to(x.append, 2 * 2 * 16 * 2);
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL).links_s,
            0.002 + 2 * (0.002 + (x.query + x.answer) / 1e9));
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 0, NULL).links_s,
            0.002); /* nobody to ask */
    c.nodes[0].host = c.ranks[0].host;
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL).links_s, 0.002);
    c.ranks[0].host = c.nodes[0].host = 0;
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL).links_s, 0);
    capacity_close(&c.capacity);
    /* Between two stages one row. */
    open_cluster(&c, &small_model, 2, 1, 0);
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 0, NULL).links_s,
            0.003 + 64 * 4 / 1e9);
    capacity_close(&c.capacity);
    /* Among two shards two sums a layer, each half a round trip. */
    open_cluster(&c, &small_model, 1, 2, 0);
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 0, NULL).links_s,
            0.002 + 4 * (0.001 + 64 * 4 / 1e9));
    c.hosts[2].round_trip_s = 0.01; /* the slower host's */
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 0, NULL).links_s,
            0.002 + 4 * (0.005 + 64 * 4 / 1e9));
    capacity_close(&c.capacity);
}

/* Several stages are full with several sequences: the slowest one limits them. */
static void test_the_slowest_stage_limits_many(void **state)
{
    struct small_cluster c;
    struct estimate_time slowest;
    open_cluster(&c, &small_model, 2, 1, 0);
    c.ranks[1].machine.read_bytes_per_s = 1e5;
    for (uint32_t i = 0; i < 2; i++)
        c.ranks[i].host = 0;
    struct estimate_time time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 0, &slowest);
    near_to(slowest.weights_s, (double)c.capacity.ranks[1].cost.read_bytes / 1e5);
    time = estimate_decode(&c.estimate, ESTIMATE_EXPECTED, 1, 0, &slowest);
    near_to(estimate_decode_rate(&c.estimate, 1, 0), 1 / estimate_sum(&time));
    near_to(estimate_decode_rate(&c.estimate, 2, 0), 2 / (2 * estimate_sum(&slowest)));
    capacity_close(&c.capacity);
}

static void test_layers_with_a_window_read_that_much(void **state)
{
    struct small_cluster c;
    struct small_model m = small_model_of(ARCHITECTURE_GEMMA2);
    m.h.window = 256;
    m.h.window_period = 2;
    open_cluster(&c, &m, 1, 1, 0);
    c.ranks[0].host = 0;
    near_to(estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL).kv_s,
            (1000 + 256) * TOKEN_BYTES / 2 / 1e6);
    capacity_close(&c.capacity);
}

static void test_prompts_are_arithmetic(void **state)
{
    struct small_cluster c;
    open_cluster(&c, &small_model, 1, 1, 0);
    c.ranks[0].host = 0;
    assert_true(isnan(estimate_prefill(&c.estimate, 512)));
    assert_true(isnan(estimate_prefill_rate(&c.estimate, 0)));
    c.ranks[0].machine = (struct step_limit_machine){1e12, 1e6, 1e6, 1e6};
    const double products = 512 * c.capacity.ranks[0].cost.rows.f32;
    const double own =
        512.0 * 256 * 4 * 4 * 16; /* rows, half of them seen, heads; one layer of two */
    const struct estimate_reach reach = estimate_reached(false, true);
    const double itself = products / 1e6 / reach.floats + own / 1e6 / reach.attend;
    near_to(estimate_prefill(&c.estimate, 512), itself);
    near_to(512 / estimate_prefill_rate(&c.estimate, 1000),
            itself + 512.0 * 1000 * 4 * 4 * 16 / 1e6 / reach.attend);
    assert_true(estimate_prefill(&c.estimate, 2048) > 4 * estimate_prefill(&c.estimate, 512));
    capacity_close(&c.capacity);
}

/* A layer costs time of its own, and nothing at best. */
static void test_a_gpu_reaches_less(void **state)
{
    const struct estimate_reach reach = estimate_reached(true, false);
    struct small_cluster c;
    open_cluster(&c, &small_model, 1, 1, 0);
    c.ranks[0].host = 0;
    c.ranks[0].gpu = true;
    const struct estimate_time best = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL);
    const struct estimate_time time =
        estimate_decode(&c.estimate, ESTIMATE_EXPECTED, 1, 1000, NULL);
    near_to(best.weights_s, (double)c.capacity.ranks[0].cost.read_bytes / 1e6);
    near_to(time.weights_s, best.weights_s / reach.read + 2 * reach.layer_s);
    near_to(time.kv_s, best.kv_s / reach.read);
    capacity_close(&c.capacity);
}

static void test_what_is_not_known_stays_so(void **state)
{
    struct small_cluster c;
    open_cluster(&c, &small_model, 2, 1, 1);
    struct estimate_time time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL);
    assert_false(isnan(estimate_sum(&time)));
    c.nodes[0].machine.read_bytes_per_s = NAN;
    time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL);
    assert_true(isnan(time.kv_s) && !isnan(time.weights_s) && !isnan(time.links_s));
    assert_true(isnan(estimate_break_even(&c.estimate)));
    c.hosts[2].round_trip_s = NAN;
    time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL);
    assert_true(isnan(time.links_s) && !isnan(time.weights_s));
    c.ranks[1].machine.read_bytes_per_s = NAN;
    time = estimate_decode(&c.estimate, ESTIMATE_AT_BEST, 1, 1000, NULL);
    assert_true(isnan(time.weights_s) && isnan(estimate_sum(&time)));
    capacity_close(&c.capacity);
}

/* Two nodes read twice as fast as the rank: half of the time is saved, links cost some. */
static void test_break_even(void **state)
{
    struct small_cluster c;
    open_cluster(&c, &small_model, 1, 1, 2);
    const double even = estimate_break_even(&c.estimate);
    assert_true(even > 1000 && even < 1e7);
    struct capacity local = c.capacity;
    struct estimate_cluster without = c.estimate;
    local.options.nodes = 0;
    without.capacity = &local;
    for (int side = 0; side < 2; side++) { /* a little before it, a little behind */
        const uint64_t depth = (uint64_t)(even * (side == 0 ? 0.6 : 1.6));
        const struct estimate_time with =
            estimate_decode(&c.estimate, ESTIMATE_EXPECTED, 1, depth, NULL);
        const struct estimate_time alone =
            estimate_decode(&without, ESTIMATE_EXPECTED, 1, depth, NULL);
        assert_int_equal(estimate_sum(&with) < estimate_sum(&alone), side);
    }
    c.nodes[1].machine.read_bytes_per_s = 1e5;
    assert_true(isinf(estimate_break_even(&c.estimate)));
    for (uint32_t i = 0; i < 2; i++) {
        c.nodes[i].machine.read_bytes_per_s = 1e7;
        c.nodes[i].host = 1; /* with the rank */
    }
    near_to(estimate_break_even(&c.estimate), 0);
    capacity_close(&c.capacity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_rank_reads_weights_and_cache),
        cmocka_unit_test(test_the_slowest_node_counts),
        cmocka_unit_test(test_messages_cross_links),
        cmocka_unit_test(test_the_slowest_stage_limits_many),
        cmocka_unit_test(test_layers_with_a_window_read_that_much),
        cmocka_unit_test(test_prompts_are_arithmetic),
        cmocka_unit_test(test_a_gpu_reaches_less),
        cmocka_unit_test(test_what_is_not_known_stays_so),
        cmocka_unit_test(test_break_even),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
