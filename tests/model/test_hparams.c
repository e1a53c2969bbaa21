/* Hyper-parameters come out as they stand in the file; whatever we would compute wrongly is refused
 * by name; rope frequencies are exact where they can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/model/fixtures.h"
#include "tests/model/small_model.h"

#include <math.h>

static void test_a_model_is_read(void **state)
{
    struct small_model m = small_model;
    struct hparams h;
    struct error error = {0};
    (void)state;
    struct model_file *g = small_model_open(&m);
    check_ok(hparams_read(&h, g, &error), &error);
    assert_string_equal(h.name, "small? model"); /* no escape sequence reaches a terminal */
    assert_int_equal(h.n_layers, 2);
    assert_int_equal(h.hidden, 64);
    assert_int_equal(h.n_heads, 4);
    assert_int_equal(h.n_kv_heads, 2);
    assert_int_equal(h.head_dim, 16);
    assert_int_equal(h.ffn, 96);
    assert_int_equal(h.vocab, 40);
    assert_int_equal(h.context_train, 2048);
    assert_int_equal(h.rope_dims, 16);
    assert_true(h.rope.base == 10000 && h.rope.scaling == ROPE_PLAIN && h.rms_eps == 1e-5f);
    assert_false(h.tied);
    assert_false(h.rope_factors);
    assert_int_equal(hparams_kv_bytes_per_token(&h, 2), 2 * 2 * 2 * 16 * 2);
    model_close(g);
    m.without_tensor = "output.weight";
    g = small_model_open(&m);
    check_ok(hparams_read(&h, g, &error), &error);
    assert_true(h.tied);
    model_close(g);
}

static void test_absent_keys_have_defaults(void **state)
{
    static const char *const optional[] = {"llama.attention.head_count_kv",
                                           "llama.rope.dimension_count", "llama.context_length"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct small_model m = small_model;
        struct hparams h;
        struct error error = {0};
        m.without_key = optional[i];
        struct model_file *g = small_model_open(&m);
        check_ok(hparams_read(&h, g, &error), &error);
        assert_int_equal(h.n_kv_heads, i == 0 ? 4 : 2);
        assert_int_equal(h.rope_dims, 16);
        assert_int_equal(h.context_train, i == 2 ? 0 : 2048);
        model_close(g);
    }
}

static void refused(const struct small_model *m, enum status expected, const char *word)
{
    struct hparams h;
    struct error error = {0};
    struct model_file *g = small_model_open(m);
    memset(&h, 0xaa, sizeof(h));
    const struct hparams before = h;
    const enum status status = hparams_read(&h, g, &error);
    if (status != expected || strstr(error.text, word) == NULL)
        fail_msg("expected %s with '%s', got %s: %s", status_name(expected), word,
                 status_name(status), error.text);
    assert_memory_equal(&h, &before, sizeof(h));
    model_close(g);
}

static void test_what_we_would_compute_wrongly_is_refused(void **state)
{
    struct small_model m = small_model;
    (void)state;
    m.architecture = "gptneox";
    refused(&m, STATUS_UNSUPPORTED, "'gptneox'");
    refused(&m, STATUS_UNSUPPORTED, "supported: llama (Llama 2 and 3, Mistral), qwen2");
    m = small_model;
    m.extra_u32 = "llama.expert_count";
    m.u32 = 8;
    refused(&m, STATUS_UNSUPPORTED, "experts");
    m.architecture = "qwen2";
    m.extra_u32 = "qwen2.attention.sliding_window";
    refused(&m, STATUS_UNSUPPORTED, "sliding-window");
    m = small_model;
    m.extra_text = "llama.rope.scaling.type";
    m.text = "longrope";
    refused(&m, STATUS_UNSUPPORTED, "'longrope'");
    m.text = "yarn";
    m.extra_f32 = "llama.rope.scaling.yarn_ext_factor";
    m.f32 = 0.5f;
    refused(&m, STATUS_UNSUPPORTED, "yarn_ext_factor");
    m = small_model;
    m.extra_f32 = "llama.logit_scale";
    m.f32 = 2;
    refused(&m, STATUS_UNSUPPORTED, "llama.logit_scale");
}

