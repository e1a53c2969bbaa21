/* hf_config.c - a table of model types, and one function for each part of a model.
 *
 * Sizes only have to be counts here: what they may be is for hparams_read to see. */
#include "model/huggingface/hf_config_internal.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct hf_family families[] = {
    {"llama", "llama", HF_NAMES_LLAMA, 10000, 1e-6, 0, 0, 0, false},
    {"mistral", "llama", HF_NAMES_LLAMA, 10000, 1e-6, 8, 0, 4096, false},
    {"mixtral", "llama", HF_NAMES_MIXTRAL, 1e6, 1e-5, 8, 0, 0, false},
    {"qwen2", "qwen2", HF_NAMES_LLAMA, 10000, 1e-6, 32, 0, 4096, false},
    {"qwen3", "qwen3", HF_NAMES_LLAMA, 10000, 1e-6, 32, 128, 4096, false},
    {"qwen3_moe", "qwen3moe", HF_NAMES_QWEN_MOE, 10000, 1e-6, 4, 0, 4096, false},
    {"gemma2", "gemma2", HF_NAMES_GEMMA, 10000, 1e-6, 4, 256, 4096, true},
    {"gemma3_text", "gemma3", HF_NAMES_GEMMA, 1e6, 1e-6, 4, 256, 4096, true},
    {"granite", "granite", HF_NAMES_LLAMA, 10000, 1e-6, 0, 0, 0, false},
    {"smollm3", "smollm3", HF_NAMES_LLAMA, 2e6, 1e-6, 4, 0, 0, true},
    {"phi3", "phi3", HF_NAMES_PHI3, 10000, 1e-5, 0, 0, 0, false},
    {"glm4", "glm4", HF_NAMES_GLM4, 10000, 1.5625e-7, 2, 128, 0, false},
};
#define MOST_LAYERS 4096u
enum { N_FAMILIES = sizeof(families) / sizeof(families[0]) };

/* ---- entries --------------------------------------------------------------------------------- */

const json_t *hf_find(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static void wrong_type(struct hf_reader *reader, const char *name, const char *wanted)
{
    if (reader->status == STATUS_OK)
        reader->status = error_set(reader->error, STATUS_INVALID, "%s: %.64s is not %s",
                                   reader->path, name, wanted);
}

void hf_read_count(struct hf_reader *reader, const json_t *object, const char *name,
                   uint32_t *value)
{
    const json_t *entry = hf_find(object, name);
    if (entry == NULL)
        return;
    if (!json_is_integer(entry) || json_integer_value(entry) < 0 ||
        json_integer_value(entry) > UINT32_MAX)
        wrong_type(reader, name, "a count of 32 bits");
    else
        *value = (uint32_t)json_integer_value(entry);
}

void hf_read_real(struct hf_reader *reader, const json_t *object, const char *name, double *value)
{
    const json_t *entry = hf_find(object, name);
    if (entry == NULL)
        return;
    const double number = json_number_value(entry);
    if (!json_is_number(entry) || number > (double)FLT_MAX || number < -(double)FLT_MAX)
        wrong_type(reader, name, "a number that f32 can hold");
    else
        *value = number;
}

void hf_read_bool(struct hf_reader *reader, const json_t *object, const char *name, bool *value)
{
    const json_t *entry = hf_find(object, name);
    if (entry == NULL)
        return;
    if (!json_is_boolean(entry))
        wrong_type(reader, name, "true or false");
    else
        *value = json_is_true(entry);
}

void hf_read_text(struct hf_reader *reader, const json_t *object, const char *name,
                  const char **value)
{
    const json_t *entry = hf_find(object, name);
    if (entry == NULL)
        return;
    if (!json_is_string(entry))
        wrong_type(reader, name, "a text");
    else
        *value = json_string_value(entry);
}

void hf_refuse(struct hf_reader *reader, const char *name, const char *value)
{
    if (reader->status != STATUS_OK)
        return;
    if (value == NULL)
        reader->status =
            error_set(reader->error, STATUS_UNSUPPORTED,
                      "%s: entry '%.64s' is not known here, and ignoring it might give wrong "
                      "answers; take it out if it says nothing about the model's results",
                      reader->path, name);
    else
        reader->status =
            error_set(reader->error, STATUS_UNSUPPORTED,
                      "%s: %.64s is %.64s, which is not supported", reader->path, name, value);
}

/* An entry that every model has. */
static uint32_t need_count(struct hf_reader *reader, const char *name)
{
    uint32_t value = 0;
    if (reader->status == STATUS_OK && hf_find(reader->root, name) == NULL)
        reader->status =
            error_set(reader->error, STATUS_INVALID, "%s: %s is missing", reader->path, name);
    hf_read_count(reader, reader->root, name, &value);
    return value;
}

/* ---- parts of a model ------------------------------------------------------------------------ */

/* "llama, mistral, ...", cut where it does not fit. */
static const char *list_families(char *text, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < N_FAMILIES && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i == 0 ? "" : ", ",
                               families[i].model_type);
    return text;
}

