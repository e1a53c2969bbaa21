/* test_planner.c - every layer, head, column and row belongs to exactly one rank; what cannot be
 * split is refused with what can. */
#include "plan/planner.h"

#include "sys/random.h"
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

#include <string.h>

static struct planner_model tiny(void)
{
    return (struct planner_model){.n_layers = 5,
                                  .n_heads = 8,
                                  .n_kv_heads = 2,
                                  .head_dim = 32,
                                  .ffn = 352,
                                  .vocab = 300,
                                  .ffn_block = 32,
                                  .attn_block = 32,
                                  .heads_bytes = 8000,
                                  .ffn_bytes = 11000,
                                  .whole_bytes = 100,
                                  .output_bytes = 6000};
}

static void check_plan(const struct planner_model *m, const struct planner_plan *plan)
{
    uint32_t layer = 0, least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < plan->pipeline; i++) {
        assert_int_equal(plan->stages[i].first_layer, layer);
        const uint32_t n = plan->stages[i].n_layers;
        assert_true(n > 0);
        least = n < least ? n : least;
        most = n > most ? n : most;
        layer += n;
    }
    assert_int_equal(layer, m->n_layers);
    assert_true(most - least <= 1);
    const uint32_t columns = m->n_heads / m->n_kv_heads * m->head_dim;
    uint32_t head = 0, ffn = 0, vocab = 0, expert = 0;
    for (uint32_t i = 0; i < plan->tensor; i++) {
        const struct shard_part *s = &plan->shards[i];
        assert_int_equal(s->kv_head_begin, head);
        assert_int_equal(s->ffn_begin, ffn);
        assert_int_equal(s->vocab_begin, vocab);
        assert_int_equal(s->expert_begin, expert);
        assert_true(s->kv_head_end > head && s->vocab_end > vocab);
        assert_true(m->n_experts > 0 ? s->expert_end > expert : s->ffn_end > ffn);
        assert_int_equal(s->kv_head_begin * columns % m->attn_block, 0);
        assert_int_equal(s->ffn_begin % m->ffn_block, 0);
        head = s->kv_head_end;
        ffn = s->ffn_end;
        vocab = s->vocab_end;
        for (; expert < s->expert_end; expert++)
            assert_int_equal((uint64_t)expert * plan->tensor / m->n_experts, i);
    }
    assert_int_equal(expert, m->n_experts);
    assert_int_equal(head, m->n_kv_heads);
    assert_int_equal(ffn, m->ffn);
    assert_int_equal(vocab, m->vocab);
}

static void test_odd_layers_go_to_the_first_stages(void **state)
{
    const struct planner_model m = tiny();
    struct planner_plan plan;
    assert_int_equal(planner_plan(&plan, &m, 3, 0, 1, NULL), STATUS_OK);
    check_plan(&m, &plan);
    assert_int_equal(plan.pipeline, 3);
    assert_int_equal(plan.stages[0].n_layers, 2);
    assert_int_equal(plan.stages[1].n_layers, 2);
    assert_int_equal(plan.stages[2].n_layers, 1);
    planner_plan_free(&plan);
}

/* An output matrix of 4.3 layers, as that of a small model with a large vocabulary. */
static void test_a_large_output_matrix_takes_the_place_of_layers(void **state)
{
    struct planner_model m = tiny();
    m.n_layers = 16;
    m.output_bytes = (m.heads_bytes + m.ffn_bytes + m.whole_bytes) * 43 / 10;
    const uint32_t wanted[][5] = {{16}, {10, 6}, {7, 6, 3}, {5, 5, 5, 1}, {4, 4, 4, 3, 1}};
    for (uint32_t pipeline = 1; pipeline <= 5; pipeline++) {
        struct planner_plan plan;
        assert_int_equal(planner_plan(&plan, &m, pipeline, pipeline, 1, NULL), STATUS_OK);
        for (uint32_t i = 0, layer = 0; i < pipeline; i++) {
            assert_int_equal(plan.stages[i].first_layer, layer);
            assert_int_equal(plan.stages[i].n_layers, wanted[pipeline - 1][i]);
            layer += plan.stages[i].n_layers;
        }
        planner_plan_free(&plan);
    }
    m.output_bytes = m.heads_bytes + m.ffn_bytes; /* about one: the KV cache weighs more */
    struct planner_plan plan;
    assert_int_equal(planner_plan(&plan, &m, 2, 2, 1, NULL), STATUS_OK);
    assert_int_equal(plan.stages[1].n_layers, 8);
    planner_plan_free(&plan);
}

