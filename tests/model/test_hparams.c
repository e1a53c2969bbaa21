/* Hyper-parameters come out as they stand in the file; whatever we would compute wrongly is refused
 * by name; rope frequencies are exact where they can be. */
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

#include <math.h>

static void test_a_model_is_read(void **state)
{
    struct small_model m = small_model;
    struct hparams h;
    struct error error = {0};
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
    m.architecture = "gptneox";
    refused(&m, STATUS_UNSUPPORTED, "'gptneox'");
    refused(&m, STATUS_UNSUPPORTED, "supported: llama (Llama 2 and 3, Mistral, Mixtral), qwen2");
    m = small_model;
    m.architecture = "qwen2";
    m.extra_u32 = "qwen2.expert_count";
    m.u32 = 8;
    refused(&m, STATUS_UNSUPPORTED, "experts");
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

static struct hparams read_model(const struct small_model *m)
{
    struct hparams h;
    struct error error = {0};
    struct model_file *file = small_model_open(m);
    check_ok(hparams_read(&h, file, &error), &error);
    model_close(file);
    return h;
}

static void test_every_architecture_is_read(void **state)
{
    static const struct {
        bool neox, qkv_bias, qk_norm, post_norms;
        float attention_cap, logit_cap, embedding_scale;
        uint32_t window;
    } expected[ARCHITECTURE_COUNT] = {
        [ARCHITECTURE_LLAMA] = {.embedding_scale = 1},
        [ARCHITECTURE_QWEN2] = {.neox = true, .qkv_bias = true, .embedding_scale = 1},
        [ARCHITECTURE_QWEN3] = {.neox = true, .qk_norm = true, .embedding_scale = 1},
        [ARCHITECTURE_QWEN3MOE] = {.neox = true, .qk_norm = true, .embedding_scale = 1},
        [ARCHITECTURE_GEMMA2] = {.neox = true,
                                 .post_norms = true,
                                 .attention_cap = 50,
                                 .logit_cap = 30,
                                 .embedding_scale = 8, /* sqrt(64) */
                                 .window = 4096},
        [ARCHITECTURE_GEMMA3] = {.neox = true,
                                 .qk_norm = true,
                                 .post_norms = true,
                                 .embedding_scale = 8},
        [ARCHITECTURE_GRANITE] = {.embedding_scale = 1},
        [ARCHITECTURE_SMOLLM3] = {.embedding_scale = 1},
        [ARCHITECTURE_PHI3] = {.neox = true, .embedding_scale = 1},
        [ARCHITECTURE_GLM4] = {.post_norms = true, .embedding_scale = 1}};
    for (int i = 0; i < ARCHITECTURE_COUNT; i++) {
        const struct small_model m = small_model_of((enum architecture)i);
        const struct hparams h = read_model(&m);
        assert_int_equal(h.architecture, i);
        assert_true(h.rope_neox == expected[i].neox && h.qkv_bias == expected[i].qkv_bias);
        assert_true(h.qk_norm == expected[i].qk_norm && h.post_norms == expected[i].post_norms);
        assert_true(h.attention_cap == expected[i].attention_cap);
        assert_true(h.logit_cap == expected[i].logit_cap);
        assert_true(h.embedding_scale == expected[i].embedding_scale);
        assert_true(h.attention_scale == 0.25f); /* of 16 dimensions */
        assert_int_equal(h.window, expected[i].window);
        assert_false(h.output_bias || h.has_local_rope || h.tied);
        assert_true(h.norm_offset == 0 && h.residual_scale == 1 && h.logit_scale == 1);
        assert_int_equal(h.unturned_period, i == ARCHITECTURE_SMOLLM3 ? 4 : 0);
    }
}

static void test_experts_are_read(void **state)
{
    struct small_model m = small_model_experts(small_model);
    struct hparams h = read_model(&m);
    assert_int_equal(h.n_experts, 6);
    assert_int_equal(h.n_experts_used, 2);
    assert_int_equal(h.ffn_expert, 96); /* feed_forward_length, as Mixtral's files have it */
    assert_int_equal(h.ffn, 0);
    assert_true(h.experts_normalised);
    m.extra_u32 = "llama.expert_feed_forward_length";
    m.u32 = 32;
    assert_int_equal(read_model(&m).ffn_expert, 32);
    m.without_key = "llama.feed_forward_length"; /* which is of no layer then */
    assert_int_equal(read_model(&m).ffn_expert, 32);
    h = read_model(&small_model);
    assert_true(h.n_experts == 0 && h.ffn == 96 && h.ffn_expert == 0);
}

static void test_experts_that_are_none_of_ours_are_refused(void **state)
{
    static const struct {
        const char *without, *key;
        uint32_t value;
        enum status status;
    } odd[] = {
        {"llama.expert_used_count", NULL, 0, STATUS_INVALID},
        {"llama.feed_forward_length", NULL, 0, STATUS_INVALID},
        {"llama.expert_used_count", "llama.expert_used_count", 0, STATUS_INVALID},
        {"llama.expert_used_count", "llama.expert_used_count", 7, STATUS_INVALID},
        {"llama.expert_count", "llama.expert_count", 5000, STATUS_INVALID},
        {NULL, "llama.expert_feed_forward_length", 0, STATUS_INVALID},
        {NULL, "llama.expert_feed_forward_length", UINT32_MAX, STATUS_INVALID},
        {NULL, "llama.expert_shared_count", 1, STATUS_UNSUPPORTED},
        {NULL, "llama.expert_shared_feed_forward_length", 64, STATUS_UNSUPPORTED},
        {NULL, "llama.expert_gating_func", 2, STATUS_UNSUPPORTED},
        {NULL, "llama.expert_group_count", 4, STATUS_UNSUPPORTED},
        {NULL, "llama.leading_dense_block_count", 1, STATUS_UNSUPPORTED},
        {NULL, "llama.interleave_moe_layer_step", 2, STATUS_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct small_model m = small_model_experts(small_model);
        m.without_key = odd[i].without;
        m.extra_u32 = odd[i].key;
        m.u32 = odd[i].value;
        refused(&m, odd[i].status, odd[i].key != NULL ? odd[i].key : odd[i].without);
    }
    struct small_model m = small_model_of(ARCHITECTURE_QWEN3MOE);
    m.without_key = "qwen3moe.expert_count";
    refused(&m, STATUS_INVALID, "qwen3moe.expert_count");
    m = small_model_of(ARCHITECTURE_QWEN3MOE);
    m.extra_f32 = "qwen3moe.expert_weights_scale";
    m.f32 = 2.5f;
    refused(&m, STATUS_UNSUPPORTED, "expert_weights_scale");
}

static void test_parts_that_are_optional_are_found(void **state)
{
    struct small_model m = small_model;
    m.h.qkv_bias = m.h.output_bias = true;
    const struct hparams h = read_model(&m);
    assert_true(h.qkv_bias && h.output_bias);
}

/* Caps and scales in the file stand above the architecture's. */
static void test_scales_and_caps_are_the_files(void **state)
{
    struct small_model m = small_model_of(ARCHITECTURE_GEMMA2);
    m.extra_f32 = "gemma2.attn_logit_softcapping";
    m.f32 = 20;
    assert_true(read_model(&m).attention_cap == 20);
    m.extra_f32 = "gemma2.final_logit_softcapping";
    m.f32 = 0;
    assert_true(read_model(&m).logit_cap == 0);
    m.extra_f32 = "gemma2.attention.scale";
    m.f32 = 0.5f;
    assert_true(read_model(&m).attention_scale == 0.5f);
    m.extra_f32 = "longspan.norm.offset";
    m.f32 = 1;
    assert_true(read_model(&m).norm_offset == 1);
    m.f32 = 0.5f;
    refused(&m, STATUS_INVALID, "norm.offset");
    /* Gemma 2 27B and Gemma 3 27B: 4608 / 32 and 5376 / 32 */
    struct hparams h = {.n_layers = 46, .hidden = 4608, .n_heads = 32, .head_dim = 128};
    hparams_complete(&h, ARCHITECTURE_GEMMA2);
    assert_true(h.attention_scale == 1.0f / 12);
    h.n_layers = 62;
    h.hidden = 5376;
    hparams_complete(&h, ARCHITECTURE_GEMMA3);
    assert_true(h.attention_scale == 1.0f / sqrtf(168));
    hparams_complete(&h, ARCHITECTURE_GEMMA2);
    assert_true(h.attention_scale == 1.0f / sqrtf(128));
}

static void test_granites_scales_are_read(void **state)
{
    struct small_model m = small_model_of(ARCHITECTURE_GRANITE);
    m.f32 = 12;
    m.extra_f32 = "granite.embedding_scale";
    assert_true(read_model(&m).embedding_scale == 12);
    m.extra_f32 = "granite.residual_scale";
    assert_true(read_model(&m).residual_scale == 12);
    m.extra_f32 = "granite.logit_scale";
    assert_true(read_model(&m).logit_scale == 12);
    m.f32 = 0; /* none */
    assert_true(read_model(&m).logit_scale == 1);
    m.f32 = -1;
    refused(&m, STATUS_INVALID, "granite.logit_scale");
    m.extra_f32 = "granite.attention.clamp_kqv";
    m.f32 = 8;
    refused(&m, STATUS_UNSUPPORTED, "clamp_kqv");
}

static void test_some_layers_do_not_turn(void **state)
{
    struct small_model m = small_model_of(ARCHITECTURE_SMOLLM3);
    m.h.n_layers = 8;
    struct hparams h = read_model(&m);
    for (uint32_t layer = 0; layer < 8; layer++)
        assert_ptr_equal(hparams_layer_rope(&h, layer), layer % 4 == 3 ? NULL : &h.rope);
    m.extra_u32 = "smollm3.rope.unturned_period";
    m.u32 = 0;
    h = read_model(&m);
    assert_ptr_equal(hparams_layer_rope(&h, 3), &h.rope);
}

static void test_windows_and_local_ropes_are_by_layer(void **state)
{
    struct small_model m = small_model;
    m.extra_u32 = "llama.attention.sliding_window";
    m.u32 = 64;
    struct hparams h = read_model(&m);
    assert_true(hparams_window(&h, 0) == 64 && hparams_window(&h, 1) == 64);
    assert_ptr_equal(hparams_layer_rope(&h, 0), &h.rope);

    m = small_model_of(ARCHITECTURE_GEMMA2);
    m.extra_u32 = "gemma2.attention.sliding_window";
    m.u32 = 100;
    h = read_model(&m);
    assert_true(hparams_window(&h, 0) == 100 && hparams_window(&h, 1) == 0);
    assert_ptr_equal(hparams_layer_rope(&h, 0), &h.rope);

    m = small_model_of(ARCHITECTURE_GEMMA3);
    m.h.n_layers = 7;
    m.h.rope.base = 1e6;
    m.extra_u32 = "gemma3.attention.sliding_window";
    m.u32 = 512;
    m.extra_f32 = "gemma3.rope.scale_linear";
    m.f32 = 8;
    h = read_model(&m);
    assert_true(h.has_local_rope && h.local_rope.base == 10000);
    assert_true(h.local_rope.scaling == ROPE_PLAIN && h.rope.scaling == ROPE_LINEAR);
    for (uint32_t layer = 0; layer < 7; layer++) {
        assert_int_equal(hparams_window(&h, layer), layer == 5 ? 0 : 512);
        assert_ptr_equal(hparams_layer_rope(&h, layer), layer == 5 ? &h.rope : &h.local_rope);
    }
    m.extra_f32 = "gemma3.rope.freq_base_swa";
    m.f32 = 5000;
    assert_true(read_model(&m).local_rope.base == 5000);
    m.extra_u32 = "gemma3.attention.sliding_window_pattern"; /* and no window */
    m.u32 = 3;
    h = read_model(&m);
    assert_true(!h.has_local_rope && hparams_window(&h, 0) == 0);
    assert_int_equal(h.window_period, 3);
}

static void test_numbers_out_of_range_are_refused(void **state)
{
    static const char *const needed[] = {"llama.block_count", "llama.embedding_length",
                                         "llama.feed_forward_length", "llama.attention.head_count",
                                         "llama.attention.layer_norm_rms_epsilon"};
    struct small_model m;
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

/* The equations of the papers as they stand there, in long double. */
static long double llama3_frequency(long double plain, const struct hparams_rope *rope)
{
    const long double wavelength = 2 * acosl(-1.0L) / plain;
    const long double low = rope->original_context / rope->slow;
    const long double high = rope->original_context / rope->fast;
    if (wavelength > low)
        return plain / rope->factor;
    if (wavelength < high)
        return plain;
    const long double smooth =
        (rope->original_context / wavelength - rope->slow) / (rope->fast - rope->slow);
    return (1 - smooth) * plain / rope->factor + smooth * plain;
}

static long double yarn_frequency(long double plain, const struct hparams_rope *rope,
                                  uint32_t n_dims, uint32_t pair)
{
    const long double log_base = logl((long double)rope->base), two_pi = 2 * acosl(-1.0L);
    const long double context = rope->original_context;
    const long double low = floorl(n_dims * logl(context / (rope->fast * two_pi)) / (2 * log_base));
    const long double high = ceill(n_dims * logl(context / (rope->slow * two_pi)) / (2 * log_base));
    const long double from = low > 0 ? low : 0, to = high < n_dims - 1 ? high : n_dims - 1;
    long double ramp = (pair - from) / (to > from ? to - from : 0.001L);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return plain / rope->factor * ramp + plain * (1 - ramp);
}

static void test_unequal_scalings_are_those_of_the_papers(void **state)
{
    static const double bases[] = {500, 10000, 500000, 1000000};
    static const double contexts[] = {64, 4096, 8192, 32768};
    double out[128];
    for (size_t b = 0; b < sizeof(bases) / sizeof(bases[0]); b++)
        for (size_t c = 0; c < sizeof(contexts) / sizeof(contexts[0]); c++)
            for (uint32_t n_dims = 16; n_dims <= 256; n_dims *= 2)
                for (int yarn = 0; yarn < 2; yarn++) {
                    const struct hparams h = {.rope_dims = n_dims,
                                              .rope = {.base = bases[b],
                                                       .scaling = yarn ? ROPE_YARN : ROPE_LLAMA3,
                                                       .factor = 8,
                                                       .original_context = contexts[c],
                                                       .slow = 1,
                                                       .fast = yarn ? 32 : 4}};
                    assert_int_equal(hparams_rope_frequencies(&h, &h.rope, NULL, out, NULL),
                                     STATUS_OK);
                    for (uint32_t i = 0; i < n_dims / 2; i++) {
                        const long double plain =
                            powl((long double)bases[b], -2.0L * i / (long double)n_dims);
                        const long double exact = yarn ? yarn_frequency(plain, &h.rope, n_dims, i)
                                                       : llama3_frequency(plain, &h.rope);
                        assert_true(fabsl(out[i] - exact) <= 1e-13L * exact);
                    }
                }
    for (double factor = 1; factor < 1e6; factor *= 1.7)
        assert_true(fabs(hparams_yarn_growth(factor, 0.7) - (1 + 0.07 * log(factor))) < 1e-14);
    assert_true(hparams_yarn_growth(0.5, 1) == 1);
}

static void test_scalings_are_read(void **state)
{
    struct small_model m = small_model;
    m.extra_text = "llama.rope.scaling.type";
    m.text = "yarn";
    m.extra_f32 = "llama.rope.scaling.factor";
    m.f32 = 4;
    m.extra_u32 = "llama.rope.scaling.original_context_length";
    m.u32 = 512;
    struct hparams h = read_model(&m);
    assert_true(h.rope.scaling == ROPE_YARN && h.rope.factor == 4 &&
                h.rope.original_context == 512);
    assert_true(h.rope.slow == 1 && h.rope.fast == 32);
    assert_true(h.rope.magnitude == (float)(1 + 0.1 * log(4)));
    m.extra_u32 = NULL;
    assert_true(read_model(&m).rope.original_context == 2048); /* what it was trained for */
    m.without_key = "llama.context_length";
    refused(&m, STATUS_INVALID, "original_context_length is missing");
    m.without_key = NULL;
    m.extra_f32 = "llama.rope.scaling.yarn_attn_factor"; /* and no factor */
    m.f32 = 1.5f;
    assert_true(read_model(&m).rope.magnitude == 1.5f);
    m.extra_f32 = "llama.rope.scaling.yarn_beta_fast";
    m.f32 = 1;
    refused(&m, STATUS_INVALID, "between 1 and 1 turns");
    m.h.rope.base = 1;
    m.extra_f32 = NULL;
    refused(&m, STATUS_INVALID, "base 1");
    m.h.rope.base = 10000;
    m.text = "llama3";
    m.extra_f32 = "llama.rope.scaling.high_freq_factor";
    m.f32 = 8;
    h = read_model(&m);
    assert_true(h.rope.scaling == ROPE_LLAMA3 && h.rope.slow == 1 && h.rope.fast == 8);
    assert_true(h.rope.magnitude == 1);
    m.text = "linear";
    m.extra_f32 = "llama.rope.scaling.factor";
    for (int i = 0; i < 4; i++) {
        m.f32 = (const float[]){0, -1, NAN, INFINITY}[i];
        refused(&m, STATUS_INVALID, "scaling.factor");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_is_read),
        cmocka_unit_test(test_absent_keys_have_defaults),
        cmocka_unit_test(test_every_architecture_is_read),
        cmocka_unit_test(test_experts_are_read),
        cmocka_unit_test(test_experts_that_are_none_of_ours_are_refused),
        cmocka_unit_test(test_parts_that_are_optional_are_found),
        cmocka_unit_test(test_scales_and_caps_are_the_files),
        cmocka_unit_test(test_granites_scales_are_read),
        cmocka_unit_test(test_some_layers_do_not_turn),
        cmocka_unit_test(test_windows_and_local_ropes_are_by_layer),
        cmocka_unit_test(test_scalings_are_read),
        cmocka_unit_test(test_unequal_scalings_are_those_of_the_papers),
        cmocka_unit_test(test_what_we_would_compute_wrongly_is_refused),
        cmocka_unit_test(test_numbers_out_of_range_are_refused),
        cmocka_unit_test(test_frequencies_agree_with_pow),
        cmocka_unit_test(test_powers_of_two_are_exact),
        cmocka_unit_test(test_scaling_and_factors_divide),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
