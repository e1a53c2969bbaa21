/* answer_completion.c - text_completion: one text, and logprobs as parallel lists.
 *
 * A token whose bytes are no whole characters is written as OpenAI does: "bytes:\xe2\x82". */
#include "coordinator/http/answer.h"

#include "model/utf8.h"

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

/* What was possible in a token's place, the token itself among it. */
static json_t *top_of(const struct answer *answer, const struct logprob *tops, size_t n_tops,
                      struct logprob token)
{
    json_t *top = json_object();
    for (size_t i = 0; i <= n_tops; i++) { /* the last one: the token itself */
        const struct logprob one = i < n_tops ? tops[i] : token;
        json_t *name = token_name(answer, one.id);
        if (name != NULL && json_object_get(top, json_string_value(name)) == NULL)
            json_object_set_new(top, json_string_value(name), logprob_json(one.logprob));
        json_decref(name);
    }
    return top;
}

/* Parallel lists of tokens. */
struct lists {
    json_t *names, *logprobs, *tops, *offsets;
};

/* Takes the references to logprob and tops. */
static void add_token(struct lists *lists, const struct answer *answer, int32_t id, json_t *logprob,
                      json_t *tops, size_t offset)
{
    json_array_append_new(lists->names, token_name(answer, id));
    json_array_append_new(lists->logprobs, logprob);
    json_array_append_new(lists->tops, tops);
    json_array_append_new(lists->offsets, json_integer((json_int_t)offset));
}

static void add_echo(struct lists *lists, const struct answer *answer, const struct echo *echo)
{
    for (size_t i = 0; i < echo->n_ids; i++) {
        const struct logprob token = {echo->ids[i], echo->logprobs[i]};
        const bool first = i == 0; /* nothing is before it */
        add_token(lists, answer, token.id, first ? json_null() : logprob_json(token.logprob),
                  first ? json_null()
                        : top_of(answer, echo->tops + i * echo->n_top, echo->n_top, token),
                  echo->offsets[i]);
    }
}

/* `echo`: what comes first, or NULL. `before`: code points before the first token of the piece. */
static json_t *logprobs_of(const struct answer *answer, const struct answer_piece *piece,
                           const struct echo *echo, size_t before)
{
    const struct answer_choice *c = &answer->choices[piece->choice];
    if (!answer->request->want_logprobs)
        return json_null();
    struct lists lists = {json_array(), json_array(), json_array(), json_array()};
    if (echo != NULL)
        add_echo(&lists, answer, echo);
    for (size_t i = piece->first_token; i < piece->end_token; i++) {
        const struct answer_token *token = &c->tokens[i];
        const struct model_string bytes = answer_bytes(answer, token->id);
        add_token(&lists, answer, token->id, logprob_json(token->logprob),
                  top_of(answer, c->tops + token->first_top, token->n_top,
                         (struct logprob){token->id, token->logprob}),
                  before);
        before += utf8_points(bytes.data, bytes.n_bytes);
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", lists.names, "token_logprobs",
                     lists.logprobs, "top_logprobs", lists.tops, "text_offset", lists.offsets);
}

/* Takes the reference to `text`. */
static json_t *make(const struct answer *answer, const struct answer_piece *piece,
                    const struct echo *echo, json_t *text, size_t before)
{
    const struct answer_choice *c = &answer->choices[piece->choice];
    return json_pack("{s:o, s:i, s:o, s:s?}", "text", text, "index", (int)piece->choice, "logprobs",
                     logprobs_of(answer, piece, echo, before), "finish_reason",
                     piece->finished ? c->finish_reason : NULL);
}

/* What a choice begins with; NULL: nothing. */
static const struct echo *echo_of(const struct answer *answer, uint32_t choice)
{
    return answer->echoes != NULL ? &answer->echoes[choice / answer->request->n] : NULL;
}

static json_t *whole(struct answer *answer, const struct answer_piece *piece)
{
    const struct echo *echo = echo_of(answer, piece->choice);
    if (echo == NULL)
        return make(answer, piece, NULL, json_stringn(piece->text, piece->n_bytes), 0);
    const size_t n = echo->text.n + piece->n_bytes;
    char *both = malloc(n + 1);
    if (both == NULL)
        return NULL;
    memcpy(both, echo->text.bytes, echo->text.n);
    memcpy(both + echo->text.n, piece->text, piece->n_bytes);
    json_t *choice = make(answer, piece, echo, json_stringn(both, n), echo->n_points);
    free(both);
    return choice;
}

/* With `echo` a stream begins with the prompt. */
static json_t *first(struct answer *answer, uint32_t choice)
{
    const struct answer_piece none = {.choice = choice, .text = ""};
    const struct echo *echo = echo_of(answer, choice);
    answer->choices[choice].n_points = echo->n_points;
    return make(answer, &none, echo, json_stringn(echo->text.bytes, echo->text.n), 0);
}

static json_t *part(struct answer *answer, const struct answer_piece *piece, bool *none)
{
    (void)none;
    struct answer_choice *c = &answer->choices[piece->choice];
    const size_t before = c->n_points;
    for (size_t i = piece->first_token; i < piece->end_token; i++) {
        const struct model_string bytes = answer_bytes(answer, c->tokens[i].id);
        c->n_points += utf8_points(bytes.data, bytes.n_bytes);
    }
    return make(answer, piece, NULL, json_stringn(piece->text, piece->n_bytes), before);
}

const struct answer_format answer_format_completion = {.object = "text_completion",
                                                       .chunk_object = "text_completion",
                                                       .choice = whole,
                                                       .first = first,
                                                       .part = part};
