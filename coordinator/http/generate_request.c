/* generate_request.c - see generate_request.h: fields in, one message out. */
#include "coordinator/http/generate_request.h"

#include "coordinator/http/fields.h"
#include "coordinator/http/prompt_field.h"
#include "proto/longspan.pb-c.h"
#include "sys/parse.h"
#include "sys/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* OpenAI's limits of penalties and biases. */
#define MOST_PENALTY 2.0
#define MOST_BIAS    100.0
enum { DEFAULT_COMPLETION_TOKENS = 16, MOST_TOP_K = 1024 };

void generate_request_free(struct generate_request *request)
{
    for (uint32_t i = 0; request->prompts != NULL && i < request->n_prompts; i++)
        free(request->prompts[i].ids);
    for (uint32_t i = 0; i < request->n_stops; i++)
        free(request->stops[i].text);
    free(request->prompts);
    free(request->biases);
    free(request->json_schema);
    tool_choice_free(&request->tools);
    *request = (struct generate_request){0};
}

void generate_request_drop_ids(struct generate_request *request)
{
    for (uint32_t i = 0; i < request->n_prompts; i++) {
        free(request->prompts[i].ids);
        request->prompts[i].ids = NULL;
    }
}

static bool no_memory(struct api_error *error)
{
    return api_error_set(error, 503, NULL, "unavailable", "no memory for the request");
}

static bool read_model(const json_t *body, const struct generate_limits *limits,
                       struct api_error *error)
{
    const json_t *name = NULL;
    if (!fields_text(body, "model", &name, error))
        return false;
    return name == NULL || model_names_check(&limits->names, json_string_value(name), error);
}

static bool read_sampling(struct generate_request *r, const json_t *body, struct api_error *error)
{
    int64_t seed = 0, top_k = 0;
    r->temperature = r->top_p = r->repetition_penalty = 1.0f;
    if (fields_get(body, "seed") == NULL) {
        struct error why;
        if (random_unique(&r->seed, sizeof(r->seed), &why) != STATUS_OK)
            return api_error_from(error, why.status, why.text);
    }
    if (!fields_f32(body, "temperature", 0, 100, &r->temperature, error) ||
        !fields_f32(body, "top_p", 0, 1, &r->top_p, error) ||
        !fields_f32(body, "min_p", 0, 1, &r->min_p, error) ||
        !fields_i64(body, "top_k", -1, MOST_TOP_K, &top_k, error) ||
        !fields_f32(body, "presence_penalty", -MOST_PENALTY, MOST_PENALTY, &r->presence_penalty,
                    error) ||
        !fields_f32(body, "frequency_penalty", -MOST_PENALTY, MOST_PENALTY, &r->frequency_penalty,
                    error) ||
        !fields_f32(body, "repetition_penalty", 0.01, 100, &r->repetition_penalty, error) ||
        !fields_i64(body, "seed", INT64_MIN, INT64_MAX, &seed, error))
        return false;
    if (fields_get(body, "seed") != NULL)
        r->seed = (uint64_t)seed;
    r->top_k = top_k > 0 ? (uint32_t)top_k : 0; /* -1 and 0: no cut */
    if (!(r->top_p > 0.0f))
        return api_error_field(error, "top_p", "'top_p' is 0: it must be above 0, and at most 1");
    return true;
}

