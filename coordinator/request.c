/* request.c - see request.h. */
#include "coordinator/request.h"

#include "coordinator/scheduler.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool request_wants_json(const Longspan__RunRequest *message)
{
    return message->json_object || message->json_schema[0] != '\0';
}

void request_destroy(struct request *request)
{
    if (request == NULL)
        return;
    for (uint32_t i = 0; request->prompts != NULL && i < request->n_prompts; i++) {
        struct request_prompt *prompt = &request->prompts[i];
        if (!prompt->again)
            free(prompt->ids);
        free(prompt->spans);
        free(prompt->reservation.awaited);
        detokenizer_destroy(prompt->detokenizer);
        penalties_destroy(prompt->penalties);
        constraint_destroy(prompt->constraint);
        stop_texts_destroy(prompt->stops);
    }
    free(request->prompts);
    free(request->before);
    free(request->biases);
    free(request);
}

static enum status check_length(const struct request_prompt *prompt, uint32_t index, size_t n_ids,
                                const struct request_limits *limits, struct error *error)
{
    if (n_ids + (uint64_t)prompt->n_fill <= limits->max_tokens)
        return STATUS_OK;
    if (prompt->n_fill == 0)
        return error_set(error, STATUS_INVALID,
                         "prompt %u has %zu tokens, the context has %u (--ctx)", index, n_ids,
                         limits->max_tokens);
    return error_set(error, STATUS_INVALID,
                     "prompt %u has %zu tokens and %u filled ones before, the context has %u "
                     "(--ctx)",
                     index, n_ids, prompt->n_fill, limits->max_tokens);
}

/* The prompt's ids, behind a zero for each token that is filled. */
static enum status take_ids(struct request_prompt *prompt, const int32_t *ids, size_t n,
                            struct error *error)
{
    prompt->ids = calloc(prompt->n_fill + n, sizeof(*prompt->ids));
    if (prompt->ids == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu tokens", prompt->n_fill + n);
    memcpy(prompt->ids + prompt->n_fill, ids, n * sizeof(*ids));
    prompt->n_ids = (uint32_t)(prompt->n_fill + n);
    return STATUS_OK;
}

static enum status read_ids(struct request_prompt *prompt, uint32_t index,
                            const Longspan__Prompt *message, const struct request_limits *limits,
                            struct error *error)
{
    enum status status = check_length(prompt, index, message->n_ids, limits, error);
    for (size_t i = 0; i < message->n_ids && status == STATUS_OK; i++)
        if (message->ids[i] < 0 || (uint32_t)message->ids[i] >= limits->vocab)
            status = error_set(error, STATUS_INVALID,
                               "prompt %u: id %d at position %zu is outside the vocabulary of %u",
                               index, message->ids[i], i, limits->vocab);
    return status == STATUS_OK ? take_ids(prompt, message->ids, message->n_ids, error) : status;
}

static enum status read_text(struct request_prompt *prompt, uint32_t index,
                             const Longspan__Prompt *message, const struct request_limits *limits,
                             struct error *error)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (message->text.len == 0)
        return error_set(error, STATUS_INVALID, "prompt %u is empty", index);
    enum status status =
        tokenizer_encode(limits->tokenizer, (const char *)message->text.data, message->text.len,
                         TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, &ids, &n_ids, error);
    if (status == STATUS_OK && n_ids == 0)
        status = error_set(error, STATUS_INVALID, "prompt %u gives no tokens", index);
    if (status == STATUS_OK)
        status = check_length(prompt, index, n_ids, limits, error);
    if (status == STATUS_OK)
        status = take_ids(prompt, ids, n_ids, error);
    free(ids);
    return status;
}

/* The JSON that is asked for has to fit into the answer. */
static enum status start_constraint(struct request_prompt *prompt,
                                    const struct request_limits *limits, struct error *error)
{
    const enum status status = constraint_again(&prompt->constraint, limits->constraint, error);
    if (status != STATUS_OK)
        return status;
    const uint32_t shortest = constraint_shortest(prompt->constraint);
    return shortest <= prompt->n_answer ? STATUS_OK
                                        : error_set(error, STATUS_INVALID,
                                                    "the shortest JSON that was asked for may "
                                                    "take %u tokens, the answer may have %u",
                                                    shortest, prompt->n_answer);
}