static void test_random_models_are_covered_exactly(void **state)
{
    struct random_state random;
    random_seed(&random, 1);
    for (int i = 0; i < 5000; i++) {
        struct planner_model m = tiny();
        m.n_layers = 1 + (uint32_t)random_below(&random, 80);
        m.n_kv_heads = 1 + (uint32_t)random_below(&random, 12);
        m.n_heads = m.n_kv_heads * (1 + (uint32_t)random_below(&random, 8));
        m.head_dim = 8 * (1 + (uint32_t)random_below(&random, 32));
        m.ffn_block = random_below(&random, 2) ? 32 : 1;
        m.attn_block = m.ffn_block;
        m.ffn = 32 * (1 + (uint32_t)random_below(&random, 64));
        m.vocab = 16 + (uint32_t)random_below(&random, 1000);
        if (i % 3 == 0) {
            m.n_experts = 1 + (uint32_t)random_below(&random, 70);
            m.ffn = 0;
        }
        const uint32_t tensor = 1 + (uint32_t)random_below(&random, 12);
        const uint32_t pipeline = 1 + (uint32_t)random_below(&random, 12);
        struct planner_plan plan;
        struct error error;
        const enum status status =
            planner_plan(&plan, &m, tensor * pipeline, pipeline, tensor, &error);
        if (status != STATUS_OK) {
            assert_int_equal(status, STATUS_INVALID);
            assert_non_null(strstr(error.text, "possible"));
            continue;
        }
        check_plan(&m, &plan);
        uint64_t kv = 0;
        for (uint32_t rank = 0; rank < tensor * pipeline; rank++)
            kv += planner_rank_kv_bytes(&plan, &m, rank, KV_F16);
        assert_int_equal(kv, planner_kv_bytes(&m, KV_F16));
        planner_plan_free(&plan);
    }
}

/* 11 units of FFN columns: dealt to two ranks alone, the cut would be at 6 units, not at 5. */
static void test_ranks_are_cut_at_segments(void **state)
{
    for (int from_file = 0; from_file < 2; from_file++) {
        struct planner_model m = tiny();
        m.n_heads = m.n_kv_heads = 8;
        m.segments = (struct weights_segments){
            8, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 32, 64, 128, 160, 192, 256, 288, 352}};
        if (from_file) {
            struct small_model file = small_model;
            file.h.n_heads = file.h.n_kv_heads = 8;
            file.h.head_dim = file.h.rope_dims = 32; /* a block of attn_output */
            file.h.ffn = 352;
            file.type = GGUF_TYPE_Q8_0;
            const struct weights_segments expected = m.segments;
            struct model_file *model = small_model_open(&file);
            planner_model_read(&m, &file.h, model);
            model_close(model);
            assert_memory_equal(&m.segments, &expected, sizeof(expected));
        }
        for (uint32_t tensor = 1; tensor <= 8; tensor++) {
            struct planner_plan plan;
            assert_int_equal(planner_plan(&plan, &m, tensor, 1, tensor, NULL), STATUS_OK);
            check_plan(&m, &plan);
            for (uint32_t i = 0; i < tensor && 8 % tensor == 0; i++) {
                const struct shard_part *s = &plan.shards[i];
                assert_int_equal(s->kv_head_begin, m.segments.kv_head[8 / tensor * i]);
                assert_int_equal(s->kv_head_end, m.segments.kv_head[8 / tensor * (i + 1)]);
                assert_int_equal(s->ffn_begin, m.segments.ffn[8 / tensor * i]);
                assert_int_equal(s->ffn_end, m.segments.ffn[8 / tensor * (i + 1)]);
            }
            planner_plan_free(&plan);
        }
    }
}