static bool read_biases(struct generate_request *r, const json_t *body,
                        const struct generate_limits *limits, struct api_error *error)
{
    const json_t *map = fields_get(body, "logit_bias");
    const char *key;
    json_t *value;
    if (map == NULL)
        return true;
    if (!json_is_object(map))
        return api_error_field(error, "logit_bias", "'logit_bias' must be an object, not %s",
                               fields_type_name(map));
    const size_t n = json_object_size(map);
    if (n > GENERATE_MOST_BIASES)
        return api_error_field(error, "logit_bias", "'logit_bias' has %zu tokens: at most %d", n,
                               GENERATE_MOST_BIASES);
    r->biases = calloc(n + 1, sizeof(*r->biases));
    if (r->biases == NULL)
        return no_memory(error);
    json_object_foreach((json_t *)map, key, value)
    {
        uint32_t id;
        if (parse_u32("id", key, 0, limits->vocab - 1, &id, NULL) != STATUS_OK)
            return api_error_field(error, "logit_bias",
                                   "'logit_bias': '%.40s' is no token id from 0 to %u", key,
                                   limits->vocab - 1);
        const double bias = json_number_value(value);
        if (!json_is_number(value) || !(bias >= -MOST_BIAS && bias <= MOST_BIAS))
            return api_error_field(error, "logit_bias",
                                   "'logit_bias': that of token %u must be a number from %g to %g",
                                   id, -MOST_BIAS, MOST_BIAS);
        r->biases[r->n_biases++] = (struct generate_bias){(int32_t)id, (float)bias};
    }
    return true;
}

static bool add_stop(struct generate_request *r, const json_t *text, struct api_error *error)
{
    const size_t n = json_string_length(text);
    if (!json_is_string(text))
        return api_error_field(error, "stop", "'stop' must be a string or an array of strings");
    if (n == 0 || n > GENERATE_MOST_STOP_BYTES)
        return api_error_field(error, "stop", "'stop': a text of %zu bytes: it must have 1 to %d",
                               n, GENERATE_MOST_STOP_BYTES);
    char *copy = malloc(n);
    if (copy == NULL)
        return no_memory(error);
    memcpy(copy, json_string_value(text), n);
    r->stops[r->n_stops++] = (struct generate_stop){copy, n};
    return true;
}

static bool read_stops(struct generate_request *r, const json_t *body, struct api_error *error)
{
    const json_t *stop = fields_get(body, "stop");
    if (stop == NULL)
        return true;
    if (!json_is_array(stop))
        return add_stop(r, stop, error);
    if (json_array_size(stop) > GENERATE_MOST_STOPS)
        return api_error_field(error, "stop", "'stop' has %zu texts: at most %d",
                               json_array_size(stop), GENERATE_MOST_STOPS);
    for (size_t i = 0; i < json_array_size(stop); i++)
        if (!add_stop(r, json_array_get(stop, i), error))
            return false;
    return true;
}

static bool read_stream(struct generate_request *r, const json_t *body, struct api_error *error)
{
    const json_t *options = fields_get(body, "stream_options");
    if (!fields_bool(body, "stream", &r->stream, error))
        return false;
    if (options == NULL)
        return true;
    if (!json_is_object(options))
        return api_error_field(error, "stream_options",
                               "'stream_options' must be an object, not %s",
                               fields_type_name(options));
    if (!r->stream)
        return api_error_field(error, "stream_options",
                               "'stream_options' is only allowed when 'stream' is true");
    return fields_bool(options, "include_usage", &r->include_usage, error);
}

static bool read_logprobs(struct generate_request *r, const json_t *body, struct api_error *error)
{
    if (r->kind == GENERATE_COMPLETION) {
        r->want_logprobs = fields_get(body, "logprobs") != NULL;
        return fields_u32(body, "logprobs", 0, GENERATE_MOST_LOGPROBS, &r->n_logprobs, error);
    }
    if (!fields_bool(body, "logprobs", &r->want_logprobs, error) ||
        !fields_u32(body, "top_logprobs", 0, GENERATE_MOST_LOGPROBS, &r->n_logprobs, error))
        return false;
    if (r->n_logprobs > 0 && !r->want_logprobs)
        return api_error_field(error, "top_logprobs",
                               "'top_logprobs' is only allowed when 'logprobs' is true");
    return true;
}

