/* test_weights_segments.c - where columns are cut does not depend on the number of ranks, and keeps
 * KV heads and blocks whole. */
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

static struct small_model model_of(uint32_t n_kv_heads, uint32_t ffn, enum gguf_type type)
{
    struct small_model m = small_model;
    m.h.hidden = 32;
    m.h.n_heads = n_kv_heads * (n_kv_heads <= 16 ? 2 : 1);
    m.h.n_kv_heads = n_kv_heads;
    m.h.head_dim = m.h.rope_dims = 16;
    m.h.ffn = ffn;
    m.type = type;
    return m;
}

/* Also checks what holds for every model. `block`: elements of a block of attn_output, of ffn_down.
 */
static struct weights_segments segments_of(const struct small_model *m, uint32_t attn_block,
                                           uint32_t ffn_block)
{
    struct weights_segments s;
    struct model_file *file = small_model_open(m);
    memset(&s, 0xff, sizeof(s));
    weights_segments(&s, file, &m->h);
    model_close(file);

    assert_true(s.n >= 1 && s.n <= WEIGHTS_SEGMENTS);
    assert_int_equal(s.n & (s.n - 1), 0);
    assert_int_equal(m->h.n_kv_heads % s.n, 0);
    assert_int_equal(s.kv_head[0], 0);
    assert_int_equal(s.ffn[0], 0);
    for (uint32_t i = 0; i < s.n; i++) {
        const uint32_t columns = s.kv_head[i] * (m->h.n_heads / m->h.n_kv_heads) * m->h.head_dim;
        assert_int_equal(s.kv_head[i + 1] - s.kv_head[i], m->h.n_kv_heads / s.n);
        assert_true(s.ffn[i + 1] > s.ffn[i]);
        assert_int_equal(columns % attn_block, 0);
        assert_int_equal(s.ffn[i] % ffn_block, 0);
        assert_int_equal(s.ffn[i] % 32, 0);
    }
    assert_int_equal(s.kv_head[s.n], m->h.n_kv_heads);
    assert_int_equal(s.ffn[s.n], m->h.ffn);
    return s;
}

static void test_as_many_as_divide_the_kv_heads(void **state)
{
    static const uint32_t expected[][2] = {{1, 1}, {2, 2},  {3, 1},  {4, 4}, {6, 2},
                                           {8, 8}, {12, 4}, {16, 8}, {32, 8}};
    static const enum gguf_type types[] = {GGUF_TYPE_F32, GGUF_TYPE_F16, GGUF_TYPE_Q8_0};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        for (size_t t = 0; t < 3; t++) {
            const struct small_model m = model_of(expected[i][0], 352, types[t]);
            const uint32_t block = types[t] == GGUF_TYPE_Q8_0 ? 32 : 1;
            assert_int_equal(segments_of(&m, block, block).n, expected[i][1]);
        }
}

/* 11 units of 32 columns in 8 segments; and what is less than a unit goes to the last one. */
static void test_ffn_columns_need_not_divide(void **state)
{
    static const uint32_t eight[] = {0, 32, 64, 128, 160, 192, 256, 288, 352};
    struct small_model m = model_of(8, 352, GGUF_TYPE_Q8_0);
    struct weights_segments s = segments_of(&m, 32, 32);
    assert_int_equal(s.n, 8);
    assert_memory_equal(s.ffn, eight, sizeof(eight));

    m = model_of(2, 100, GGUF_TYPE_F32);
    s = segments_of(&m, 1, 1);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.ffn[1], 32);
    assert_int_equal(s.ffn[2], 100);
}

static void test_no_segment_is_empty(void **state)
{
    static const uint32_t expected[][2] = {{31, 1},  {32, 1},  {63, 1},  {64, 2}, {100, 2},
                                           {128, 4}, {255, 4}, {256, 8}, {257, 8}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const struct small_model m = model_of(8, expected[i][0], GGUF_TYPE_F16);
        assert_int_equal(segments_of(&m, 1, 1).n, expected[i][1]);
    }
}

/* 8 KV heads of 8 columns: a block of attn_output spans four. One layer with blocks decides. */
static void test_blocks_of_attn_output_stay_whole(void **state)
{
    struct small_model m = model_of(8, 256, GGUF_TYPE_F32);
    m.h.n_heads = 8;
    m.h.head_dim = m.h.rope_dims = 8;
    assert_int_equal(segments_of(&m, 1, 1).n, 8);
    m.type = GGUF_TYPE_Q8_0;
    assert_int_equal(segments_of(&m, 32, 32).n, 2);
    for (uint32_t layer = 0; layer < 2; layer++) {
        char name[WEIGHTS_NAME_BYTES];
        m.type = GGUF_TYPE_F32;
        m.odd_tensor = weights_name(name, layer, WEIGHTS_ATTN_OUTPUT);
        m.odd_type = GGUF_TYPE_Q8_0;
        assert_int_equal(segments_of(&m, 32, 1).n, 2);
        m.odd_tensor = weights_name(name, layer, WEIGHTS_ATTN_V); /* its columns are not cut */
        assert_int_equal(segments_of(&m, 1, 1).n, 8);
    }
    m = model_of(2, 256, GGUF_TYPE_Q8_0); /* one block for both heads */
    m.h.n_heads = 2;
    assert_int_equal(segments_of(&m, 32, 32).n, 1);
    m = model_of(8, 2048, GGUF_TYPE_Q4_K); /* 256 columns of attn_output: one super-block */
    m.h.hidden = 256;
    assert_int_equal(segments_of(&m, 256, 256).n, 1);
    m.h.head_dim = m.h.rope_dims = 128; /* 2,048: one for each KV head */
    assert_int_equal(segments_of(&m, 256, 256).n, 8);
    m.h.ffn = 768; /* three super-blocks of ffn_down for two segments */
    assert_int_equal(segments_of(&m, 256, 256).n, 2);
}

/* Experts are whole wherever ranks are cut, so only attn_output's columns count. */
static void test_experts_leave_the_segments_to_heads(void **state)
{
    struct small_model m = small_model_experts(model_of(8, 32, GGUF_TYPE_F32));
    m.h.n_heads = 8;
    struct model_file *file = small_model_open(&m);
    struct weights_segments s;
    weights_segments(&s, file, &m.h);
    model_close(file);
    assert_int_equal(s.n, 8);
    assert_int_equal(s.kv_head[3], 3);
    assert_int_equal(s.ffn[8], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_many_as_divide_the_kv_heads),
        cmocka_unit_test(test_ffn_columns_need_not_divide),
        cmocka_unit_test(test_no_segment_is_empty),
        cmocka_unit_test(test_experts_leave_the_segments_to_heads),
        cmocka_unit_test(test_blocks_of_attn_output_stay_whole),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
