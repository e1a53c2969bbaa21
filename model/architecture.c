/* architecture.c - the table. */
#include "model/architecture.h"

#include <stdio.h>
#include <string.h>

static const struct architecture_traits table[ARCHITECTURE_COUNT] = {
    [ARCHITECTURE_LLAMA] = {.name = "llama",
                            .models = "Llama 2 and 3, Mistral, Mixtral",
                            .qkv_bias = PART_OPTIONAL,
                            .output_bias = PART_OPTIONAL,
                            .experts = PART_OPTIONAL,
                            .window_period = 1},
    [ARCHITECTURE_QWEN2] = {.name = "qwen2",
                            .models = "Qwen 2 and 2.5",
                            .neox = true,
                            .qkv_bias = PART_ALWAYS},
    [ARCHITECTURE_QWEN3] = {.name = "qwen3",
                            .models = "Qwen 3",
                            .neox = true,
                            .qkv_bias = PART_OPTIONAL,
                            .output_bias = PART_OPTIONAL,
                            .qk_norm = PART_ALWAYS},
    [ARCHITECTURE_QWEN3MOE] = {.name = "qwen3moe",
                               .models = "Qwen 3 with experts",
                               .neox = true,
                               .qkv_bias = PART_OPTIONAL,
                               .output_bias = PART_OPTIONAL,
                               .qk_norm = PART_ALWAYS,
                               .experts = PART_ALWAYS},
    /* Gemma 2 (Gemma Team 2024, arXiv 2408.00118), Gemma 3 (2025, arXiv 2503.19786). The 27B models
     * have 46 and 62 layers; files do not say that their scores are scaled otherwise. */
    [ARCHITECTURE_GEMMA2] = {.name = "gemma2",
                             .models = "Gemma 2",
                             .neox = true,
                             .activation = ACTIVATION_GELU,
                             .post_norms = true,
                             .scaled_embedding = true,
                             .window_period = 2,
                             .window = 4096,
                             .attention_cap = 50,
                             .logit_cap = 30,
                             .wide_scale = 46},
    [ARCHITECTURE_GEMMA3] = {.name = "gemma3",
                             .models = "Gemma 3, text",
                             .neox = true,
                             .activation = ACTIVATION_GELU,
                             .qk_norm = PART_ALWAYS,
                             .post_norms = true,
                             .scaled_embedding = true,
                             .window_period = 6,
                             .local_rope = 10000,
                             .wide_scale = 62},
    [ARCHITECTURE_GRANITE] = {.name = "granite",
                              .models = "Granite 3",
                              .qkv_bias = PART_OPTIONAL,
                              .output_bias = PART_OPTIONAL,
                              .scales = true},
    /* Every fourth layer has no rope (Yang et al. 2025, arXiv 2501.18795); files do not say so. */
    [ARCHITECTURE_SMOLLM3] = {.name = "smollm3",
                              .models = "SmolLM 3",
                              .qkv_bias = PART_OPTIONAL,
                              .output_bias = PART_OPTIONAL,
                              .unturned_period = 4},
    [ARCHITECTURE_PHI3] = {.name = "phi3",
                           .models = "Phi 3 and 4",
                           .neox = true,
                           .window_period = 1},
    [ARCHITECTURE_GLM4] = {.name = "glm4",
                           .models = "GLM 4 (0414)",
                           .qkv_bias = PART_OPTIONAL,
                           .post_norms = true},
};

const struct architecture_traits *architecture_traits(enum architecture architecture)
{
    return &table[architecture];
}

bool architecture_find(const char *name, size_t n, enum architecture *architecture)
{
    for (int i = 0; i < ARCHITECTURE_COUNT; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0) {
            *architecture = (enum architecture)i;
            return true;
        }
    return false;
}

const char *architecture_list(char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < ARCHITECTURE_COUNT && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s (%s)", i == 0 ? "" : ", ", table[i].name,
                               table[i].models);
    return text;
}
