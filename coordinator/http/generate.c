/* generate.c - the handlers of /v1/completions and /v1/chat/completions. */
#include "coordinator/http/fields.h"
#include "coordinator/http/generation.h"
#include "coordinator/http/routes.h"
#include "model/chat/chat_templates.h"

/* The prompt of a chat, by the model's template. */
static bool render(void *context, const json_t *body, const json_t *tools, char **text,
                   size_t *n_bytes, struct api_error *error)
{
    const struct site *site = context;
    const json_t *extra = fields_get(body, "chat_template_kwargs");
    bool prompt = true;
    if (extra != NULL && !json_is_object(extra))
        return api_error_field(error, "chat_template_kwargs",
                               "'chat_template_kwargs' must be an object, not %s",
                               fields_type_name(extra));
    if (!fields_bool(body, "add_generation_prompt", &prompt, error))
        return false;
    struct error why;
    const enum status status =
        chat_templates_render(site->templates, json_object_get(body, "messages"), tools, extra,
                              prompt, text, n_bytes, &why);
    switch (status) {
    case STATUS_OK:
        return true;
    case STATUS_UNSUPPORTED:
        return api_error_set(error, 400, NULL, "no_chat_template", "%s", why.text);
    case STATUS_INVALID:
        return api_error_field(error, "messages", "%s", why.text);
    default:
        return api_error_from(error, status, why.text);
    }
}

static bool read_request(struct call *call, enum generate_kind kind,
                         struct generate_request *request, struct api_error *error)
{
    struct site *site = call->site;
    const struct generate_limits limits = {.tokenizer = site->tokenizer,
                                           .vocab = site->vocab,
                                           .context = atomic_load(&site->max_tokens),
                                           .prompt_tokens = site->options->prompt_tokens,
                                           .names = site->names,
                                           .render = render,
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
