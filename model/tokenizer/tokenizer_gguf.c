/* tokenizer_gguf.c - a tokenizer from the keys tokenizer.ggml.*.
 *
 * Model `llama` is SentencePiece: its normalization is in switches, and texts are not cut in words.
 * Model `gpt2` is byte-level BPE: a key names how texts are cut (pretokenizer_rules.h). */
#include "model/tokenizer/pretokenizer_rules.h"
#include "model/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
#define SPACE     "\xe2\x96\x81" /* U+2581 */

static int shown_bytes(struct model_string text)
{
    return (int)(text.n_bytes < 64 ? text.n_bytes : 64);
}

static enum status read_kind(struct tokenizer *t, const struct model_file *file,
                             struct error *error)
{
    struct model_string model;
    const enum status status = model_get_string(file, KEY("model"), &model, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: no tokenizer in it: key tokenizer.ggml.model is missing",
                         model_path(file));
    if (status != STATUS_OK)
        return status;
    t->kind = model_string_equals(model, "llama") ? TOKENIZER_SCORES : TOKENIZER_BYTES;
    if (t->kind == TOKENIZER_BYTES && !model_string_equals(model, "gpt2"))
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: tokenizer '%.*s' is not supported; supported: llama, gpt2",
                         model_path(file), shown_bytes(model), model.data);
    return STATUS_OK;
}

static enum status read_names(struct tokenizer *t, const struct model_file *file,
                              struct error *error)
{
    struct model_string *names;
    size_t n;
    enum status status = model_get_strings(file, KEY("tokens"), &names, &n, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, STATUS_INVALID,
                         "%s: key tokenizer.ggml.tokens is missing: no tokenizer without it",
                         model_path(file));
    if (status != STATUS_OK)
        return status;
    status = vocabulary_read(t, names, n, model_path(file), error);
    free(names);
    return status;
}