static void read_family(struct hf_reader *reader)
{
    const char *type = "";
    char list[512];
    hf_read_text(reader, reader->root, "model_type", &type);
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(type, families[i].model_type) == 0)
            reader->family = &families[i];
    if (reader->status == STATUS_OK && reader->family == NULL)
        reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                   "%s: model_type '%.64s' is not supported; supported: %s",
                                   reader->path, type, list_families(list, sizeof(list)));
}

static void check_class(struct hf_reader *reader)
{
    static const char end[] = "ForCausalLM";
    const char *name = json_string_value(json_array_get(hf_find(reader->root, "architectures"), 0));
    const size_t n = name == NULL ? 0 : strlen(name);
    if (name != NULL && (n < sizeof(end) - 1 || strcmp(name + n - (sizeof(end) - 1), end) != 0))
        hf_refuse(reader, "architectures", name);
}

static void check_activation(struct hf_reader *reader)
{
    const char *wanted = reader->family->naming == HF_NAMES_GEMMA ? "gelu_pytorch_tanh" : "silu";
    const char *act = wanted, *activation = wanted;
    hf_read_text(reader, reader->root, "hidden_act", &act);
    hf_read_text(reader, reader->root, "hidden_activation", &activation);
    if (strcmp(act, wanted) != 0)
        hf_refuse(reader, "hidden_act", act);
    if (strcmp(activation, wanted) != 0)
        hf_refuse(reader, "hidden_activation", activation);
}

static void read_sizes(struct hf_reader *reader, struct hf_config *config)
{
    struct hf_keys *keys = reader->keys;
    const uint32_t hidden = need_count(reader, "hidden_size");
    const uint32_t n_heads = need_count(reader, "num_attention_heads");
    /* null is "as many as heads"; that there is no such entry is not. */
    uint32_t n_kv_heads = json_object_get(reader->root, "num_key_value_heads") != NULL
                              ? 0
                              : reader->family->n_kv_heads;
    uint32_t head_dim = reader->family->head_dim, context = 0;
    double eps = reader->family->rms_norm_eps;
    config->n_layers = need_count(reader, "num_hidden_layers");
    const uint32_t ffn = need_count(reader, "intermediate_size");
    const uint32_t vocab = need_count(reader, "vocab_size");
    hf_read_count(reader, reader->root, "num_key_value_heads", &n_kv_heads);
    hf_read_count(reader, reader->root, "head_dim", &head_dim);
    hf_read_count(reader, reader->root, "max_position_embeddings", &context);
    hf_read_real(reader, reader->root, "rms_norm_eps", &eps);
    if (head_dim == 0 && n_heads > 0)
        head_dim = hidden / n_heads;
    if (n_kv_heads == 0)
        n_kv_heads = n_heads;
    if (reader->status == STATUS_OK && config->n_layers > MOST_LAYERS)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: num_hidden_layers is %u; at most %u are possible",
                                   reader->path, config->n_layers, MOST_LAYERS);
    hf_keys_add_u32(keys, ".block_count", config->n_layers);
    hf_keys_add_u32(keys, ".embedding_length", hidden);
    hf_keys_add_u32(keys, ".feed_forward_length", ffn);
    hf_keys_add_u32(keys, ".vocab_size", vocab);
    hf_keys_add_u32(keys, ".attention.head_count", n_heads);
    hf_keys_add_u32(keys, ".attention.head_count_kv", n_kv_heads);
    hf_keys_add_u32(keys, ".attention.key_length", head_dim);
    hf_keys_add_u32(keys, ".attention.value_length", head_dim);
    hf_keys_add_f32(keys, ".attention.layer_norm_rms_epsilon", (float)eps);
    if (context > 0)
        hf_keys_add_u32(keys, ".context_length", context);
    hf_read_rope(reader, head_dim, context);
}

