/* answer_chat.c - chat.completion: a message with what it says and what it calls, and logprobs as a
 * list of tokens with their bytes. */
#include "coordinator/http/answer.h"

#include <string.h>

/* {"token", "logprob", "bytes"}: the token's text with U+FFFD for what is no whole character. */
static json_t *token_object(const struct answer *answer, int32_t id, float logprob)
{
    const struct model_string bytes = answer_bytes(answer, id);
    json_t *list = json_array();
    for (size_t i = 0; i < bytes.n_bytes; i++)
        json_array_append_new(list, json_integer((unsigned char)bytes.data[i]));
    json_t *name = json_stringn(bytes.data, bytes.n_bytes);
    if (name == NULL)
        name = json_string("\xef\xbf\xbd");
    return json_pack("{s:o, s:o, s:o}", "token", name, "logprob", logprob_json(logprob), "bytes",
                     list);
}

static json_t *logprobs_of(const struct answer *answer, const struct answer_piece *piece)
{
    const struct answer_choice *c = &answer->choices[piece->choice];
    if (!answer->request->want_logprobs)
        return json_null();
    json_t *content = json_array();
    for (size_t i = piece->first_token; i < piece->end_token; i++) {
        const struct answer_token *token = &c->tokens[i];
        json_t *one = token_object(answer, token->id, token->logprob);
        json_t *tops = json_array();
        for (size_t j = 0; j < token->n_top; j++) {
            const struct logprob *top = &c->tops[token->first_top + j];
            json_array_append_new(tops, token_object(answer, top->id, top->logprob));
        }
        json_object_set_new(one, "top_logprobs", tops);
        json_array_append_new(content, one);
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

static const char *reason_of(const struct answer *answer, const struct answer_piece *piece)
{
    const struct answer_choice *c = &answer->choices[piece->choice];
    if (!piece->finished)
        return NULL;
    return c->calls.n > 0 && strcmp(c->finish_reason, "stop") == 0 ? "tool_calls"
                                                                   : c->finish_reason;
}

/* What a piece says, and what it calls. False: no memory. */
static bool read_piece(struct answer *answer, const struct answer_piece *piece,
                       struct tool_news *news)
{
    *news = (struct tool_news){.text = piece->text, .n_bytes = piece->n_bytes};
    return answer->request->tools.mode == TOOL_NONE ||
           tool_calls_feed(&answer->choices[piece->choice].calls, piece->text, piece->n_bytes,
                           piece->finished, news);
}

static bool add_calls(json_t *to, const struct answer *answer, const struct answer_piece *piece,
                      const struct tool_news *news, bool indexed)
{
    return json_object_set_new(
               to, "tool_calls",
               tool_calls_json(&answer->choices[piece->choice].calls, news, indexed)) == 0;
}

static json_t *whole(struct answer *answer, const struct answer_piece *piece)
{
    struct tool_news news;
    if (!read_piece(answer, piece, &news))
        return NULL;
    const bool silent = news.n_bytes == 0 && news.end > news.first;
    json_t *message =
        json_pack("{s:s, s:o, s:n}", "role", "assistant", "content",
                  silent ? json_null() : json_stringn(news.text, news.n_bytes), "refusal");
    if (news.end > news.first && !add_calls(message, answer, piece, &news, false)) {
        json_decref(message);
        return NULL;
    }
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)piece->choice, "message", message,
                     "logprobs", logprobs_of(answer, piece), "finish_reason",
                     reason_of(answer, piece));
}

/* Takes the reference to `delta`. */
static json_t *make(const struct answer *answer, const struct answer_piece *piece, json_t *delta)
{
    json_t *logprobs =
        piece->end_token > piece->first_token ? logprobs_of(answer, piece) : json_null();
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)piece->choice, "delta", delta,
                     "logprobs", logprobs, "finish_reason", reason_of(answer, piece));
}

static json_t *first(struct answer *answer, uint32_t choice)
{
    const struct answer_piece none = {.choice = choice, .text = ""};
    return make(answer, &none, json_pack("{s:s, s:s}", "role", "assistant", "content", ""));
}

static json_t *part(struct answer *answer, const struct answer_piece *piece, bool *none)
{
    struct tool_news news;
    if (!read_piece(answer, piece, &news))
        return NULL;
    const bool calls = news.end > news.first;
    *none = news.n_bytes == 0 && !calls && piece->end_token == piece->first_token &&
            !piece->finished; /* a call may become of it */
    if (*none)
        return NULL;
    json_t *delta = json_object();
    if (news.n_bytes > 0 || (!piece->finished && !calls))
        json_object_set_new(delta, "content", json_stringn(news.text, news.n_bytes));
    if (calls && !add_calls(delta, answer, piece, &news, true)) {
        json_decref(delta);
        return NULL;
    }
    return make(answer, piece, delta);
}

const struct answer_format answer_format_chat = {.object = "chat.completion",
                                                 .chunk_object = "chat.completion.chunk",
                                                 .choice = whole,
                                                 .first = first,
                                                 .part = part};
