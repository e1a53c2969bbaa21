/* hparams.c - every number is range-checked as it is read, so that later code may multiply them
 * without thinking of overflow: the limits below keep every product under 2^63. */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_LAYERS  4096u
#define MAX_HEADS   4096u
#define MAX_WIDTH   (1u << 20) /* hidden, ffn * 1, heads * head_dim */
#define MAX_FFN     (1u << 22)
#define MAX_EXPERTS 4096u
#define MAX_VOCAB   (1u << 24)

enum { KEY_BYTES = 96 };

struct reader {
    const struct model_file *file;
    struct error *error;
    enum status status; /* the first failure; afterwards nothing is read */
    enum architecture architecture;
    const struct architecture_traits *traits;
    char key[KEY_BYTES]; /* the name of the key that is being read */
};

/* "llama.SUFFIX" goes to reader->key. False: it is not in the file, or something failed before. */
static bool find(struct reader *reader, const char *suffix)
{
    if (reader->status != STATUS_OK)
        return false;
    snprintf(reader->key, sizeof(reader->key), "%s.%s", reader->traits->name, suffix);
    return model_key_find(reader->file, reader->key) != NULL;
}

/* Reads "llama.SUFFIX", `least` to `most`. With `optional`, an absent key leaves *value. */
static void read_number(struct reader *reader, const char *suffix, uint32_t least, uint32_t most,
                        bool optional, uint32_t *value)
{
    uint32_t number;
    const bool found = find(reader, suffix);
    if (reader->status != STATUS_OK || (optional && !found))
        return;
    reader->status = model_get_u32(reader->file, reader->key, &number, reader->error);
    if (reader->status == STATUS_NOT_FOUND)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: key %s is missing: no %s model without it",
                                   model_path(reader->file), reader->key, reader->traits->name);
    if (reader->status != STATUS_OK)
        return;
    if (number < least || number > most) {
        reader->status =
            error_set(reader->error, STATUS_INVALID, "%s: %s is %u; %u to %u is possible",
                      model_path(reader->file), reader->key, number, least, most);
        return;
    }
    *value = number;
}

static void read_count(struct reader *reader, const char *suffix, uint32_t most, bool optional,
                       uint32_t *value)
{
    read_number(reader, suffix, 1, most, optional, value);
}

/* A number from `least` on, or (`above`) beyond it. An absent key leaves *value. */
static void read_real(struct reader *reader, const char *suffix, bool above, float least,
                      float most, float *value)
{
    float number;
    if (!find(reader, suffix))
        return;
    reader->status = model_get_f32(reader->file, reader->key, &number, reader->error);
    if (reader->status != STATUS_OK)
        return;
    if (!(number >= least && number <= most) || (above && number == least)) { /* also NaN */
        reader->status =
            error_set(reader->error, STATUS_INVALID, "%s: %s is %g; %s %g and up to %g is possible",
                      model_path(reader->file), reader->key, (double)number,
                      above ? "above" : "at least", (double)least, (double)most);
        return;
    }
    *value = number;
}

static void read_positive(struct reader *reader, const char *suffix, float most, float *value)
{
    read_real(reader, suffix, true, 0, most, value);
}

static int shown(struct model_string text) /* bytes of it in a message */
{
    return (int)(text.n_bytes < 64 ? text.n_bytes : 64);
}

static void read_architecture(struct reader *reader)
{
    struct model_string name;
    char list[512];
    reader->status = model_get_string(reader->file, "general.architecture", &name, reader->error);
    if (reader->status == STATUS_NOT_FOUND)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: key general.architecture is missing: no model in it",
                                   model_path(reader->file));
    if (reader->status != STATUS_OK)
        return;
    if (!architecture_find(name.data, name.n_bytes, &reader->architecture))
        reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                   "%s: architecture '%.*s' is not supported; supported: %s",
                                   model_path(reader->file), shown(name), name.data,
                                   architecture_list(list, sizeof(list)));
    else
        reader->traits = architecture_traits(reader->architecture);
}

/* Whether a feature that others lack is one of this architecture's. */
static bool architecture_has(const struct architecture_traits *traits, const char *suffix)
{
    if (strcmp(suffix, "expert_count") == 0)
        return traits->experts != PART_NEVER;
    return strcmp(suffix, "attention.sliding_window") == 0 && traits->window_period > 0;
}

