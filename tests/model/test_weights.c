/* A model is taken only with every tensor in its exact shape and a type that we compute with, and
 * with nothing that we would leave out. */
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

static enum status check(const struct small_model *m, struct error *error)
{
    struct hparams h;
    struct model_file *g = small_model_open(m);
    enum status status = hparams_read(&h, g, error);
    check_ok(status, error);
    status = weights_check(g, &h, error);
    model_close(g);
    return status;
}

static void refused(const struct small_model *m, enum status expected, const char *name,
                    const char *word)
{
    struct error error = {0};
    const enum status status = check(m, &error);
    if (status != expected || strstr(error.text, name) == NULL || strstr(error.text, word) == NULL)
        fail_msg("expected %s with '%s' and '%s', got %s: %s", status_name(expected), name, word,
                 status_name(status), error.text);
}

/* A model whose rows are whole blocks of every type. */
static struct small_model wide_model(void)
{
    struct small_model m = small_model;
    m.h.hidden = 256;
    m.h.head_dim = 64;
    m.h.ffn = 256;
    return m;
}

static const enum gguf_type types[] = {
    GGUF_TYPE_F32,  GGUF_TYPE_F16,  GGUF_TYPE_BF16, GGUF_TYPE_Q8_0, GGUF_TYPE_Q4_0, GGUF_TYPE_Q4_1,
    GGUF_TYPE_Q5_0, GGUF_TYPE_Q5_1, GGUF_TYPE_Q4_K, GGUF_TYPE_Q5_K, GGUF_TYPE_Q6_K,
};
enum { N_TYPES = sizeof(types) / sizeof(types[0]) };

static void test_supported_types_pass(void **state)
{
    static const float factors[] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < N_TYPES; i++) {
        struct small_model m = wide_model();
        struct error error = {0};
        m.type = types[i];
        check_ok(check(&m, &error), &error);
        m.factors = factors;
        m.without_tensor = "output.weight"; /* tied */
        check_ok(check(&m, &error), &error);
    }
}

static void test_types_may_be_mixed(void **state)
{
    static const char *const names[] = {"token_embd.weight", "output.weight", "blk.1.attn_v.weight",
                                        "blk.0.ffn_down.weight", "blk.1.attn_output.weight"};
    for (size_t i = 0; i < N_TYPES; i++) {
        struct small_model m = wide_model();
        struct error error = {0};
        m.type = types[i];
        m.odd_tensor = names[i % 5];
        m.odd_type = types[(i + 1) % N_TYPES];
        check_ok(check(&m, &error), &error);
    }
}

static void test_every_tensor_must_be_there(void **state)
{
    for (uint32_t layer = 0; layer < 2; layer++)
        for (int id = 0; id < WEIGHTS_COUNT; id++) {
            char name[WEIGHTS_NAME_BYTES];
            struct small_model m = small_model;
            struct error error = {0};
            m.without_tensor = weights_name(name, layer, (enum weights_id)id);
            if (id == WEIGHTS_OUTPUT || !weights_has(&m.h, (enum weights_id)id))
                check_ok(check(&m, &error), &error);
            else if (id != WEIGHTS_TOKEN_EMBD) /* without it there is no vocabulary at all */
                refused(&m, STATUS_INVALID, name, "missing");
        }
}

/* Also of those that only some architectures have; and those of others are none of theirs. */
static void test_every_architecture_has_its_tensors(void **state)
{
    for (int a = 0; a < ARCHITECTURE_COUNT; a++)
        for (int id = WEIGHTS_FIRST_OF_LAYER; id < WEIGHTS_COUNT; id++) {
            char name[WEIGHTS_NAME_BYTES];
            struct small_model m = small_model_of((enum architecture)a);
            struct error error = {0};
            check_ok(check(&m, &error), &error);
            weights_name(name, 1, (enum weights_id)id);
            if (weights_has(&m.h, (enum weights_id)id)) {
                m.without_tensor = name;
                refused(&m, STATUS_INVALID, name, "missing");
            } else {
                m.extra_tensor = name;
                refused(&m, STATUS_UNSUPPORTED, name, m.architecture);
            }
        }
}

/* As Hugging Face directories have them. */
static void test_vectors_may_be_half(void **state)
{
    static const enum gguf_type halves[] = {GGUF_TYPE_F16, GGUF_TYPE_BF16};
    static const char *const names[] = {"output_norm.weight", "blk.1.attn_q.bias"};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            struct small_model m = small_model_of(ARCHITECTURE_QWEN2);
            struct error error = {0};
            m.odd_tensor = names[k];
            m.odd_type = halves[i];
            check_ok(check(&m, &error), &error);
        }
    static const float factors[] = {1, 1, 1, 1, 1, 1, 1, 1};
    struct small_model m = small_model;
    m.factors = factors;
    m.odd_tensor = "rope_freqs.weight";
    m.odd_type = GGUF_TYPE_F16;
    refused(&m, STATUS_UNSUPPORTED, "rope_freqs.weight", "supported here: F32");
}

