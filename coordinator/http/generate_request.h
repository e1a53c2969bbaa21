/* coordinator/http/generate_request.h - what a client asks of /v1/completions and
 * /v1/chat/completions, checked and tokenized.
 *
 * Pure but for the random seed of a request that has none. docs/http.md lists the fields. */
#ifndef LONGSPAN_COORDINATOR_HTTP_GENERATE_REQUEST_H
#define LONGSPAN_COORDINATOR_HTTP_GENERATE_REQUEST_H

#include "coordinator/http/api_error.h"
#include "coordinator/http/model_names.h"
#include "coordinator/http/tool_choice.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GENERATE_MOST_CHOICES = 1024, /* prompts times n: REQUEST_MAX_PROMPTS */
    GENERATE_MOST_N = 128,
    GENERATE_MOST_LOGPROBS = 20,
    GENERATE_MOST_STOPS = 16,
    GENERATE_MOST_STOP_BYTES = 1024,
    GENERATE_MOST_BIASES = 1024,
    GENERATE_MOST_ECHO =
        1 << 20, /* tokens said back, with what is shown beside each, of all choices */
};

enum generate_kind { GENERATE_COMPLETION, GENERATE_CHAT };

struct generate_prompt {
    int32_t *ids;
    size_t n_ids;
};

struct generate_stop {
    char *text;
    size_t n_bytes;
};

struct generate_bias {
    int32_t id;
    float bias;
};

/* Numbers that the client did not give are OpenAI's defaults. */
struct generate_request {
    enum generate_kind kind;
    struct generate_prompt *prompts;
    uint32_t n_prompts, n; /* choices: prompt i has those from i * n on */
    uint32_t max_tokens;   /* of each choice; 0: none is wanted, but the echo */
    bool max_tokens_given; /* otherwise: until the context is full */
    float temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    uint32_t top_k;
    uint64_t seed;
    struct generate_stop stops[GENERATE_MOST_STOPS];
    uint32_t n_stops;
    struct generate_bias *biases;
    uint32_t n_biases;
    bool stream, include_usage, echo, ignore_eos, want_logprobs;
    uint32_t n_logprobs; /* most likely tokens beside the one that was taken */
    char *json_schema;   /* NULL: none */
    bool json_object;
    int32_t priority;
    struct tool_choice tools; /* of a chat */
};

/* What a request may ask for. */
struct generate_limits {
    const struct tokenizer *tokenizer;
    uint32_t vocab;
    uint32_t context;       /* tokens of prompt and answer */
    uint32_t prompt_tokens; /* of a prompt; 0: `context` is the limit */
    struct model_names names;
    /* The prompt of a chat: renders `body`, already known to be an object with an array of
     * messages, and the tools that the model is to be told of (NULL: none). *text is the
     * caller's. */
    bool (*render)(void *context, const json_t *body, const json_t *tools, const atomic_bool *stop,
                   char **text, size_t *n_bytes, struct api_error *error);
    void *render_context;
    const atomic_bool *stop; /* once it is set, the request is wanted no more; NULL: it is */
};

/* The caller ends *request with generate_request_free, also after a failure. False: *error is the
 * answer: 400 naming the field, or 404 for another model; 503 where it was told to stop. */
bool generate_request_read(struct generate_request *request, enum generate_kind kind,
                           const json_t *body, const struct generate_limits *limits,
                           struct api_error *error);
void generate_request_free(struct generate_request *request);

/* Frees the ids of prompts, whose counts stay: a message has them, and nobody says them back. */
void generate_request_drop_ids(struct generate_request *request);

/* With echo and log-probabilities, prompts are scored. */
bool generate_request_scores(const struct generate_request *request);

/* A RunRequest has n prompts for each of ours, or, where nothing is to be generated, one: which one
 * of ours is `index` of it? */
uint32_t generate_request_prompt(const struct generate_request *request, uint32_t index);

/* A Control with the RunRequest `number`; `id`: as the client is told. *bytes is the caller's.
 * False: no memory. */
bool generate_request_pack(const struct generate_request *request, uint64_t number, const char *id,
                           uint8_t **bytes, size_t *n_bytes);

#endif
