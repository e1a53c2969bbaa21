/* hparams.c - every number is range-checked as it is read, so that later code may multiply them
 * without thinking of overflow: the limits below keep every product under 2^63. */
#include "model/hparams.h"

#include <stdlib.h>
#include <string.h>

#define MAX_LAYERS 4096u
#define MAX_HEADS  4096u
#define MAX_WIDTH  (1u << 20) /* hidden, ffn * 1, heads * head_dim */
#define MAX_FFN    (1u << 22)
#define MAX_VOCAB  (1u << 24)

struct reader {
    const struct model_file *file;
    struct error *error;
    enum status status; /* the first failure; afterwards nothing is read */
};

/* Reads "llama.SUFFIX", 1 to max. With `optional`, an absent key leaves *value. */
static void read_count(struct reader *reader, const char *name, uint32_t max, bool optional,
                       uint32_t *value)
{
    uint32_t number;
    if (reader->status != STATUS_OK || (optional && model_key_find(reader->file, name) == NULL))
        return;
    reader->status = model_get_u32(reader->file, name, &number, reader->error);
    if (reader->status == STATUS_NOT_FOUND)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: key %s is missing: no llama model without it",
                                   model_path(reader->file), name);
    if (reader->status != STATUS_OK)
        return;
    if (number < 1 || number > max) {
        reader->status =
            error_set(reader->error, STATUS_INVALID, "%s: %s is %u; 1 to %u is possible",
                      model_path(reader->file), name, number, max);
        return;
    }
    *value = number;
}

/* A positive, finite number. */
static void read_positive(struct reader *reader, const char *name, float max, float *value)
{
    float number;
    if (reader->status != STATUS_OK || model_key_find(reader->file, name) == NULL)
        return;
    reader->status = model_get_f32(reader->file, name, &number, reader->error);
    if (reader->status != STATUS_OK)
        return;
    if (!(number > 0 && number <= max)) { /* also NaN */
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: %s is %g; above 0 and up to %g is possible",
                                   model_path(reader->file), name, (double)number, (double)max);
        return;
    }
    *value = number;
}

static void read_architecture(struct reader *reader)
{
    struct model_string architecture;
    reader->status =
        model_get_string(reader->file, "general.architecture", &architecture, reader->error);
    if (reader->status == STATUS_NOT_FOUND)
        reader->status = error_set(reader->error, STATUS_INVALID,
                                   "%s: key general.architecture is missing: no model in it",
                                   model_path(reader->file));
    if (reader->status == STATUS_OK && !model_string_equals(architecture, "llama"))
        reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                   "%s: architecture '%.*s' is not supported; supported: llama "
                                   "(Llama 2 and 3, Mistral)",
                                   model_path(reader->file),
                                   (int)(architecture.n_bytes < 64 ? architecture.n_bytes : 64),
                                   architecture.data);
}

/* Features of other models in the same architecture; running without them gives wrong answers. */
static void refuse_features(struct reader *reader)
{
    static const struct {
        const char *key, *what;
    } refused[] = {
        {"llama.expert_count", "a mixture of experts"},
        {"llama.attention.sliding_window", "sliding-window attention"},
    };
    static const char *const scales[] = {
        "llama.logit_scale",     "llama.embedding_scale",     "llama.residual_scale",
        "llama.attention.scale", "llama.attention.clamp_kqv", "llama.attention.max_alibi_bias"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        uint64_t n = 0;
        if (reader->status != STATUS_OK || model_key_find(reader->file, refused[i].key) == NULL)
            continue;
        reader->status = model_get_u64(reader->file, refused[i].key, &n, reader->error);
        if (reader->status == STATUS_OK && n != 0)
            reader->status = error_set(
                reader->error, STATUS_UNSUPPORTED,
                "%s: %s (%s is %llu) is not supported; supported: dense llama models with "
                "full attention",
                model_path(reader->file), refused[i].what, refused[i].key, (unsigned long long)n);
    }
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        float scale = 0;
        if (reader->status != STATUS_OK || model_key_find(reader->file, scales[i]) == NULL)
            continue;
        reader->status = model_get_f32(reader->file, scales[i], &scale, reader->error);
        if (reader->status == STATUS_OK && scale != 0) /* 0 is "none" */
            reader->status = error_set(reader->error, STATUS_UNSUPPORTED,
                                       "%s: %s is %g; a llama model with this key is not supported",
                                       model_path(reader->file), scales[i], (double)scale);
    }
}

static void read_heads(struct reader *reader, struct hparams *h)
{
    const char *path = model_path(reader->file);
    read_count(reader, "llama.attention.head_count", MAX_HEADS, false, &h->n_heads);
    h->n_kv_heads = h->n_heads;
    read_count(reader, "llama.attention.head_count_kv", MAX_HEADS, true, &h->n_kv_heads);
    uint32_t value_length = 0;
    read_count(reader, "llama.attention.key_length", 4096, true, &h->head_dim);
    read_count(reader, "llama.attention.value_length", 4096, true, &value_length);
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
                                       "llama.attention.key_length is missing",
                                       path, h->hidden, h->n_heads);
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

