/* Each model_type gives the keys that a GGUF file of the model has, in both spellings of
 * config.json; what would change the results and is not done is refused by name. */
#include "model/huggingface/hf_config.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

#define SIZES                                                                                      \
    "\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":4,"                         \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":100,"                      \
    "\"max_position_embeddings\":4096"
#define CONFIG(type, rest) "{\"model_type\":\"" type "\"," SIZES rest "}"

static enum status read(const char *text, struct hf_config *config, struct hf_keys *keys,
                        struct error *error)
{
    json_error_t why;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL)
        fail_msg("%s: %s", why.text, text);
    *keys = (struct hf_keys){0};
    const enum status status = hf_config_read(config, keys, root, "config.json", error);
    json_decref(root);
    return status;
}

static const struct model_key *find(const struct hf_keys *keys, const char *name)
{
    for (size_t i = 0; i < keys->n; i++)
        if (strcmp(keys->keys[i].name, name) == 0)
            return &keys->keys[i];
    return NULL;
}

/* "key=value key=value !key": these keys with these values, and not the last one. */
static void expect(const char *text, const char *wanted)
{
    struct hf_config config;
    struct hf_keys keys;
    struct error error = {0};
    char list[1024], *rest = list;
    if (read(text, &config, &keys, &error) != STATUS_OK)
        fail_msg("%s: %s", error.text, text);
    snprintf(list, sizeof(list), "%s", wanted);
    for (char *word; (word = strsep(&rest, " ")) != NULL;) {
        char value[64] = "", *name = strsep(&word, "=");
        const struct model_key *key = find(&keys, name[0] == '!' ? name + 1 : name);
        if (key != NULL && key->type == GGUF_VALUE_U32)
            snprintf(value, sizeof(value), "%u", *(const uint32_t *)(const void *)key->data);
        else if (key != NULL && key->type == GGUF_VALUE_F32)
            snprintf(value, sizeof(value), "%g", (double)*(const float *)(const void *)key->data);
        else if (key != NULL && key->type == GGUF_VALUE_BOOL)
            snprintf(value, sizeof(value), "%u", key->data[0]);
        else if (key != NULL)
            snprintf(value, sizeof(value), "%.*s", (int)key->n_bytes - 8, key->data + 8);
        if (name[0] == '!' ? key != NULL : word == NULL || strcmp(value, word) != 0)
            fail_msg("%s is '%s' in %s", name, value, text);
    }
    hf_keys_free(&keys);
}

static void refused(const char *text, enum status expected, const char *words)
{
    struct hf_config config;
    struct hf_keys keys;
    struct error error = {0};
    const enum status status = read(text, &config, &keys, &error);
    if (status != expected || strstr(error.text, words) == NULL)
        fail_msg("%s: %s; expected '%s' of %s", status_name(status), error.text, words, text);
    hf_keys_free(&keys);
}

static void test_sizes(void **state)
{
    expect(CONFIG("llama", ""),
           "general.architecture=llama llama.block_count=4 llama.embedding_length=64 "
           "llama.feed_forward_length=96 llama.vocab_size=100 llama.context_length=4096 "
           "llama.attention.head_count=4 llama.attention.head_count_kv=2 "
           "llama.attention.key_length=16 llama.attention.value_length=16 "
           "llama.rope.dimension_count=16 llama.rope.freq_base=10000 "
           "llama.attention.layer_norm_rms_epsilon=1e-06 longspan.rope.neox=1 "
           "!llama.attention.sliding_window !longspan.norm.offset !llama.rope.scaling.type");
    expect(CONFIG("llama", ",\"head_dim\":32,\"rms_norm_eps\":1e-5,\"partial_rotary_factor\":0.5"),
           "llama.attention.key_length=32 llama.rope.dimension_count=16 "
           "llama.attention.layer_norm_rms_epsilon=1e-05");
    expect(CONFIG("qwen3", ""), "qwen3.attention.key_length=128");
    expect(CONFIG("llama", ",\"head_dim\":null,\"attention_bias\":true,\"_name_or_path\":\"x\","
                           "\"unknown\":null,\"neither\":false,\"torch_dtype\":\"bfloat16\""),
           "llama.attention.key_length=16");
    expect("{\"model_type\":\"mistral\",\"hidden_size\":64,\"intermediate_size\":96,"
           "\"num_hidden_layers\":4,\"num_attention_heads\":4,\"vocab_size\":100,"
           "\"num_key_value_heads\":null}",
           "llama.attention.head_count_kv=4");
    expect("{\"model_type\":\"mistral\",\"hidden_size\":64,\"intermediate_size\":96,"
           "\"num_hidden_layers\":4,\"num_attention_heads\":16,\"vocab_size\":100}",
           "llama.attention.head_count_kv=8");
}

