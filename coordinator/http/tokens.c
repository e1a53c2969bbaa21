/* tokens.c - the handlers of /tokenize and /detokenize. */
#include "coordinator/http/chat_prompt.h"
#include "coordinator/http/fields.h"
#include "coordinator/http/prompt_field.h"
#include "coordinator/http/routes.h"
#include "coordinator/http/tool_choice.h"
#include "model/detokenizer.h"

#include <stdlib.h>

static bool tokenize_text(const struct site *site, const char *text, size_t n_bytes, unsigned flags,
                          json_t **answer, struct api_error *error)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct error why;
    const enum status status =
        tokenizer_encode(site->tokenizer, text, n_bytes, flags, &ids, &n, &why);
    if (status != STATUS_OK)
        return api_error_from(error, status, why.text);
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    free(ids);
    *answer = json_pack("{s:I, s:I, s:o}", "count", (json_int_t)n, "max_model_len",
                        (json_int_t)atomic_load(&site->max_tokens), "tokens", list);
    return true;
}

/* The prompt that a chat of these messages would have. */
static bool tokenize_chat(struct site *site, const json_t *body, json_t **answer,
                          struct api_error *error)
{
    struct tool_choice choice;
    char *text = NULL;
    size_t n_bytes;
    json_t *callable;
    bool good = tool_choice_read(&choice, body, &callable, error);
    if (good) {
        const json_t *tools = choice.mode != TOOL_NONE ? fields_get(body, "tools") : NULL;
        good = chat_prompt_render(site, body, tools, &text, &n_bytes, error) &&
               tokenize_text(site, text, n_bytes, TOKENIZER_PARSE_SPECIAL, answer, error);
    }
    tool_choice_free(&choice);
    json_decref(callable);
    free(text);
    return good;
}

static bool tokenize(struct site *site, const json_t *body, json_t **answer,
                     struct api_error *error)
{
    const json_t *text = NULL;
    bool add_special = true, parse_special = true;
    if (fields_get(body, "messages") != NULL)
        return tokenize_chat(site, body, answer, error);
    if (!fields_text(body, "content", &text, error) ||
        (text == NULL && !fields_text(body, "prompt", &text, error)) ||
        !fields_bool(body, "add_special_tokens", &add_special, error) ||
        !fields_bool(body, "parse_special", &parse_special, error))
        return false;
    if (text == NULL)
        return api_error_field(error, "prompt", "'prompt' is missing: the text to tokenize");
    const unsigned flags =
        (add_special ? TOKENIZER_ADD_SPECIAL : 0u) | (parse_special ? TOKENIZER_PARSE_SPECIAL : 0u);
    return tokenize_text(site, json_string_value(text), json_string_length(text), flags, answer,
                         error);
}

static bool detokenize(struct site *site, const json_t *body, json_t **answer,
                       struct api_error *error)
{
    const json_t *list = fields_get(body, "tokens");
    bool special = true;
    if (!json_is_array(list))
        return api_error_field(error, "tokens", "'tokens' must be an array of token ids");
    if (!fields_bool(body, "show_special", &special, error))
        return false;
    int32_t *ids = NULL;
    size_t n = 0, n_bytes = 0;
    char *text = NULL;
    struct error why;
    const uint32_t vocab = tokenizer_vocab(site->tokenizer);
    if (!prompt_field_ids(list, "tokens", vocab, &ids, &n, error))
        return false;
    const enum status status = detokenizer_text(
        site->tokenizer, ids, n, special ? DETOKENIZER_SHOW_SPECIAL : 0u, &text, &n_bytes, &why);
    free(ids);
    if (status != STATUS_OK)
        return api_error_from(error, status, why.text);
    *answer = json_pack("{s:o}", "prompt", json_stringn(text, n_bytes));
    free(text);
    return true;
}

static enum MHD_Result answer(struct call *call, bool (*work)(struct site *, const json_t *,
                                                              json_t **, struct api_error *))
{
    struct api_error error;
    json_t *result = NULL, *body = call_object(call, &error);
    const bool good = body != NULL && work(call->site, body, &result, &error);
    json_decref(body);
    return good ? call_json(call, 200, result) : call_error(call, &error);
}

enum MHD_Result handle_tokenize(struct call *call)
{
    return answer(call, tokenize);
}

enum MHD_Result handle_detokenize(struct call *call)
{
    return answer(call, detokenize);
}