/* Features of other models in the same architecture; running without them gives wrong answers. */
static void refuse_features(struct reader *reader)
{
    static const struct {
        const char *suffix, *what;
        uint64_t most; /* that means no such feature */
    } refused[] = {
        {"expert_shared_count", "experts that all rows share", 0},
        {"expert_shared_feed_forward_length", "experts that all rows share", 0},
        {"expert_gating_func", "a choice of experts by other than softmax", 1},
        {"expert_group_count", "experts chosen by groups", 1},
        {"leading_dense_block_count", "layers of which some have no experts", 0},
        {"interleave_moe_layer_step", "layers of which some have no experts", 1},
        {"moe_every_n_layers", "layers of which some have no experts", 1},
        {"expert_count", "a mixture of experts", 0},
        {"attention.sliding_window", "sliding-window attention", 0},
    };
    static const char *const scales[] = {
        "attention.clamp_kqv",
        "expert_weights_scale",
        "attention.max_alibi_bias", /* the rest: granite has them */
        "logit_scale",
        "embedding_scale",
        "residual_scale"};
    const size_t n_own = reader->traits->scales ? 3 : 0;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        uint64_t n = 0;
        if (!find(reader, refused[i].suffix) || architecture_has(reader->traits, refused[i].suffix))
            continue;
        reader->status = model_get_u64(reader->file, reader->key, &n, reader->error);
        if (reader->status == STATUS_OK && n > refused[i].most)
            reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                       "%s: %s (%s is %llu) is not supported in %s models",
                                       model_path(reader->file), refused[i].what, reader->key,
                                       (unsigned long long)n, reader->traits->name);
    }
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]) - n_own; i++) {
        float scale = 0;
        if (!find(reader, scales[i]))
            continue;
        reader->status = model_get_f32(reader->file, reader->key, &scale, reader->error);
        if (reader->status == STATUS_OK && scale != 0) /* 0 is "none" */
            reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                       "%s: %s is %g; a %s model with this key is not supported",
                                       model_path(reader->file), reader->key, (double)scale,
                                       reader->traits->name);
    }
}

static void read_heads(struct reader *reader, struct hparams *h)
{
    const char *path = model_path(reader->file);
    read_count(reader, "attention.head_count", MAX_HEADS, false, &h->n_heads);
    h->n_kv_heads = h->n_heads;
    read_count(reader, "attention.head_count_kv", MAX_HEADS, true, &h->n_kv_heads);
    uint32_t value_length = 0;
    read_count(reader, "attention.key_length", 4096, true, &h->head_dim);
    read_count(reader, "attention.value_length", 4096, true, &value_length);
    if (reader->status != STATUS_OK)
        return;
    if (h->n_heads % h->n_kv_heads != 0) {
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: %u query heads are not divisible by %u KV heads", path,
                                   h->n_heads, h->n_kv_heads);
        return;
    }
    if (h->head_dim == 0 && value_length == 0) {
        if (h->hidden % h->n_heads != 0) {
            reader->status = error_set(reader->error, STATUS_INVALID,
                                       "%s: embedding length %u is not divisible by %u heads, and "
                                       "%s.attention.key_length is missing",
                                       path, h->hidden, h->n_heads, reader->traits->name);
            return;
        }
        h->head_dim = value_length = h->hidden / h->n_heads;
    }
    if (h->head_dim != value_length) {
        reader->status =
            error_set(reader->error, STATUS_UNSUPPORTED,
                      "%s: keys of %u and values of %u dimensions per head; only equal "
                      "ones are supported (0: the key is missing)",
                      path, h->head_dim, value_length);
        return;
    }
    if ((uint64_t)h->n_heads * h->head_dim > MAX_WIDTH)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: %u heads of %u dimensions; at most %u in all are possible",
                                   path, h->n_heads, h->head_dim, MAX_WIDTH);
}

/* The feed-forward part: dense, or experts. */
static void read_ffn(struct reader *reader, struct hparams *h)
{
    const enum architecture_part experts = reader->traits->experts;
    if (experts != PART_NEVER)
        read_number(reader, "expert_count", experts == PART_ALWAYS, MAX_EXPERTS,
                    experts != PART_ALWAYS, &h->n_experts);
    if (h->n_experts == 0) {
        read_count(reader, "feed_forward_length", MAX_FFN, false, &h->ffn);
        return;
    }
    read_count(reader, "expert_used_count", h->n_experts, false, &h->n_experts_used);
    read_count(reader, "expert_feed_forward_length", MAX_FFN, true, &h->ffn_expert);
    if (h->ffn_expert == 0)
        read_count(reader, "feed_forward_length", MAX_FFN, false, &h->ffn_expert);
    h->experts_normalised = true;
    if (find(reader, "expert_weights_norm"))
        reader->status =
            model_get_bool(reader->file, reader->key, &h->experts_normalised, reader->error);
}

