/* make_random_shape.c - shapes by name and by key=value. */
#include "cluster/make_random.h"

#include "cluster/model_keys.h"
#include "sys/options.h"
#include "sys/parse.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_VOCAB = MODEL_KEYS_EOS + 1, DEFAULT_EXPERTS = 8, TEXT_BYTES = 64 };

const char *const make_random_presets[] = {"tiny",      "tiny-mha", "tiny-96", "bench-1b",
                                           "bench-moe", "llama-8b", NULL};

static const struct hparams presets[] = {
    {.name = "tiny", /* grouped queries */
     .n_layers = 4,
     .hidden = 256,
     .n_heads = 8,
     .n_kv_heads = 2,
     .head_dim = 32,
     .ffn = 704,
     .vocab = DEFAULT_VOCAB,
     .context_train = 131072,
     .rope = {.base = 10000}},
    {.name = "tiny-mha", /* each query head has its own KV head */
     .n_layers = 4,
     .hidden = 256,
     .n_heads = 4,
     .n_kv_heads = 4,
     .head_dim = 64,
     .ffn = 512,
     .vocab = DEFAULT_VOCAB,
     .context_train = 131072,
     .rope = {.base = 10000}},
    {.name = "tiny-96", /* an odd number of layers, a head_dim that is no power of two */
     .n_layers = 5,
     .hidden = 384,
     .n_heads = 4,
     .n_kv_heads = 2,
     .head_dim = 96,
     .ffn = 736,
     .vocab = DEFAULT_VOCAB,
     .context_train = 131072,
     .rope = {.base = 10000}},
    {.name = "bench-1b", /* Llama 3.2 1B with a smaller vocabulary */
     .n_layers = 16,
     .hidden = 2048,
     .n_heads = 32,
     .n_kv_heads = 8,
     .head_dim = 64,
     .ffn = 8192,
     .vocab = 32000,
     .context_train = 131072,
     .rope = {.base = 500000}},
    {.name = "bench-moe", /* 1.2e9 weights in experts, of which a token uses an eighth */
     .n_layers = 16,
     .hidden = 1024,
     .n_heads = 16,
     .n_kv_heads = 4,
     .head_dim = 64,
     .ffn = 768,
     .n_experts = 32,
     .n_experts_used = 4,
     .vocab = 32000,
     .context_train = 131072,
     .rope = {.base = 500000}},
    {.name = "llama-8b", /* Llama 3 8B */
     .n_layers = 32,
     .hidden = 4096,
     .n_heads = 32,
     .n_kv_heads = 8,
     .head_dim = 128,
     .ffn = 14336,
     .vocab = 128256,
     .context_train = 131072,
     .rope = {.base = 500000}},
};

static const struct {
    const char *name;
    size_t offset; /* of a uint32_t in struct hparams */
    uint32_t most;
} keys[] = {
    {"layers", offsetof(struct hparams, n_layers), 1000},
    {"hidden", offsetof(struct hparams, hidden), 1u << 17},
    {"heads", offsetof(struct hparams, n_heads), 1u << 12},
    {"kv-heads", offsetof(struct hparams, n_kv_heads), 1u << 12},
    {"head-dim", offsetof(struct hparams, head_dim), 1u << 12},
    {"ffn", offsetof(struct hparams, ffn), 1u << 20},
    {"experts", offsetof(struct hparams, n_experts), 1u << 12},
    {"experts-used", offsetof(struct hparams, n_experts_used), 1u << 12},
    {"vocab", offsetof(struct hparams, vocab), 1u << 24},
    {"ctx", offsetof(struct hparams, context_train), 1u << 31},
};

enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

struct given {
    bool head_dim, kv_heads, vocab, biases;
    bool softmax_of_all; /* experts' weights need not add up to 1 */
    enum architecture architecture;
    uint32_t window, window_period;   /* UINT32_MAX: not given */
    uint32_t rope_context, rope_dims; /* 0: not given */
    struct {
        float attention, embedding, residual, logit; /* 0: not given */
    } scale;
};

/* Factors of the file, of architectures that have some. */
static const struct {
    const char *name;
    size_t offset; /* of a float in struct given */
} scales[] = {{"attention-scale", offsetof(struct given, scale.attention)},
              {"embedding-scale", offsetof(struct given, scale.embedding)},
              {"residual-scale", offsetof(struct given, scale.residual)},
              {"logit-scale", offsetof(struct given, scale.logit)}};