static bool read_format(struct generate_request *r, const json_t *body, struct api_error *error)
{
    static const char name[] = "response_format";
    const json_t *format = fields_get(body, name);
    if (format == NULL)
        return true;
    const char *type = json_string_value(json_object_get(format, "type"));
    if (type == NULL)
        return api_error_field(error, name, "'%s' must be an object with a 'type'", name);
    if (strcmp(type, "text") == 0)
        return true;
    if (strcmp(type, "json_object") == 0) {
        r->json_object = true;
        return true;
    }
    if (strcmp(type, "json_schema") != 0)
        return api_error_field(error, name,
                               "'%s.type' is '%.40s': it must be text, json_object or json_schema",
                               name, type);
    const json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!json_is_object(schema))
        return api_error_field(error, name, "'%s.json_schema.schema' must be an object", name);
    r->json_schema = json_dumps(schema, JSON_COMPACT);
    return r->json_schema != NULL || no_memory(error);
}

/* A call that has to be made is the whole answer: no other format matters then. */
static bool read_tools(struct generate_request *r, const json_t *body, struct api_error *error)
{
    char *schema = NULL;
    json_t *callable;
    const bool good = tool_choice_read(&r->tools, body, &callable, error) &&
                      tool_choice_schema(&r->tools, callable, &schema, error);
    json_decref(callable);
    if (schema == NULL)
        return good;
    free(r->json_schema);
    r->json_object = false;
    r->json_schema = schema;
    return true;
}

static bool read_max_tokens(struct generate_request *r, const json_t *body,
                            const struct generate_limits *limits, struct api_error *error)
{
    const bool chat = r->kind == GENERATE_CHAT;
    const char *name = chat && fields_get(body, "max_completion_tokens") != NULL
                           ? "max_completion_tokens"
                           : "max_tokens";
    r->max_tokens = chat ? limits->context : DEFAULT_COMPLETION_TOKENS;
    r->max_tokens_given = !chat || fields_get(body, name) != NULL;
    const uint32_t least = r->echo ? 0 : 1; /* nothing but the echo */
    return fields_u32(body, name, least, INT32_MAX, &r->max_tokens, error);
}

static bool read_options(struct generate_request *r, const json_t *body,
                         const struct generate_limits *limits, struct api_error *error)
{
    uint32_t best_of = 0;
    int64_t priority = 0;
    r->n = 1;
    if (!fields_u32(body, "n", 1, GENERATE_MOST_N, &r->n, error) ||
        !fields_i64(body, "priority", INT32_MIN, INT32_MAX, &priority, error) ||
        !fields_bool(body, "ignore_eos", &r->ignore_eos, error))
        return false;
    r->priority = (int32_t)priority;
    if (r->kind == GENERATE_COMPLETION) {
        const json_t *suffix = NULL;
        if (!fields_bool(body, "echo", &r->echo, error) ||
            !fields_u32(body, "best_of", 1, GENERATE_MOST_N, &best_of, error) ||
            !fields_text(body, "suffix", &suffix, error))
            return false;
        if (best_of > r->n)
            return api_error_field(error, "best_of",
                                   "'best_of' is %u: more than 'n' (%u) is not supported", best_of,
                                   r->n);
        if (suffix != NULL && json_string_length(suffix) > 0)
            return api_error_field(error, "suffix",
                                   "'suffix' is not supported: there is no model "
                                   "here that fills in the middle");
    }
    return read_logprobs(r, body, error) && read_max_tokens(r, body, limits, error);
}

