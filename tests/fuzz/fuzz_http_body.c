/* fuzz_http_body.c - the body of a request for an answer: JSON, its fields, a chat's messages and
 * tools. The first byte says which kind it is. What is accepted has its bounds, and the coordinator
 * takes it. */
#include "coordinator/http/body.h"
#include "coordinator/http/generate_request.h"
#include "coordinator/request.h"
#include "model/chat/chat_messages.h"
#include "model/chat/chat_template.h"
#include "model/chat/chat_templates.h"
#include "tests/cmocka.h"
#include "tests/coordinator/http/byte_tokenizer.h"
#include "tests/fuzz/fuzz.h"

enum { CONTEXT = 1000 };

static struct tokenizer *tokenizer;
static struct chat_template *chat_template;

static void open_once(void)
{
    const char *source = chat_templates_source("chatml");
    if (tokenizer != NULL)
        return;
    byte_tokenizer_open((void **)&tokenizer);
    FUZZ_CHECK(chat_template_create(&chat_template, source, strlen(source), NULL, NULL, NULL) ==
               STATUS_OK);
}

/* As chat_prompt.c does it. */
static bool render(void *context, const json_t *body, const json_t *tools, const atomic_bool *stop,
                   char **text, size_t *n_bytes, struct api_error *error)
{
    json_t *messages = NULL;
    struct error why;
    (void)context;
    enum status status =
        chat_messages_prepare(&messages, json_object_get(body, "messages"), false, &why);
    if (status == STATUS_OK)
        status = chat_template_render(chat_template, messages, tools, NULL, true, stop, text,
                                      n_bytes, &why);
    json_decref(messages);
    return status == STATUS_OK || api_error_from(error, status, why.text);
}

/* The coordinator says no only to a schema, which is worked out there. */
static void check_taken(const struct generate_request *request)
{
    const struct request_limits limits = {
        .tokenizer = tokenizer, .vocab = BYTE_VOCABULARY, .max_tokens = CONTEXT, .n_holders = 1};
    const struct frames_peer peer = {.n = 1};
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    struct request *taken;
    struct error error;
    FUZZ_CHECK(generate_request_pack(request, 7, "id", &bytes, &n_bytes));
    Longspan__Control *message = longspan__control__unpack(NULL, n_bytes, bytes);
    FUZZ_CHECK(message != NULL && message->body_case == LONGSPAN__CONTROL__BODY_RUN_REQUEST);
    if (!request_wants_json(message->run_request)) {
        const enum status status =
            request_create(&taken, message->run_request, &peer, &limits, 0, &error);
        if (status != STATUS_OK)
            fprintf(stderr, "%s\n", error.text);
        FUZZ_CHECK(status == STATUS_OK);
        request_destroy(taken);
    }
    longspan__control__free_unpacked(message, NULL);
    free(bytes);
}

static void check_bounds(const struct generate_request *request)
{
    FUZZ_CHECK(request->n_prompts > 0 && request->n > 0 && request->n <= GENERATE_MOST_N);
    FUZZ_CHECK(request->n_prompts * (uint64_t)request->n <= GENERATE_MOST_CHOICES);
    FUZZ_CHECK(request->n_stops <= GENERATE_MOST_STOPS);
    FUZZ_CHECK(request->n_biases <= GENERATE_MOST_BIASES);
    FUZZ_CHECK(request->n_logprobs <= GENERATE_MOST_LOGPROBS);
    for (uint32_t i = 0; i < request->n_prompts; i++) {
        const struct generate_prompt *prompt = &request->prompts[i];
        FUZZ_CHECK(prompt->n_ids > 0 && prompt->n_ids <= CONTEXT);
        for (size_t t = 0; t < prompt->n_ids; t++)
            FUZZ_CHECK(prompt->ids[t] >= 0 && prompt->ids[t] < BYTE_VOCABULARY);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct body_limits body_limits = {.each = 1 << 20, .all = 1 << 20};
    struct body body = {0};
    struct api_error error = {0};
    struct generate_request request;
    open_once();
    if (n == 0)
        return 0;
    const struct generate_limits limits = {.tokenizer = tokenizer,
                                           .vocab = BYTE_VOCABULARY,
                                           .context = CONTEXT,
                                           .names = {"ours", "ours.gguf"},
                                           .render = render};
    FUZZ_CHECK(body_add(&body, &body_limits, (const char *)data + 1, n - 1, &error));
    json_t *json = body_object(&body, NULL, &error);
    FUZZ_CHECK(json != NULL || error.http == 400);
    if (json != NULL) {
        const enum generate_kind kind = data[0] % 2 ? GENERATE_CHAT : GENERATE_COMPLETION;
        if (generate_request_read(&request, kind, json, &limits, &error)) {
            check_bounds(&request);
            check_taken(&request);
        } else {
            FUZZ_CHECK(error.http >= 400 && error.message[0] != '\0');
        }
        generate_request_free(&request);
    }
    json_decref(json);
    body_drop(&body);
    FUZZ_CHECK(atomic_load(&body_limits.held) == 0);
    return 0;
}