static void expect_refusal(const struct planner_model *m, uint32_t workers, uint32_t pipeline,
                           uint32_t tensor, const char *text)
{
    struct planner_plan plan;
    struct error error;
    assert_int_equal(planner_plan(&plan, m, workers, pipeline, tensor, &error), STATUS_INVALID);
    assert_string_equal(error.text, text);
}

static void test_refusals_list_what_is_possible(void **state)
{
    struct planner_model m = tiny();
    expect_refusal(&m, 3, 0, 3, "tensor 3: the model has 2 KV heads; possible: 1, 2");
    expect_refusal(&m, 6, 0, 1, "pipeline 6: the model has 5 layers; possible: 1 to 5");
    expect_refusal(&m, 4, 3, 1,
                   "pipeline 3 x tensor 1 are 3 ranks, not 4 workers; possible for 4: 4x1, 2x2");
    expect_refusal(&m, 3, 0, 2,
                   "pipeline 1 x tensor 2 are 2 ranks, not 3 workers; possible for 3: 3x1");
    expect_refusal(&m, 0, 0, 1, "workers 0: at least one is needed");
    m.head_dim = 8; /* a group has 4 x 8 = 32 columns of attn_output: one block */
    struct planner_plan plan;
    assert_int_equal(planner_plan(&plan, &m, 2, 0, 2, NULL), STATUS_OK);
    planner_plan_free(&plan);
    m.n_heads = 2; /* a head has 8 columns, a block spans both heads */
    expect_refusal(
        &m, 2, 0, 2,
        "tensor 2: the model has 2 KV heads (cut at multiples of 4), 352 FFN columns (at "
        "multiples of 32) and 300 tokens; possible: 1");
    m = tiny();
    m.n_kv_heads = 8;
    m.ffn = 0;
    m.n_experts = 6;
    expect_refusal(&m, 7, 0, 7,
                   "tensor 7: the model has 8 KV heads (cut at multiples of 1), 6 experts and 300 "
                   "tokens; possible: 1 to 6");
}

/* Of every architecture: the tensors of its layers, each counted once and as it is cut. */
static void test_every_tensor_of_a_layer_is_counted(void **state)
{
    for (int a = 0; a < ARCHITECTURE_COUNT; a++) {
        const struct small_model file = small_model_of((enum architecture)a);
        struct model_file *model = small_model_open(&file);
        struct planner_model m;
        uint64_t whole = 0, all = 0;
        planner_model_read(&m, &file.h, model);
        for (size_t i = 0; i < model_tensor_count(model); i++) {
            const struct model_tensor *tensor = model_tensor_at(model, i);
            if (strncmp(tensor->name, "blk.1.", 6) != 0)
                continue;
            all += tensor->n_bytes;
            if (strstr(tensor->name, "norm") != NULL ||
                strstr(tensor->name, "ffn_gate_inp") != NULL)
                whole += tensor->n_bytes;
        }
        assert_int_equal(m.heads_bytes + m.ffn_bytes + m.whole_bytes, all);
        assert_int_equal(m.whole_bytes, whole);
        assert_int_equal(m.ffn_bytes, 3ull * (file.h.ffn + file.h.ffn_expert * file.h.n_experts) *
                                          file.h.hidden * sizeof(float));
        model_close(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tensor_of_a_layer_is_counted),
        cmocka_unit_test(test_odd_layers_go_to_the_first_stages),
        cmocka_unit_test(test_a_large_output_matrix_takes_the_place_of_layers),
        cmocka_unit_test(test_random_models_are_covered_exactly),
        cmocka_unit_test(test_ranks_are_cut_at_segments),
        cmocka_unit_test(test_refusals_list_what_is_possible),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
