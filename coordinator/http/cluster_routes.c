/* cluster_routes.c - what the cluster is and does: /cluster for programs and the page, /metrics for Prometheus. */
#include "coordinator/http/metrics_text.h"
#include "coordinator/http/routes.h"
#include "coordinator/http/status_source.h"
#include "proto/status_json.h"

#include <stdlib.h>

static enum MHD_Result refuse(struct call *call, const struct error *why)
{
    struct api_error error;
    api_error_set(&error, 503, NULL, "unavailable", "%s", why->text);
    return call_error(call, &error);
}

/* What only the HTTP server knows: what clients call the model, and whether it can chat. */
static json_t *server_json(const struct site *site)
{
    return json_pack("{s:s, s:b}", "model", site->model, "chat",
                     chat_templates_refusal(site->templates) == NULL);
}

enum MHD_Result handle_cluster(struct call *call)
{
    const Longspan__StatusReply *reply;
    struct error error;
    if (status_source_take(call->site->status, &reply, &error) != STATUS_OK)
        return refuse(call, &error);
    json_t *json = status_json(reply);
    status_source_give(call->site->status);
    if (json != NULL && json_object_set_new(json, "server", server_json(call->site)) != 0) {
        json_decref(json);
        json = NULL;
    }
    return call_json(call, 200, json);
}

enum MHD_Result handle_metrics(struct call *call)
{
    const Longspan__StatusReply *reply;
    struct error error;
    char *text = NULL;
    size_t n_bytes = 0;
    if (status_source_take(call->site->status, &reply, &error) != STATUS_OK)
        return refuse(call, &error);
    const enum status status = metrics_text(reply, &text, &n_bytes, &error);
    status_source_give(call->site->status);
    if (status != STATUS_OK)
        return refuse(call, &error);
    const enum MHD_Result result = call_text(call, 200, METRICS_TEXT_TYPE, text, n_bytes);
    free(text);
    return result;
}