/* ---- rope ------------------------------------------------------------------------------------ */

/* Where a scaling that treats pairs unequally cuts them. The file may leave out yarn's. */
static void read_turns(struct reader *reader, const char *slow_key, const char *fast_key,
                       struct hparams *h)
{
    struct hparams_rope *rope = &h->rope;
    float slow = (float)rope->slow, fast = (float)rope->fast;
    uint32_t context = h->context_train;
    read_count(reader, "rope.scaling.original_context_length", UINT32_MAX, context > 0, &context);
    read_positive(reader, slow_key, 1e6f, &slow);
    read_positive(reader, fast_key, 1e6f, &fast);
    if (reader->status == STATUS_OK && (!(slow < fast) || rope->base <= 1))
        reader->status = error_set(
            reader->error, STATUS_INVALID,
            "%s: rope scaling between %g and %g turns, with base %g; the first must be less than "
            "the second (%s.%s, %s.%s), and the base more than 1",
            model_path(reader->file), (double)slow, (double)fast, rope->base, reader->traits->name,
            slow_key, reader->traits->name, fast_key);
    rope->original_context = context;
    rope->slow = (double)slow;
    rope->fast = (double)fast;
}

/* YaRN's growth of cosines: files give it whole (attention_factor of a config.json, which
 * converters call yarn_attn_factor), or by a weight that divides it (mscale_all_dim:
 * yarn_log_multiplier). */
static void read_yarn(struct reader *reader, struct hparams *h)
{
    float weight = 0, whole = 0, times = 1, extrapolation = 1;
    h->rope.slow = 1;
    h->rope.fast = 32;
    read_turns(reader, "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_beta_fast", h);
    read_real(reader, "rope.scaling.yarn_log_multiplier", false, 0, 100, &weight);
    read_positive(reader, "rope.scaling.yarn_attn_factor", 100, &whole);
    read_positive(reader, "rope.scaling.attn_factor", 100, &times);
    read_real(reader, "rope.scaling.yarn_ext_factor", false, -1, 100, &extrapolation);
    if (reader->status == STATUS_OK && extrapolation != 1 && extrapolation != -1) /* -1: not said */
        reader->status =
            error_set(reader->error, STATUS_UNSUPPORTED, "%s: %s is %g; only 1 is supported",
                      model_path(reader->file), reader->key, (double)extrapolation);
    const double growth = hparams_yarn_growth(h->rope.factor, 1) /
                          hparams_yarn_growth(h->rope.factor, (double)weight);
    h->rope.magnitude = times * (whole > 0 ? whole : (float)growth);
}

static void read_scaling(struct reader *reader, struct hparams *h)
{
    struct model_string type = {"none", 4};
    float factor = 1;
    if (find(reader, "rope.scaling.type"))
        reader->status = model_get_string(reader->file, reader->key, &type, reader->error);
    else if (find(reader, "rope.scale_linear")) { /* the older spelling of linear scaling */
        type = (struct model_string){"linear", 6};
        read_positive(reader, "rope.scale_linear", 1e6f, &factor);
    }
    if (reader->status != STATUS_OK || model_string_equals(type, "none"))
        return;
    read_positive(reader, "rope.scaling.factor", 1e6f, &factor);
    h->rope.factor = (double)factor;
    if (model_string_equals(type, "linear")) {
        h->rope.scaling = ROPE_LINEAR;
    } else if (model_string_equals(type, "llama3")) {
        h->rope.scaling = ROPE_LLAMA3;
        h->rope.slow = 1;
        h->rope.fast = 4;
        read_turns(reader, "rope.scaling.low_freq_factor", "rope.scaling.high_freq_factor", h);
    } else if (model_string_equals(type, "yarn")) {
        h->rope.scaling = ROPE_YARN;
        read_yarn(reader, h);
    } else if (reader->status == STATUS_OK) {
        reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                   "%s: rope scaling '%.*s' is not supported; supported: none, "
                                   "linear, yarn, llama3, and factors in rope_freqs.weight",
                                   model_path(reader->file), shown(type), type.data);
    }
}

