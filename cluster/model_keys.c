/* model_keys.c - writes what model/hparams.c and model/tokenizer.c read. */
#include "cluster/model_keys.h"

#include "model/chat/chat_templates.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 32 };

enum status model_keys_hparams(struct gguf_writer *writer, const struct hparams *hparams,
                               struct error *error)
{
    /* A writer's first failure sticks: the last call reports it. */
    gguf_writer_add_string(writer, "general.architecture", "llama", error);
    gguf_writer_add_string(writer, "general.name", hparams->name, error);
    const struct {
        const char *name;
        uint32_t value;
    } sizes[] = {
        {"llama.context_length", hparams->context_train},
        {"llama.embedding_length", hparams->hidden},
        {"llama.block_count", hparams->n_layers},
        {"llama.feed_forward_length", hparams->ffn},
        {"llama.attention.head_count", hparams->n_heads},
        {"llama.attention.head_count_kv", hparams->n_kv_heads},
        {"llama.attention.key_length", hparams->head_dim},
        {"llama.attention.value_length", hparams->head_dim},
        {"llama.rope.dimension_count", hparams->rope_dims},
        {"llama.vocab_size", hparams->vocab},
    };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        gguf_writer_add_u32(writer, sizes[i].name, sizes[i].value, error);
    gguf_writer_add_f32(writer, "llama.rope.freq_base", (float)hparams->rope_base, error);
    return gguf_writer_add_f32(writer, "llama.attention.layer_norm_rms_epsilon", hparams->rms_eps,
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
