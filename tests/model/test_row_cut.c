/* test_row_cut.c - q, k and v of one tensor, gate and up of another, each where its rows are. */
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

enum { ROW = 4, MOST_ROWS = 16, N_HEADS = 4, N_KV_HEADS = 2, FFN = 3 };

struct entry {
    const char *name;
    uint32_t n_rows;
};

/* Value k of tensor i is 1000 i + k. */
static struct model_file *open_file(const struct entry *entries, size_t n)
{
    const char *path = fixture_path("cut.gguf");
    struct gguf_writer *w = NULL;
    struct error e = {0};
    check_ok(gguf_writer_create(&w, path, &e), &e);
    gguf_writer_add_string(w, "general.architecture", "phi3", &e);
    gguf_writer_add_u32(w, "phi3.attention.head_count", N_HEADS, &e);
    gguf_writer_add_u32(w, "phi3.attention.head_count_kv", N_KV_HEADS, &e);
    gguf_writer_add_u32(w, "phi3.feed_forward_length", FFN, &e);
    for (size_t i = 0; i < n; i++)
        gguf_writer_declare(w, entries[i].name, GGUF_TYPE_F32, 2,
                            (uint64_t[]){ROW, entries[i].n_rows}, &e);
    for (size_t i = 0; i < n; i++) {
        float values[ROW * MOST_ROWS];
        for (size_t k = 0; k < (size_t)ROW * entries[i].n_rows; k++)
            values[k] = (float)(1000 * i + k);
        gguf_writer_data(w, values, (size_t)ROW * entries[i].n_rows * sizeof(float), &e);
    }
    check_ok(gguf_writer_finish(w, &e), &e);
    return fixture_open(path);
}

static void test_each_part_is_where_its_rows_are(void **state)
{
    static const struct entry entries[] = {{"blk.0.attn_qkv.weight", 16},
                                           {"token_embd.weight", 2},
                                           {"blk.0.ffn_up.weight", 2 * FFN},
                                           {"blk.11.attn_qkv.weight", 8}};
    static const struct {
        const char *name;
        uint32_t n_rows;
        float first;
    } parts[] = {
        {"blk.0.attn_q.weight", 8, 0},
        {"blk.0.attn_k.weight", 4, 8 * ROW},
        {"blk.0.attn_v.weight", 4, 12 * ROW},
        {"token_embd.weight", 2, 1000},
        {"blk.0.ffn_gate.weight", FFN, 2000},
        {"blk.0.ffn_up.weight", FFN, 2000 + FFN * ROW},
        {"blk.11.attn_q.weight", 4, 3000},
        {"blk.11.attn_k.weight", 2, 3000 + 4 * ROW},
        {"blk.11.attn_v.weight", 2, 3000 + 6 * ROW},
    };
    struct model_file *file = open_file(entries, sizeof(entries) / sizeof(entries[0]));
    const uint64_t begin = model_tensor_at(file, 0)->offset;
    assert_int_equal(model_tensor_count(file), sizeof(parts) / sizeof(parts[0]));
    for (size_t i = 0; i < model_tensor_count(file); i++) {
        const struct model_tensor *tensor = model_tensor_find(file, parts[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->dims[0], ROW);
        assert_int_equal(tensor->dims[1], parts[i].n_rows);
        assert_int_equal(tensor->n_bytes, ROW * parts[i].n_rows * sizeof(float));
        assert_int_equal(tensor->offset - begin,
                         (const char *)tensor->data - (const char *)model_tensor_at(file, 0)->data);
        for (size_t k = 0; k < (size_t)ROW * parts[i].n_rows; k++)
            assert_true(((const float *)tensor->data)[k] == parts[i].first + (float)k);
        model_tensor_release(file, tensor);
    }
    assert_null(model_tensor_find(file, "blk.0.attn_qkv.weight"));
    model_close(file);
}

static void test_what_does_not_divide_stays(void **state)
{
    static const struct entry entries[] = {{"blk.0.attn_qkv.weight", 15},
                                           {"blk.0.ffn_up.weight", FFN},
                                           {"blk.01.attn_qkv.weight", 16},
                                           {"attn_qkv.weight", 16},
                                           {"blk.1.attn_qkv.bias", 16}};
    const size_t n = sizeof(entries) / sizeof(entries[0]);
    struct model_file *file = open_file(entries, n);
    assert_int_equal(model_tensor_count(file), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(model_tensor_at(file, i)->name, entries[i].name);
    model_close(file);
}

static void test_a_part_that_is_there_twice_is_refused(void **state)
{
    static const struct entry entries[] = {{"blk.0.attn_qkv.weight", 16},
                                           {"blk.0.attn_k.weight", 4}};
    struct model_file *file = NULL;
    struct error error = {.status = STATUS_OK};
    const char *path = fixture_path("twice.gguf");
    struct gguf_writer *w = NULL;
    static const float zeros[ROW * MOST_ROWS];
    check_ok(gguf_writer_create(&w, path, &error), &error);
    gguf_writer_add_string(w, "general.architecture", "phi3", &error);
    gguf_writer_add_u32(w, "phi3.attention.head_count", 2, &error);
    for (size_t i = 0; i < 2; i++)
        gguf_writer_declare(w, entries[i].name, GGUF_TYPE_F32, 2,
                            (uint64_t[]){ROW, i == 0 ? 12 : 4}, &error);
    gguf_writer_data(w, zeros, sizeof(float) * ROW * 12, &error);
    gguf_writer_data(w, zeros, sizeof(float) * ROW * 4, &error);
    check_ok(gguf_writer_finish(w, &error), &error);
    assert_int_equal(model_open(&file, path, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "blk.0.attn_k.weight"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_part_is_where_its_rows_are),
        cmocka_unit_test(test_what_does_not_divide_stays),
        cmocka_unit_test(test_a_part_that_is_there_twice_is_refused),
    };
    return cmocka_run_group_tests_name("model/row_cut", tests, fixture_setup, fixture_teardown);
}