static bool read_chat(struct generate_request *r, const json_t *body,
                      const struct generate_limits *limits, struct api_error *error)
{
    const json_t *messages = fields_get(body, "messages");
    if (messages == NULL)
        return api_error_field(error, "messages", "'messages' is missing");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return api_error_field(error, "messages",
                               "'messages' must be an array with at least one "
                               "message");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        char name[API_ERROR_PARAM_BYTES];
        snprintf(name, sizeof(name), "messages[%zu].role", i);
        if (!json_is_string(json_object_get(message, "role")))
            return api_error_field(error, name, "'%s' must be a string", name);
    }
    char *text = NULL;
    size_t n_bytes = 0;
    const json_t *tools = r->tools.mode != TOOL_NONE ? fields_get(body, "tools") : NULL;
    if (!limits->render(limits->render_context, body, tools, limits->stop, &text, &n_bytes, error))
        return false;
    struct error why;
    r->prompts = calloc(1, sizeof(*r->prompts));
    enum status status =
        r->prompts == NULL
            ? error_set(&why, STATUS_NO_MEMORY, "no memory for the request")
            : tokenizer_encode_until(limits->tokenizer, text, n_bytes, TOKENIZER_PARSE_SPECIAL,
                                     limits->stop, &r->prompts[0].ids, &r->prompts[0].n_ids, &why);
    r->n_prompts = r->prompts != NULL;
    free(text);
    return status == STATUS_OK || api_error_from(error, status, why.text);
}

static bool check_lengths(struct generate_request *r, const struct generate_limits *limits,
                          struct api_error *error)
{
    const char *name = r->kind == GENERATE_CHAT ? "messages" : "prompt";
    if ((uint64_t)r->n_prompts * r->n > GENERATE_MOST_CHOICES)
        return api_error_field(error, "n", "%u prompts with %u choices each: at most %d together",
                               r->n_prompts, r->n, GENERATE_MOST_CHOICES);
    uint64_t n_echo = 0;
    for (uint32_t i = 0; i < r->n_prompts; i++) {
        const size_t n = r->prompts[i].n_ids;
        n_echo += (uint64_t)n * r->n * (r->want_logprobs ? 1 + r->n_logprobs : 1);
        if (n == 0)
            return api_error_field(error, name, "'%s': it has no tokens", name);
        if (limits->prompt_tokens > 0 && n > limits->prompt_tokens)
            return api_error_set(error, 400, name, "prompt_too_long",
                                 "'%s': a prompt of %zu tokens: this server takes at most %u", name,
                                 n, limits->prompt_tokens);
        const uint64_t answer = r->max_tokens_given ? r->max_tokens : 1;
        if (n + answer > limits->context)
            return api_error_set(
                error, 400, name, "context_length_exceeded",
                "this model's context has %u tokens, but %llu were asked for: %zu in the prompt, "
                "%llu for the answer",
                limits->context, (unsigned long long)(n + answer), n, (unsigned long long)answer);
    }
    if (r->echo && n_echo > GENERATE_MOST_ECHO)
        return api_error_field(error, "echo",
                               "'echo': %llu tokens, counted for each choice and with those of "
                               "'logprobs', would be said back: at most %d",
                               (unsigned long long)n_echo, GENERATE_MOST_ECHO);
    return true;
}

bool generate_request_read(struct generate_request *request, enum generate_kind kind,
                           const json_t *body, const struct generate_limits *limits,
                           struct api_error *error)
{
    *request = (struct generate_request){.kind = kind};
    return read_model(body, limits, error) && read_sampling(request, body, error) &&
           read_biases(request, body, limits, error) && read_stops(request, body, error) &&
           read_stream(request, body, error) && read_format(request, body, error) &&
           read_options(request, body, limits, error) &&
           (kind == GENERATE_COMPLETION || read_tools(request, body, error)) &&
           (kind == GENERATE_CHAT ? read_chat(request, body, limits, error)
                                  : prompt_field_read(request, body, limits, error)) &&
           check_lengths(request, limits, error);
}

/* ---- the message ----------------------------------------------------------------------------- */

struct message {
    Longspan__Control control;
    Longspan__RunRequest run;
    Longspan__Sampling sampling;
    Longspan__Prompt *prompts, **prompt_list;
    Longspan__LogitBias *biases, **bias_list;
    ProtobufCBinaryData stops[GENERATE_MOST_STOPS];
};

bool generate_request_scores(const struct generate_request *r)
{
    return r->echo && r->want_logprobs;
}

/* Prompts of the message for one of ours. */
static uint32_t answers_each(const struct generate_request *r)
{
    return r->max_tokens > 0 ? r->n : 1;
}

