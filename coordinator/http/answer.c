/* answer.c - see answer.h: what does not depend on the format. */
#include "coordinator/http/answer.h"

#include "proto/protocol.h"
#include "sys/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct answer_format *format_of(const struct answer *answer)
{
    return answer->request->kind == GENERATE_CHAT ? &answer_format_chat : &answer_format_completion;
}

static bool open_echoes(struct answer *answer)
{
    const struct generate_request *request = answer->request;
    answer->echoes = calloc(request->n_prompts, sizeof(*answer->echoes));
    bool good = answer->echoes != NULL;
    for (uint32_t i = 0; good && i < request->n_prompts; i++)
        good = echo_open(&answer->echoes[i], answer->tokenizer, request->prompts[i].ids,
                         request->prompts[i].n_ids, request->want_logprobs, request->n_logprobs);
    return good;
}

bool answer_open(struct answer *answer, const struct generate_request *request,
                 const struct tokenizer *tokenizer, const char *model, const char *call_id,
                 uint64_t created_s)
{
    *answer = (struct answer){.request = request,
                              .tokenizer = tokenizer,
                              .model = model,
                              .created_s = created_s,
                              .n_choices = request->n_prompts * request->n};
    snprintf(answer->id, sizeof(answer->id), "%s-%s",
             request->kind == GENERATE_CHAT ? "chatcmpl" : "cmpl", call_id);
    answer->choices = calloc(answer->n_choices, sizeof(*answer->choices));
    for (uint32_t i = 0; answer->choices != NULL && i < answer->n_choices; i++)
        tool_calls_open(&answer->choices[i].calls, &request->tools);
    return answer->choices != NULL && (!request->echo || open_echoes(answer));
}

void answer_close(struct answer *answer)
{
    for (uint32_t i = 0; answer->choices != NULL && i < answer->n_choices; i++) {
        free(answer->choices[i].text.bytes);
        free(answer->choices[i].tokens);
        free(answer->choices[i].tops);
        tool_calls_close(&answer->choices[i].calls);
    }
    free(answer->choices);
    for (uint32_t i = 0; answer->echoes != NULL && i < answer->request->n_prompts; i++)
        echo_close(&answer->echoes[i]);
    free(answer->echoes);
    *answer = (struct answer){0};
}

/* A stream's text goes out by pieces: only the newest is kept. */
static bool add_text(struct answer_choice *c, const void *text, size_t n, bool stream)
{
    if (stream)
        c->text.n = 0;
    c->n_given += n;
    return text_buffer_add(&c->text, text, n);
}

static bool add_token(struct answer_choice *c, const Longspan__RunToken *token, size_t end)
{
    if (!array_grow(&c->tokens, &c->tokens_capacity, c->n_tokens + 1, sizeof(*c->tokens)) ||
        !array_grow(&c->tops, &c->tops_capacity, c->n_tops + token->n_top, sizeof(*c->tops)))
        return false;
    c->tokens[c->n_tokens++] = (struct answer_token){.id = token->id,
                                                     .logprob = token->logprob,
                                                     .begin = c->n_end,
                                                     .end = end,
                                                     .first_top = c->n_tops,
                                                     .n_top = token->n_top};
    for (size_t i = 0; i < token->n_top; i++)
        c->tops[c->n_tops++] = (struct logprob){token->top[i]->id, token->top[i]->logprob};
    return true;
}

static void fill_piece(struct answer *answer, uint32_t index, size_t n_new, bool finished,
                       struct answer_piece *piece)
{
    struct answer_choice *c = &answer->choices[index];
    *piece = (struct answer_piece){.choice = index,
                                   .text = n_new > 0 ? c->text.bytes + c->text.n - n_new : "",
                                   .n_bytes = n_new,
                                   .first_token = c->n_tokens_given,
                                   .finished = finished};
    while (c->n_tokens_given < c->n_tokens) {
        const struct answer_token *token = &c->tokens[c->n_tokens_given];
        /* At the end, what lies across the border still belongs to the text before it. */
        if (token->end > c->n_given && !(finished && token->begin < c->n_given))
            break;
        c->n_tokens_given++;
    }
    piece->end_token = c->n_tokens_given;
}

bool answer_token(struct answer *answer, const Longspan__RunToken *token,
                  struct answer_piece *piece)
{
    if (token->prompt >= answer->n_choices)
        return false;
    struct answer_choice *c = &answer->choices[token->prompt];
    const struct generate_request *request = answer->request;
    const bool ends =
        !request->ignore_eos && tokenizer_is_end_of_generation(answer->tokenizer, token->id);
    c->n_generated++;
    if (!add_text(c, token->text.data, token->text.len, request->stream))
        return false;
    const size_t end = c->n_given + token->held_bytes;
    if (request->want_logprobs && !ends && !add_token(c, token, end))
        return false;
    c->n_end = end;
    fill_piece(answer, token->prompt, token->text.len, false, piece);
    return true;
}

