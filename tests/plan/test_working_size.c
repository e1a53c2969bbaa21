/* test_working_size.c - bytes by hand: activations, experts, open tiles; and what has no size. */
#include "plan/working_size.h"

#include "kernels/attention/attend.h"
#include "plan/expert_size.h"
#include "tests/cmocka.h"

enum { FLOAT = sizeof(float), ROWS = 384, SEQUENCES = 3, LAYERS = 5 };

static const struct hparams dense = {
    .hidden = 64, .n_heads = 8, .n_kv_heads = 4, .head_dim = 32, .ffn = 160};
static const struct hparams with_experts = {.hidden = 64,
                                            .n_heads = 8,
                                            .n_kv_heads = 4,
                                            .head_dim = 32,
                                            .n_experts = 16,
                                            .n_experts_used = 4,
                                            .ffn_expert = 48};
static const struct working_limits limits = {ROWS, SEQUENCES, KV_F32};

/* K and V of a tile in f32, of each layer and of two KV heads. */
enum { TILES = SEQUENCES * LAYERS * 2 * (2 * TILE_TOKENS * 32 * FLOAT) };

/* Half of the heads and of the columns: 128 columns of queries, 64 of keys. Rows go through the
 * feed-forward part in two blocks of 192, which need less than attention. */
static void test_a_dense_rank(void **state)
{
    const struct shard_part part = {.kv_head_begin = 2, .kv_head_end = 4, .ffn_end = 80};
    const uint64_t stream = ROWS * 64, between = ROWS * 128, within = ROWS * (128 + 2 * 64);
    assert_int_equal(working_size_of(&dense, &part, LAYERS, true, &limits),
                     (stream + between + within) * FLOAT + TILES);
    assert_int_equal(working_size_of(&dense, &part, LAYERS, false, &limits),
                     (2 * stream + between + within) * FLOAT + TILES);
}

/* Of a rank with more experts than a row uses, and with fewer. */
static void test_a_rank_with_experts(void **state)
{
    struct shard_part part = {.kv_head_begin = 2, .kv_head_end = 4, .expert_end = 8};
    const uint64_t rows = ROWS * (64 + 128 + 128 + 2 * 64), logits = ROWS * 16, block = 256 * 48;
    assert_int_equal(working_size_of(&with_experts, &part, LAYERS, true, &limits),
                     (rows + logits + ROWS * 4 * 64 + 2 * block) * FLOAT + TILES);
    part.expert_end = 3;
    assert_int_equal(working_size_of(&with_experts, &part, LAYERS, true, &limits),
                     (rows + logits + ROWS * 3 * 64 + 2 * block) * FLOAT + TILES);
}

static void test_few_pairs_are_one_block(void **state)
{
    const struct expert_shape shape = {5, 16, 2, 8, 64, 48};
    struct expert_size size;
    assert_true(expert_size_of(&size, &shape));
    assert_int_equal(size.most_pairs, 10);
    assert_int_equal(size.block_rows, 10);
    assert_int_equal(size.bytes, (5 * 16 + 10 * 64 + 2 * 10 * 48) * FLOAT);
}

static void test_what_has_no_size(void **state)
{
    const struct expert_shape shape = {UINT32_MAX, 1024, 1024, 1024, UINT32_MAX, 48};
    const struct working_limits many = {UINT32_MAX, UINT32_MAX, KV_F32};
    const struct shard_part part = {.kv_head_end = 4, .expert_end = 16};
    struct hparams wide = with_experts;
    struct expert_size size;
    assert_false(expert_size_of(&size, &shape));
    wide.hidden = UINT32_MAX;
    assert_int_equal(working_size_of(&wide, &part, LAYERS, true, &many), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dense_rank),
        cmocka_unit_test(test_a_rank_with_experts),
        cmocka_unit_test(test_few_pairs_are_one_block),
        cmocka_unit_test(test_what_has_no_size),
    };
    return cmocka_run_group_tests_name("plan/working_size", tests, NULL, NULL);
}
