/* tests/fuzz/seeds_huggingface.h - a directory of each model_type for fuzz_huggingface.c: hidden 4,
 * one head, a vocabulary of 2. */
#ifndef LONGSPAN_TESTS_FUZZ_SEEDS_HUGGINGFACE_H
#define LONGSPAN_TESTS_FUZZ_SEEDS_HUGGINGFACE_H

#include "tests/fuzz/huggingface_files.h"
#include "tests/fuzz/seeds.h"

/* The JSON of a safetensors file, and how many bytes of data it tells of. */
struct hf_header {
    char json[8192];
    size_t n, n_data;
};

static void hf_tensor(struct hf_header *h, const char *name, uint32_t rows, uint32_t columns)
{
    char shape[32];
    const size_t end = h->n_data + 4u * rows * (columns > 0 ? columns : 1);
    snprintf(shape, sizeof(shape), columns > 0 ? "%u,%u" : "%u", rows, columns);
    h->n +=
        (size_t)snprintf(h->json + h->n, sizeof(h->json) - h->n,
                         "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                         h->n == 0 ? "{" : ",", name, shape, h->n_data, end);
    assert_true(h->n < sizeof(h->json) - 1);
    h->n_data = end;
}

static void hf_layer_tensor(struct hf_header *h, uint32_t layer, const char *name, uint32_t rows,
                            uint32_t columns)
{
    char full[128];
    snprintf(full, sizeof(full), "model.layers.%u.%s.weight", layer, name);
    hf_tensor(h, full, rows, columns);
}

static void hf_put_header(uint8_t kind, struct hf_header *h)
{
    uint8_t piece[sizeof(h->json) + 2] = {(uint8_t)h->n_data, (uint8_t)(h->n_data >> 8)};
    h->json[h->n++] = '}';
    memcpy(piece + 2, h->json, h->n);
    put((uint8_t)(kind | HF_HEADER), piece, h->n + 2);
    *h = (struct hf_header){.n = 0};
}

struct hf_seed {
    const char *model_type, *rest; /* of config.json */
    uint32_t head_dim, n_experts;
    const char *router, *expert[3]; /* names below the layer; "%u" is the expert's number */
    bool biases, norms_of_heads, norms_of_sums, tied;
    uint32_t n_layers;
};

static void hf_feed_forward(struct hf_header *h, const struct hf_seed *m, uint32_t layer)
{
    if (m->n_experts == 0) {
        hf_layer_tensor(h, layer, "mlp.gate_proj", 8, 4);
        hf_layer_tensor(h, layer, "mlp.up_proj", 8, 4);
        hf_layer_tensor(h, layer, "mlp.down_proj", 4, 8);
        return;
    }
    hf_layer_tensor(h, layer, m->router, m->n_experts, 4);
    for (uint32_t e = 0; e < m->n_experts; e++)
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof(name), m->expert[i], e);
            hf_layer_tensor(h, layer, name, i == 2 ? 4 : 8, i == 2 ? 8 : 4);
        }
}

static void hf_layer(struct hf_header *h, const struct hf_seed *m, uint32_t layer)
{
    static const char *const projections[] = {"self_attn.q_proj", "self_attn.k_proj",
                                              "self_attn.v_proj"};
    hf_layer_tensor(h, layer, "input_layernorm", 4, 0);
    hf_layer_tensor(h, layer, "post_attention_layernorm", 4, 0);
    for (int i = 0; i < 3; i++) {
        char bias[64];
        hf_layer_tensor(h, layer, projections[i], m->head_dim, 4);
        snprintf(bias, sizeof(bias), "model.layers.%u.%s.bias", layer, projections[i]);
        if (m->biases)
            hf_tensor(h, bias, m->head_dim, 0);
    }
    hf_layer_tensor(h, layer, "self_attn.o_proj", 4, m->head_dim);
    if (m->norms_of_heads) {
        hf_layer_tensor(h, layer, "self_attn.q_norm", m->head_dim, 0);
        hf_layer_tensor(h, layer, "self_attn.k_norm", m->head_dim, 0);
    }
    if (m->norms_of_sums) {
        hf_layer_tensor(h, layer, "pre_feedforward_layernorm", 4, 0);
        hf_layer_tensor(h, layer, "post_feedforward_layernorm", 4, 0);
    }
    hf_feed_forward(h, m, layer);
}