/* What `keys` does not hold: numbers of `given`, and words. *found: it is one of them. */
static enum status read_other(struct hparams *hparams, struct given *given, const char *name,
                              const char *key, const char *value, bool *found, struct error *error)
{
    static const char *const scalings[] = {[ROPE_PLAIN] = "none",
                                           [ROPE_LINEAR] = "linear",
                                           [ROPE_LLAMA3] = "llama3",
                                           [ROPE_YARN] = "yarn"};
    float real = 0;
    char list[512];
    enum status status = STATUS_OK;
    if (strcmp(key, "rope-base") == 0) {
        status = parse_f32(name, value, 1, 1e18f, &real, error);
        hparams->rope.base = status == STATUS_OK ? (double)real : hparams->rope.base;
    } else if (strcmp(key, "rope-factor") == 0) {
        status = parse_f32(name, value, 1, 1e6f, &real, error);
        hparams->rope.factor = (double)real;
    } else if (strcmp(key, "rope-context") == 0) {
        status = parse_u32(name, value, 1, 1u << 31, &given->rope_context, error);
    } else if (strcmp(key, "rope-dims") == 0) {
        status = parse_u32(name, value, 2, 1u << 12, &given->rope_dims, error);
    } else if (strcmp(key, "window") == 0) {
        status = parse_u32(name, value, 0, 1u << 31, &given->window, error);
    } else if (strcmp(key, "window-period") == 0) {
        status = parse_u32(name, value, 1, 1000, &given->window_period, error);
    } else if (strcmp(key, "biases") == 0) {
        uint32_t number = 0;
        status = parse_u32(name, value, 0, 1, &number, error);
        given->biases = number != 0;
    } else if (strcmp(key, "experts-softmax-of-all") == 0) {
        uint32_t number = 0;
        status = parse_u32(name, value, 0, 1, &number, error);
        given->softmax_of_all = number != 0;
    } else if (strcmp(key, "arch") == 0) {
        if (!architecture_find(value, strlen(value), &given->architecture))
            status = error_set(error, STATUS_INVALID, "%s '%.*s' is none of: %s", name, TEXT_BYTES,
                               value, architecture_list(list, sizeof(list)));
    } else if (strcmp(key, "rope-scaling") == 0) {
        status = STATUS_INVALID;
        for (int i = ROPE_PLAIN; i <= ROPE_YARN; i++)
            if (strcmp(value, scalings[i]) == 0) {
                hparams->rope.scaling = (enum rope_scaling)i;
                status = STATUS_OK;
            }
        if (status != STATUS_OK)
            error_set(error, status, "%s '%.*s' is none of: none, linear, llama3, yarn", name,
                      TEXT_BYTES, value);
    } else {
        *found = false;
    }
    return status;
}

/* One "key=value" of the list; `text` is the reader's own copy. */
static enum status read_key(struct hparams *hparams, struct given *given, char *text,
                            struct error *error)
{
    char *value = strchr(text, '=');
    if (value == NULL)
        return error_set(error, STATUS_INVALID,
                         "--shape: '%s' is neither a shape (tiny, tiny-mha, tiny-96, bench-1b, "
                         "bench-moe, llama-8b) nor KEY=VALUE",
                         text);
    *value++ = '\0';
    char name[TEXT_BYTES + 16];
    snprintf(name, sizeof(name), "--shape: %.*s", TEXT_BYTES, text);
    for (uint32_t i = 0; i < N_KEYS; i++)
        if (strcmp(text, keys[i].name) == 0) {
            given->head_dim |= strcmp(text, "head-dim") == 0;
            given->kv_heads |= strcmp(text, "kv-heads") == 0;
            given->vocab |= strcmp(text, "vocab") == 0;
            return parse_u32(name, value, 1, keys[i].most,
                             (uint32_t *)((char *)hparams + keys[i].offset), error);
        }
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++)
        if (strcmp(text, scales[i].name) == 0)
            return parse_f32(name, value, 1e-6f, 1e6f,
                             (float *)(void *)((char *)given + scales[i].offset), error);
    bool found = true;
    const enum status status = read_other(hparams, given, name, text, value, &found, error);
    if (found)
        return status;
    return error_set(
        error, STATUS_INVALID,
        "--shape: there is no '%s'; the keys are layers, hidden, heads, kv-heads, "
        "head-dim, ffn, experts, experts-used, experts-softmax-of-all, vocab, ctx, "
        "rope-base, arch, biases, window, window-period, rope-scaling, rope-factor, "
        "rope-context, rope-dims, attention-scale, embedding-scale, residual-scale, logit-scale",
        text);
}

static enum status check(const struct hparams *h, struct error *error)
{
    if (h->n_heads % h->n_kv_heads != 0)
        return error_set(error, STATUS_INVALID,
                         "--shape: heads=%u is no multiple of kv-heads=%u: each KV head serves as "
                         "many query heads",
                         h->n_heads, h->n_kv_heads);
    if (h->head_dim == 0 || h->head_dim % 2 != 0)
        return error_set(error, STATUS_INVALID,
                         "--shape: head-dim %u must be even, because RoPE turns pairs",
                         h->head_dim);
    return STATUS_OK;
}