/* What makes an answer of a prompt. */
static enum status start_answer(struct request_prompt *prompt, const struct request *request,
                                const Longspan__RunRequest *message, uint64_t seed_offset,
                                const struct request_limits *limits, struct error *error)
{
    struct sampler_settings sampling = request->sampling;
    struct stop_text stops[STOP_TEXTS_MOST];
    sampling.seed += seed_offset;
    sampler_start(&prompt->sampler, &sampling);
    for (size_t i = 0; i < message->n_stop && i < STOP_TEXTS_MOST; i++)
        stops[i] = (struct stop_text){message->stop[i].data, message->stop[i].len};
    enum status status = stop_texts_create(&prompt->stops, stops, message->n_stop, error);
    if (status == STATUS_OK && penalties_needed(&request->penalties))
        status =
            penalties_create(&prompt->penalties, &request->penalties, limits->vocab,
                             prompt->ids + prompt->n_fill, prompt->n_ids - prompt->n_fill, error);
    if (status == STATUS_OK && limits->constraint != NULL)
        status = start_constraint(prompt, limits, error);
    return status == STATUS_OK
               ? detokenizer_create(&prompt->detokenizer, limits->tokenizer, 0, error)
               : status;
}

/* It has the tokens of the prompt before it. */
static enum status take_again(struct request *request, uint32_t index,
                              const Longspan__Prompt *message, struct error *error)
{
    struct request_prompt *prompt = &request->prompts[index];
    if (index == 0 || message->n_ids > 0 || message->text.len > 0 || message->fill_tokens > 0 ||
        message->scored || prompt[-1].n_fill > 0)
        return error_set(error, STATUS_INVALID,
                         "prompt %u is to be the one before it: there must be one, of tokens that "
                         "are not filled, and it may have none of its own",
                         index);
    prompt->again = true;
    prompt->ids = prompt[-1].ids;
    prompt->n_ids = prompt[-1].n_ids;
    prompt->waits = prompt[-1].scored || prompt[-1].waits;
    return STATUS_OK;
}

static enum status read_tokens(struct request *request, uint32_t index,
                               const Longspan__Prompt *message, const struct request_limits *limits,
                               struct error *error)
{
    struct request_prompt *prompt = &request->prompts[index];
    if (message->again)
        return take_again(request, index, message, error);
    if (message->scored && message->fill_tokens > 0)
        return error_set(error, STATUS_INVALID,
                         "prompt %u is filled: it has no tokens to be scored", index);
    prompt->n_fill = message->fill_tokens;
    prompt->fill_seed = message->fill_seed;
    prompt->scored = message->scored;
    prompt->n_scored = 1;
    return message->n_ids > 0 ? read_ids(prompt, index, message, limits, error)
                              : read_text(prompt, index, message, limits, error);
}

