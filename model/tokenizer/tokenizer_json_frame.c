/* tokenizer_json_frame.c - what stands around the ids of a text, and what ids are as text.
 *
 * tokenizer.json has the template. Which tokens are BOS and EOS it does not say, nor what ends
 * generation: tokenizer_config.json, generation_config.json and config.json do, where they are
 * there. The first may also ask for BOS or EOS, or for none, over the template. */
#include "model/tokenizer/tokenizer_json.h"

#include <string.h>

enum { MOST_NESTED = 4 };

/* ---- post-processor -------------------------------------------------------------------------- */

/* Ids around a text, outside of those that are there: to the left of `before`, to the right of
 * `after`. */
struct around {
    int32_t before[TOKENIZER_MOST_AROUND], after[TOKENIZER_MOST_AROUND];
    size_t n_before, n_after;
};

static enum status add_outside(const struct json_reader *reader, const struct around *outer)
{
    struct tokenizer *t = reader->tokenizer;
    if (t->n_before + outer->n_before > TOKENIZER_MOST_AROUND ||
        t->n_after + outer->n_after > TOKENIZER_MOST_AROUND)
        return tokenizer_json_invalid(reader, "too many tokens around a text");
    memmove(t->before + outer->n_before, t->before, t->n_before * sizeof(*t->before));
    memcpy(t->before, outer->before, outer->n_before * sizeof(*t->before));
    memcpy(t->after + t->n_after, outer->after, outer->n_after * sizeof(*t->after));
    t->n_before += outer->n_before;
    t->n_after += outer->n_after;
    return STATUS_OK;
}

/* The ids of one special token of a template. */
static enum status read_special(const struct json_reader *reader, const json_t *specials,
                                const char *name, int32_t *ids, size_t *n)
{
    const json_t *list = json_object_get(json_object_get(specials, name), "ids");
    if (json_array_size(list) == 0)
        return tokenizer_json_invalid(reader, "its template names a token without ids");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_int_t id = json_integer_value(json_array_get(list, i));
        if (!json_is_integer(json_array_get(list, i)) || id < 0 || id >= reader->tokenizer->vocab)
            return tokenizer_json_invalid(reader, "its template has an id that is no token");
        if (*n == TOKENIZER_MOST_AROUND)
            return tokenizer_json_invalid(reader, "too many tokens around a text");
        ids[(*n)++] = (int32_t)id;
    }
    return STATUS_OK;
}

/* "single": special tokens, the sequence A once, special tokens. */
static enum status read_template(const struct json_reader *reader, const json_t *processor)
{
    const json_t *pieces = json_object_get(processor, "single");
    const json_t *specials = json_object_get(processor, "special_tokens");
    struct around around = {.n_before = 0};
    size_t n_sequences = 0;
    if (!json_is_array(pieces))
        return tokenizer_json_refuse(reader, "a TemplateProcessing without", "single");
    for (size_t i = 0; i < json_array_size(pieces); i++) {
        const json_t *piece = json_array_get(pieces, i);
        const char *name =
            json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        enum status status = STATUS_OK;
        if (name == NULL)
            n_sequences += json_object_get(piece, "Sequence") != NULL;
        else if (n_sequences == 0)
            status = read_special(reader, specials, name, around.before, &around.n_before);
        else
            status = read_special(reader, specials, name, around.after, &around.n_after);
        if (status != STATUS_OK)
            return status;
    }
    if (n_sequences != 1)
        return tokenizer_json_invalid(reader, "a template in which the text does not stand once");
    return add_outside(reader, &around);
}

static enum status read_processor(const struct json_reader *reader, const json_t *processor,
                                  int nested)
{
    const char *type = tokenizer_json_type(processor);
    const json_t *list = json_object_get(processor, "processors");
    if (strcmp(type, "ByteLevel") == 0) /* moves offsets, adds nothing */
        return STATUS_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(reader, processor);
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) || nested == MOST_NESTED)
        return tokenizer_json_refuse(reader, "post-processor", type);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++)
        status = read_processor(reader, json_array_get(list, i), nested + 1);
    return status;
}

enum status tokenizer_json_post_processor(const struct json_reader *reader, const json_t *processor)
{
    return processor == NULL || json_is_null(processor) ? STATUS_OK
                                                        : read_processor(reader, processor, 0);
}

/* ---- decoder --------------------------------------------------------------------------------- */

/* What the steps of a decoder amount to. */
struct decoding {
    enum vocabulary_writing writing;
    bool strips_space;
};

static bool is_string(const json_t *object, const char *name, const char *text)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL && strcmp(value, text) == 0;
}