static void test_both_spellings_of_rope(void **state)
{
    expect(CONFIG("llama", ",\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\","
                           "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                           "\"original_max_position_embeddings\":1024}"),
           "llama.rope.freq_base=500000 llama.rope.scaling.type=llama3 llama.rope.scaling.factor=8 "
           "llama.rope.scaling.low_freq_factor=1 llama.rope.scaling.high_freq_factor=4 "
           "llama.rope.scaling.original_context_length=1024");
    expect(CONFIG("llama", ",\"rope_parameters\":{\"rope_theta\":500000,\"rope_type\":\"llama3\","
                           "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                           "\"original_max_position_embeddings\":1024}"),
           "llama.rope.freq_base=500000 llama.rope.scaling.type=llama3 "
           "llama.rope.scaling.original_context_length=1024");
    expect(CONFIG("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}"),
           "llama.rope.scaling.type=linear llama.rope.scaling.factor=2");
    expect(CONFIG("qwen2", ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
                           "\"attention_factor\":1.5,\"beta_fast\":16}"),
           "qwen2.rope.scaling.type=yarn qwen2.rope.scaling.factor=4 "
           "qwen2.rope.scaling.yarn_attn_factor=1.5 qwen2.rope.scaling.yarn_beta_fast=16 "
           "qwen2.rope.scaling.original_context_length=4096 !qwen2.rope.scaling.yarn_beta_slow");
    expect(CONFIG("llama", ",\"rope_parameters\":{\"rope_theta\":1e4,\"rope_type\":\"default\"}"),
           "llama.rope.freq_base=10000 !llama.rope.scaling.type");
    expect(CONFIG("mixtral", ",\"num_local_experts\":8,\"num_experts_per_tok\":2"),
           "llama.rope.freq_base=1e+06 llama.expert_count=8 llama.expert_used_count=2");
}