static enum status read_prompt(struct request *request, uint32_t index,
                               const Longspan__RunRequest *run, const struct request_limits *limits,
                               struct error *error)
{
    const Longspan__Prompt *message = run->prompts[index];
    struct request_prompt *prompt = &request->prompts[index];
    const enum status status = read_tokens(request, index, message, limits, error);
    if (status != STATUS_OK)
        return status;
    /* The last token that is generated is never computed. */
    const uint64_t wanted = (uint64_t)prompt->n_ids + request->n_predict - 1;
    prompt->max_tokens = request->n_predict == 0 || wanted > limits->max_tokens ? limits->max_tokens
                                                                                : (uint32_t)wanted;
    prompt->n_answer = prompt->max_tokens - prompt->n_ids + 1;
    prompt->parent = SCHEDULER_NONE;
    prompt->sequence = SCHEDULER_NONE;
    prompt->reservation.awaited = calloc(limits->n_holders, sizeof(bool));
    if (prompt->reservation.awaited == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for prompt %u", index);
    return start_answer(prompt, request, run, message->seed_offset, limits, error);
}

uint32_t request_scored(const struct request_prompt *prompt, uint32_t position, uint32_t n_tokens)
{
    const uint32_t end = position + n_tokens + 1; /* of the tokens that follow its rows */
    const uint32_t last = end < prompt->n_ids ? end : prompt->n_ids;
    return prompt->scored && last > prompt->n_scored ? last - position - 1 : 0;
}

uint32_t request_scored_top(const struct request *request, uint32_t vocab)
{
    const uint32_t n = request->n_logprobs > 0 ? request->n_logprobs : 1; /* the best, as a check */
    return n < vocab ? n : vocab;
}

/* Earlier prompts that are looked at: all pairs of a thousand long prompts would take minutes. */
enum { MAX_PARENTS = 64 };

/* Whole pages that an earlier prompt of the request has in common are computed once. What is filled
 * has nothing in common with anything; what is scored has to be computed. */
static enum status find_parents(struct request *request, struct error *error)
{
    const int32_t **ids = calloc(request->n_prompts, sizeof(*ids));
    uint32_t *lengths = calloc(request->n_prompts, sizeof(*lengths));
    if (ids == NULL || lengths == NULL) {
        free(ids);
        free(lengths);
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u prompts", request->n_prompts);
    }
    for (uint32_t i = 0; i < request->n_prompts; i++) {
        struct request_prompt *prompt = &request->prompts[i];
        uint32_t which = 0;
        if (prompt->waits)
            prompt->parent = prompt[-1].waits ? prompt[-1].parent : i - 1;
        if (prompt->n_fill > 0)
            continue;
        ids[i] = prompt->ids;
        lengths[i] = prompt->n_ids;
        if (request->alone || prompt->scored || prompt->waits)
            continue;
        const uint32_t n = i < MAX_PARENTS ? i : MAX_PARENTS;
        prompt->shared_tokens =
            scheduler_common_prefix(prompt->ids, prompt->n_ids, ids, lengths, n, &which);
        if (prompt->shared_tokens > 0)
            prompt->parent = which;
    }
    free(ids);
    free(lengths);
    return STATUS_OK;
}

static enum status read_penalties(struct request *request, const Longspan__Sampling *sampling,
                                  uint32_t vocab, struct error *error)
{
    const size_t n = sampling->n_logit_bias;
    request->biases = calloc(n + 1, sizeof(*request->biases));
    if (request->biases == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu biases", n);
    for (size_t i = 0; i < n; i++)
        request->biases[i] =
            (struct penalties_bias){sampling->logit_bias[i]->id, sampling->logit_bias[i]->bias};
    request->penalties = (struct penalties_settings){.presence = sampling->presence_penalty,
                                                     .frequency = sampling->frequency_penalty,
                                                     .repetition = sampling->repetition_penalty,
                                                     .biases = request->biases,
                                                     .n_biases = n};
    request->sampling.adjusts = penalties_needed(&request->penalties);
    return penalties_check(&request->penalties, vocab, error);
}

static enum status read_sampling(struct request *request, const Longspan__Sampling *sampling,
                                 uint32_t vocab, struct error *error)
{
    if (sampling == NULL)
        return STATUS_OK; /* zeros: greedy */
    request->sampling = (struct sampler_settings){.temperature = sampling->temperature,
                                                  .top_k = sampling->top_k,
                                                  .top_p = sampling->top_p,
                                                  .min_p = sampling->min_p,
                                                  .seed = sampling->seed};
    const enum status status = sampler_check(&request->sampling, error);
    return status == STATUS_OK ? read_penalties(request, sampling, vocab, error) : status;
}

static enum status read_request(struct request *r, const Longspan__RunRequest *message,
                                const struct request_limits *limits, struct error *error)
{
    if (message->n_prompts == 0 || message->n_prompts > REQUEST_MAX_PROMPTS)
        return error_set(error, STATUS_INVALID, "%zu prompts: there must be 1 to %d",
                         message->n_prompts, REQUEST_MAX_PROMPTS);
    if (message->n_logprobs > SAMPLER_MAX_LOGPROBS)
        return error_set(error, STATUS_INVALID, "%u log-probabilities per token: at most %d",
                         message->n_logprobs, SAMPLER_MAX_LOGPROBS);
    enum status status = read_sampling(r, message->sampling, limits->vocab, error);
    if (status != STATUS_OK)
        return status;
    r->sampling.adjusts = r->sampling.adjusts || request_wants_json(message);
    r->prompts = calloc(message->n_prompts, sizeof(*r->prompts));
    r->before = calloc(limits->n_holders, sizeof(*r->before));
    if (r->prompts == NULL || r->before == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu prompts", message->n_prompts);
    r->n_prompts = r->n_unfinished = (uint32_t)message->n_prompts;
    r->no_answer = message->no_answer;
    r->n_predict = r->no_answer ? 1 : message->n_predict; /* a last token is never computed */
    r->ignore_eos = message->ignore_eos;
    r->want_logprobs = message->want_logprobs;
    r->want_logits = message->want_logits;
    r->n_logprobs = message->n_logprobs;
    r->priority = message->priority;
    r->alone = message->no_prefix_sharing;
    for (uint32_t i = 0; i < r->n_prompts && status == STATUS_OK; i++)
        status = read_prompt(r, i, message, limits, error);
    return status == STATUS_OK ? find_parents(r, error) : status;
}

enum status request_create(struct request **request, const Longspan__RunRequest *message,
                           const struct frames_peer *client, const struct request_limits *limits,
                           uint64_t now_us, struct error *error)
{
    struct request *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    r->client = *client;
    r->number = message->request;
    control_copy_text(r->id, sizeof(r->id), message->id);
    const bool named = r->id[0] != '\0';
    snprintf(r->label, sizeof(r->label), "request %" PRIu64 "%s%s%s", r->number, named ? " (" : "",
             r->id, named ? ")" : "");
    r->heard_us = r->began_us = now_us;
    const enum status status = read_request(r, message, limits, error);
    if (status != STATUS_OK) {
        request_destroy(r);
        return status;
    }
    *request = r;
    return STATUS_OK;
}
