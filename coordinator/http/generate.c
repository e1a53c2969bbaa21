/* generate.c - the handlers of /v1/completions and /v1/chat/completions. */
#include "coordinator/http/chat_prompt.h"
#include "coordinator/http/generation.h"
#include "coordinator/http/routes.h"

static bool read_request(struct call *call, enum generate_kind kind,
                         struct generate_request *request, struct api_error *error)
{
    struct site *site = call->site;
    const struct generate_limits limits = {.tokenizer = site->tokenizer,
                                           .vocab = site->vocab,
                                           .context = atomic_load(&site->max_tokens),
                                           .prompt_tokens = site->options->prompt_tokens,
                                           .names = site->names,
                                           .render = chat_prompt_render,
                                           .render_context = site};
    json_t *body = call_object(call, error);
    if (body == NULL)
        return false;
    const bool good = generate_request_read(request, kind, body, &limits, error);
    json_decref(body);
    if (!good)
        generate_request_free(request);
    return good;
}

static enum MHD_Result start(struct call *call, enum generate_kind kind)
{
    struct api_error error;
    struct generate_request request;
    if (!read_request(call, kind, &request, &error))
        return call_error(call, &error);
    struct generation *g = generation_create(call, &request);
    if (g == NULL) {
        api_error_set(&error, 503, NULL, "unavailable", "no memory for the request");
        return call_error(call, &error);
    }
    call->errand = &g->errand;
    if (g->request.max_tokens == 0 && !generate_request_scores(&g->request)) {
        generation_finish(g);
        return generation_answer(call, g);
    }
    if (!bridge_submit(call->site->bridge, &g->errand, &error))
        return call_error(call, &error);
    return stream_begun(&g->stream) ? generation_answer(call, g) : MHD_YES;
}

static enum MHD_Result generate(struct call *call, enum generate_kind kind)
{
    struct generation *g = (struct generation *)call->errand;
    if (g == NULL)
        return start(call, kind);
    return stream_begun(&g->stream) ? generation_answer(call, g) : MHD_YES;
}

enum MHD_Result handle_completions(struct call *call)
{
    return generate(call, GENERATE_COMPLETION);
}

enum MHD_Result handle_chat_completions(struct call *call)
{
    return generate(call, GENERATE_CHAT);
}