/* Whether layer `i` has a window by layer_types, an array of so many layers. */
static bool has_window(struct hf_reader *reader, const json_t *types, uint32_t i)
{
    const char *type = json_string_value(json_array_get(types, i));
    const bool window = type != NULL && strcmp(type, "sliding_attention") == 0;
    if (!window && (type == NULL || strcmp(type, "full_attention") != 0))
        hf_refuse(reader, "layer_types", type == NULL ? "no list of texts" : type);
    return window;
}

/* Every n-th layer of Gemma sees everything. */
static void read_pattern(struct hf_reader *reader, const json_t *types, uint32_t n_layers)
{
    uint32_t period = strcmp(reader->family->model_type, "gemma2") == 0 ? 2 : 6;
    hf_read_count(reader, reader->root, "_sliding_window_pattern", &period);
    hf_read_count(reader, reader->root, "sliding_window_pattern", &period);
    for (uint32_t i = 0; types != NULL && period > 0 && reader->status == STATUS_OK && i < n_layers;
         i++)
        if (has_window(reader, types, i) != ((i + 1) % period != 0))
            hf_refuse(reader, "layer_types", "not of one period");
    hf_keys_add_u32(reader->keys, ".attention.sliding_window_pattern", period);
}

/* All layers, or none. */
static bool read_windowed(struct hf_reader *reader, const json_t *types, uint32_t n_layers)
{
    uint32_t n_windows = 0, n_full = 28;
    hf_read_count(reader, reader->root, "max_window_layers", &n_full);
    for (uint32_t i = 0; reader->status == STATUS_OK && i < n_layers; i++)
        n_windows += types != NULL ? has_window(reader, types, i) : i >= n_full;
    if (n_windows > 0 && n_windows < n_layers)
        hf_refuse(reader, types != NULL ? "layer_types" : "max_window_layers",
                  "other for some layers than for others");
    return n_windows > 0;
}

static void read_window(struct hf_reader *reader, uint32_t n_layers)
{
    const struct hf_family *family = reader->family;
    const json_t *types = hf_find(reader->root, "layer_types");
    const bool qwen = strncmp(family->model_type, "qwen", 4) == 0;
    const bool gemma = family->naming == HF_NAMES_GEMMA;
    const bool layered = qwen && family->naming != HF_NAMES_QWEN_MOE; /* from some layer on */
    bool used = !qwen;
    /* null is "none"; that there is no such entry is not. */
    uint32_t window =
        json_object_get(reader->root, "sliding_window") != NULL ? 0 : family->sliding_window;
    hf_read_count(reader, reader->root, "sliding_window", &window);
    hf_read_bool(reader, reader->root, "use_sliding_window", &used);
    if (types != NULL && json_array_size(types) != n_layers)
        hf_refuse(reader, "layer_types", "no list with an entry for each layer");
    if (strcmp(family->model_type, "llama") == 0 || !used)
        window = 0;
    if (window > 0 && gemma)
        read_pattern(reader, types, n_layers);
    else if (window > 0 && (layered || types != NULL) && !read_windowed(reader, types, n_layers))
        window = 0;
    if (window > 0)
        hf_keys_add_u32(reader->keys, ".attention.sliding_window", window);
    else if (gemma)
        hf_refuse(reader, "sliding_window", "not set");
}

static void read_gemma(struct hf_reader *reader)
{
    double scalar = 256, scores = 0, logits = 0;
    if (reader->family->naming != HF_NAMES_GEMMA)
        return;
    if (strcmp(reader->family->model_type, "gemma2") == 0) { /* as with windows: null is none */
        scores = json_object_get(reader->root, "attn_logit_softcapping") != NULL ? 0 : 50;
        logits = json_object_get(reader->root, "final_logit_softcapping") != NULL ? 0 : 30;
    }
    hf_read_real(reader, reader->root, "query_pre_attn_scalar", &scalar);
    hf_read_real(reader, reader->root, "attn_logit_softcapping", &scores);
    hf_read_real(reader, reader->root, "final_logit_softcapping", &logits);
    if (!(scalar > 0))
        hf_refuse(reader, "query_pre_attn_scalar", "not above 0");
    hf_keys_add_f32(reader->keys, ".attention.scale", 1.0f / sqrtf((float)scalar));
    hf_keys_add_f32(reader->keys, ".attn_logit_softcapping", (float)scores);
    hf_keys_add_f32(reader->keys, ".final_logit_softcapping", (float)logits);
    hf_keys_add_f32(reader->keys, "longspan.norm.offset", 1);
}