static void read_rope(struct reader *reader, struct hparams *h)
{
    const char *path = model_path(reader->file);
    h->rope_dims = h->head_dim;
    read_count(reader, "llama.rope.dimension_count", 4096, true, &h->rope_dims);
    if (reader->status == STATUS_OK && (h->rope_dims % 2 != 0 || h->rope_dims > h->head_dim))
        reader->status =
            error_set(reader->error, STATUS_INVALID,
                      "%s: rope turns %u dimensions of a head; an even number up to %u "
                      "is possible",
                      path, h->rope_dims, h->head_dim);
    float base = 10000, linear = 1;
    read_positive(reader, "llama.rope.freq_base", 1e30f, &base);
    if (reader->status == STATUS_OK && base < 1)
        reader->status =
            error_set(reader->error, STATUS_INVALID,
                      "%s: llama.rope.freq_base is %g; at least 1 is possible", path, (double)base);
    if (reader->status == STATUS_OK && model_key_find(reader->file, "llama.rope.scaling.type")) {
        struct model_string type;
        reader->status =
            model_get_string(reader->file, "llama.rope.scaling.type", &type, reader->error);
        if (reader->status == STATUS_OK && model_string_equals(type, "linear"))
            read_positive(reader, "llama.rope.scaling.factor", 1e6f, &linear);
        else if (reader->status == STATUS_OK && !model_string_equals(type, "none"))
            reader->status =
                error_set(reader->error, STATUS_UNSUPPORTED,
                          "%s: rope scaling '%.*s' is not supported; supported: none, "
                          "linear, and frequency factors in rope_freqs.weight",
                          path, (int)(type.n_bytes < 64 ? type.n_bytes : 64), type.data);
    } else if (reader->status == STATUS_OK) {
        /* the older spelling of linear scaling */
        read_positive(reader, "llama.rope.scale_linear", 1e6f, &linear);
    }
    h->rope_base = (double)base;
    h->rope_linear = (double)linear;
    h->rope_factors = model_tensor_find(reader->file, "rope_freqs.weight") != NULL;
}

static void read_vocab(struct reader *reader, struct hparams *h)
{
    const struct model_key *tokens = model_key_find(reader->file, "tokenizer.ggml.tokens");
    const struct model_tensor *embedding = model_tensor_find(reader->file, "token_embd.weight");
    const uint64_t n_tokens = tokens != NULL && tokens->type == GGUF_VALUE_ARRAY ? tokens->n : 0;
    uint64_t vocab = n_tokens;
    uint32_t from_key = 0;
    read_count(reader, "llama.vocab_size", MAX_VOCAB, true, &from_key);
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
    struct model_string name = {"llama", 5};
    if (model_get_string(file, "general.name", &name, NULL) != STATUS_OK)
        name =
            (struct model_string){"llama", 5}; /* a name that is no string is no reason to stop */
    const size_t n = name.n_bytes < sizeof(h->name) ? name.n_bytes : sizeof(h->name) - 1;
    memcpy(h->name, name.data, n);
    for (size_t i = 0; i < n; i++) /* it goes to terminals and logs */
        if ((unsigned char)h->name[i] < 0x20 || h->name[i] == 0x7f)
            h->name[i] = '?';
}

enum status hparams_read(struct hparams *hparams, const struct model_file *file,
                         struct error *error)
{
    struct hparams h = {.rms_eps = 0};
    struct reader reader = {.file = file, .error = error, .status = STATUS_OK};
    read_architecture(&reader);
    refuse_features(&reader);
    read_count(&reader, "llama.block_count", MAX_LAYERS, false, &h.n_layers);
    read_count(&reader, "llama.embedding_length", MAX_WIDTH, false, &h.hidden);
    read_count(&reader, "llama.feed_forward_length", MAX_FFN, false, &h.ffn);
    read_count(&reader, "llama.context_length", UINT32_MAX, true, &h.context_train);
    if (reader.status == STATUS_OK)
        read_heads(&reader, &h);
    if (reader.status == STATUS_OK)
        read_rope(&reader, &h);
    read_positive(&reader, "llama.attention.layer_norm_rms_epsilon", 1, &h.rms_eps);
    if (reader.status == STATUS_OK && h.rms_eps == 0)
        reader.status = error_set(error, STATUS_INVALID,
                                  "%s: key llama.attention.layer_norm_rms_epsilon is missing: no "
                                  "llama model without it",
                                  model_path(file));
    read_vocab(&reader, &h);
    if (reader.status != STATUS_OK)
        return reader.status;
    h.tied = model_tensor_find(file, "output.weight") == NULL;
    read_name(file, &h);
    *hparams = h;
    return STATUS_OK;
}

uint64_t hparams_kv_bytes_per_token(const struct hparams *hparams, uint32_t element_bytes)
{
    return (uint64_t)2 * hparams->n_layers * hparams->n_kv_heads * hparams->head_dim *
           element_bytes;
}