/* `ffn` is that of one expert where there are some. */
static enum status complete_experts(struct hparams *h, const struct given *given,
                                    struct error *error)
{
    const struct architecture_traits *traits = architecture_traits(given->architecture);
    if (h->n_experts == 0 && traits->experts == PART_ALWAYS)
        h->n_experts = DEFAULT_EXPERTS;
    if (h->n_experts == 0)
        return STATUS_OK;
    if (traits->experts == PART_NEVER)
        return error_set(error, STATUS_INVALID, "--shape: %s models have no experts", traits->name);
    if (h->n_experts_used == 0)
        h->n_experts_used = h->n_experts < 2 ? 1 : 2;
    if (h->n_experts_used > h->n_experts)
        return error_set(error, STATUS_INVALID, "--shape: experts-used=%u of experts=%u",
                         h->n_experts_used, h->n_experts);
    h->experts_normalised = !given->softmax_of_all;
    h->ffn_expert = h->ffn;
    h->ffn = 0;
    return STATUS_OK;
}

/* The architecture's, and what was given beside it. */
static enum status complete(struct hparams *h, const struct given *given, struct error *error)
{
    struct hparams_rope rope = h->rope;
    const struct architecture_traits *traits = architecture_traits(given->architecture);
    hparams_complete(h, given->architecture);
    rope.factor = rope.scaling == ROPE_PLAIN || rope.factor < 1 ? 1 : rope.factor;
    rope.original_context = given->rope_context > 0 ? given->rope_context : h->context_train;
    rope.slow = 1;
    rope.fast = rope.scaling == ROPE_LLAMA3 ? 4 : 32;
    rope.magnitude = rope.scaling == ROPE_YARN ? (float)hparams_yarn_growth(rope.factor, 1) : 1.0f;
    h->rope = rope;
    if (given->rope_dims > 0)
        h->rope_dims = given->rope_dims;
    if (h->rope_dims % 2 != 0 || h->rope_dims > h->head_dim)
        return error_set(error, STATUS_INVALID,
                         "--shape: rope-dims=%u; an even number up to head-dim, %u, is possible",
                         h->rope_dims, h->head_dim);
    h->rope_factors = rope.scaling == ROPE_LLAMA3;
    if (given->window != UINT32_MAX)
        h->window = given->window;
    if (given->window_period != UINT32_MAX)
        h->window_period = given->window_period;
    h->has_local_rope = h->has_local_rope && h->window > 0;
    if (h->window > 0 && traits->window_period == 0)
        return error_set(error, STATUS_INVALID, "--shape: %s models have no window", traits->name);
    if (given->biases && traits->qkv_bias == PART_NEVER)
        return error_set(error, STATUS_INVALID, "--shape: %s models have no biases", traits->name);
    if (!traits->scales && (given->scale.attention > 0 || given->scale.embedding > 0 ||
                            given->scale.residual > 0 || given->scale.logit > 0))
        return error_set(error, STATUS_INVALID, "--shape: %s models have no scales", traits->name);
    h->attention_scale = given->scale.attention > 0 ? given->scale.attention : h->attention_scale;
    h->embedding_scale = given->scale.embedding > 0 ? given->scale.embedding : h->embedding_scale;
    h->residual_scale = given->scale.residual > 0 ? given->scale.residual : h->residual_scale;
    h->logit_scale = given->scale.logit > 0 ? given->scale.logit : h->logit_scale;
    h->qkv_bias |= given->biases;
    h->output_bias = given->biases && traits->output_bias != PART_NEVER;
    return complete_experts(h, given, error);
}

enum status make_random_shape(struct make_random_shape *shape, const char *text,
                              struct error *error)
{
    char *copy = strdup(text), *rest = copy;
    if (copy == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for --shape");
    struct hparams hparams = presets[0];
    struct given given = {.window = UINT32_MAX, .window_period = UINT32_MAX};
    enum status status = STATUS_OK;
    for (char *item = strsep(&rest, ","); status == STATUS_OK && item != NULL;
         item = strsep(&rest, ",")) {
        const struct hparams *preset = NULL;
        for (size_t i = 0; item == copy && i < sizeof(presets) / sizeof(presets[0]); i++)
            if (strcmp(item, presets[i].name) == 0)
                preset = &presets[i];
        if (preset != NULL)
            hparams = *preset;
        else
            status = read_key(&hparams, &given, item, error);
    }
    free(copy);
    if (status != STATUS_OK)
        return status;

    if (!given.kv_heads && hparams.n_heads % hparams.n_kv_heads != 0)
        hparams.n_kv_heads = hparams.n_heads;
    if (!given.head_dim && hparams.hidden != hparams.n_heads * hparams.head_dim) {
        if (hparams.hidden % hparams.n_heads != 0)
            return error_set(error, STATUS_INVALID,
                             "--shape: hidden=%u cannot be divided by heads=%u; say head-dim=N",
                             hparams.hidden, hparams.n_heads);
        hparams.head_dim = hparams.hidden / hparams.n_heads;
    }
    snprintf(hparams.name, sizeof(hparams.name), "Longspan random %.*s", TEXT_BYTES, text);
    hparams.rms_eps = 1e-5f;
    status = check(&hparams, error);
    if (status == STATUS_OK)
        status = complete(&hparams, &given, error);
    if (status == STATUS_OK)
        *shape = (struct make_random_shape){.hparams = hparams, .vocab_given = given.vocab};
    return status;
}
