/* model_keys.c - writes what model/hparams.c and model/tokenizer.c read. */
#include "cluster/model_keys.h"

#include "model/chat/chat_templates.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 32 };

enum { KEY_BYTES = 96 };

static const char *key_of(char key[KEY_BYTES], const struct hparams *h, const char *suffix)
{
    snprintf(key, KEY_BYTES, "%s.%s", architecture_traits(h->architecture)->name, suffix);
    return key;
}

static enum status add_real(struct gguf_writer *writer, const struct hparams *h, const char *suffix,
                            double value, struct error *error)
{
    char key[KEY_BYTES];
    return gguf_writer_add_f32(writer, key_of(key, h, suffix), (float)value, error);
}

/* What is not as every model of the architecture has it. A writer's first failure sticks. */
static void add_rest(struct gguf_writer *writer, const struct hparams *h, struct error *error)
{
    char key[KEY_BYTES];
    const struct architecture_traits *traits = architecture_traits(h->architecture);
    if (h->rope.scaling == ROPE_LINEAR || h->rope.scaling == ROPE_YARN) {
        gguf_writer_add_string(writer, key_of(key, h, "rope.scaling.type"),
                               h->rope.scaling == ROPE_YARN ? "yarn" : "linear", error);
        add_real(writer, h, "rope.scaling.factor", h->rope.factor, error);
    }
    if (h->rope.scaling == ROPE_YARN)
        gguf_writer_add_u32(writer, key_of(key, h, "rope.scaling.original_context_length"),
                            (uint32_t)h->rope.original_context, error);
    if (h->n_experts > 0) {
        gguf_writer_add_u32(writer, key_of(key, h, "expert_count"), h->n_experts, error);
        gguf_writer_add_u32(writer, key_of(key, h, "expert_used_count"), h->n_experts_used, error);
        gguf_writer_add_u32(writer, key_of(key, h, "expert_feed_forward_length"), h->ffn_expert,
                            error);
    }
    if (h->n_experts > 0 && !h->experts_normalised)
        gguf_writer_add_bool(writer, key_of(key, h, "expert_weights_norm"), false, error);
    if (h->window > 0)
        gguf_writer_add_u32(writer, key_of(key, h, "attention.sliding_window"), h->window, error);
    if (h->window_period != traits->window_period)
        gguf_writer_add_u32(writer, key_of(key, h, "attention.sliding_window_pattern"),
                            h->window_period, error);
    if (h->attention_cap > 0)
        add_real(writer, h, "attn_logit_softcapping", (double)h->attention_cap, error);
    if (h->logit_cap > 0)
        add_real(writer, h, "final_logit_softcapping", (double)h->logit_cap, error);
    if (!traits->scales)
        return;
    add_real(writer, h, "attention.scale", (double)h->attention_scale, error);
    add_real(writer, h, "embedding_scale", (double)h->embedding_scale, error);
    add_real(writer, h, "residual_scale", (double)h->residual_scale, error);
    add_real(writer, h, "logit_scale", (double)h->logit_scale, error);
}

enum status model_keys_hparams(struct gguf_writer *writer, const struct hparams *hparams,
                               struct error *error)
{
    /* A writer's first failure sticks: the last call reports it. */
    char key[KEY_BYTES];
    gguf_writer_add_string(writer, "general.architecture",
                           architecture_traits(hparams->architecture)->name, error);
    gguf_writer_add_string(writer, "general.name", hparams->name, error);
    const struct {
        const char *suffix;
        uint32_t value;
    } sizes[] = {
        {"context_length", hparams->context_train},
        {"embedding_length", hparams->hidden},
        {"block_count", hparams->n_layers},
        {"feed_forward_length", hparams->n_experts > 0 ? hparams->ffn_expert : hparams->ffn},
        {"attention.head_count", hparams->n_heads},
        {"attention.head_count_kv", hparams->n_kv_heads},
        {"attention.key_length", hparams->head_dim},
        {"attention.value_length", hparams->head_dim},
        {"rope.dimension_count", hparams->rope_dims},
        {"vocab_size", hparams->vocab},
    };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        gguf_writer_add_u32(writer, key_of(key, hparams, sizes[i].suffix), sizes[i].value, error);
    add_real(writer, hparams, "rope.freq_base", hparams->rope.base, error);
    add_rest(writer, hparams, error);
    return add_real(writer, hparams, "attention.layer_norm_rms_epsilon", (double)hparams->rms_eps,
                    error);
}

