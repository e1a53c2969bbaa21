/* tokenizer.c - reads a vocabulary, checks that it holds together, and frames each encoding: BOS,
 * the fragments between special tokens, EOS. All that an encoding changes is in its own `struct
 * encoding`. */
#include "model/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES  ((size_t)256 << 20)
#define MAX_VOCAB       (1u << 24)
#define MAX_TOKEN_BYTES 65535

void id_list_add(struct id_list *list, int32_t id)
{
    if (list->n == list->capacity && !list->failed) {
        const size_t capacity = list->capacity == 0 ? 256 : list->capacity * 2;
        int32_t *bigger = realloc(list->ids, capacity * sizeof(*bigger));
        list->failed = bigger == NULL;
        if (bigger != NULL) {
            list->ids = bigger;
            list->capacity = capacity;
        }
    }
    if (!list->failed)
        list->ids[list->n++] = id;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* The names, in memory of our own: *tokenizer then outlives the file. */
static enum status read_names(struct tokenizer *t, const struct model_file *file,
                              struct error *error)
{
    const char *path = model_path(file);
    struct model_string *names;
    size_t n, n_bytes = 0;
    enum status status = model_get_strings(file, "tokenizer.ggml.tokens", &names, &n, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, STATUS_INVALID,
                         "%s: key tokenizer.ggml.tokens is missing: no tokenizer without it", path);
    if (status != STATUS_OK)
        return status;
    if (n == 0 || n > MAX_VOCAB)
        status = error_set(error, STATUS_INVALID, "%s: %zu tokens; 1 to %u are possible", path, n,
                           MAX_VOCAB);
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        n_bytes += names[i].n_bytes;
        if (names[i].n_bytes > MAX_TOKEN_BYTES)
            status =
                error_set(error, STATUS_INVALID, "%s: token %zu has %zu bytes; %d are possible",
                          path, i, names[i].n_bytes, MAX_TOKEN_BYTES);
    }
    if (status == STATUS_OK) {
        /* twice: the bytes that a token stands for are never longer than its name */
        t->text = malloc(2 * n_bytes + 1);
        t->tokens = calloc(n, sizeof(*t->tokens));
        if (t->text == NULL || t->tokens == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu tokens", path, n);
    }
    if (status == STATUS_OK) {
        char *at = t->text, *bytes_at = t->text + n_bytes;
        t->vocab = (uint32_t)n;
        for (size_t i = 0; i < n; i++) {
            const size_t length = names[i].n_bytes;
            memcpy(at, names[i].data, length);
            t->tokens[i].name = (struct model_string){at, length};
            t->tokens[i].bytes = (struct model_string){bytes_at, length};
            t->tokens[i].type = TOKENIZER_TYPE_NORMAL;
            if (string_table_add(&t->by_name, at, length, (uint32_t)i) == STRING_TABLE_NONE)
                status =
                    error_set(error, STATUS_NO_MEMORY, "%s: no memory for %zu tokens", path, n);
            at += length;
            bytes_at += length;
        }
    }
    free(names);
    return status;
}

static enum status read_types(struct tokenizer *t, const struct model_file *file,
                              struct error *error)
{
    const char *path = model_path(file);
    int32_t *types;
    size_t n;
    if (model_key_find(file, "tokenizer.ggml.token_type") == NULL)
        return STATUS_OK; /* all normal; tokenizer_spm_open knows byte tokens by their names */
    enum status status = model_get_i32s(file, "tokenizer.ggml.token_type", &types, &n, error);
    if (status != STATUS_OK)
        return status;
    if (n != t->vocab)
        status = error_set(error, STATUS_INVALID, "%s: %zu token types for %u tokens", path, n,
                           t->vocab);
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        if (types[i] < 0 || types[i] > TOKENIZER_TYPE_BYTE)
            status =
                error_set(error, STATUS_INVALID, "%s: token %zu has type %d; 0 to %d is possible",
                          path, i, types[i], TOKENIZER_TYPE_BYTE);
        else
            t->tokens[i].type = (uint8_t)types[i];
    }
    free(types);
    return status;
}