static enum status read_decoder(const struct json_reader *reader, const json_t *decoder,
                                struct decoding *decoding, int nested)
{
    static const char space[] = "\xe2\x96\x81"; /* U+2581 */
    const char *type = tokenizer_json_type(decoder);
    const json_t *list = json_object_get(decoder, "decoders");
    if (strcmp(type, "Sequence") == 0 && json_is_array(list) && nested < MOST_NESTED) {
        enum status status = STATUS_OK;
        for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++)
            status = read_decoder(reader, json_array_get(list, i), decoding, nested + 1);
        return status;
    }
    if (strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0)
        return STATUS_OK; /* what byte tokens and a text are here anyway */
    if (strcmp(type, "ByteLevel") == 0) {
        decoding->writing = VOCABULARY_SHOWS_BYTES;
    } else if (strcmp(type, "Metaspace") == 0 && is_string(decoder, "replacement", space)) {
        decoding->writing = VOCABULARY_SHOWS_SPACE;
        decoding->strips_space = json_object_get(decoder, "prepend_scheme") != NULL
                                     ? !is_string(decoder, "prepend_scheme", "never")
                                     : tokenizer_json_switch(decoder, "add_prefix_space", true);
    } else if (strcmp(type, "Replace") == 0 && is_string(decoder, "content", " ") &&
               is_string(json_object_get(decoder, "pattern"), "String", space)) {
        decoding->writing = VOCABULARY_SHOWS_SPACE;
    } else if (strcmp(type, "Strip") == 0 && is_string(decoder, "content", " ") &&
               json_integer_value(json_object_get(decoder, "start")) <= 1 &&
               json_integer_value(json_object_get(decoder, "stop")) == 0) {
        decoding->strips_space = json_integer_value(json_object_get(decoder, "start")) == 1;
    } else {
        return tokenizer_json_refuse(reader, "decoder", type);
    }
    return STATUS_OK;
}

enum status tokenizer_json_decoder(const struct json_reader *reader, const json_t *decoder)
{
    struct tokenizer *t = reader->tokenizer;
    struct decoding decoding = {
        t->kind == TOKENIZER_BYTES ? VOCABULARY_SHOWS_BYTES : VOCABULARY_PLAIN, false};
    if (decoder != NULL && !json_is_null(decoder)) {
        const enum status status = read_decoder(reader, decoder, &decoding, 0);
        if (status != STATUS_OK)
            return status;
    }
    t->strips_space = decoding.strips_space;
    return vocabulary_read_bytes(t, decoding.writing, reader->path, reader->error);
}

/* ---- the files beside it --------------------------------------------------------------------- */

/* A file that need not be there: *root is NULL then. */
static enum status read_file(json_t **root, const struct tokenizer_source *source,
                             enum tokenizer_file which, struct error *error)
{
    char path[FILE_PATH_BYTES];
    struct error why = {0};
    *root = NULL;
    const enum status status = tokenizer_json_open(root, path, source, which, &why);
    return status == STATUS_OK || status == STATUS_NOT_FOUND
               ? STATUS_OK
               : error_set(error, status, "%s", why.text);
}

/* "bos_token": a name, or {"content": name}. A name that is no token is none. */
static void read_token(const struct tokenizer *t, const json_t *config, const char *name,
                       int32_t *id)
{
    const json_t *value = json_object_get(config, name);
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
    if (json_is_string(text))
        *id = tokenizer_find(t, json_string_value(text), json_string_length(text));
}

static int32_t checked_id(const struct tokenizer *t, const json_t *value)
{
    const json_int_t id = json_integer_value(value);
    return json_is_integer(value) && id >= 0 && id < t->vocab ? (int32_t)id : TOKENIZER_NONE;
}

/* "eos_token_id": a number or several; all end generation, the first is EOS where none is known. */
static void read_ends(struct tokenizer *t, const json_t *config)
{
    const json_t *value = json_object_get(config, "eos_token_id");
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        const int32_t id = checked_id(t, json_is_array(value) ? json_array_get(value, i) : value);
        if (id < 0)
            continue;
        t->tokens[id].ends_generation = true;
        if (t->eos < 0)
            t->eos = id;
    }
}

/* add_bos_token or add_eos_token, where the file says one; it decides over the template. */
static enum status decide(const struct json_reader *reader, const json_t *config, const char *name,
                          int32_t id, bool in_front)
{
    struct tokenizer *t = reader->tokenizer;
    int32_t *ids = in_front ? t->before : t->after;
    size_t *n = in_front ? &t->n_before : &t->n_after;
    const json_t *value = json_object_get(config, name);
    if (!json_is_boolean(value) || id < 0)
        return STATUS_OK;
    const bool there = *n > 0 && ids[in_front ? 0 : *n - 1] == id;
    if (json_is_true(value) == there)
        return STATUS_OK;
    if (there) {
        (*n)--;
        if (in_front)
            memmove(ids, ids + 1, *n * sizeof(*ids));
        return STATUS_OK;
    }
    struct around around = {.n_before = in_front, .n_after = !in_front};
    around.before[0] = around.after[0] = id;
    return add_outside(reader, &around);
}

enum status tokenizer_json_special_ids(const struct json_reader *reader,
                                       const struct tokenizer_source *source)
{
    struct tokenizer *t = reader->tokenizer;
    json_t *tokenizer = NULL, *generation = NULL, *config = NULL;
    enum status status = read_file(&tokenizer, source, TOKENIZER_FILE_CONFIG, reader->error);
    if (status == STATUS_OK)
        status = read_file(&generation, source, TOKENIZER_FILE_GENERATION, reader->error);
    if (status == STATUS_OK)
        status = read_file(&config, source, TOKENIZER_FILE_MODEL, reader->error);
    if (status == STATUS_OK) {
        t->bos = checked_id(t, json_object_get(config, "bos_token_id"));
        read_token(t, tokenizer, "bos_token", &t->bos);
        read_token(t, tokenizer, "eos_token", &t->eos);
        read_ends(t, generation);
        read_ends(t, config);
        status = decide(reader, tokenizer, "add_bos_token", t->bos, true);
    }
    if (status == STATUS_OK)
        status = decide(reader, tokenizer, "add_eos_token", t->eos, false);
    json_decref(tokenizer);
    json_decref(generation);
    json_decref(config);
    return status;
}
