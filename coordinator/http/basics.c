/* basics.c - the handlers that need nobody else: health, models. */
#include "coordinator/http/routes.h"

enum MHD_Result handle_health(struct call *call)
{
    static const char *const names[] = {"loading", "ok", "draining"};
    const enum site_state state = atomic_load(&call->site->state);
    return call_json(call, state == SITE_READY ? 200 : 503,
                     json_pack("{s:s}", "status", names[state]));
}

enum MHD_Result handle_models(struct call *call)
{
    const struct site *site = call->site;
    const uint32_t max_tokens = atomic_load(&site->max_tokens);
    return call_json(call, 200,
                     json_pack("{s:s, s:[{s:s, s:s, s:I, s:s, s:I}]}", "object", "list", "data",
                               "id", site->model, "object", "model", "created",
                               (json_int_t)site->created_s, "owned_by", "longspan", "max_model_len",
                               (json_int_t)max_tokens));
}
