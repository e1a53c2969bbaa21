/* tokenizer_json_steps.c - how a text is normalized and cut: lists of steps there and here. */
#include "model/tokenizer/tokenizer_json.h"

#include <string.h>

enum { MOST_NESTED = 4 }; /* sequences in sequences */

/* {"String": "x"} or {"Regex": "x"}. */
static enum status read_pattern(const struct json_reader *reader, const json_t *pattern,
                                struct expression **expression)
{
    const char *text = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    struct error why = {0};
    if ((text == NULL) == (regex == NULL) || (text != NULL && text[0] == '\0'))
        return tokenizer_json_invalid(reader, "a pattern that is neither a String nor a Regex");
    const enum status status = text != NULL ? expression_create_literal(expression, text, &why)
                                            : expression_create(expression, regex, &why);
    return status == STATUS_OK ? status
                               : error_set(reader->error, status, "%s: %s", reader->path, why.text);
}

/* ---- normalizer ------------------------------------------------------------------------------ */

static enum status read_replace(const struct json_reader *reader, const json_t *step)
{
    const char *content = json_string_value(json_object_get(step, "content"));
    struct expression *expression = NULL;
    if (content == NULL)
        return tokenizer_json_invalid(reader, "a Replace normalizer without content");
    const enum status status = read_pattern(reader, json_object_get(step, "pattern"), &expression);
    return status == STATUS_OK ? normalizer_add_replace(reader->tokenizer->normalizer, expression,
                                                        content, reader->error)
                               : status;
}

static enum status read_normalizer(const struct json_reader *reader, const json_t *step, int nested)
{
    static const struct {
        const char *type;
        enum normalizer_form form;
    } forms[] = {{"NFC", NORMALIZER_NFC},
                 {"NFD", NORMALIZER_NFD},
                 {"NFKC", NORMALIZER_NFKC},
                 {"NFKD", NORMALIZER_NFKD}};
    struct normalizer *normalizer = reader->tokenizer->normalizer;
    const char *type = tokenizer_json_type(step);
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (strcmp(type, forms[i].type) == 0)
            return normalizer_add_form(normalizer, forms[i].form, reader->error);
    if (strcmp(type, "Replace") == 0)
        return read_replace(reader, step);
    if (strcmp(type, "Lowercase") == 0)
        return normalizer_add_lowercase(normalizer, reader->error);
    if (strcmp(type, "StripAccents") == 0)
        return normalizer_add_strip_accents(normalizer, reader->error);
    if (strcmp(type, "Strip") == 0)
        return normalizer_add_strip(normalizer, tokenizer_json_switch(step, "strip_left", true),
                                    tokenizer_json_switch(step, "strip_right", true),
                                    reader->error);
    if (strcmp(type, "Prepend") == 0) {
        const char *text = json_string_value(json_object_get(step, "prepend"));
        return text == NULL ? tokenizer_json_invalid(reader, "a Prepend normalizer without text")
                            : normalizer_add_prepend(normalizer, text, reader->error);
    }
    const json_t *list = json_object_get(step, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) || nested == MOST_NESTED)
        return tokenizer_json_refuse(reader, "normalizer", type);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++)
        status = read_normalizer(reader, json_array_get(list, i), nested + 1);
    return status;
}

enum status tokenizer_json_normalizer(const struct json_reader *reader, const json_t *normalizer)
{
    return normalizer == NULL || json_is_null(normalizer) ? STATUS_OK
                                                          : read_normalizer(reader, normalizer, 0);
}

/* ---- pre-tokenizer --------------------------------------------------------------------------- */

/* Of GPT-2: ByteLevel's own. */
#define BYTE_LEVEL                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* What \w is to Rust, which Whitespace is written in. */
#define RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

static enum status add_split(const struct json_reader *reader, const char *expression,
                             enum pretokenizer_behavior behavior, bool inverted)
{
    struct expression *e = NULL;
    const enum status status = expression_create(&e, expression, reader->error);
    return status == STATUS_OK ? pretokenizer_add_split(reader->tokenizer->pretokenizer, e,
                                                        behavior, inverted, reader->error)
                               : status;
}

/* `name`: the value of "behavior"; NULL: there is none. */
static enum status read_behavior(const struct json_reader *reader, const json_t *step,
                                 enum pretokenizer_behavior *behavior)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *name = json_string_value(json_object_get(step, "behavior"));
    *behavior = PRETOKENIZER_ISOLATED;
    for (size_t i = 0; name != NULL && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0) {
            *behavior = (enum pretokenizer_behavior)i; /* in the order of the enum */
            return STATUS_OK;
        }
    return name == NULL ? STATUS_OK
                        : tokenizer_json_refuse(reader, "behavior of a pre-tokenizer", name);
}

static enum status read_split(const struct json_reader *reader, const json_t *step)
{
    enum pretokenizer_behavior behavior;
    struct expression *expression = NULL;
    enum status status = read_behavior(reader, step, &behavior);
    if (status == STATUS_OK)
        status = read_pattern(reader, json_object_get(step, "pattern"), &expression);
    return status == STATUS_OK
               ? pretokenizer_add_split(reader->tokenizer->pretokenizer, expression, behavior,
                                        tokenizer_json_switch(step, "invert", false), reader->error)
               : status;
}