/* GPT-2's name of a byte: itself where it is printable in Latin-1, otherwise the n-th such byte is
 * U+0100 + n (Radford et al. 2019, encoder.py). Writes UTF-8 and returns its length. */
static size_t byte_name(unsigned byte, char name[NAME_BYTES])
{
    unsigned code = byte, n_hidden = 0;
    for (unsigned other = 0; other <= byte; other++) {
        const bool printable = (other >= 33 && other <= 126) || (other >= 161 && other != 173);
        if (!printable && other == byte)
            code = 256 + n_hidden;
        n_hidden += !printable;
    }
    if (code < 0x80) {
        name[0] = (char)code;
        return 1;
    }
    name[0] = (char)(0xc0 | (code >> 6));
    name[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

static enum status add_tokens(struct gguf_writer *writer, struct model_string *names,
                              char (*texts)[NAME_BYTES], int32_t *types, uint32_t vocab,
                              bool has_eos, struct error *error)
{
    for (uint32_t id = 0; id < vocab; id++) {
        size_t length;
        types[id] = id < MODEL_KEYS_BYTES ? TOKENIZER_TYPE_NORMAL : TOKENIZER_TYPE_CONTROL;
        if (id < MODEL_KEYS_BYTES) {
            length = byte_name(id, texts[id]);
        } else if (id == MODEL_KEYS_BOS || (id == MODEL_KEYS_EOS && has_eos)) {
            length = (size_t)snprintf(texts[id], NAME_BYTES, "%s",
                                      id == MODEL_KEYS_BOS ? "<|bos|>" : "<|eos|>");
        } else {
            length = (size_t)snprintf(texts[id], NAME_BYTES, "<|unused-%u|>", id);
            types[id] = TOKENIZER_TYPE_UNUSED;
        }
        names[id] = (struct model_string){texts[id], length};
    }
    gguf_writer_add_string(writer, "tokenizer.ggml.model", "gpt2", error);
    gguf_writer_add_string(writer, "tokenizer.ggml.pre", "gpt-2", error);
    gguf_writer_add_strings(writer, "tokenizer.ggml.tokens", names, vocab, error);
    gguf_writer_add_array(writer, "tokenizer.ggml.token_type", GGUF_VALUE_I32, types, vocab, error);
    gguf_writer_add_strings(writer, "tokenizer.ggml.merges", names, 0, error);
    gguf_writer_add_u32(writer, "tokenizer.ggml.bos_token_id", MODEL_KEYS_BOS, error);
    if (has_eos)
        gguf_writer_add_u32(writer, "tokenizer.ggml.eos_token_id", MODEL_KEYS_EOS, error);
    gguf_writer_add_bool(writer, "tokenizer.ggml.add_bos_token", true, error);
    /* These models know no roles. */
    gguf_writer_add_string(writer, "tokenizer.chat_template", chat_templates_source("plain"),
                           error);
    return gguf_writer_add_bool(writer, "tokenizer.ggml.add_eos_token", false, error);
}

enum status model_keys_byte_tokenizer(struct gguf_writer *writer, uint32_t vocab, bool has_eos,
                                      struct error *error)
{
    const uint32_t least = has_eos ? MODEL_KEYS_EOS + 1 : MODEL_KEYS_BOS + 1;
    if (vocab < least)
        return error_set(error, STATUS_INVALID,
                         "a vocabulary of %u tokens is too small: bytes and special tokens are %u",
                         vocab, least);
    struct model_string *names = malloc(vocab * sizeof(*names));
    char(*texts)[NAME_BYTES] = malloc(vocab * sizeof(*texts));
    int32_t *types = malloc(vocab * sizeof(*types));
    const enum status status =
        names == NULL || texts == NULL || types == NULL
            ? error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary of %u tokens", vocab)
            : add_tokens(writer, names, texts, types, vocab, has_eos, error);
    free(names);
    free(texts);
    free(types);
    return status;
}

enum status model_keys_copy_tokenizer(struct gguf_writer *writer, const struct model_file *source,
                                      struct error *error)
{
    enum status status = STATUS_OK;
    const char prefix[] = "tokenizer.";
    for (size_t i = 0; status == STATUS_OK && i < model_key_count(source); i++) {
        const struct model_key *key = model_key_at(source, i);
        if (strncmp(key->name, prefix, sizeof(prefix) - 1) == 0)
            status = gguf_writer_copy_key(writer, key, error);
    }
    return status;
}
