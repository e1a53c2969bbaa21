/* tokenizer_json_model.c - the vocabulary, its merges, and the tokens that were added to it.
 *
 * Ids may have holes: such a token has no name, and no text becomes it. */
#include "model/tokenizer/tokenizer_json.h"

#include <stdlib.h>
#include <string.h>

#define MOST_IDS   ((json_int_t)1 << 24)
#define MOST_HOLES (1u << 20)

static struct model_string text_of(const json_t *value)
{
    const char *text = json_string_value(value);
    return (struct model_string){text == NULL ? "" : text, json_string_length(value)};
}

/* ---- vocabulary ------------------------------------------------------------------------------ */

/* What is there but would change ids. */
static enum status check_model(const struct json_reader *reader, const json_t *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = tokenizer_json_type(model);
    if (!json_is_object(model))
        return tokenizer_json_invalid(reader, "there is no model in it");
    if (strcmp(type, "BPE") != 0 && (type[0] != '\0' || !json_object_get(model, "merges")))
        return tokenizer_json_refuse(reader, "tokenizer model", type);
    for (size_t i = 0; i < 2; i++)
        if (json_string_length(json_object_get(model, affixes[i])) > 0)
            return tokenizer_json_refuse(reader, "a BPE model with", affixes[i]);
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return tokenizer_json_refuse(reader, "a BPE model with", "dropout");
    return STATUS_OK;
}

static bool is_id(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) < MOST_IDS;
}

/* One more than the largest id. */
static enum status count_ids(const struct json_reader *reader, const json_t *vocab,
                             const json_t *added, size_t *n)
{
    const char *name;
    json_t *value;
    size_t i;
    json_int_t largest = -1;
    json_object_foreach((json_t *)vocab, name, value)
    {
        if (!is_id(value))
            return error_set(reader->error, STATUS_INVALID,
                             "%s: the token '%.64s' has no id below %lld", reader->path, name,
                             (long long)MOST_IDS);
        largest = json_integer_value(value) > largest ? json_integer_value(value) : largest;
    }
    json_array_foreach((json_t *)added, i, value)
    {
        const json_t *id = json_object_get(value, "id");
        if (!is_id(id) || !json_is_string(json_object_get(value, "content")))
            return error_set(reader->error, STATUS_INVALID,
                             "%s: added token %zu has no id below %lld, or no content",
                             reader->path, i, (long long)MOST_IDS);
        largest = json_integer_value(id) > largest ? json_integer_value(id) : largest;
    }
    const size_t n_named = json_object_size(vocab) + json_array_size(added);
    if ((size_t)(largest + 1) > n_named + MOST_HOLES)
        return error_set(reader->error, STATUS_INVALID, "%s: %zu tokens, and one has the id %lld",
                         reader->path, n_named, (long long)largest);
    *n = (size_t)(largest + 1);
    return STATUS_OK;
}

static enum status collect_names(const struct json_reader *reader, const json_t *vocab,
                                 const json_t *added, struct model_string *names)
{
    const char *name;
    json_t *value;
    size_t i;
    json_object_foreach((json_t *)vocab, name, value)
    {
        struct model_string *slot = &names[json_integer_value(value)];
        if (slot->data != NULL)
            return error_set(reader->error, STATUS_INVALID,
                             "%s: '%.64s' and '%.64s' are the same token", reader->path, slot->data,
                             name);
        *slot = (struct model_string){name, strlen(name)};
    }
    json_array_foreach((json_t *)added, i, value)
    {
        struct model_string *slot = &names[json_integer_value(json_object_get(value, "id"))];
        const struct model_string content = text_of(json_object_get(value, "content"));
        if (slot->data != NULL && (slot->n_bytes != content.n_bytes ||
                                   memcmp(slot->data, content.data, content.n_bytes) != 0))
            return error_set(reader->error, STATUS_INVALID,
                             "%s: '%.64s' and the added '%.64s' are the same token", reader->path,
                             slot->data, content.data);
        *slot = content;
    }
    return STATUS_OK;
}

static void set_types(struct tokenizer *t, const json_t *added)
{
    const json_t *value;
    size_t i;
    for (uint32_t id = 0; id < t->vocab; id++) {
        if (t->tokens[id].name.n_bytes == 0)
            t->tokens[id].type = TOKENIZER_TYPE_UNUSED;
        if (t->byte_fallback && vocabulary_byte(t->tokens[id].name) >= 0)
            t->tokens[id].type = TOKENIZER_TYPE_BYTE;
    }
    json_array_foreach((json_t *)added, i, value)
        t->tokens[json_integer_value(json_object_get(value, "id"))]
            .type = tokenizer_json_switch(value, "special", false) ? TOKENIZER_TYPE_CONTROL
                                                                   : TOKENIZER_TYPE_USER_DEFINED;
    if (t->unknown >= 0 && t->tokens[t->unknown].type == TOKENIZER_TYPE_CONTROL)
        t->tokens[t->unknown].type = TOKENIZER_TYPE_UNKNOWN;
}