bool answer_finished(struct answer *answer, const Longspan__RunFinished *finished,
                     struct answer_piece *piece)
{
    if (finished->prompt >= answer->n_choices)
        return false;
    struct answer_choice *c = &answer->choices[finished->prompt];
    if (!add_text(c, finished->text.data, finished->text.len, answer->request->stream))
        return false;
    snprintf(c->finish_reason, sizeof(c->finish_reason), "%s", finished->reason);
    if (finished->prompt % answer->request->n == 0) /* a prompt counts once */
        answer->cached_tokens += finished->cached_tokens;
    fill_piece(answer, finished->prompt, finished->text.len, true, piece);
    return true;
}

bool answer_is_scored(const struct answer *answer, uint32_t prompt)
{
    return answer->echoes == NULL || echo_complete(&answer->echoes[prompt]);
}

bool answer_scores(struct answer *answer, const Longspan__RunScores *scores, bool *complete)
{
    const struct generate_request *request = answer->request;
    const uint32_t prompt = generate_request_prompt(request, scores->prompt);
    if (prompt >= request->n_prompts || answer->echoes == NULL ||
        !echo_take(&answer->echoes[prompt], scores))
        return false;
    *complete = answer_is_scored(answer, prompt);
    return true;
}

void answer_finish_empty(struct answer *answer, uint32_t choice, struct answer_piece *piece)
{
    struct answer_choice *c = &answer->choices[choice];
    snprintf(c->finish_reason, sizeof(c->finish_reason), "length");
    fill_piece(answer, choice, 0, true, piece);
}

struct model_string answer_bytes(const struct answer *answer, int32_t id)
{
    const struct model_string bytes = tokenizer_token_bytes(answer->tokenizer, id);
    return bytes.data != NULL ? bytes : (struct model_string){.data = "", .n_bytes = 0};
}

/* ---- objects --------------------------------------------------------------------------------- */

uint64_t answer_prompt_tokens(const struct answer *answer)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < answer->request->n_prompts; i++)
        n += answer->request->prompts[i].n_ids;
    return n;
}

uint64_t answer_completion_tokens(const struct answer *answer)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < answer->n_choices; i++)
        n += answer->choices[i].n_generated;
    return n;
}

static json_t *usage(const struct answer *answer)
{
    const json_int_t prompt = (json_int_t)answer_prompt_tokens(answer);
    const json_int_t completion = (json_int_t)answer_completion_tokens(answer);
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", prompt, "completion_tokens",
                     completion, "total_tokens", prompt + completion, "prompt_tokens_details",
                     "cached_tokens", (json_int_t)answer->cached_tokens);
}

/* Takes the reference to `choices`. */
static json_t *envelope(const struct answer *answer, const char *object, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", answer->id, "object", object,
                     "created", (json_int_t)answer->created_s, "model", answer->model,
                     "system_fingerprint", "longspan-" LONGSPAN_VERSION, "choices", choices);
}

json_t *answer_whole(const struct answer *answer)
{
    json_t *choices = json_array();
    for (uint32_t i = 0; choices != NULL && i < answer->n_choices; i++) {
        const struct answer_choice *c = &answer->choices[i];
        const struct answer_piece whole = {.choice = i,
                                           .text = c->text.bytes != NULL ? c->text.bytes : "",
                                           .n_bytes = c->text.n,
                                           .end_token = c->n_tokens_given,
                                           .finished = true};
        if (json_array_append_new(
                choices, format_of(answer)->choice((struct answer *)answer, &whole)) != 0) {
            json_decref(choices);
            return NULL;
        }
    }
    json_t *json = envelope(answer, format_of(answer)->object, choices);
    if (json != NULL && json_object_set_new(json, "usage", usage(answer)) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* Takes the reference to `choice`. */
static json_t *chunk(const struct answer *answer, json_t *choice)
{
    json_t *json = envelope(answer, format_of(answer)->chunk_object, json_pack("[o]", choice));
    if (json != NULL && answer->request->include_usage)
        json_object_set_new(json, "usage", json_null());
    return json;
}

json_t *answer_first_chunk(struct answer *answer, uint32_t choice, bool *none)
{
    *none = answer->request->kind == GENERATE_COMPLETION && !answer->request->echo;
    return *none ? NULL : chunk(answer, format_of(answer)->first(answer, choice));
}

json_t *answer_chunk(struct answer *answer, const struct answer_piece *piece, bool *none)
{
    *none = false;
    json_t *choice = format_of(answer)->part(answer, piece, none);
    return *none ? NULL : chunk(answer, choice);
}

json_t *answer_usage_chunk(const struct answer *answer)
{
    json_t *json = envelope(answer, format_of(answer)->chunk_object, json_array());
    if (json != NULL)
        json_object_set_new(json, "usage", usage(answer));
    return json;
}