/* A token id from the file; absent, or 2^32 - 1 for "none": *id is left as it is. */
static enum status read_id(const struct tokenizer *t, const struct model_file *file,
                           const char *name, int32_t *id, struct error *error)
{
    const struct model_key *key = model_key_find(file, name);
    uint32_t value = UINT32_MAX;
    if (key == NULL)
        return STATUS_OK;
    int32_t negative;
    if (key->type == GGUF_VALUE_I32 && (memcpy(&negative, key->data, 4), negative == -1)) {
        *id = TOKENIZER_NONE;
        return STATUS_OK;
    }
    const enum status status = model_get_u32(file, name, &value, error);
    if (status != STATUS_OK)
        return status;
    if (value != UINT32_MAX && value >= t->vocab)
        return error_set(error, STATUS_INVALID, "%s: %s is %u; there are %u tokens",
                         model_path(file), name, value, t->vocab);
    *id = value == UINT32_MAX ? TOKENIZER_NONE : (int32_t)value;
    return STATUS_OK;
}

static bool usual_end(const struct token *token)
{
    static const char *const names[] = {"<|eot_id|>",      "<|eom_id|>",    "<|im_end|>",
                                        "<|end_of_text|>", "<|endoftext|>", "<|end|>",
                                        "<end_of_turn>",   "<EOT>",         "</s>"};
    if (token->type != TOKENIZER_TYPE_CONTROL && token->type != TOKENIZER_TYPE_USER_DEFINED)
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (model_string_equals(token->name, names[i]))
            return true;
    return false;
}

static enum status read_special_ids(struct tokenizer *t, const struct model_file *file,
                                    struct error *error)
{
    static const char *const ends[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    t->bos = t->eos = t->unknown = TOKENIZER_NONE;
    if (t->spm && t->vocab > 2) { /* what SentencePiece numbers them, unless the file says else */
        t->unknown = 0;
        t->bos = 1;
        t->eos = 2;
    }
    enum status status = read_id(t, file, "tokenizer.ggml.bos_token_id", &t->bos, error);
    if (status == STATUS_OK)
        status = read_id(t, file, "tokenizer.ggml.eos_token_id", &t->eos, error);
    if (status == STATUS_OK)
        status = read_id(t, file, "tokenizer.ggml.unknown_token_id", &t->unknown, error);
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
        int32_t id = TOKENIZER_NONE;
        status = read_id(t, file, ends[i], &id, error);
        if (status == STATUS_OK && id >= 0)
            t->tokens[id].ends_generation = true;
    }
    for (uint32_t i = 0; i < t->vocab && status == STATUS_OK; i++)
        if (usual_end(&t->tokens[i]))
            t->tokens[i].ends_generation = true;
    if (status == STATUS_OK && t->eos >= 0)
        t->tokens[t->eos].ends_generation = true;
    return status;
}

/* A switch of the file; absent leaves *value. One that asks for a token that is not there is
 * refused. */
static enum status read_switch(const struct model_file *file, const char *name, bool *value,
                               int32_t id, struct error *error)
{
    if (model_key_find(file, name) != NULL) {
        const enum status status = model_get_bool(file, name, value, error);
        if (status != STATUS_OK)
            return status;
        if (*value && id < 0)
            return error_set(error, STATUS_INVALID, "%s: %s is true, and there is no such token",
                             model_path(file), name);
    }
    *value = *value && id >= 0;
    return STATUS_OK;
}

static enum status read_model(struct tokenizer *t, const struct model_file *file,
                              struct error *error)
{
    struct model_string model;
    const enum status status = model_get_string(file, "tokenizer.ggml.model", &model, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: no tokenizer in it: key tokenizer.ggml.model is missing",
                         model_path(file));
    if (status != STATUS_OK)
        return status;
    t->spm = model_string_equals(model, "llama");
    if (!t->spm && !model_string_equals(model, "gpt2"))
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: tokenizer '%.*s' is not supported; supported: llama, gpt2",
                         model_path(file), (int)(model.n_bytes < 64 ? model.n_bytes : 64),
                         model.data);
    return STATUS_OK;
}

