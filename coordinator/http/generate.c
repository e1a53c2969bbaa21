/* generate.c - the handlers of /v1/completions and /v1/chat/completions. */
#include "coordinator/http/generation.h"
#include "coordinator/http/routes.h"

static enum MHD_Result start(struct call *call, enum generate_kind kind)
{
    struct api_error error;
    const bool is_long = call->body.text.n > BODY_FREE_BYTES;
    struct generation *g = generation_create(call, kind);
    if (g == NULL) {
        api_error_set(&error, 503, NULL, "unavailable", "no memory for the request");
        return call_error(call, &error);
    }
    call->errand = &g->errand;
    if ((is_long || generation_read(g)) && !bridge_submit(call->site->bridge, &g->errand, &error))
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