enum status tokenizer_json_vocabulary(const struct json_reader *reader, const json_t *model,
                                      const json_t *added)
{
    struct tokenizer *t = reader->tokenizer;
    const json_t *vocab = json_object_get(model, "vocab");
    const json_t *unknown = json_object_get(model, "unk_token");
    size_t n = 0;
    enum status status = check_model(reader, model);
    if (status == STATUS_OK && !json_is_object(vocab))
        status = tokenizer_json_invalid(reader, "its model has no vocab");
    if (status == STATUS_OK)
        status = count_ids(reader, vocab, added, &n);
    if (status != STATUS_OK)
        return status;
    struct model_string *names = calloc(n + 1, sizeof(*names));
    if (names == NULL)
        return error_set(reader->error, STATUS_NO_MEMORY, "%s: no memory for %zu tokens",
                         reader->path, n);
    status = collect_names(reader, vocab, added, names);
    if (status == STATUS_OK)
        status = vocabulary_read(t, names, n, reader->path, reader->error);
    free(names);
    if (status != STATUS_OK)
        return status;
    if (json_is_string(unknown)) {
        t->unknown = tokenizer_find(t, json_string_value(unknown), json_string_length(unknown));
        if (t->unknown < 0)
            return tokenizer_json_refuse(reader, "an unk_token that is no token, ",
                                         json_string_value(unknown));
    }
    t->byte_fallback =
        t->kind == TOKENIZER_CHARACTERS && tokenizer_json_switch(model, "byte_fallback", false);
    t->fuse_unknown = tokenizer_json_switch(model, "fuse_unk", false);
    t->whole_words = tokenizer_json_switch(model, "ignore_merges", false);
    set_types(t, added);
    return STATUS_OK;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* "left right", or ["left", "right"] where a part may hold a space. */
static enum status read_merge(const struct json_reader *reader, const json_t *merge, uint32_t rank)
{
    struct model_string left = text_of(merge), right = {"", 0};
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        left = text_of(json_array_get(merge, 0));
        right = text_of(json_array_get(merge, 1));
    } else {
        const char *gap = left.n_bytes == 0 ? NULL : memchr(left.data, ' ', left.n_bytes);
        if (gap != NULL) {
            right = (struct model_string){gap + 1, left.n_bytes - (size_t)(gap - left.data) - 1};
            left.n_bytes = (size_t)(gap - left.data);
        }
    }
    if (left.n_bytes == 0 || right.n_bytes == 0)
        return error_set(reader->error, STATUS_INVALID, "%s: merge %u is not two parts",
                         reader->path, rank);
    return merges_add(reader->tokenizer, left, right, rank, reader->path, reader->error);
}

enum status tokenizer_json_merges(const struct json_reader *reader, const json_t *model)
{
    struct tokenizer *t = reader->tokenizer;
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges))
        return tokenizer_json_invalid(reader, "its model has no merges");
    if (t->kind == TOKENIZER_BYTES)
        merges_find_bytes(t);
    else
        vocabulary_find_bytes(t);
    enum status status = merges_open(t, json_array_size(merges), reader->path, reader->error);
    for (size_t i = 0; i < json_array_size(merges) && status == STATUS_OK; i++)
        status = read_merge(reader, json_array_get(merges, i), (uint32_t)i);
    if (status == STATUS_OK && (t->kind == TOKENIZER_CHARACTERS || t->whole_words))
        status = merges_find_pieces(t, reader->error);
    return status;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static enum status read_added_token(const struct json_reader *reader,
                                    struct normalizer_scratch *scratch, const json_t *value)
{
    struct tokenizer *t = reader->tokenizer;
    struct model_string name = text_of(json_object_get(value, "content"));
    const bool normalized = tokenizer_json_switch(value, "normalized", false);
    const struct added_token token = {
        .id = (int32_t)json_integer_value(json_object_get(value, "id")),
        .single_word = tokenizer_json_switch(value, "single_word", false),
        .lstrip = tokenizer_json_switch(value, "lstrip", false),
        .rstrip = tokenizer_json_switch(value, "rstrip", false)};
    enum status status = STATUS_OK;
    if (normalized)
        status = normalizer_run(t->normalizer, scratch, name.data, name.n_bytes,
                                (struct normalizer_place){true, true}, &name.data, &name.n_bytes,
                                reader->error);
    if (status == STATUS_OK)
        status = added_tokens_add(t->added[normalized][1], name.data, name.n_bytes, token,
                                  reader->error);
    if (status == STATUS_OK && !tokenizer_json_switch(value, "special", false))
        status = added_tokens_add(t->added[normalized][0], name.data, name.n_bytes, token,
                                  reader->error);
    return status;
}

enum status tokenizer_json_added_tokens(const struct json_reader *reader, const json_t *added)
{
    struct normalizer_scratch *scratch;
    enum status status = normalizer_scratch_create(&scratch, reader->error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < json_array_size(added) && status == STATUS_OK; i++)
        status = read_added_token(reader, scratch, json_array_get(added, i));
    normalizer_scratch_destroy(scratch);
    return status;
}
