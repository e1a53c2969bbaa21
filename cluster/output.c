/* output.c - prints what is in a result. */
#include "cluster/output.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A float's decimal digits: as many as tell it from its neighbours. */
enum { FLOAT_DIGITS = 9 };

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the JSON output");
}

/* JSON has no infinities; log-probabilities of impossible tokens are -inf: null. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *id_list(const int32_t *ids, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *token_ids(const struct result_prompt *prompt)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < prompt->n_tokens; i++)
        if (json_array_append_new(list, json_integer(prompt->tokens[i].id)) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *choice(int32_t id, float logprob)
{
    return json_pack("{s:i, s:o}", "id", (int)id, "logprob", number((double)logprob));
}

static json_t *logprob_list(const struct result_prompt *prompt)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < prompt->n_tokens; i++) {
        const struct result_token *token = &prompt->tokens[i];
        json_t *entry = choice(token->id, token->logprob), *top = json_array();
        int failed = 0;
        for (uint32_t j = 0; j < token->n_top; j++)
            failed |= json_array_append_new(top, choice(token->top[j].id, token->top[j].logprob));
        failed |= json_object_set_new(entry, "top", top);
        failed |= json_array_append_new(list, entry);
        if (failed != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *timings(const struct result *result)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "load_s", result->load_s, "prefill_s",
                     result->prefill_s, "decode_s", result->decode_s, "prefill_tokens_per_s",
                     result_rate(result->prefill_tokens, result->prefill_s), "decode_tokens_per_s",
                     result_rate(result->decode_tokens, result->decode_s));
}

/* Text and names are UTF-8; where one is not (a name is what somebody typed), each of its bytes
 * beyond ASCII becomes U+FFFD. */
static json_t *string_of(const char *text, size_t n_bytes)
{
    json_t *string = json_stringn(text, n_bytes);
    char *safe = string == NULL ? malloc(3 * n_bytes + 1) : NULL;
    size_t used = 0;
    for (size_t i = 0; safe != NULL && i < n_bytes; i++)
        if ((unsigned char)text[i] < 0x80) {
            safe[used++] = text[i];
        } else {
            memcpy(safe + used, "\xef\xbf\xbd", 3);
            used += 3;
        }
    if (safe != NULL)
        string = json_stringn(safe, used);
    free(safe);
    return string;
}

static json_t *holder_list(const struct result *result, uint32_t prompt)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list != NULL && i < result->n_holders; i++) {
        const struct result_holder *holder = &result->holders[i];
        json_t *spans = json_array();
        int failed = 0;
        for (uint32_t j = 0; j < holder->n_spans; j++)
            if (holder->spans[j].prompt == prompt)
                failed |= json_array_append_new(spans, json_pack("[I, I]",
                                                                 (json_int_t)holder->spans[j].begin,
                                                                 (json_int_t)holder->spans[j].end));
        failed |= json_array_append_new(
            list,
            json_pack("{s:o, s:I, s:I, s:I, s:o}", "name",
                      string_of(holder->name, strlen(holder->name)), "kv_bytes",
                      (json_int_t)holder->kv_bytes, "sent_bytes", (json_int_t)holder->sent_bytes,
                      "received_bytes", (json_int_t)holder->received_bytes, "spans", spans));
        if (failed != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *prompt_object(const struct result *result, uint32_t index, bool logprobs)
{
    const struct result_prompt *prompt = &result->prompts[index];
    json_t *object = json_object();
    int failed = json_object_set_new(object, "prompt_ids", id_list(prompt->ids, prompt->n_ids));
    failed |= json_object_set_new(object, "shared_tokens", json_integer(prompt->n_shared));
    failed |= json_object_set_new(object, "cached_tokens", json_integer(prompt->n_cached));
    failed |= json_object_set_new(object, "ids", token_ids(prompt));
    failed |= json_object_set_new(
        object, "text",
        string_of(prompt->text.bytes != NULL ? prompt->text.bytes : "", prompt->text.n));
    failed |= json_object_set_new(object, "finish_reason",
                                  string_of(prompt->reason, strlen(prompt->reason)));
    if (logprobs)
        failed |= json_object_set_new(object, "logprobs", logprob_list(prompt));
    failed |= json_object_set_new(object, "timings", timings(result));
    failed |= json_object_set_new(object, "holders", holder_list(result, index));
    if (failed != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static enum status check_stream(FILE *out, bool failed, struct error *error)
{
    if (fflush(out) != 0 || ferror(out) || failed)
        return error_set(error, STATUS_IO, "standard output could not be written");
    return STATUS_OK;
}

enum status output_json(FILE *out, const struct result *result, bool logprobs, struct error *error)
{
    json_t *root = result->n_prompts == 1 ? prompt_object(result, 0, logprobs) : json_array();
    for (uint32_t i = 0; result->n_prompts != 1 && root != NULL && i < result->n_prompts; i++)
        if (json_array_append_new(root, prompt_object(result, i, logprobs)) != 0) {
            json_decref(root);
            root = NULL;
        }
    if (root == NULL)
        return no_memory(error);
    const bool failed =
        json_dumpf(root, out, JSON_REAL_PRECISION(FLOAT_DIGITS)) != 0 || fputc('\n', out) == EOF;
    json_decref(root);
    return check_stream(out, failed, error);
}

enum status output_texts(FILE *out, const struct result *result, const struct prompts *prompts,
                         struct error *error)
{
    bool failed = false;
    for (uint32_t i = 0; i < result->n_prompts; i++) {
        const struct result_prompt *prompt = &result->prompts[i];
        const bool whole_line =
            prompt->text.n != 0 && prompt->text.bytes[prompt->text.n - 1] == '\n';
        failed |= fprintf(out, "%s==> %u: %s <==\n", i == 0 ? "" : "\n", i + 1,
                          prompts->items[i].name) < 0;
        if (prompt->text.n != 0)
            failed |= fwrite(prompt->text.bytes, 1, prompt->text.n, out) != prompt->text.n;
        failed |= !whole_line && fputc('\n', out) == EOF;
    }
    return check_stream(out, failed, error);
}