static void test_numbers_out_of_range_are_refused(void **state)
{
    static const char *const needed[] = {"llama.block_count", "llama.embedding_length",
                                         "llama.feed_forward_length", "llama.attention.head_count",
                                         "llama.attention.layer_norm_rms_epsilon"};
    struct small_model m;
    (void)state;
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        m = small_model;
        m.without_key = needed[i];
        refused(&m, STATUS_INVALID, needed[i]);
    }
    m = small_model;
    m.without_key = "llama.attention.value_length";
    refused(&m, STATUS_UNSUPPORTED, "equal");
    static const struct {
        const char *key;
        uint32_t value;
        const char *word;
    } odd[] = {
        {"llama.block_count", 0, "block_count"},
        {"llama.block_count", UINT32_MAX, "block_count"},
        {"llama.embedding_length", 0, "embedding_length"},
        {"llama.embedding_length", 1u << 31, "embedding_length"},
        {"llama.feed_forward_length", 0, "feed_forward_length"},
        {"llama.attention.head_count", 0, "head_count"},
        {"llama.attention.head_count", UINT32_MAX, "head_count"},
        {"llama.attention.head_count_kv", 0, "head_count_kv"},
        {"llama.attention.head_count_kv", 3, "divisible"},
        {"llama.attention.head_count_kv", 8, "divisible"},
        {"llama.attention.key_length", UINT32_MAX, "key_length"},
        {"llama.attention.key_length", 32, "equal"},
        {"llama.rope.dimension_count", 15, "even"},
        {"llama.rope.dimension_count", 18, "up to 16"},
        {"llama.rope.dimension_count", 0, "dimension_count"},
        {"llama.vocab_size", 0, "vocab_size"},
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        m = small_model;
        m.without_key = odd[i].key;
        m.extra_u32 = odd[i].key;
        m.u32 = odd[i].value;
        refused(&m, STATUS_INVALID + (strcmp(odd[i].word, "equal") == 0) * 2, odd[i].word);
    }
    static const float bases[] = {0, -1, 0.5f, NAN, INFINITY};
    for (size_t i = 0; i < 5; i++) {
        m = small_model;
        m.h.rope.base = (double)bases[i];
        refused(&m, STATUS_INVALID, "freq_base");
    }
    static const float epsilons[] = {-1, NAN, 2};
    for (size_t i = 0; i < 3; i++) {
        m = small_model;
        m.h.rms_eps = epsilons[i];
        refused(&m, STATUS_INVALID, "epsilon");
    }
}

/* The reference is the C library's pow, in long double. */
static void test_frequencies_agree_with_pow(void **state)
{
    static const double bases[] = {1, 2, 500, 10000, 500000, 1000000, 4294967296.0};
    static const uint32_t dims[] = {2, 16, 64, 96, 128, 256};
    double out[128];
    (void)state;
    for (size_t b = 0; b < sizeof(bases) / sizeof(bases[0]); b++)
        for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
            const struct hparams h = {.rope_dims = dims[d],
                                      .rope = {.base = bases[b], .factor = 1}};
            assert_int_equal(hparams_rope_frequencies(&h, &h.rope, NULL, out, NULL), STATUS_OK);
            assert_true(out[0] == 1);
            for (uint32_t i = 0; i < dims[d] / 2; i++) {
                const long double exact =
                    powl((long double)bases[b], -2.0L * i / (long double)dims[d]);
                assert_true(fabsl(out[i] - exact) <= 1e-14L * exact);
            }
        }
}

/* docs: the retrieval model's position ladder stands on these. */
static void test_powers_of_two_are_exact(void **state)
{
    const struct hparams h = {.rope_dims = 32, .rope = {.base = 281474976710656.0, .factor = 1}};
    double out[16], expected = 1;
    (void)state;
    assert_int_equal(hparams_rope_frequencies(&h, &h.rope, NULL, out, NULL), STATUS_OK);
    for (int i = 0; i < 16; i++, expected /= 8)
        assert_true(out[i] == expected);
}

static void test_scaling_and_factors_divide(void **state)
{
    const float factors[] = {1, 2, 4, 8, 1, 1, 1, 0.5f};
    struct small_model m = small_model;
    struct hparams h, plain;
    struct error error = {0};
    double out[8], reference[8];
    (void)state;
    m.factors = factors;
    m.extra_text = "llama.rope.scaling.type";
    m.text = "linear";
    m.extra_f32 = "llama.rope.scaling.factor";
    m.f32 = 4;
    struct model_file *g = small_model_open(&m);
    check_ok(hparams_read(&h, g, &error), &error);
    assert_true(h.rope_factors && h.rope.scaling == ROPE_LINEAR && h.rope.factor == 4);
    check_ok(hparams_rope_frequencies(&h, &h.rope, g, out, &error), &error);
    plain = h;
    plain.rope_factors = false;
    plain.rope = (struct hparams_rope){.base = h.rope.base, .factor = 1};
    check_ok(hparams_rope_frequencies(&plain, &plain.rope, g, reference, &error), &error);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == reference[i] / 4 / (double)factors[i]);
    model_close(g);
    const float bad[] = {1, 1, 0, 1, 1, 1, 1, 1};
    m.factors = bad;
    g = small_model_open(&m);
    assert_int_equal(hparams_rope_frequencies(&h, &h.rope, g, out, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "factor 2"));
    model_close(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_is_read),
        cmocka_unit_test(test_absent_keys_have_defaults),
        cmocka_unit_test(test_what_we_would_compute_wrongly_is_refused),
        cmocka_unit_test(test_numbers_out_of_range_are_refused),
        cmocka_unit_test(test_frequencies_agree_with_pow),
        cmocka_unit_test(test_powers_of_two_are_exact),
        cmocka_unit_test(test_scaling_and_factors_divide),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
