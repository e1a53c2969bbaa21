/* hf_names.c - one table: what follows "model.layers.N." there, and "blk.N." here. */
#include "model/huggingface/hf_names.h"

#include <stdio.h>
#include <string.h>

#define LLAMA   (1u << HF_NAMES_LLAMA)
#define MIXTRAL (1u << HF_NAMES_MIXTRAL)
#define QWEN    (1u << HF_NAMES_QWEN_MOE)
#define GEMMA   (1u << HF_NAMES_GEMMA)
#define PHI3    (1u << HF_NAMES_PHI3)
#define GLM4    (1u << HF_NAMES_GLM4)
#define ALL     (LLAMA | MIXTRAL | QWEN | GEMMA | PHI3 | GLM4)

static const struct row {
    unsigned namings;    /* which have it */
    const char *hf_name; /* an expert's number is at the '*' of both */
    const char *name;
} rows[] = {
    {ALL, "input_layernorm.weight", "attn_norm.weight"},
    {ALL, "self_attn.q_proj.weight", "attn_q.weight"},
    {ALL, "self_attn.k_proj.weight", "attn_k.weight"},
    {ALL, "self_attn.v_proj.weight", "attn_v.weight"},
    {ALL, "self_attn.o_proj.weight", "attn_output.weight"},
    {ALL, "self_attn.q_proj.bias", "attn_q.bias"},
    {ALL, "self_attn.k_proj.bias", "attn_k.bias"},
    {ALL, "self_attn.v_proj.bias", "attn_v.bias"},
    {ALL, "self_attn.o_proj.bias", "attn_output.bias"},
    {ALL, "self_attn.q_norm.weight", "attn_q_norm.weight"},
    {ALL, "self_attn.k_norm.weight", "attn_k_norm.weight"},
    {LLAMA | GEMMA, "mlp.gate_proj.weight", "ffn_gate.weight"},
    {LLAMA | GEMMA, "mlp.up_proj.weight", "ffn_up.weight"},
    {LLAMA | GEMMA | PHI3 | GLM4, "mlp.down_proj.weight", "ffn_down.weight"},
    {PHI3, "self_attn.qkv_proj.weight", "attn_qkv.weight"}, /* row_cut.h */
    {PHI3 | GLM4, "mlp.gate_up_proj.weight", "ffn_up.weight"},
    {LLAMA | MIXTRAL | QWEN | PHI3 | GLM4, "post_attention_layernorm.weight", "ffn_norm.weight"},
    {GLM4, "post_self_attn_layernorm.weight", "post_attention_norm.weight"},
    {GLM4, "post_mlp_layernorm.weight", "post_ffw_norm.weight"},
    {GEMMA, "post_attention_layernorm.weight", "post_attention_norm.weight"},
    {GEMMA, "pre_feedforward_layernorm.weight", "ffn_norm.weight"},
    {GEMMA, "post_feedforward_layernorm.weight", "post_ffw_norm.weight"},
    {QWEN, "mlp.gate.weight", "ffn_gate_inp.weight"},
    {QWEN, "mlp.experts.*.gate_proj.weight", "ffn_gate.*.weight"},
    {QWEN, "mlp.experts.*.up_proj.weight", "ffn_up.*.weight"},
    {QWEN, "mlp.experts.*.down_proj.weight", "ffn_down.*.weight"},
    {MIXTRAL, "block_sparse_moe.gate.weight", "ffn_gate_inp.weight"},
    {MIXTRAL, "block_sparse_moe.experts.*.w1.weight", "ffn_gate.*.weight"},
    {MIXTRAL, "block_sparse_moe.experts.*.w3.weight", "ffn_up.*.weight"},
    {MIXTRAL, "block_sparse_moe.experts.*.w2.weight", "ffn_down.*.weight"},
};

/* Digits without a leading zero, below `end`; returns what follows them, or NULL. */
static const char *take_number(const char *text, uint32_t end, uint32_t *number)
{
    uint64_t value = 0;
    const char *at = text;
    while (*at >= '0' && *at <= '9' && value < end)
        value = value * 10 + (uint64_t)(*at++ - '0');
    if (at == text || value >= end || (text[0] == '0' && at != text + 1))
        return NULL;
    *number = (uint32_t)value;
    return at;
}

static bool matches(const char *text, const char *pattern, uint32_t n_experts, uint32_t *expert)
{
    const char *star = strchr(pattern, '*');
    if (star == NULL)
        return strcmp(text, pattern) == 0;
    if (strncmp(text, pattern, (size_t)(star - pattern)) != 0)
        return false;
    const char *rest = take_number(text + (star - pattern), n_experts, expert);
    return rest != NULL && strcmp(rest, star + 1) == 0;
}

/* Once per model. */
static enum hf_name_kind translate_once(char name[HF_NAME_BYTES], const char *hf_name, bool tied)
{
    static const char *const names[][2] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                           {"model.norm.weight", "output_norm.weight"},
                                           {"lm_head.weight", "output.weight"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(hf_name, names[i][0]) == 0) {
            snprintf(name, HF_NAME_BYTES, "%s", names[i][1]);
            return i == 2 && tied ? HF_NAME_IGNORED : HF_NAME_TENSOR;
        }
    return HF_NAME_UNKNOWN;
}

enum hf_name_kind hf_name_translate(char name[HF_NAME_BYTES], const char *hf_name,
                                    const struct hf_config *config)
{
    static const char layers[] = "model.layers.";
    uint32_t layer, expert = 0;
    if (strncmp(hf_name, layers, sizeof(layers) - 1) != 0)
        return translate_once(name, hf_name, config->tied);
    const char *rest = take_number(hf_name + sizeof(layers) - 1, config->n_layers, &layer);
    if (rest == NULL || *rest++ != '.')
        return HF_NAME_UNKNOWN;
    if (strcmp(rest, "self_attn.rotary_emb.inv_freq") == 0)
        return HF_NAME_IGNORED;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if ((rows[i].namings & 1u << config->naming) != 0 &&
            matches(rest, rows[i].hf_name, config->n_experts, &expert)) {
            const char *star = strchr(rows[i].name, '*');
            if (star == NULL)
                snprintf(name, HF_NAME_BYTES, "blk.%u.%s", layer, rows[i].name);
            else
                snprintf(name, HF_NAME_BYTES, "blk.%u.%.*s%u%s", layer, (int)(star - rows[i].name),
                         rows[i].name, expert, star + 1);
            return HF_NAME_TENSOR;
        }
    return HF_NAME_UNKNOWN;
}