static void hf_config(const struct hf_seed *m)
{
    char config[2048];
    snprintf(
        config, sizeof(config),
        "{\"model_type\":\"%s\",\"hidden_size\":4,\"intermediate_size\":8,"
        "\"num_hidden_layers\":%u,\"num_attention_heads\":1,\"num_key_value_heads\":1,"
        "\"vocab_size\":2,\"head_dim\":%u,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64%s}",
        m->model_type, m->n_layers, m->head_dim, m->rest);
    put_string(HF_FILE_CONFIG, config);
}

static void hf_ends(struct hf_header *h, const struct hf_seed *m)
{
    hf_tensor(h, "model.embed_tokens.weight", 2, 4);
    hf_tensor(h, "model.norm.weight", 4, 0);
    if (!m->tied)
        hf_tensor(h, "lm_head.weight", 2, 4);
}

static void huggingface_seeds(void)
{
    static const struct hf_seed seeds[] = {
        {"llama",
         ",\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
         "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":"
         "32}",
         .head_dim = 4, .n_layers = 1},
        {"mistral",
         ",\"sliding_window\":16,\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2.0,"
         "\"rope_theta\":1e4}",
         .head_dim = 4, .n_layers = 1},
        {"mixtral", ",\"num_local_experts\":2,\"num_experts_per_tok\":1", .head_dim = 4,
         .n_experts = 2, .router = "block_sparse_moe.gate",
         .expert = {"block_sparse_moe.experts.%u.w1", "block_sparse_moe.experts.%u.w3",
                    "block_sparse_moe.experts.%u.w2"},
         .n_layers = 1},
        {"qwen2",
         ",\"use_sliding_window\":false,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
         "\"original_max_position_embeddings\":16}",
         .head_dim = 4, .biases = true, .n_layers = 1},
        {"qwen3", ",\"tie_word_embeddings\":true", .head_dim = 8, .norms_of_heads = true,
         .tied = true, .n_layers = 1},
        {"qwen3_moe",
         ",\"num_experts\":2,\"num_experts_per_tok\":1,\"moe_intermediate_size\":8,\"norm_topk_"
         "prob\":true",
         .head_dim = 4, .n_experts = 2, .router = "mlp.gate",
         .expert = {"mlp.experts.%u.gate_proj", "mlp.experts.%u.up_proj",
                    "mlp.experts.%u.down_proj"},
         .norms_of_heads = true, .n_layers = 1},
        {"gemma2",
         ",\"hidden_activation\":\"gelu_pytorch_tanh\",\"sliding_window\":16,\"query_pre_attn_"
         "scalar\":4,"
         "\"attn_logit_softcapping\":50.0,\"final_logit_softcapping\":30.0,\"tie_word_embeddings\":"
         "true",
         .head_dim = 4, .norms_of_sums = true, .tied = true, .n_layers = 2},
        {"gemma3_text",
         ",\"hidden_activation\":\"gelu_pytorch_tanh\",\"sliding_window\":16,\"query_pre_attn_"
         "scalar\":4,"
         "\"rope_local_base_freq\":1e4,\"tie_word_embeddings\":true",
         .head_dim = 4, .norms_of_heads = true, .norms_of_sums = true, .tied = true,
         .n_layers = 2}};
    struct hf_header header = {.n = 0};
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
        hf_config(&seeds[i]);
        hf_ends(&header, &seeds[i]);
        for (uint32_t layer = 0; layer < seeds[i].n_layers; layer++)
            hf_layer(&header, &seeds[i], layer);
        hf_put_header(HF_FILE_WEIGHTS, &header);
        save_input("fuzz_huggingface", seeds[i].model_type);
    }

    static const struct hf_seed small = {"llama", "", .head_dim = 4,
                                         .n_layers = 1}; /* in two files */
    char index[4096] =
        "{\"metadata\":{},\"weight_map\":{\"model.embed_tokens.weight\":\"two.safetensors\","
        "\"model.norm.weight\":\"two.safetensors\","
        "\"model.layers.0.mlp.up_proj.weight\":\"model.safetensors\"}}";
    hf_config(&small);
    hf_ends(&header, &small);
    hf_put_header(HF_FILE_SECOND, &header);
    hf_layer(&header, &small, 0);
    hf_put_header(HF_FILE_WEIGHTS, &header);
    put_string(HF_FILE_INDEX, index);
    put_string(
        HF_FILE_TOKENIZER_CONFIG,
        "{\"chat_template\":[{\"name\":\"default\",\"template\":\"a\"},{\"name\":\"tool_use\","
        "\"template\":\"b\"}]}");
    save_input("fuzz_huggingface", "two-files");
}

#endif
