/* prompt_field.c - see prompt_field.h. */
#include "coordinator/http/prompt_field.h"

#include "coordinator/http/fields.h"

#include <stdlib.h>

static const char name[] = "prompt";

static bool no_memory(struct api_error *error)
{
    return api_error_set(error, 503, NULL, "unavailable", "no memory for the prompt");
}

bool prompt_field_ids(const json_t *array, const char *field, uint32_t vocab, int32_t **ids,
                      size_t *n_ids, struct api_error *error)
{
    const size_t n = json_array_size(array);
    int32_t *list = malloc((n + 1) * sizeof(*list));
    if (list == NULL)
        return no_memory(error);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);
        const json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= (json_int_t)vocab) {
            free(list);
            if (json_is_integer(item))
                return api_error_field(error, field,
                                       "'%s': %" JSON_INTEGER_FORMAT
                                       " at place %zu is no token id from 0 to %u",
                                       field, id, i, vocab - 1);
            return api_error_field(error, field, "'%s': %s at place %zu, where token ids are",
                                   field, fields_type_name(item), i);
        }
        list[i] = (int32_t)id;
    }
    *ids = list;
    *n_ids = n;
    return true;
}

static bool read_text(struct generate_prompt *prompt, const json_t *text,
                      const struct generate_limits *limits, struct api_error *error)
{
    struct error why;
    const enum status status =
        tokenizer_encode_until(limits->tokenizer, json_string_value(text), json_string_length(text),
                               TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, limits->stop,
                               &prompt->ids, &prompt->n_ids, &why);
    return status == STATUS_OK || api_error_from(error, status, why.text);
}

static bool read_one(struct generate_prompt *prompt, const json_t *value,
                     const struct generate_limits *limits, struct api_error *error)
{
    if (json_is_string(value))
        return read_text(prompt, value, limits, error);
    if (json_is_array(value))
        return prompt_field_ids(value, name, limits->vocab, &prompt->ids, &prompt->n_ids, error);
    return api_error_field(error, name,
                           "'%s' must be a string, an array of strings, an array of token ids, or "
                           "an array of such arrays; it holds %s",
                           name, fields_type_name(value));
}

bool prompt_field_read(struct generate_request *request, const json_t *body,
                       const struct generate_limits *limits, struct api_error *error)
{
    const json_t *field = fields_get(body, name);
    if (field == NULL)
        return api_error_field(error, name, "'%s' is missing", name);
    const bool many = json_is_array(field) && !json_is_integer(json_array_get(field, 0));
    const size_t n = many ? json_array_size(field) : 1;
    if (n == 0)
        return api_error_field(error, name, "'%s' is an empty array", name);
    if (n > GENERATE_MOST_CHOICES)
        return api_error_field(error, name, "'%s' has %zu prompts: at most %d", name, n,
                               GENERATE_MOST_CHOICES);
    request->prompts = calloc(n, sizeof(*request->prompts));
    if (request->prompts == NULL)
        return no_memory(error);
    request->n_prompts = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *value = many ? json_array_get(field, i) : field;
        if (many && json_typeof(value) != json_typeof(json_array_get(field, 0)))
            return api_error_field(error, name, "'%s' holds both %s and %s", name,
                                   fields_type_name(json_array_get(field, 0)),
                                   fields_type_name(value));
        if (!read_one(&request->prompts[i], value, limits, error))
            return false;
    }
    return true;
}
