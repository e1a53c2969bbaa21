/* tokenizer_json.c - a tokenizer from a directory's tokenizer.json, read directly.
 *
 * The order matters: the kind of tokenizer follows from how words are cut, the bytes of tokens from
 * the decoder, and names of added tokens may have to be normalized. */
#include "model/tokenizer/tokenizer_json.h"

enum status tokenizer_json_refuse(const struct json_reader *reader, const char *what,
                                  const char *name)
{
    return error_set(reader->error, STATUS_UNSUPPORTED, "%s: %s '%.64s' is not supported",
                     reader->path, what, name);
}

enum status tokenizer_json_invalid(const struct json_reader *reader, const char *what)
{
    return error_set(reader->error, STATUS_INVALID, "%s: %s", reader->path, what);
}

const char *tokenizer_json_type(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type == NULL ? "" : type;
}

bool tokenizer_json_switch(const json_t *object, const char *name, bool absent)
{
    const json_t *value = json_object_get(object, name);
    return json_is_boolean(value) ? json_is_true(value) : absent;
}

static enum status read_parts(const struct json_reader *reader, const json_t *root)
{
    struct tokenizer *t = reader->tokenizer;
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    bool byte_level = false;
    enum status status = tokenizer_json_normalizer(reader, json_object_get(root, "normalizer"));
    if (status == STATUS_OK)
        status = tokenizer_json_pretokenizer(reader, json_object_get(root, "pre_tokenizer"),
                                             &byte_level);
    t->kind = byte_level ? TOKENIZER_BYTES : TOKENIZER_CHARACTERS;
    if (status == STATUS_OK)
        status = tokenizer_json_vocabulary(reader, model, added);
    if (status == STATUS_OK)
        status = tokenizer_json_decoder(reader, json_object_get(root, "decoder"));
    if (status == STATUS_OK)
        status = tokenizer_json_merges(reader, model);
    if (status == STATUS_OK)
        status = tokenizer_json_added_tokens(reader, added);
    if (status == STATUS_OK)
        status = tokenizer_json_post_processor(reader, json_object_get(root, "post_processor"));
    return status;
}

enum status tokenizer_json_read(struct tokenizer *t, const struct tokenizer_source *source,
                                struct error *error)
{
    char path[FILE_PATH_BYTES];
    const struct json_reader reader = {.tokenizer = t, .path = path, .error = error};
    json_t *root = NULL;
    enum status status = tokenizer_json_open(&root, path, source, TOKENIZER_FILE_TOKENIZER, error);
    if (status == STATUS_OK)
        status = read_parts(&reader, root);
    json_decref(root);
    if (status == STATUS_OK)
        status = tokenizer_json_special_ids(&reader, source);
    return status;
}