static void test_windows(void **state)
{
    expect(CONFIG("mistral", ""), "llama.attention.sliding_window=4096"); /* as the class has it */
    expect(CONFIG("mistral", ",\"sliding_window\":null"), "!llama.attention.sliding_window");
    expect(CONFIG("mistral", ",\"sliding_window\":32"), "llama.attention.sliding_window=32");
    expect(CONFIG("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":false"),
           "!qwen2.attention.sliding_window");
    expect(CONFIG("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":true,"
                           "\"max_window_layers\":4"),
           "!qwen2.attention.sliding_window");
    expect(CONFIG("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":true,"
                           "\"max_window_layers\":0"),
           "qwen2.attention.sliding_window=32");
    refused(CONFIG("qwen2", ",\"sliding_window\":32,\"use_sliding_window\":true,"
                            "\"max_window_layers\":2"),
            STATUS_UNSUPPORTED, "max_window_layers");
    expect(CONFIG("gemma2", ",\"layer_types\":[\"sliding_attention\",\"full_attention\","
                            "\"sliding_attention\",\"full_attention\"]"),
           "gemma2.attention.sliding_window=4096 gemma2.attention.sliding_window_pattern=2");
    refused(CONFIG("gemma2", ",\"layer_types\":[\"full_attention\",\"full_attention\","
                             "\"sliding_attention\",\"full_attention\"]"),
            STATUS_UNSUPPORTED, "layer_types");
    refused(CONFIG("gemma2", ",\"layer_types\":[\"full_attention\"]"), STATUS_UNSUPPORTED,
            "layer_types");
    refused(CONFIG("mistral", ",\"layer_types\":[\"linear_attention\",1,2,3]"), STATUS_UNSUPPORTED,
            "linear_attention");
    expect(CONFIG("llama", ",\"sliding_window\":32"), "!llama.attention.sliding_window");
}

static void test_gemma(void **state)
{
    expect(CONFIG("gemma2", ",\"query_pre_attn_scalar\":64"),
           "general.architecture=gemma2 gemma2.attention.scale=0.125 longspan.norm.offset=1 "
           "gemma2.attn_logit_softcapping=50 gemma2.final_logit_softcapping=30 "
           "gemma2.attention.key_length=256");
    expect(CONFIG("gemma2", ",\"attn_logit_softcapping\":null,\"final_logit_softcapping\":20"),
           "gemma2.attn_logit_softcapping=0 gemma2.final_logit_softcapping=20");
    expect(
        CONFIG("gemma3_text",
               ",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":2e6,\"rope_type\":"
               "\"linear\",\"factor\":8},\"sliding_attention\":{\"rope_theta\":1e4,\"rope_type\":"
               "\"default\"}}"),
        "gemma3.rope.freq_base=2e+06 gemma3.rope.freq_base_swa=10000 "
        "gemma3.rope.scaling.type=linear gemma3.rope.scaling.factor=8 "
        "gemma3.attn_logit_softcapping=0 gemma3.attention.sliding_window_pattern=6");
    expect(CONFIG("gemma3_text", ",\"rope_theta\":1e6,\"rope_local_base_freq\":5000,"
                                 "\"sliding_window_pattern\":3"),
           "gemma3.rope.freq_base_swa=5000 gemma3.attention.sliding_window_pattern=3");
    refused(CONFIG("gemma2", ",\"hidden_activation\":\"gelu\""), STATUS_UNSUPPORTED,
            "hidden_activation is gelu");
}

static void test_granite(void **state)
{
    expect(CONFIG("granite", ",\"attention_multiplier\":0.015625,\"embedding_multiplier\":12.0,"
                             "\"residual_multiplier\":0.25,\"logits_scaling\":8"),
           "general.architecture=granite granite.attention.scale=0.015625 "
           "granite.embedding_scale=12 granite.residual_scale=0.25 granite.logit_scale=8 "
           "longspan.rope.neox=1");
    expect(CONFIG("granite", ""), "granite.attention.scale=1 granite.logit_scale=1");
    refused(CONFIG("granite", ",\"logits_scaling\":0"), STATUS_UNSUPPORTED, "logits_scaling");
    refused(CONFIG("smollm3", ",\"logits_scaling\":8"), STATUS_UNSUPPORTED, "'logits_scaling'");
}

static void test_layers_without_rope(void **state)
{
    expect(CONFIG("smollm3", ",\"no_rope_layers\":[1,1,1,0]"),
           "general.architecture=smollm3 smollm3.rope.unturned_period=4 "
           "smollm3.rope.freq_base=2e+06 !smollm3.attention.sliding_window");
    expect(CONFIG("smollm3", ",\"no_rope_layer_interval\":2,\"no_rope_layers\":[1,0,1,0]"),
           "smollm3.rope.unturned_period=2");
    refused(CONFIG("smollm3", ",\"no_rope_layers\":[1,0,1,0]"), STATUS_UNSUPPORTED,
            "no_rope_layers");
    refused(CONFIG("smollm3", ",\"no_rope_layers\":[1,1,1]"), STATUS_UNSUPPORTED, "no_rope_layers");
    refused(CONFIG("llama", ",\"no_rope_layers\":[1,1,1,0]"), STATUS_UNSUPPORTED,
            "'no_rope_layers'");
}

static void test_phi_and_glm(void **state)
{
    expect(CONFIG("phi3", ",\"embd_pdrop\":0.1,\"original_max_position_embeddings\":4096,"
                          "\"sliding_window\":2047,\"rope_scaling\":null"),
           "general.architecture=phi3 phi3.attention.sliding_window=2047 longspan.rope.neox=1 "
           "phi3.attention.layer_norm_rms_epsilon=1e-05");
    refused(CONFIG("phi3", ",\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1]}"),
            STATUS_UNSUPPORTED, "rope_type is longrope");
    expect(CONFIG("glm4", ""), "general.architecture=glm4 glm4.attention.key_length=128 "
                               "glm4.rope.dimension_count=64 longspan.rope.neox=0");
    expect(CONFIG("glm4", ",\"rope_parameters\":{\"partial_rotary_factor\":0.25}"),
           "glm4.rope.dimension_count=32");
}

static void test_ties(void **state)
{
    static const struct {
        const char *text;
        bool tied;
    } cases[] = {{CONFIG("llama", ""), false},
                 {CONFIG("llama", ",\"tie_word_embeddings\":true"), true},
                 {CONFIG("gemma2", ""), true},
                 {CONFIG("gemma2", ",\"tie_word_embeddings\":false"), false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hf_config config;
        struct hf_keys keys;
        assert_int_equal(read(cases[i].text, &config, &keys, NULL), STATUS_OK);
        assert_int_equal(config.tied, cases[i].tied);
        assert_int_equal(config.n_layers, 4);
        hf_keys_free(&keys);
    }
}

static void test_what_is_not_supported_is_named(void **state)
{
    refused(CONFIG("bert", ""), STATUS_UNSUPPORTED, "model_type 'bert'");
    refused("{" SIZES "}", STATUS_UNSUPPORTED, "model_type ''");
    refused(CONFIG("llama", ",\"architectures\":[\"LlamaForSequenceClassification\"]"),
            STATUS_UNSUPPORTED, "LlamaForSequenceClassification");
    refused(CONFIG("llama", ",\"hidden_act\":\"relu\""), STATUS_UNSUPPORTED, "hidden_act is relu");
    refused(CONFIG("llama", ",\"quantization_config\":{\"bits\":4}"), STATUS_UNSUPPORTED,
            "'quantization_config'");
    refused(CONFIG("llama", ",\"residual_multiplier\":0.2"), STATUS_UNSUPPORTED,
            "'residual_multiplier'");
    refused(CONFIG("llama", ",\"mlp_bias\":true"), STATUS_UNSUPPORTED, "'mlp_bias'");
    refused(CONFIG("llama", ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"),
            STATUS_UNSUPPORTED, "rope_type is dynamic");
    refused(CONFIG("llama", ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"odd\":1}"),
            STATUS_UNSUPPORTED, "'odd'");
    refused(
        CONFIG("llama", ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"truncate\":false}"),
        STATUS_UNSUPPORTED, "truncate");
    refused(CONFIG("llama", ",\"rope_scaling\":\"linear\""), STATUS_UNSUPPORTED, "no object");
    refused(CONFIG("gemma3_text",
                   ",\"rope_parameters\":{\"full_attention\":{},\"sliding_attention\":5}"),
            STATUS_UNSUPPORTED, "no object");
    refused(CONFIG("gemma3_text", ",\"rope_parameters\":{\"full_attention\":{},"
                                  "\"sliding_attention\":{\"odd\":1}}"),
            STATUS_UNSUPPORTED, "'odd'");
    refused(CONFIG("qwen3_moe", ",\"num_experts\":8,\"num_experts_per_tok\":2,"
                                "\"moe_intermediate_size\":32,\"decoder_sparse_step\":2"),
            STATUS_UNSUPPORTED, "decoder_sparse_step");
    refused(CONFIG("qwen3_moe", ",\"num_experts\":8,\"num_experts_per_tok\":2,"
                                "\"moe_intermediate_size\":32,\"mlp_only_layers\":[1]"),
            STATUS_UNSUPPORTED, "mlp_only_layers");
}

static void test_entries_of_the_wrong_kind(void **state)
{
    refused("{\"model_type\":\"llama\",\"hidden_size\":64}", STATUS_INVALID, "is missing");
    refused("{\"model_type\":7}", STATUS_INVALID, "model_type is not a text");
    refused(CONFIG("llama", ",\"head_dim\":-1"), STATUS_INVALID, "head_dim is not a count");
    refused(CONFIG("llama", ",\"head_dim\":\"16\""), STATUS_INVALID, "head_dim is not a count");
    refused(CONFIG("llama", ",\"head_dim\":4294967296"), STATUS_INVALID, "head_dim is not a count");
    refused(CONFIG("llama", ",\"rms_norm_eps\":1e60"), STATUS_INVALID, "rms_norm_eps is not");
    refused(CONFIG("llama", ",\"rms_norm_eps\":true"), STATUS_INVALID, "rms_norm_eps is not");
    refused(CONFIG("llama", ",\"tie_word_embeddings\":1"), STATUS_INVALID, "tie_word_embeddings");
    refused("{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,"
            "\"num_hidden_layers\":4000000000,\"num_attention_heads\":4,\"vocab_size\":100}",
            STATUS_INVALID, "num_hidden_layers is 4000000000");
    refused(CONFIG("qwen3_moe", ",\"num_experts_per_tok\":2,\"moe_intermediate_size\":32"),
            STATUS_INVALID, "num_experts is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_both_spellings_of_rope),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_gemma),
        cmocka_unit_test(test_granite),
        cmocka_unit_test(test_layers_without_rope),
        cmocka_unit_test(test_phi_and_glm),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_what_is_not_supported_is_named),
        cmocka_unit_test(test_entries_of_the_wrong_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
