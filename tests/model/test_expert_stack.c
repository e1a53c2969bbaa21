/* test_expert_stack.c - experts that lie apart are one tensor, whatever their order in the file;
 * what does not make a whole is refused. */
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

enum { ROW = 8, ROWS = 2, MOST = 12 };

struct entry {
    const char *name;
    enum gguf_type type;
    uint32_t n_rows; /* 0: a vector */
};

/* Tensor i's values are 100 i + k. */
static const char *write_file(const struct entry *entries, size_t n)
{
    const char *path = fixture_path("experts.gguf");
    struct gguf_writer *w = NULL;
    struct error e = {0};
    check_ok(gguf_writer_create(&w, path, &e), &e);
    gguf_writer_add_u32(w, "a.number", 7, &e);
    for (size_t i = 0; i < n; i++)
        gguf_writer_declare(w, entries[i].name, entries[i].type, entries[i].n_rows > 0 ? 2 : 1,
                            (uint64_t[]){ROW, entries[i].n_rows}, &e);
    for (size_t i = 0; i < n; i++) {
        float values[ROW * MOST];
        const size_t count = ROW * (entries[i].n_rows > 0 ? entries[i].n_rows : 1);
        for (size_t k = 0; k < count; k++)
            values[k] = (float)(100 * i + k);
        gguf_writer_data(w, values, count * (entries[i].type == GGUF_TYPE_F32 ? sizeof(float) : 2),
                         &e);
    }
    check_ok(gguf_writer_finish(w, &e), &e);
    return path;
}

static void test_experts_become_one_tensor(void **state)
{
    static const struct entry entries[] = {
        {"first", GGUF_TYPE_F32, 0},
        {"blk.0.ffn_up.2.weight", GGUF_TYPE_F32, ROWS},
        {"blk.0.ffn_up.0.weight", GGUF_TYPE_F32, ROWS},
        {"blk.7.ffn_up.0.weight", GGUF_TYPE_F32, ROWS},
        {"blk.0.ffn_down.0.weight", GGUF_TYPE_F32, ROWS},
        {"blk.0.ffn_up.1.weight", GGUF_TYPE_F32, ROWS},
        {"blk.0.ffn_up.01.weight", GGUF_TYPE_F32, ROWS}, /* these are none */
        {"blk.0.ffn_up.weight", GGUF_TYPE_F32, ROWS},
        {"blk.0.ffn_up.1.bias", GGUF_TYPE_F32, ROWS},
        {"blk.0.ffn_upper.1.weight", GGUF_TYPE_F32, ROWS},
    };
    static const char *const names[] = {"first",
                                        "blk.0.ffn_up_exps.weight",
                                        "blk.7.ffn_up_exps.weight",
                                        "blk.0.ffn_down_exps.weight",
                                        "blk.0.ffn_up.01.weight",
                                        "blk.0.ffn_up.weight",
                                        "blk.0.ffn_up.1.bias",
                                        "blk.0.ffn_upper.1.weight"};
    static const float of_expert[] = {200, 500, 100}; /* the first value */
    const size_t n = sizeof(names) / sizeof(names[0]);
    struct model_file *file =
        fixture_open(write_file(entries, sizeof(entries) / sizeof(entries[0])));
    assert_int_equal(model_tensor_count(file), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(model_tensor_at(file, i)->name, names[i]);
        assert_ptr_equal(model_tensor_find(file, names[i]), model_tensor_at(file, i));
    }
    assert_null(model_tensor_find(file, "blk.0.ffn_up.0.weight"));
    const struct model_tensor *up = model_tensor_at(file, 1);
    assert_int_equal(up->n_dims, 3);
    assert_int_equal(up->dims[0], ROW);
    assert_int_equal(up->dims[1], ROWS);
    assert_int_equal(up->dims[2], 3);
    assert_int_equal(up->dims[3], 1);
    assert_int_equal(up->type, GGUF_TYPE_F32);
    assert_int_equal(up->n_bytes, 3 * ROW * ROWS * sizeof(float));
    for (uint64_t e = 0; e < 3; e++)
        for (size_t k = 0; k < ROW * ROWS; k++) {
            const float *values = model_tensor_expert(file, up, e);
            assert_true(values[k] == of_expert[e] + (float)k);
        }
    model_tensor_release(file, up);
    const float *again = model_tensor_expert(file, up, 2);
    assert_true(again[3] == 103);
    model_close(file);
}

static void refused(const struct entry *entries, size_t n, const char *text)
{
    struct model_file *file = NULL;
    struct error error = {.status = STATUS_OK};
    assert_int_equal(model_open(&file, write_file(entries, n), &error), STATUS_INVALID);
    assert_null(file);
    if (strstr(error.text, text) == NULL)
        fail_msg("'%s' does not say %s", error.text, text);
}

static void test_what_is_no_whole_is_refused(void **state)
{
    const struct entry gap[] = {{"blk.0.ffn_up.0.weight", GGUF_TYPE_F32, ROWS},
                                {"blk.0.ffn_up.2.weight", GGUF_TYPE_F32, ROWS}};
    refused(gap, 2, "blk.0.ffn_up.2.weight");
    const struct entry none[] = {{"blk.0.ffn_up.999999.weight", GGUF_TYPE_F32, ROWS}};
    refused(none, 1, "an expert is missing");
    const struct entry rows[] = {{"blk.0.ffn_up.0.weight", GGUF_TYPE_F32, ROWS},
                                 {"blk.0.ffn_up.1.weight", GGUF_TYPE_F32, ROWS + 1}};
    refused(rows, 2, "blk.0.ffn_up.1.weight");
    const struct entry types[] = {{"blk.0.ffn_up.0.weight", GGUF_TYPE_F32, ROWS},
                                  {"blk.0.ffn_up.1.weight", GGUF_TYPE_F16, ROWS}};
    refused(types, 2, "another type or shape");
    const struct entry vector[] = {{"blk.0.ffn_up.0.weight", GGUF_TYPE_F32, 0}};
    refused(vector, 1, "another type or shape");
    const struct entry both[] = {{"blk.0.ffn_up.0.weight", GGUF_TYPE_F32, ROWS},
                                 {"blk.0.ffn_up_exps.weight", GGUF_TYPE_F32, ROWS}};
    refused(both, 2, "blk.0.ffn_up_exps.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experts_become_one_tensor),
        cmocka_unit_test(test_what_is_no_whole_is_refused),
    };
    return cmocka_run_group_tests_name("model/expert_stack", tests, fixture_setup,
                                       fixture_teardown);
}