uint32_t generate_request_prompt(const struct generate_request *r, uint32_t index)
{
    return index / answers_each(r);
}

static void fill(struct message *m, const struct generate_request *r, uint64_t number,
                 const char *id)
{
    longspan__control__init(&m->control);
    longspan__run_request__init(&m->run);
    longspan__sampling__init(&m->sampling);
    m->control.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    m->control.run_request = &m->run;
    m->run.request = number;
    m->run.id = (char *)id;
    m->run.sampling = &m->sampling;
    const uint32_t n = answers_each(r);
    m->run.n_prompts = (size_t)r->n_prompts * n;
    m->run.prompts = m->prompt_list;
    for (uint32_t i = 0; i < m->run.n_prompts; i++) {
        const struct generate_prompt *prompt = &r->prompts[i / n];
        longspan__prompt__init(&m->prompts[i]);
        m->prompt_list[i] = &m->prompts[i];
        m->prompts[i].again = i % n > 0;
        m->prompts[i].seed_offset = i % n;
        if (m->prompts[i].again)
            continue;
        m->prompts[i].ids = prompt->ids;
        m->prompts[i].n_ids = prompt->n_ids;
        m->prompts[i].scored = generate_request_scores(r);
    }
    m->run.no_answer = r->max_tokens == 0;
    m->run.n_predict = r->max_tokens_given ? r->max_tokens : 0;
    m->run.ignore_eos = r->ignore_eos;
    m->run.want_logprobs = r->want_logprobs;
    m->run.n_logprobs = r->n_logprobs;
    m->run.json_object = r->json_object;
    m->run.priority = r->priority;
    if (r->json_schema != NULL)
        m->run.json_schema = r->json_schema;
    m->run.n_stop = r->n_stops;
    m->run.stop = m->stops;
    for (uint32_t i = 0; i < r->n_stops; i++)
        m->stops[i] =
            (ProtobufCBinaryData){.len = r->stops[i].n_bytes, .data = (uint8_t *)r->stops[i].text};
    m->sampling.temperature = r->temperature;
    m->sampling.top_k = r->top_k;
    m->sampling.top_p = r->top_p;
    m->sampling.min_p = r->min_p;
    m->sampling.seed = r->seed;
    m->sampling.presence_penalty = r->presence_penalty;
    m->sampling.frequency_penalty = r->frequency_penalty;
    m->sampling.repetition_penalty = r->repetition_penalty;
    m->sampling.n_logit_bias = r->n_biases;
    m->sampling.logit_bias = m->bias_list;
    for (uint32_t i = 0; i < r->n_biases; i++) {
        longspan__logit_bias__init(&m->biases[i]);
        m->bias_list[i] = &m->biases[i];
        m->biases[i].id = r->biases[i].id;
        m->biases[i].bias = r->biases[i].bias;
    }
}

bool generate_request_pack(const struct generate_request *r, uint64_t number, const char *id,
                           uint8_t **bytes, size_t *n_bytes)
{
    struct message m = {0};
    const size_t n = (size_t)r->n_prompts * r->n;
    m.prompts = calloc(n, sizeof(*m.prompts));
    m.prompt_list = calloc(n, sizeof(*m.prompt_list));
    m.biases = calloc(r->n_biases + 1u, sizeof(*m.biases));
    m.bias_list = calloc(r->n_biases + 1u, sizeof(*m.bias_list));
    uint8_t *packed = NULL;
    if (m.prompts != NULL && m.prompt_list != NULL && m.biases != NULL && m.bias_list != NULL) {
        fill(&m, r, number, id);
        *n_bytes = longspan__control__get_packed_size(&m.control);
        packed = malloc(*n_bytes);
        if (packed != NULL)
            longspan__control__pack(&m.control, packed);
    }
    free(m.prompts);
    free(m.prompt_list);
    free(m.biases);
    free(m.bias_list);
    *bytes = packed;
    return packed != NULL;
}
