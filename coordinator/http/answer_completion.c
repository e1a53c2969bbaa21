/* answer_completion.c - text_completion: one text, and logprobs as parallel lists.
 *
 * A token whose bytes are no whole characters is written as OpenAI does: "bytes:\xe2\x82". */
#include "coordinator/http/answer.h"

#include "model/detokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAME_BYTES = 1024 };

/* The name of a token in JSON. NULL: no memory. */
static json_t *token_name(const struct answer *answer, int32_t id)
{
    const struct model_string bytes = answer_bytes(answer, id);
    json_t *name = json_stringn(bytes.data, bytes.n_bytes); /* NULL when it is no UTF-8 */
    if (name != NULL)
        return name;
    char text[MOST_NAME_BYTES];
    size_t n = (size_t)snprintf(text, sizeof(text), "bytes:");
    for (size_t i = 0; i < bytes.n_bytes && n + 5 < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "\\x%02x", (unsigned char)bytes.data[i]);
    return json_string(text);
}

static json_t *top_of(const struct answer *answer, const struct answer_choice *c,
                      const struct answer_token *token)
{
    json_t *top = json_object();
    for (size_t i = 0; i <= token->n_top; i++) { /* the last one: the token itself */
        const struct answer_logprob one = i < token->n_top
                                              ? c->tops[token->first_top + i]
                                              : (struct answer_logprob){token->id, token->logprob};
        json_t *name = token_name(answer, one.id);
        if (name != NULL && json_object_get(top, json_string_value(name)) == NULL)
            json_object_set_new(top, json_string_value(name), json_real((double)one.logprob));
        json_decref(name);
    }
    return top;
}

static size_t code_points(const char *text, size_t n)
{
    size_t points = 0;
    for (size_t i = 0; i < n; i++)
        points += ((unsigned char)text[i] & 0xc0) != 0x80;
    return points;
}

/* `before`: code points before the first token. */
static json_t *logprobs_of(const struct answer *answer, const struct answer_piece *piece,
                           size_t before)
{
    const struct generate_request *request = answer->request;
    const struct answer_choice *c = &answer->choices[piece->choice];
    if (!request->want_logprobs)
        return json_null();
    json_t *names = json_array(), *logprobs = json_array(), *tops = json_array(),
           *offsets = json_array();
    for (size_t i = piece->first_token; i < piece->end_token; i++) {
        const struct answer_token *token = &c->tokens[i];
        const struct model_string bytes = answer_bytes(answer, token->id);
        json_array_append_new(names, token_name(answer, token->id));
        json_array_append_new(logprobs, json_real((double)token->logprob));
        json_array_append_new(tops, top_of(answer, c, token));
        json_array_append_new(offsets, json_integer((json_int_t)before));
        before += code_points(bytes.data, bytes.n_bytes);
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", names, "token_logprobs", logprobs,
                     "top_logprobs", tops, "text_offset", offsets);
}

/* What the client sent, for `echo`. NULL: no memory. */
static char *prompt_text(const struct answer *answer, uint32_t choice, size_t *n_bytes)
{
    const struct generate_prompt *prompt = &answer->request->prompts[choice / answer->request->n];
    const bool bos = prompt->n_ids > 0 && prompt->ids[0] == tokenizer_bos(answer->tokenizer);
    char *text = NULL;
    const enum status status =
        detokenizer_text(answer->tokenizer, prompt->ids + bos, prompt->n_ids - bos,
                         DETOKENIZER_TEXT_START | DETOKENIZER_SHOW_SPECIAL, &text, n_bytes, NULL);
    return status == STATUS_OK ? text : NULL;
}

/* Takes the reference to `text`. */
static json_t *make(const struct answer *answer, const struct answer_piece *piece, json_t *text,
                    size_t before)
{
    const struct answer_choice *c = &answer->choices[piece->choice];
    return json_pack("{s:o, s:i, s:o, s:s?}", "text", text, "index", (int)piece->choice, "logprobs",
                     logprobs_of(answer, piece, before), "finish_reason",
                     piece->finished ? c->finish_reason : NULL);
}

static json_t *whole(struct answer *answer, const struct answer_piece *piece)
{
    if (!answer->request->echo)
        return make(answer, piece, json_stringn(piece->text, piece->n_bytes), 0);
    size_t n = 0;
    char *prompt = prompt_text(answer, piece->choice, &n);
    char *both = prompt == NULL ? NULL : realloc(prompt, n + piece->n_bytes + 1);
    if (both == NULL) {
        free(prompt);
        return NULL;
    }
    memcpy(both + n, piece->text, piece->n_bytes);
    json_t *choice =
        make(answer, piece, json_stringn(both, n + piece->n_bytes), code_points(both, n));
    free(both);
    return choice;
}

/* With `echo` a stream begins with the prompt. */
static json_t *first(struct answer *answer, uint32_t choice)
{
    const struct answer_piece none = {.choice = choice, .text = ""};
    struct answer_choice *c = &answer->choices[choice];
    size_t n = 0;
    char *prompt = prompt_text(answer, choice, &n);
    json_t *json = prompt == NULL ? NULL : make(answer, &none, json_stringn(prompt, n), 0);
    c->n_points = prompt == NULL ? 0 : code_points(prompt, n);
    free(prompt);
    return json;
}

static json_t *part(struct answer *answer, const struct answer_piece *piece)
{
    struct answer_choice *c = &answer->choices[piece->choice];
    const size_t before = c->n_points;
    for (size_t i = piece->first_token; i < piece->end_token; i++) {
        const struct model_string bytes = answer_bytes(answer, c->tokens[i].id);
        c->n_points += code_points(bytes.data, bytes.n_bytes);
    }
    return make(answer, piece, json_stringn(piece->text, piece->n_bytes), before);
}

const struct answer_format answer_format_completion = {.object = "text_completion",
                                                       .chunk_object = "text_completion",
                                                       .choice = whole,
                                                       .first = first,
                                                       .part = part};
