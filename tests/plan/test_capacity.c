/* test_capacity.c - what fits is what the holders have room for, and what does not is told with the
 * number that would. */
#include "plan/capacity.h"

#include "kernels/attention/kv_holder.h"
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

#include <string.h>

enum { KV_BYTES = 2 * 2 * 2 * 16 * 2 }; /* of a token: K and V, layers, KV heads, head_dim, f16 */

static void open_small(struct capacity *c, const struct small_model *m,
                       const struct capacity_options *options)
{
    struct model_file *file = small_model_open(m);
    struct error error = {0};
    if (capacity_open(c, options, &m->h, file, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    model_close(file);
    for (uint32_t i = 0; i < options->workers; i++)
        c->ranks[i].host = "here";
}

static void expect_failure(const struct capacity *c, const char *text)
{
    uint32_t max_tokens = 7;
    struct error error = {0};
    assert_int_equal(capacity_settle(c, &max_tokens, &error), STATUS_EXHAUSTED);
    assert_string_equal(error.text, text);
    assert_int_equal(max_tokens, 7);
}

static void test_nodes_add_up(void **state)
{
    struct capacity c;
    uint32_t max_tokens = 0;
    open_small(&c, &small_model,
               &(struct capacity_options){
                   .workers = 1, .nodes = 2, .tensor = 1, .chunk = 512, .kv_type = KV_F16});
    c.nodes[0].kv_bytes = 3 * PAGE_TOKENS * KV_BYTES + 5; /* a part of a page is none */
    c.nodes[1].kv_bytes = PAGE_TOKENS * KV_BYTES;
    assert_int_equal(capacity_n_holders(&c), 2);
    assert_int_equal(capacity_holder_units(&c, 0), 3);
    assert_int_equal(capacity_all_tokens(&c), 4 * PAGE_TOKENS);
    assert_int_equal(capacity_sequence_bytes(&c, PAGE_TOKENS + 1), 2 * PAGE_TOKENS * KV_BYTES);
    assert_int_equal(capacity_settle(&c, &max_tokens, NULL), STATUS_OK);
    assert_int_equal(max_tokens, 4 * PAGE_TOKENS); /* less than it was trained for */
    c.options.ctx = 100;
    assert_int_equal(capacity_settle(&c, &max_tokens, NULL), STATUS_OK);
    assert_int_equal(max_tokens, 100);
    c.options.ctx = 1025;
    expect_failure(&c, "--ctx 1025 needs 320 KiB of KV cache (f16, 256 bytes per token), the KV "
                       "holders have 256 KiB: --ctx 1024 would fit, or raise --memory of the "
                       "attention nodes");
    c.nodes[0].kv_bytes = c.nodes[1].kv_bytes = 100;
    expect_failure(&c, "the KV holders have no memory for even one page: 64.0 KiB for 256 tokens; "
                       "raise --memory of the attention nodes");
    capacity_close(&c);
}

/* Without nodes the rank with the least room counts: here the one whose weights leave the least. */
static void test_ranks_hold_the_same_tokens(void **state)
{
    struct capacity c;
    uint32_t max_tokens = 0;
    open_small(&c, &small_model,
               &(struct capacity_options){
                   .workers = 2, .pipeline = 2, .tensor = 1, .chunk = 512, .kv_type = KV_F16});
    const uint64_t weights[2] = {c.ranks[0].cost.weight_bytes, c.ranks[1].cost.weight_bytes};
    assert_int_equal(capacity_n_holders(&c), 1);
    assert_int_equal(capacity_settle(&c, &max_tokens, NULL), STATUS_OK); /* nobody has said */
    assert_int_equal(max_tokens, small_model.h.context_train);

    const uint64_t page = PAGE_TOKENS * KV_BYTES / 2; /* on one rank */
    c.ranks[0].memory_bytes = weights[0] + 10 * page;
    c.ranks[1].memory_bytes = weights[1] + 5 * page; /* of which a holder takes 80% */
    assert_int_equal(capacity_holder_units(&c, 0), 4);
    c.options.kv_memory = 3 * page;
    assert_int_equal(capacity_holder_units(&c, 0), 3);
    c.ranks[0].kv_bytes = 2 * page; /* what is there counts */
    c.ranks[1].kv_bytes = 7 * page;
    assert_int_equal(capacity_holder_units(&c, 0), 2);

    c.ranks[1].memory_bytes = weights[1] - 1;
    struct error error = {0};
    assert_int_equal(capacity_settle(&c, &max_tokens, &error), STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "worker 1 (here) has "));
    assert_non_null(strstr(error.text, "its weights need "));
    capacity_close(&c);
}

/* One of two layers sees 256 tokens: it keeps them and a chunk, however long the sequence is. */
static void test_windows_make_sequences_cheaper(void **state)
{
    struct small_model m = small_model_of(ARCHITECTURE_GEMMA2);
    struct capacity c;
    m.h.context_train = 1 << 20;
    m.h.window = 256;
    m.h.window_period = 2;
    open_small(&c, &m,
               &(struct capacity_options){
                   .workers = 1, .nodes = 1, .tensor = 1, .chunk = 256, .kv_type = KV_F16});
    assert_non_null(c.windows);
    c.nodes[0].kv_bytes = 1 << 20;
    const uint64_t units = (1 << 20) / c.unit_bytes, pages = c.cost.windows[0].pages;
    assert_int_equal(c.unit_bytes, PAGE_TOKENS * KV_BYTES / 2);
    assert_int_equal(capacity_all_tokens(&c), (units - pages) * PAGE_TOKENS);
    c.options.ctx = 1 << 19;
    struct error error = {0};
    uint32_t max_tokens;
    assert_int_equal(capacity_settle(&c, &max_tokens, &error), STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "layers with a sliding window"));
    capacity_close(&c);
}

static void test_impossible_plans_are_refused(void **state)
{
    struct model_file *file = small_model_open(&small_model);
    struct capacity c;
    struct error error = {0};
    assert_int_equal(
        capacity_open(&c, &(struct capacity_options){.workers = 3, .tensor = 3, .chunk = 1},
                      &small_model.h, file, &error),
        STATUS_INVALID);
    assert_string_equal(error.text, "tensor 3: the model has 2 KV heads; possible: 1, 2");
    capacity_close(&c);
    capacity_close(&c);
    model_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_add_up),
        cmocka_unit_test(test_ranks_hold_the_same_tokens),
        cmocka_unit_test(test_windows_make_sequences_cheaper),
        cmocka_unit_test(test_impossible_plans_are_refused),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
