/* make_random_shape.c - shapes by name and by key=value. */
#include "cluster/make_random.h"

#include "cluster/model_keys.h"
#include "sys/options.h"
#include "sys/parse.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_VOCAB = MODEL_KEYS_EOS + 1, TEXT_BYTES = 64 };

const char *const make_random_presets[] = {"tiny",     "tiny-mha", "tiny-96",
                                           "bench-1b", "llama-8b", NULL};

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
     .rope_base = 10000},
    {.name = "tiny-mha", /* each query head has its own KV head */
     .n_layers = 4,
     .hidden = 256,
     .n_heads = 4,
     .n_kv_heads = 4,
     .head_dim = 64,
     .ffn = 512,
     .vocab = DEFAULT_VOCAB,
     .context_train = 131072,
     .rope_base = 10000},
    {.name = "tiny-96", /* an odd number of layers, a head_dim that is no power of two */
     .n_layers = 5,
     .hidden = 384,
     .n_heads = 4,
     .n_kv_heads = 2,
     .head_dim = 96,
     .ffn = 736,
     .vocab = DEFAULT_VOCAB,
     .context_train = 131072,
     .rope_base = 10000},
    {.name = "bench-1b", /* Llama 3.2 1B with a smaller vocabulary */
     .n_layers = 16,
     .hidden = 2048,
     .n_heads = 32,
     .n_kv_heads = 8,
     .head_dim = 64,
     .ffn = 8192,
     .vocab = 32000,
     .context_train = 131072,
     .rope_base = 500000},
    {.name = "llama-8b", /* Llama 3 8B */
     .n_layers = 32,
     .hidden = 4096,
     .n_heads = 32,
     .n_kv_heads = 8,
     .head_dim = 128,
     .ffn = 14336,
     .vocab = 128256,
     .context_train = 131072,
     .rope_base = 500000},
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
    {"vocab", offsetof(struct hparams, vocab), 1u << 24},
    {"ctx", offsetof(struct hparams, context_train), 1u << 31},
};

enum { N_KEYS = sizeof(keys) / sizeof(keys[0]) };

struct given {
    bool head_dim, kv_heads, vocab;
};

/* One "key=value" of the list; `text` is the reader's own copy. */
static enum status read_key(struct hparams *hparams, struct given *given, char *text,
                            struct error *error)
{
    char *value = strchr(text, '=');
    if (value == NULL)
        return error_set(error, STATUS_INVALID,
                         "--shape: '%s' is neither a shape (tiny, tiny-mha, tiny-96, bench-1b, "
                         "llama-8b) nor KEY=VALUE",
                         text);
    *value++ = '\0';
    char name[TEXT_BYTES + 16];
    snprintf(name, sizeof(name), "--shape: %.*s", TEXT_BYTES, text);
    if (strcmp(text, "rope-base") == 0) {
        float base;
        const enum status status = parse_f32(name, value, 1, 1e18f, &base, error);
        hparams->rope_base = status == STATUS_OK ? (double)base : hparams->rope_base;
        return status;
    }
    for (uint32_t i = 0; i < N_KEYS; i++)
        if (strcmp(text, keys[i].name) == 0) {
            given->head_dim |= strcmp(text, "head-dim") == 0;
            given->kv_heads |= strcmp(text, "kv-heads") == 0;
            given->vocab |= strcmp(text, "vocab") == 0;
            return parse_u32(name, value, 1, keys[i].most,
                             (uint32_t *)((char *)hparams + keys[i].offset), error);
        }
    return error_set(error, STATUS_INVALID,
                     "--shape: there is no '%s'; the keys are layers, hidden, heads, kv-heads, "
                     "head-dim, ffn, vocab, ctx, rope-base",
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

enum status make_random_shape(struct make_random_shape *shape, const char *text,
                              struct error *error)
{
    char *copy = strdup(text), *rest = copy;
    if (copy == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for --shape");
    struct hparams hparams = presets[0];
    struct given given = {0};
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
    hparams.rope_dims = hparams.head_dim;
    hparams.rope_linear = 1;
    hparams.rms_eps = 1e-5f;
    status = check(&hparams, error);
    if (status == STATUS_OK)
        *shape = (struct make_random_shape){.hparams = hparams, .vocab_given = given.vocab};
    return status;
}