static void read_rope(struct reader *reader, struct hparams *h)
{
    const char *path = model_path(reader->file);
    read_count(reader, "rope.dimension_count", 4096, true, &h->rope_dims);
    if (reader->status == STATUS_OK && (h->rope_dims % 2 != 0 || h->rope_dims > h->head_dim))
        reader->status =
            error_set(reader->error, STATUS_INVALID,
                      "%s: rope turns %u dimensions of a head; an even number up to %u "
                      "is possible",
                      path, h->rope_dims, h->head_dim);
    float base = (float)h->rope.base, local = (float)h->local_rope.base;
    read_real(reader, "rope.freq_base", false, 1, 1e30f, &base);
    h->rope.base = (double)base;
    if (h->has_local_rope)
        read_real(reader, "rope.freq_base_swa", false, 1, 1e30f, &local);
    h->local_rope.base = (double)local;
    read_scaling(reader, h);
    if (h->unturned_period > 0)
        read_number(reader, "rope.unturned_period", 0, MAX_LAYERS, true, &h->unturned_period);
    h->rope_factors = model_tensor_find(reader->file, "rope_freqs.weight") != NULL;
    if (reader->status == STATUS_OK && model_key_find(reader->file, "longspan.rope.neox") != NULL)
        reader->status =
            model_get_bool(reader->file, "longspan.rope.neox", &h->rope_neox, reader->error);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void read_vocab(struct reader *reader, struct hparams *h)
{
    const struct model_key *tokens = model_key_find(reader->file, "tokenizer.ggml.tokens");
    const struct model_tensor *embedding = model_tensor_find(reader->file, "token_embd.weight");
    const uint64_t n_tokens = tokens != NULL && tokens->type == GGUF_VALUE_ARRAY ? tokens->n : 0;
    uint64_t vocab = n_tokens;
    uint32_t from_key = 0;
    read_count(reader, "vocab_size", MAX_VOCAB, true, &from_key);
    if (reader->status != STATUS_OK)
        return;
    if (from_key != 0)
        vocab = from_key;
    if (embedding != NULL)
        vocab = embedding->dims[1];
    if (vocab == 0 || vocab > MAX_VOCAB || n_tokens > vocab) {
        reader->status =
            error_set(reader->error, STATUS_INVALID,
                      "%s: a vocabulary of %llu rows for %llu tokens in the list; 1 to "
                      "%u rows, at least as many as tokens, are possible",
                      model_path(reader->file), (unsigned long long)vocab,
                      (unsigned long long)n_tokens, MAX_VOCAB);
        return;
    }
    h->vocab = (uint32_t)vocab;
}

static void read_name(const struct model_file *file, struct hparams *h)
{
    const char *architecture = architecture_traits(h->architecture)->name;
    struct model_string name = {architecture, strlen(architecture)};
    if (model_get_string(file, "general.name", &name, NULL) != STATUS_OK)
        name =
            (struct model_string){architecture, strlen(architecture)}; /* of another type: none */
    const size_t n = name.n_bytes < sizeof(h->name) ? name.n_bytes : sizeof(h->name) - 1;
    memcpy(h->name, name.data, n);
    for (size_t i = 0; i < n; i++) /* it goes to terminals and logs */
        if ((unsigned char)h->name[i] < 0x20 || h->name[i] == 0x7f)
            h->name[i] = '?';
}

/* A factor, where the file has one: 0 is "none". */
static void read_scale(struct reader *reader, const char *suffix, float *value)
{
    float scale = 0;
    read_real(reader, suffix, false, 0, 1e6f, &scale);
    if (scale > 0)
        *value = scale;
}

static void read_scales(struct reader *reader, struct hparams *h)
{
    if (!reader->traits->scales)
        return;
    read_scale(reader, "embedding_scale", &h->embedding_scale);
    read_scale(reader, "residual_scale", &h->residual_scale);
    read_scale(reader, "logit_scale", &h->logit_scale);
}

/* Scale, caps and windows, where the file says other than its architecture. */
static void read_attention(struct reader *reader, struct hparams *h)
{
    read_scale(reader, "attention.scale", &h->attention_scale);
    read_real(reader, "attn_logit_softcapping", false, 0, 1e6f, &h->attention_cap);
    read_real(reader, "final_logit_softcapping", false, 0, 1e6f, &h->logit_cap);
    if (h->window_period > 0) {
        read_number(reader, "attention.sliding_window", 0, UINT32_MAX, true, &h->window);
        read_count(reader, "attention.sliding_window_pattern", MAX_LAYERS, true, &h->window_period);
    }
    h->has_local_rope = reader->status == STATUS_OK && h->window > 0 && h->has_local_rope;
}

static bool has_part(const struct model_file *file, enum architecture_part part, const char *tensor)
{
    return part == PART_ALWAYS ||
           (part == PART_OPTIONAL && model_tensor_find(file, tensor) != NULL);
}

static void find_parts(struct reader *reader, struct hparams *h)
{
    const struct architecture_traits *traits = reader->traits;
    h->qkv_bias = has_part(reader->file, traits->qkv_bias, "blk.0.attn_q.bias");
    h->output_bias = has_part(reader->file, traits->output_bias, "blk.0.attn_output.bias");
    h->qk_norm = has_part(reader->file, traits->qk_norm, "blk.0.attn_q_norm.weight");
    h->tied = model_tensor_find(reader->file, "output.weight") == NULL;
    if (model_key_find(reader->file, "longspan.norm.offset") != NULL)
        reader->status =
            model_get_f32(reader->file, "longspan.norm.offset", &h->norm_offset, reader->error);
    if (reader->status == STATUS_OK && h->norm_offset != 0 && h->norm_offset != 1)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: longspan.norm.offset is %g; 0 or 1 is possible",
                                   model_path(reader->file), (double)h->norm_offset);
}

