/* basics.c - the handlers that need nobody else: health, models. */
#include "coordinator/http/routes.h"

#include <stdio.h>
#include <string.h>

enum MHD_Result handle_health(struct call *call)
{
    static const char *const names[] = {"loading", "ok", "draining"};
    const enum site_state state = atomic_load(&call->site->state);
    return call_json(call, state == SITE_READY ? 200 : 503,
                     json_pack("{s:s}", "status", names[state]));
}

static json_t *model_object(const struct site *site)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:I}", "id", site->names.id, "object", "model",
                     "created", (json_int_t)site->created_s, "owned_by", "longspan",
                     "max_model_len", (json_int_t)atomic_load(&site->max_tokens));
}

enum MHD_Result handle_models(struct call *call)
{
    return call_json(call, 200,
                     json_pack("{s:s, s:[o]}", "object", "list", "data", model_object(call->site)));
}

/* /v1/models/NAME: names may have slashes, and clients escape them or not. */
enum MHD_Result handle_model(struct call *call)
{
    const struct site *site = call->site;
    char name[CALL_PATH_BYTES];
    snprintf(name, sizeof(name), "%s", call->path + strlen(call->route->path));
    MHD_http_unescape(name);
    struct api_error error;
    return model_names_check(&site->names, name, &error) ? call_json(call, 200, model_object(site))
                                                         : call_error(call, &error);
}
