/* coordinator/http/answer.h - the choices of one generation as they come in, and as OpenAI's
 * objects.
 *
 * Pure: events in, JSON out. Prompts of the coordinator are choices here, but where nothing is to
 * be generated. A choice is fed with the RunToken and RunFinished events of its prompt; each gives
 * a piece: the text that became certain, and the tokens whose text is now part of what was given
 * out. A token waits while the end of its text is held back (it may begin a stop text); those that
 * end up behind a stop text are never given out.
 *
 * Two formats: text_completion (logprobs as parallel lists) and chat.completion (logprobs as a list
 * of tokens with their bytes); each whole, or as the chunks of a stream. */
#ifndef LONGSPAN_COORDINATOR_HTTP_ANSWER_H
#define LONGSPAN_COORDINATOR_HTTP_ANSWER_H

#include "coordinator/http/echo.h"
#include "coordinator/http/generate_request.h"
#include "coordinator/http/logprob.h"
#include "coordinator/http/tool_calls.h"
#include "model/tokenizer.h"
#include "proto/longspan.pb-c.h"
#include "sys/text_buffer.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ANSWER_ID_BYTES = 96 };

struct answer_token {
    int32_t id;
    float logprob;
    size_t begin, end;       /* of its text in the choice's, in bytes */
    size_t first_top, n_top; /* in the choice's list */
};

struct answer_choice {
    struct text_buffer text; /* of a stream only the newest piece */
    size_t n_given;          /* bytes that are certain, of the whole choice */
    size_t n_end;            /* and with those held back */
    size_t n_points;         /* code points that pieces gave out, for text_offset */
    struct answer_token *tokens;
    size_t n_tokens, tokens_capacity, n_tokens_given;
    struct logprob *tops;
    size_t n_tops, tops_capacity;
    uint32_t n_generated;
    struct tool_calls calls; /* where the chat has tools */
    char finish_reason[16];  /* "": it goes on */
};

struct answer {
    const struct generate_request *request; /* borrowed, as are tokenizer and model */
    const struct tokenizer *tokenizer;
    const char *model;
    char id[ANSWER_ID_BYTES];
    uint64_t created_s;
    struct answer_choice *choices; /* [n_prompts * n] */
    uint32_t n_choices;
    struct echo *echoes;    /* [n_prompts], where they are said back; else NULL */
    uint64_t cached_tokens; /* of all prompts that have finished */
};

/* What an event added to a choice; `text` is valid until the choice's next event. */
struct answer_piece {
    uint32_t choice;
    const char *text;
    size_t n_bytes;
    size_t first_token, end_token; /* of the choice's */
    bool finished;
};

/* `call_id`: the request's. The caller ends *answer with answer_close, also after a failure. False:
 * no memory. */
bool answer_open(struct answer *answer, const struct generate_request *request,
                 const struct tokenizer *tokenizer, const char *model, const char *call_id,
                 uint64_t created_s);
void answer_close(struct answer *answer);

/* False: no memory, or a prompt that there is not. */
bool answer_token(struct answer *answer, const Longspan__RunToken *token,
                  struct answer_piece *piece);
bool answer_finished(struct answer *answer, const Longspan__RunFinished *finished,
                     struct answer_piece *piece);

/* Of a prompt's own tokens. *complete: all of them have come, and what its choices begin with is
 * known. */
bool answer_scores(struct answer *answer, const Longspan__RunScores *scores, bool *complete);

/* What the choices of a prompt begin with is known. */
bool answer_is_scored(const struct answer *answer, uint32_t prompt);

/* Nothing was to be generated: the choice is empty, and as long as it may be. */
void answer_finish_empty(struct answer *answer, uint32_t choice, struct answer_piece *piece);

/* The whole answer, once every choice has finished. NULL: no memory. */
json_t *answer_whole(const struct answer *answer);

/* Chunks of a stream: the first of a choice, a piece, the last one with the usage. *none: there is
 * nothing to send. The pieces have to be given out in the order in which they came. */
json_t *answer_first_chunk(struct answer *answer, uint32_t choice, bool *none);
json_t *answer_chunk(struct answer *answer, const struct answer_piece *piece, bool *none);
json_t *answer_usage_chunk(const struct answer *answer);

uint64_t answer_prompt_tokens(const struct answer *answer);
uint64_t answer_completion_tokens(const struct answer *answer);

/* ---- the formats, for answer.c */

struct answer_format {
    const char *object, *chunk_object;
    /* Of one choice; `piece` is the whole text in a whole answer. */
    json_t *(*choice)(struct answer *answer, const struct answer_piece *piece);
    json_t *(*first)(struct answer *answer, uint32_t choice);
    json_t *(*part)(struct answer *answer, const struct answer_piece *piece, bool *none);
};
extern const struct answer_format answer_format_completion, answer_format_chat;

/* The bytes of a token's text. */
struct model_string answer_bytes(const struct answer *answer, int32_t id);

#endif