static enum status read_punctuation(const struct json_reader *reader, const json_t *step)
{
    enum pretokenizer_behavior behavior;
    const enum status status = read_behavior(reader, step, &behavior);
    return status == STATUS_OK ? add_split(reader, "[\\p{P}!-/:-@\\[-`{-~]", behavior, false)
                               : status;
}

static enum status read_delimiter(const struct json_reader *reader, const json_t *step)
{
    const char *delimiter = json_string_value(json_object_get(step, "delimiter"));
    struct expression *expression = NULL;
    if (delimiter == NULL || delimiter[0] == '\0')
        return tokenizer_json_invalid(reader,
                                      "a CharDelimiterSplit pre-tokenizer without delimiter");
    const enum status status = expression_create_literal(&expression, delimiter, reader->error);
    return status == STATUS_OK ? pretokenizer_add_split(reader->tokenizer->pretokenizer, expression,
                                                        PRETOKENIZER_REMOVED, false, reader->error)
                               : status;
}

static enum status read_byte_level(const struct json_reader *reader, const json_t *step)
{
    enum status status = STATUS_OK;
    if (tokenizer_json_switch(step, "add_prefix_space", true))
        status = pretokenizer_add_prefix_space(reader->tokenizer->pretokenizer, reader->error);
    if (status == STATUS_OK && tokenizer_json_switch(step, "use_regex", true))
        status = add_split(reader, BYTE_LEVEL, PRETOKENIZER_ISOLATED, false);
    return status;
}

static enum status read_metaspace(const struct json_reader *reader, const json_t *step)
{
    static const char *const schemes[] = {"never", "first", "always"};
    struct pretokenizer *pretokenizer = reader->tokenizer->pretokenizer;
    const char *replacement = json_string_value(json_object_get(step, "replacement"));
    const char *scheme = json_string_value(json_object_get(step, "prepend_scheme"));
    enum pretokenizer_prepend prepend = PRETOKENIZER_ALWAYS;
    struct expression *expression = NULL;
    if (replacement == NULL)
        return tokenizer_json_invalid(reader, "a Metaspace pre-tokenizer without replacement");
    if (scheme == NULL && !tokenizer_json_switch(step, "add_prefix_space", true))
        prepend = PRETOKENIZER_NEVER;
    if (scheme != NULL) {
        size_t i = 0;
        while (i < 3 && strcmp(scheme, schemes[i]) != 0)
            i++;
        if (i == 3)
            return tokenizer_json_refuse(reader, "prepend_scheme", scheme);
        prepend = (enum pretokenizer_prepend)i; /* in the order of the enum */
    }
    enum status status =
        pretokenizer_add_metaspace(pretokenizer, replacement, prepend, reader->error);
    if (status != STATUS_OK || !tokenizer_json_switch(step, "split", true))
        return status;
    status = expression_create_literal(&expression, replacement, reader->error);
    return status == STATUS_OK
               ? pretokenizer_add_split(pretokenizer, expression, PRETOKENIZER_MERGED_WITH_NEXT,
                                        false, reader->error)
               : status;
}

/* *byte_level: a ByteLevel step has been; what follows it sees bytes as characters. */
static enum status read_pretokenizer(const struct json_reader *reader, const json_t *step,
                                     bool *byte_level, int nested)
{
    const char *type = tokenizer_json_type(step);
    const json_t *list = json_object_get(step, "pretokenizers");
    enum status status = STATUS_OK;
    if (strcmp(type, "Sequence") == 0 && json_is_array(list) && nested < MOST_NESTED) {
        for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++)
            status = read_pretokenizer(reader, json_array_get(list, i), byte_level, nested + 1);
        return status;
    }
    if (*byte_level && !pretokenizer_shows_bytes(reader->tokenizer->pretokenizer))
        status = pretokenizer_add_show_bytes(reader->tokenizer->pretokenizer, reader->error);
    if (status != STATUS_OK)
        return status;
    if (strcmp(type, "ByteLevel") == 0 && !*byte_level) {
        *byte_level = true;
        return read_byte_level(reader, step);
    }
    if (strcmp(type, "Split") == 0)
        return read_split(reader, step);
    if (strcmp(type, "Digits") == 0)
        return add_split(reader, "\\p{N}",
                         tokenizer_json_switch(step, "individual_digits", false)
                             ? PRETOKENIZER_ISOLATED
                             : PRETOKENIZER_CONTIGUOUS,
                         false);
    if (strcmp(type, "Punctuation") == 0)
        return read_punctuation(reader, step);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_split(reader, "\\s", PRETOKENIZER_REMOVED, false);
    if (strcmp(type, "Whitespace") == 0)
        return add_split(reader, "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+", PRETOKENIZER_REMOVED,
                         true);
    if (strcmp(type, "CharDelimiterSplit") == 0)
        return read_delimiter(reader, step);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(reader, step);
    return tokenizer_json_refuse(reader, "pre-tokenizer", type);
}

enum status tokenizer_json_pretokenizer(const struct json_reader *reader,
                                        const json_t *pretokenizer, bool *byte_level)
{
    *byte_level = false;
    return pretokenizer == NULL || json_is_null(pretokenizer)
               ? STATUS_OK
               : read_pretokenizer(reader, pretokenizer, byte_level, 0);
}