static void test_shapes_must_be_exact(void **state)
{
    struct small_model m = small_model;
    m.odd_tensor = "blk.1.attn_k.weight";
    m.n_odd_dims = 2;
    m.odd_dims[0] = 64;
    m.odd_dims[1] = 64;
    refused(&m, STATUS_INVALID, "blk.1.attn_k.weight", "[64, 64]");
    refused(&m, STATUS_INVALID, "blk.1.attn_k.weight", "[64, 32]");
    m.odd_tensor = "blk.0.attn_norm.weight"; /* one dimension too many */
    m.odd_dims[1] = 1;
    refused(&m, STATUS_INVALID, "blk.0.attn_norm.weight", "[64, 1]");
    m.odd_tensor = "blk.0.ffn_down.weight"; /* transposed */
    m.odd_dims[1] = 96;
    refused(&m, STATUS_INVALID, "blk.0.ffn_down.weight", "[96, 64]");
    m.odd_tensor = "token_embd.weight"; /* fewer rows change the vocabulary, so output is wrong */
    m.odd_dims[1] = 39;
    refused(&m, STATUS_INVALID, "output.weight", "[64, 39]");
}

static void test_types_that_we_do_not_compute_with(void **state)
{
    static const enum gguf_type others[] = {GGUF_TYPE_Q8_1, GGUF_TYPE_Q2_K,   GGUF_TYPE_Q3_K,
                                            GGUF_TYPE_Q8_K, GGUF_TYPE_IQ4_NL, GGUF_TYPE_IQ4_XS,
                                            GGUF_TYPE_F64,  GGUF_TYPE_MXFP4};
    struct small_model m = wide_model();
    m.odd_tensor = "blk.1.ffn_up.weight";
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        m.odd_type = others[i];
        refused(&m, STATUS_UNSUPPORTED, "blk.1.ffn_up.weight", gguf_type_traits(others[i])->name);
        refused(&m, STATUS_UNSUPPORTED, "blk.1.ffn_up.weight",
                "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K");
    }
    m.odd_type = GGUF_TYPE_I32;
    refused(&m, STATUS_UNSUPPORTED, "blk.1.ffn_up.weight", "I32");
    m.odd_tensor = "output_norm.weight";
    m.odd_type = GGUF_TYPE_I32;
    refused(&m, STATUS_UNSUPPORTED, "output_norm.weight", "I32, which");
    refused(&m, STATUS_UNSUPPORTED, "output_norm.weight", "supported here: F32, F16, BF16");
}

static void test_names_are_identified(void **state)
{
    static const char *const others[] = {"blk.2.attn_q.weight",
                                         "blk.00.attn_q.weight",
                                         "blk.+1.attn_q.weight",
                                         "blk.0.output.weight",
                                         "attn_q.weight",
                                         "output.bias",
                                         "",
                                         "blk.0."};
    for (uint32_t layer = 0; layer < 2; layer++)
        for (int id = 0; id < WEIGHTS_COUNT; id++) {
            char name[WEIGHTS_NAME_BYTES];
            enum weights_id found = WEIGHTS_COUNT;
            uint32_t found_layer = 77;
            weights_name(name, layer, (enum weights_id)id);
            assert_true(weights_identify(name, 2, &found, &found_layer));
            assert_int_equal(found, id);
            assert_int_equal(found_layer, id < WEIGHTS_FIRST_OF_LAYER ? 0 : layer);
        }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        enum weights_id found = WEIGHTS_COUNT;
        uint32_t found_layer = 77;
        assert_false(weights_identify(others[i], 2, &found, &found_layer));
        assert_true(found == WEIGHTS_COUNT && found_layer == 77);
    }
}

static void test_tensors_that_we_would_leave_out(void **state)
{
    static const char *const extra[] = {"blk.1.attn_q.bias",         "blk.2.attn_q.weight",
                                        "blk.00.attn_q.weight",      "blk.0.",
                                        "blk.-1.attn_q.weight",      "output.bias",
                                        "blk.0.ffn_gate_inp.weight", "blk.0.output_norm.weight"};
    struct small_model m = small_model;
    struct error error = {0};
    for (size_t i = 0; i < sizeof(extra) / sizeof(extra[0]); i++) {
        m.extra_tensor = extra[i];
        refused(&m, STATUS_UNSUPPORTED, extra[i], "not part of this llama model");
    }
    m.extra_tensor = "blk.0.attn_rot_embd.weight"; /* a table that can be derived */
    check_ok(check(&m, &error), &error);
}

static void test_weights_are_found(void **state)
{
    struct small_model m = small_model;
    struct model_file *g = small_model_open(&m);
    assert_string_equal(weights_find(g, 1, WEIGHTS_FFN_UP)->name, "blk.1.ffn_up.weight");
    assert_string_equal(weights_find(g, 9, WEIGHTS_OUTPUT)->name, "output.weight");
    assert_null(weights_find(g, 2, WEIGHTS_FFN_UP));
    assert_null(weights_find(g, 0, WEIGHTS_ROPE_FREQS));
    model_close(g);
    m.without_tensor = "output.weight";
    g = small_model_open(&m);
    assert_string_equal(weights_find(g, 0, WEIGHTS_OUTPUT)->name, "token_embd.weight");
    model_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_supported_types_pass),
        cmocka_unit_test(test_types_may_be_mixed),
        cmocka_unit_test(test_names_are_identified),
        cmocka_unit_test(test_every_tensor_must_be_there),
        cmocka_unit_test(test_every_architecture_has_its_tensors),
        cmocka_unit_test(test_vectors_may_be_half),
        cmocka_unit_test(test_shapes_must_be_exact),
        cmocka_unit_test(test_types_that_we_do_not_compute_with),
        cmocka_unit_test(test_tensors_that_we_would_leave_out),
        cmocka_unit_test(test_weights_are_found),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