/* Factors, with the names of GGUF's keys; what has none there is 1, which an absent entry is. */
static void read_granite(struct hf_reader *reader)
{
    static const char *const scales[][2] = {{"attention_multiplier", ".attention.scale"},
                                            {"embedding_multiplier", ".embedding_scale"},
                                            {"residual_multiplier", ".residual_scale"},
                                            {"logits_scaling", ".logit_scale"}};
    if (strcmp(reader->family->model_type, "granite") != 0)
        return;
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        double scale = 1;
        hf_read_real(reader, reader->root, scales[i][0], &scale);
        if (!(scale > 0)) /* a key of 0 says that there is none */
            hf_refuse(reader, scales[i][0], "not above 0");
        hf_keys_add_f32(reader->keys, scales[i][1], (float)scale);
    }
}

/* Layers without rope, where the list has 0: every n-th. */
static void read_unturned(struct hf_reader *reader, uint32_t n_layers)
{
    const json_t *turned = hf_find(reader->root, "no_rope_layers");
    uint32_t period = 4;
    if (strcmp(reader->family->model_type, "smollm3") != 0)
        return;
    hf_read_count(reader, reader->root, "no_rope_layer_interval", &period);
    if (turned != NULL && json_array_size(turned) != n_layers)
        hf_refuse(reader, "no_rope_layers", "no list with an entry for each layer");
    for (uint32_t i = 0; turned != NULL && reader->status == STATUS_OK && i < n_layers; i++)
        if ((json_integer_value(json_array_get(turned, i)) != 0) !=
            (period == 0 || (i + 1) % period != 0))
            hf_refuse(reader, "no_rope_layers", "not of the period no_rope_layer_interval");
    hf_keys_add_u32(reader->keys, ".rope.unturned_period", period);
}

static void read_experts(struct hf_reader *reader, struct hf_config *config)
{
    uint32_t step = 1, ffn = 0;
    bool normed = reader->family->naming == HF_NAMES_MIXTRAL;
    if (reader->family->naming != HF_NAMES_MIXTRAL && reader->family->naming != HF_NAMES_QWEN_MOE)
        return;
    hf_read_count(reader, reader->root, "num_experts", &config->n_experts);
    hf_read_count(reader, reader->root, "num_local_experts", &config->n_experts);
    if (reader->status == STATUS_OK && config->n_experts == 0)
        reader->status =
            error_set(reader->error, STATUS_INVALID, "%s: num_experts is missing", reader->path);
    hf_keys_add_u32(reader->keys, ".expert_count", config->n_experts);
    hf_keys_add_u32(reader->keys, ".expert_used_count", need_count(reader, "num_experts_per_tok"));
    if (reader->family->naming == HF_NAMES_MIXTRAL)
        return;
    ffn = need_count(reader, "moe_intermediate_size");
    hf_keys_add_u32(reader->keys, ".expert_feed_forward_length", ffn);
    hf_read_bool(reader, reader->root, "norm_topk_prob", &normed);
    hf_keys_add_bool(reader->keys, ".expert_weights_norm", normed);
    hf_read_count(reader, reader->root, "decoder_sparse_step", &step);
    if (step != 1)
        hf_refuse(reader, "decoder_sparse_step", "other than 1");
    if (json_array_size(hf_find(reader->root, "mlp_only_layers")) > 0)
        hf_refuse(reader, "mlp_only_layers", "a list of layers");
}

enum status hf_config_read(struct hf_config *config, struct hf_keys *keys, const json_t *root,
                           const char *path, struct error *error)
{
    struct hf_config c = {.tied = false};
    struct hf_reader reader = {
        .root = root, .path = path, .keys = keys, .error = error, .status = STATUS_OK};
    read_family(&reader);
    if (reader.status != STATUS_OK)
        return reader.status;
    const struct hf_family *family = reader.family;
    keys->prefix = family->architecture;
    hf_keys_add_string(keys, "general.architecture", keys->prefix, strlen(keys->prefix));
    hf_keys_add_bool(keys, "longspan.rope.neox", family->naming != HF_NAMES_GLM4);
    c.naming = family->naming;
    c.tied = family->tied;
    hf_check_entries(&reader);
    check_class(&reader);
    check_activation(&reader);
    read_sizes(&reader, &c);
    read_window(&reader, c.n_layers);
    read_gemma(&reader);
    read_granite(&reader);
    read_unturned(&reader, c.n_layers);
    read_experts(&reader, &c);
    hf_read_bool(&reader, root, "tie_word_embeddings", &c.tied);
    if (reader.status == STATUS_OK && keys->failed)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its keys", path);
    if (reader.status == STATUS_OK)
        *config = c;
    return reader.status;
}
