/* tokens.c - the handlers of /tokenize and /detokenize. */
#include "coordinator/http/bridge.h"
#include "coordinator/http/chat_prompt.h"
#include "coordinator/http/fields.h"
#include "coordinator/http/prompt_field.h"
#include "coordinator/http/routes.h"
#include "coordinator/http/tool_choice.h"
#include "model/detokenizer.h"

#include <stdlib.h>
#include <string.h>

static bool tokenize_text(const struct site *site, const char *text, size_t n_bytes, unsigned flags,
                          const atomic_bool *stop, json_t **answer, struct api_error *error)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct error why;
    const enum status status =
        tokenizer_encode_until(site->tokenizer, text, n_bytes, flags, stop, &ids, &n, &why);
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
static bool tokenize_chat(struct site *site, const json_t *body, const atomic_bool *stop,
                          json_t **answer, struct api_error *error)
{
    struct tool_choice choice;
    char *text = NULL;
    size_t n_bytes;
    json_t *callable;
    bool good = tool_choice_read(&choice, body, &callable, error);
    if (good) {
        const json_t *tools = choice.mode != TOOL_NONE ? fields_get(body, "tools") : NULL;
        good = chat_prompt_render(site, body, tools, stop, &text, &n_bytes, error) &&
               tokenize_text(site, text, n_bytes, TOKENIZER_PARSE_SPECIAL, stop, answer, error);
    }
    tool_choice_free(&choice);
    json_decref(callable);
    free(text);
    return good;
}

static bool tokenize(struct site *site, const json_t *body, const atomic_bool *stop,
                     json_t **answer, struct api_error *error)
{
    const json_t *text = NULL;
    bool add_special = true, parse_special = true;
    if (fields_get(body, "messages") != NULL)
        return tokenize_chat(site, body, stop, answer, error);
    if (!fields_text(body, "content", &text, error) ||
        (text == NULL && !fields_text(body, "prompt", &text, error)) ||
        !fields_bool(body, "add_special_tokens", &add_special, error) ||
        !fields_bool(body, "parse_special", &parse_special, error))
        return false;
    if (text == NULL)
        return api_error_field(error, "prompt", "'prompt' is missing: the text to tokenize");
    const unsigned flags =
        (add_special ? TOKENIZER_ADD_SPECIAL : 0u) | (parse_special ? TOKENIZER_PARSE_SPECIAL : 0u);
    return tokenize_text(site, json_string_value(text), json_string_length(text), flags, stop,
                         answer, error);
}

static bool detokenize(struct site *site, const json_t *body, const atomic_bool *stop,
                       json_t **answer, struct api_error *error)
{
    (void)stop; /* nothing here is a text to be tokenized */
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

/* ---- the errand: read by an MHD thread or, where the body is long, by the desk ---------------- */

typedef bool work_function(struct site *site, const json_t *body, const atomic_bool *stop,
                           json_t **answer, struct api_error *error);

struct translation {
    struct errand errand; /* first */
    struct stream stream; /* of nothing: it begins when the answer is there */
    struct site *site;
    work_function *work;
    struct body body;
    char *text; /* of the answer; NULL: `failure` says why */
    struct api_error failure;
};

static struct translation *of(struct errand *errand)
{
    return (struct translation *)errand;
}

static enum errand_outcome read_body(struct errand *errand)
{
    struct translation *t = of(errand);
    json_t *result = NULL, *body = body_object(&t->body, &errand->stop, &t->failure);
    if (body != NULL && t->work(t->site, body, &errand->stop, &result, &t->failure)) {
        t->text = json_dumps(result, JSON_COMPACT);
        if (t->text == NULL)
            api_error_set(&t->failure, 503, NULL, "unavailable", "no memory for the answer");
    }
    json_decref(result);
    json_decref(body);
    body_drop(&t->body);
    if (t->text == NULL && atomic_load(&errand->stop))
        return ERRAND_STOPPED;
    stream_finish(&t->stream, STREAM_WHOLE);
    return ERRAND_ANSWERED;
}

static bool take(struct errand *errand, const Longspan__RunEvent *event)
{
    (void)errand;
    (void)event;
    return false; /* nothing is ever sent */
}

static void lost(struct errand *errand, enum status status, const char *text)
{
    api_error_from(&of(errand)->failure, status, text);
    stream_finish(&of(errand)->stream, STREAM_WHOLE);
}

static void detach(struct errand *errand)
{
    stream_detach(&of(errand)->stream);
}

static void destroy(struct errand *errand)
{
    struct translation *t = of(errand);
    body_drop(&t->body);
    stream_close(&t->stream);
    free(t->text);
    free(t);
}

static const struct errand_kind kind = {
    .read = read_body, .take = take, .lost = lost, .detach = detach, .destroy = destroy};

static struct translation *create(struct call *call, work_function *work)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct translation *t = calloc(1, sizeof(*t));
    if (t == NULL || info == NULL) {
        free(t);
        return NULL;
    }
    t->site = call->site;
    t->work = work;
    errand_open(&t->errand, &kind, bridge_number(call->site->bridge), info->connect_fd);
    t->errand.n_unread = call->body.text.n;
    stream_open(&t->stream, call->connection, 0);
    t->body = call->body;
    call->body = (struct body){0};
    return t;
}

static enum MHD_Result answer(struct call *call, work_function *work)
{
    struct api_error error;
    struct translation *t = (struct translation *)call->errand;
    if (t == NULL) {
        const bool is_long = call->body.text.n > BODY_FREE_BYTES;
        t = create(call, work);
        if (t == NULL) {
            api_error_set(&error, 503, NULL, "unavailable", "no memory for the request");
            return call_error(call, &error);
        }
        call->errand = &t->errand;
        if (!is_long)
            read_body(&t->errand);
        else if (!bridge_submit(call->site->bridge, &t->errand, &error))
            return call_error(call, &error);
    }
    if (!stream_begun(&t->stream))
        return MHD_YES;
    if (t->text == NULL)
        return call_error(call, &t->failure);
    char *text = t->text;
    t->text = NULL;
    return call_given_json(call, 200, text);
}

enum MHD_Result handle_tokenize(struct call *call)
{
    return answer(call, tokenize);
}

enum MHD_Result handle_detokenize(struct call *call)
{
    return answer(call, detokenize);
}