enum status tokenizer_open(struct tokenizer **tokenizer, const struct model_file *file,
                           struct error *error)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its tokenizer",
                         model_path(file));
    enum status status = read_model(t, file, error);
    if (status == STATUS_OK)
        status = read_names(t, file, error);
    if (status == STATUS_OK)
        status = read_types(t, file, error);
    if (status == STATUS_OK)
        status = read_special_ids(t, file, error);
    if (status == STATUS_OK)
        status = (t->spm ? tokenizer_spm_open : tokenizer_bpe_open)(t, file, error);
    if (status == STATUS_OK)
        status = read_switch(file, "tokenizer.ggml.add_bos_token", &t->add_bos, t->bos, error);
    if (status == STATUS_OK)
        status = read_switch(file, "tokenizer.ggml.add_eos_token", &t->add_eos, t->eos, error);
    if (status == STATUS_OK)
        status = tokenizer_special_open(t, error);
    if (status != STATUS_OK) {
        tokenizer_close(t);
        return status;
    }
    for (uint32_t i = 0; i < t->vocab; i++)
        if (t->tokens[i].bytes.n_bytes > t->max_token_bytes)
            t->max_token_bytes = (uint32_t)t->tokens[i].bytes.n_bytes;
    *tokenizer = t;
    return STATUS_OK;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    string_table_free(&tokenizer->by_name);
    string_table_free(&tokenizer->special);
    string_table_free(&tokenizer->joinable);
    pretokenizer_destroy(tokenizer->pretokenizer);
    free(tokenizer->special_lengths);
    free(tokenizer->merges);
    free(tokenizer->tokens);
    free(tokenizer->text);
    free(tokenizer);
}

/* ---- encoding ------------------------------------------------------------------------------- */

static enum status encode_fragments(struct encoding *e, const char *text,
                                    const struct fragment_list *fragments)
{
    const struct tokenizer *t = e->tokenizer;
    enum status status = STATUS_OK;
    bool after_special = true;
    for (size_t i = 0; i < fragments->n && status == STATUS_OK; i++) {
        const struct fragment *fragment = &fragments->items[i];
        if (fragment->id >= 0)
            id_list_add(&e->out, fragment->id);
        else if (t->spm)
            status =
                tokenizer_spm_encode(e, text + fragment->begin, fragment->n_bytes, after_special);
        else
            status = tokenizer_bpe_encode(e, text + fragment->begin, fragment->n_bytes);
        after_special = fragment->id >= 0;
    }
    return status;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                             unsigned flags, int32_t **ids, size_t *n_ids, struct error *error)
{
    struct encoding e = {.tokenizer = tokenizer, .error = error};
    struct fragment_list fragments = {0};
    if (n_bytes > MAX_TEXT_BYTES)
        return error_set(error, STATUS_INVALID, "a text of %zu bytes; at most %zu can be encoded",
                         n_bytes, MAX_TEXT_BYTES);
    const bool add_special = (flags & TOKENIZER_ADD_SPECIAL) != 0;
    enum status status = tokenizer_special_cut(
        tokenizer, text, n_bytes, (flags & TOKENIZER_PARSE_SPECIAL) != 0, &fragments, error);
    if (status == STATUS_OK && tokenizer->pretokenizer != NULL)
        status = pretokenizer_scratch_create(&e.scratch, tokenizer->pretokenizer, error);
    if (status == STATUS_OK) {
        if (add_special && tokenizer->add_bos)
            id_list_add(&e.out, tokenizer->bos);
        status = encode_fragments(&e, text, &fragments);
        if (add_special && tokenizer->add_eos)
            id_list_add(&e.out, tokenizer->eos);
    }
    if (status == STATUS_OK && e.out.ids == NULL)
        e.out.ids = malloc(sizeof(*e.out.ids)); /* no ids, and still something to free */
    if (status == STATUS_OK && (e.out.failed || e.out.ids == NULL))
        status = error_set(error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
    if (status == STATUS_OK) {
        *ids = e.out.ids;
        *n_ids = e.out.n;
    } else {
        free(e.out.ids);
    }
    free(fragments.items);
    free(e.buffer);
    pair_merge_free(&e.merge);
    pretokenizer_scratch_destroy(e.scratch);
    return status;
}

/* ---- what is known about tokens ------------------------------------------------------------- */

static const struct token *token_at(const struct tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (uint32_t)id < tokenizer->vocab ? &tokenizer->tokens[id] : NULL;
}

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool tokenizer_is_end_of_generation(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token != NULL && token->ends_generation;
}

struct model_string tokenizer_token_name(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token == NULL ? (struct model_string){NULL, 0} : token->name;
}

struct model_string tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token == NULL ? (struct model_string){NULL, 0} : token->bytes;
}

enum tokenizer_type tokenizer_token_type(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token == NULL ? TOKENIZER_TYPE_UNDEFINED : (enum tokenizer_type)token->type;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *name, size_t n_bytes)
{
    const uint32_t id = string_table_find(&tokenizer->by_name, name, n_bytes);
    return id == STRING_TABLE_NONE ? TOKENIZER_NONE : (int32_t)id;
}