enum status hparams_read(struct hparams *hparams, const struct model_file *file,
                         struct error *error)
{
    struct hparams h = {.rms_eps = 0};
    struct reader reader = {.file = file, .error = error, .status = STATUS_OK};
    read_architecture(&reader);
    if (reader.status != STATUS_OK)
        return reader.status;
    refuse_features(&reader);
    read_count(&reader, "block_count", MAX_LAYERS, false, &h.n_layers);
    read_count(&reader, "embedding_length", MAX_WIDTH, false, &h.hidden);
    read_ffn(&reader, &h);
    read_count(&reader, "context_length", UINT32_MAX, true, &h.context_train);
    if (reader.status == STATUS_OK)
        read_heads(&reader, &h);
    if (reader.status != STATUS_OK)
        return reader.status;
    hparams_complete(&h, reader.architecture);
    read_attention(&reader, &h);
    read_scales(&reader, &h);
    read_rope(&reader, &h);
    read_positive(&reader, "attention.layer_norm_rms_epsilon", 1, &h.rms_eps);
    if (reader.status == STATUS_OK && h.rms_eps == 0)
        reader.status =
            error_set(error, STATUS_INVALID, "%s: key %s is missing: no %s model without it",
                      model_path(file), reader.key, reader.traits->name);
    read_vocab(&reader, &h);
    if (reader.status == STATUS_OK)
        find_parts(&reader, &h);
    if (reader.status != STATUS_OK)
        return reader.status;
    read_name(file, &h);
    *hparams = h;
    return STATUS_OK;
}

void hparams_complete(struct hparams *h, enum architecture architecture)
{
    const struct architecture_traits *traits = architecture_traits(architecture);
    const struct hparams_rope plain = {.base = 10000, .factor = 1, .magnitude = 1};
    const bool wide = traits->wide_scale > 0 && h->n_layers == traits->wide_scale;
    const float scored = wide ? (float)h->hidden / (float)h->n_heads : (float)h->head_dim;
    h->architecture = architecture;
    h->rope_dims = h->head_dim;
    h->rope_neox = traits->neox;
    h->rope = h->local_rope = plain;
    h->has_local_rope = traits->local_rope > 0;
    if (h->has_local_rope)
        h->local_rope.base = traits->local_rope;
    h->window = traits->window;
    h->window_period = traits->window_period;
    h->attention_scale = 1.0f / sqrtf(scored); /* both round correctly: the same everywhere */
    h->attention_cap = traits->attention_cap;
    h->logit_cap = traits->logit_cap;
    h->embedding_scale = traits->scaled_embedding ? sqrtf((float)h->hidden) : 1;
    h->residual_scale = h->logit_scale = 1;
    h->unturned_period = traits->unturned_period;
    h->qkv_bias = traits->qkv_bias == PART_ALWAYS;
    h->output_bias = traits->output_bias == PART_ALWAYS;
    h->qk_norm = traits->qk_norm == PART_ALWAYS;
    h->post_norms = traits->post_norms;
}

uint32_t hparams_window(const struct hparams *hparams, uint32_t layer)
{
    const uint32_t period = hparams->window_period;
    return period > 1 && (layer + 1) % period == 0 ? 0 : hparams->window;
}

const struct hparams_rope *hparams_layer_rope(const struct hparams *hparams, uint32_t layer)
{
    if (hparams->unturned_period > 0 && (layer + 1) % hparams->unturned_period == 0)
        return NULL;
    return hparams->has_local_rope && hparams_window(hparams, layer) > 0 ? &hparams->local_rope
                                                                         : &hparams->rope;
}

uint64_t hparams_kv_bytes_per_token(const struct hparams *hparams, uint32_t element_bytes)
{
    return (uint64_t)2 * hparams->n_layers * hparams->n_kv_heads * hparams->head_dim *
           element_bytes;
}