/* Without types all are normal, but for SentencePiece's byte tokens. */
static enum status read_types(struct tokenizer *t, const struct model_file *file,
                              struct error *error)
{
    const char *path = model_path(file);
    int32_t *types;
    size_t n;
    if (model_key_find(file, KEY("token_type")) == NULL) {
        for (uint32_t i = 0; i < t->vocab && t->kind == TOKENIZER_SCORES; i++)
            if (vocabulary_byte(t->tokens[i].name) >= 0)
                t->tokens[i].type = TOKENIZER_TYPE_BYTE;
        return STATUS_OK;
    }
    enum status status = model_get_i32s(file, KEY("token_type"), &types, &n, error);
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

static enum status read_special_ids(struct tokenizer *t, const struct model_file *file,
                                    struct error *error)
{
    static const char *const ends[] = {KEY("eot_token_id"), KEY("eom_token_id")};
    if (t->kind == TOKENIZER_SCORES && t->vocab > 2) { /* SentencePiece's own numbers */
        t->unknown = 0;
        t->bos = 1;
        t->eos = 2;
    }
    enum status status = read_id(t, file, KEY("bos_token_id"), &t->bos, error);
    if (status == STATUS_OK)
        status = read_id(t, file, KEY("eos_token_id"), &t->eos, error);
    if (status == STATUS_OK)
        status = read_id(t, file, KEY("unknown_token_id"), &t->unknown, error);
    for (size_t i = 0; i < 2 && status == STATUS_OK; i++) {
        int32_t id = TOKENIZER_NONE;
        status = read_id(t, file, ends[i], &id, error);
        if (status == STATUS_OK && id >= 0)
            t->tokens[id].ends_generation = true;
    }
    return status;
}

static enum status read_bool(const struct model_file *file, const char *name, bool *value,
                             struct error *error)
{
    return model_key_find(file, name) == NULL ? STATUS_OK
                                              : model_get_bool(file, name, value, error);
}

/* A switch of the file that adds a token around texts; `adds`: what it is when it is absent. One
 * that asks for a token that is not there is refused. */
static enum status read_frame(const struct model_file *file, const char *name, bool adds,
                              int32_t id, int32_t *ids, size_t *n, struct error *error)
{
    const bool said = model_key_find(file, name) != NULL;
    const enum status status = read_bool(file, name, &adds, error);
    if (status != STATUS_OK)
        return status;
    if (said && adds && id < 0)
        return error_set(error, STATUS_INVALID, "%s: %s is true, and there is no such token",
                         model_path(file), name);
    if (adds && id >= 0)
        ids[(*n)++] = id;
    return STATUS_OK;
}

/* ---- SentencePiece -------------------------------------------------------------------------- */

static enum status read_scores(struct tokenizer *t, const struct model_file *file,
                               struct error *error)
{
    const char *path = model_path(file);
    float *scores;
    size_t n;
    enum status status = model_get_f32s(file, KEY("scores"), &scores, &n, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, STATUS_INVALID,
                         "%s: key tokenizer.ggml.scores is missing: a llama tokenizer joins by "
                         "score",
                         path);
    if (status != STATUS_OK)
        return status;
    if (n != t->vocab)
        status =
            error_set(error, STATUS_INVALID, "%s: %zu scores for %u tokens", path, n, t->vocab);
    if (status == STATUS_OK)
        status = scores_open(t, scores, path, error);
    free(scores);
    return status;
}

/* The normalizer that SentencePiece's own switches make. */
static enum status read_normalization(struct tokenizer *t, const struct model_file *file,
                                      struct error *error)
{
    bool prefix = true, single_spaces = false;
    const struct model_key *map = model_key_find(file, KEY("precompiled_charsmap"));
    struct expression *space = NULL;
    if (map != NULL && map->n > 0)
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: its tokenizer maps characters by a table (key "
                         "tokenizer.ggml.precompiled_charsmap), which is not supported",
                         model_path(file));
    enum status status = read_bool(file, KEY("add_space_prefix"), &prefix, error);
    if (status == STATUS_OK)
        status = read_bool(file, KEY("remove_extra_whitespaces"), &single_spaces, error);
    t->strips_space = t->strips_again = prefix;
    if (status == STATUS_OK && single_spaces)
        status = normalizer_add_single_spaces(t->normalizer, error);
    if (status == STATUS_OK && prefix)
        status = normalizer_add_prepend(t->normalizer, SPACE, error);
    if (status == STATUS_OK)
        status = expression_create_literal(&space, " ", error);
    if (status == STATUS_OK)
        status = normalizer_add_replace(t->normalizer, space, SPACE, error);
    return status;
}

static enum status read_sentencepiece(struct tokenizer *t, const struct model_file *file,
                                      struct error *error)
{
    enum status status = vocabulary_read_bytes(t, VOCABULARY_SHOWS_SPACE, model_path(file), error);
    if (status != STATUS_OK)
        return status;
    vocabulary_find_bytes(t);
    for (unsigned i = 0; i < 256 && t->unknown < 0; i++)
        if (t->byte_ids[i] < 0)
            return error_set(error, STATUS_INVALID,
                             "%s: no token <0x%02X>, and no unknown token to stand for it",
                             model_path(file), i);
    t->fuse_unknown = true;
    status = read_scores(t, file, error);
    if (status == STATUS_OK)
        status = read_normalization(t, file, error);
    return status;
}

/* ---- byte-level BPE ------------------------------------------------------------------------- */

/* "left right": the first space behind the first character parts them. */
static enum status read_merge(struct tokenizer *t, struct model_string merge, uint32_t rank,
                              const char *path, struct error *error)
{
    const char *gap = merge.n_bytes < 3 ? NULL : memchr(merge.data + 1, ' ', merge.n_bytes - 2);
    if (gap == NULL)
        return error_set(error, STATUS_INVALID,
                         "%s: merge %u is '%.*s', which is not two parts and a space between", path,
                         rank, shown_bytes(merge), merge.data);
    const size_t n_left = (size_t)(gap - merge.data);
    return merges_add(t, (struct model_string){merge.data, n_left},
                      (struct model_string){gap + 1, merge.n_bytes - n_left - 1}, rank, path,
                      error);
}

static enum status read_merges(struct tokenizer *t, const struct model_file *file,
                               struct error *error)
{
    struct model_string *merges;
    size_t n;
    if (model_key_find(file, KEY("merges")) == NULL)
        return STATUS_OK;
    enum status status = model_get_strings(file, KEY("merges"), &merges, &n, error);
    if (status != STATUS_OK)
        return status;
    status = merges_open(t, n, model_path(file), error);
    for (size_t i = 0; i < n && status == STATUS_OK; i++)
        status = read_merge(t, merges[i], (uint32_t)i, model_path(file), error);
    free(merges);
    return status;
}

/* *bos: does the rule add it. A vocabulary without merges needs no rule: every byte is its own
 * token, whatever the words. */
static enum status read_rule(struct tokenizer *t, const struct model_file *file, bool *bos,
                             struct error *error)
{
    struct model_string pre = {"", 0};
    enum status status = STATUS_OK;
    if (model_key_find(file, KEY("pre")) != NULL)
        status = model_get_string(file, KEY("pre"), &pre, error);
    if (status != STATUS_OK || (pre.n_bytes == 0 && t->n_merge_slots == 0))
        return status;
    char name[64] = "", names[900];
    if (pre.n_bytes < sizeof(name) && memchr(pre.data, '\0', pre.n_bytes) == NULL)
        memcpy(name, pre.data, pre.n_bytes);
    const struct pretokenizer_rule *rule = pretokenizer_rule_find(name);
    if (rule == NULL) {
        pretokenizer_rule_names(names, sizeof(names));
        return error_set(error, STATUS_UNSUPPORTED,
                         "%s: pre-tokenizer '%.*s'%s is not supported; supported: %s",
                         model_path(file), shown_bytes(pre), pre.data,
                         pre.n_bytes == 0 ? " (tokenizer.ggml.pre is missing)" : "", names);
    }
    status = pretokenizer_rule_apply(rule, t->pretokenizer, error);
    if (status == STATUS_OK && pretokenizer_rule_nfc(rule))
        status = normalizer_add_form(t->normalizer, NORMALIZER_NFC, error);
    t->whole_words = pretokenizer_rule_whole_words(rule);
    *bos = pretokenizer_rule_bos(rule);
    return status;
}

static enum status read_byte_level(struct tokenizer *t, const struct model_file *file, bool *bos,
                                   struct error *error)
{
    enum status status = vocabulary_read_bytes(t, VOCABULARY_SHOWS_BYTES, model_path(file), error);
    merges_find_bytes(t);
    if (status == STATUS_OK)
        status = read_merges(t, file, error);
    if (status == STATUS_OK)
        status = read_rule(t, file, bos, error);
    if (status == STATUS_OK && t->whole_words)
        status = merges_find_pieces(t, error);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static enum status add_special_tokens(struct tokenizer *t, struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < t->vocab && status == STATUS_OK; i++) {
        const struct token *token = &t->tokens[i];
        const struct added_token added = {.id = (int32_t)i};
        if (!tokenizer_is_special(token))
            continue;
        status =
            added_tokens_add(t->added[0][1], token->bytes.data, token->bytes.n_bytes, added, error);
        if (status == STATUS_OK && token->type == TOKENIZER_TYPE_USER_DEFINED)
            status = added_tokens_add(t->added[0][0], token->bytes.data, token->bytes.n_bytes,
                                      added, error);
    }
    return status;
}

enum status tokenizer_gguf_read(struct tokenizer *t, const struct model_file *file,
                                struct error *error)
{
    enum status status = read_kind(t, file, error);
    if (status == STATUS_OK)
        status = read_names(t, file, error);
    if (status == STATUS_OK)
        status = read_types(t, file, error);
    if (status == STATUS_OK)
        status = read_special_ids(t, file, error);
    bool bos = t->kind == TOKENIZER_SCORES;
    if (status == STATUS_OK)
        status = t->kind == TOKENIZER_SCORES ? read_sentencepiece(t, file, error)
                                             : read_byte_level(t, file, &bos, error);
    if (status == STATUS_OK)
        status =
            read_frame(file, KEY("add_bos_token"), bos, t->bos, t->before, &t->n_before, error);
    if (status == STATUS_OK)
        status =
            read_frame(file, KEY("add_eos_token"), false, t->eos, t->after, &t->n_after, error);
    if (status == STATUS_OK)
        status = add_special_tokens(t, error);
    return status;
}
