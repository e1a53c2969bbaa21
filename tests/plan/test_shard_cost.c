/* test_shard_cost.c - every tensor is counted once over all ranks, and read as steps read it. */
#include "plan/shard_cost.h"

#include "plan/planner.h"
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

#include <math.h>
#include <string.h>

static uint64_t bytes_of(const struct model_file *file, const char *name)
{
    const struct model_tensor *tensor = model_tensor_find(file, name);
    return tensor != NULL ? tensor->n_bytes : 0;
}

static uint64_t all_bytes(const struct model_file *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < model_tensor_count(file); i++)
        sum += model_tensor_at(file, i)->n_bytes;
    return sum;
}

/* Vectors, a router and what is tied are whole on each rank that needs them. */
static void sum_of(struct shard_cost *sum, const struct small_model *m,
                   const struct model_file *file, uint32_t pipeline, uint32_t tensor)
{
    struct planner_model model;
    struct planner_plan plan;
    *sum = (struct shard_cost){0};
    planner_model_read(&model, &m->h, file);
    assert_int_equal(planner_plan(&plan, &model, pipeline * tensor, pipeline, tensor, NULL),
                     STATUS_OK);
    for (uint32_t i = 0; i < pipeline * tensor; i++) {
        struct shard_cost cost;
        shard_cost_of(&cost, &m->h, file, &plan.shards[i % tensor],
                      plan.stages[i / tensor].first_layer, plan.stages[i / tensor].n_layers);
        sum->weight_bytes += cost.weight_bytes;
        sum->read_bytes += cost.read_bytes;
        sum->expert_bytes += cost.expert_bytes;
        sum->rows.f32 += cost.rows.f32;
        sum->predicted.f32 += cost.predicted.f32;
    }
    planner_plan_free(&plan);
}

static void test_a_whole_model_is_its_file(void **state)
{
    for (int a = 0; a < ARCHITECTURE_COUNT; a++) {
        const struct small_model m = small_model_of((enum architecture)a);
        struct model_file *file = small_model_open(&m);
        struct shard_cost cost;
        shard_cost_whole(&cost, &m.h, file);
        const uint64_t embedding = bytes_of(file, "token_embd.weight");
        const uint64_t read_embedding = m.h.tied ? 0 : embedding;
        assert_int_equal(cost.weight_bytes, all_bytes(file));
        assert_int_equal(cost.read_bytes + cost.expert_bytes + read_embedding, all_bytes(file));
        assert_true(cost.predicted.f32 >= 2.0 * m.h.hidden * m.h.vocab);
        assert_int_equal(cost.expert_bytes > 0, m.h.n_experts > 0);
        model_close(file);
    }
}

static void test_stages_add_up(void **state)
{
    for (int a = 0; a < ARCHITECTURE_COUNT; a++) {
        const struct small_model m = small_model_of((enum architecture)a);
        struct model_file *file = small_model_open(&m);
        struct shard_cost whole, sum;
        shard_cost_whole(&whole, &m.h, file);
        sum_of(&sum, &m, file, 2, 1);
        const uint64_t twice = m.h.tied ? bytes_of(file, "token_embd.weight") : 0;
        assert_int_equal(sum.weight_bytes, whole.weight_bytes + twice);
        assert_int_equal(sum.read_bytes, whole.read_bytes);
        assert_int_equal(sum.expert_bytes, whole.expert_bytes);
        assert_true(fabs(sum.rows.f32 - whole.rows.f32) < 1e-6 * whole.rows.f32);
        model_close(file);
    }
}

/* Of two ranks that share all layers each has the vectors: of a llama norms only. */
static void test_shards_add_up(void **state)
{
    const struct small_model m = small_model;
    struct model_file *file = small_model_open(&m);
    struct shard_cost whole, sum;
    shard_cost_whole(&whole, &m.h, file);
    sum_of(&sum, &m, file, 1, 2);
    const uint64_t norms = (2 * m.h.n_layers + 1) * m.h.hidden * sizeof(float);
    assert_int_equal(sum.weight_bytes, whole.weight_bytes + norms);
    assert_int_equal(sum.read_bytes, whole.read_bytes + norms);
    assert_true(fabs(sum.rows.f32 - whole.rows.f32) < 1e-6 * whole.rows.f32);
    assert_true(fabs(sum.predicted.f32 - whole.predicted.f32) < 1e-6 * whole.predicted.f32);
    model_close(file);
}

/* Each of two ranks has half of the experts, and half of what a row does with them. */
static void test_experts_are_counted_with_their_ranks(void **state)
{
    const struct small_model m = small_model_experts(small_model);
    struct model_file *file = small_model_open(&m);
    struct shard_cost whole, sum;
    shard_cost_whole(&whole, &m.h, file);
    sum_of(&sum, &m, file, 1, 2);
    assert_int_equal(whole.expert_bytes,
                     3ull * m.h.n_layers * m.h.n_experts * m.h.ffn_expert * m.h.hidden * 4);
    assert_int_equal(sum.expert_bytes, whole.expert_bytes);
    assert_true(fabs(shard_cost_experts_met(&whole, 1) - 2 / 6.0) < 1e-12);
    assert_true(fabs(shard_cost_experts_met(&whole, 2) - (1 - 16 / 36.0)) < 1e-12);
    const double router = 2.0 * m.h.n_experts * m.h.hidden; /* on both ranks, of two layers */
    assert_int_equal(m.h.n_layers, 2);
    assert_true(fabs(sum.rows.f32 - whole.rows.f32 - router) < 1e-6 * whole.rows.f32);
    assert_true(fabs(sum.predicted.f32 - whole.predicted.f32 - router) <
                1e-6 * whole.predicted.f32);
    model_close(file);
}

/* Blocks are multiplied with 8-bit integers. Of the last layer all rows need k and v. */
static void test_operations_are_of_the_tensors_type(void **state)
{
    struct small_model m = small_model;
    m.type = GGUF_TYPE_Q8_0;
    m.h.n_heads = 4;
    m.h.n_kv_heads = 2;
    m.h.head_dim = m.h.rope_dims = 16;
    struct model_file *file = small_model_open(&m);
    struct shard_cost cost;
    shard_cost_whole(&cost, &m.h, file);
    const double kv = 2.0 * m.h.hidden * 2 * 32;
    const double rest = 2.0 * m.h.hidden * (2.0 * 64 /* q, output */ + 3.0 * m.h.ffn);
    const double output = 2.0 * m.h.hidden * m.h.vocab;
    assert_true(fabs(cost.rows.int8 - m.h.n_layers * kv - (m.h.n_layers - 1) * rest) < 1);
    assert_true(fabs(cost.predicted.int8 - rest - output) < 1);
    assert_true(cost.rows.f32 == 0 && cost.predicted.f32 == 0);
    model_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_model_is_its_file),
        cmocka_unit_test(test_stages_add_up),
        cmocka_unit_test(test_shards_add_up),
        cmocka_unit_test(test_experts_are_counted_with_their_ranks),
        cmocka_unit_test(test_operations_are_of_the_tensors_type),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
