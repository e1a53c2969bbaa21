/* cluster_routes.c - what the cluster is and does: /cluster for programs and the page, /metrics for
 * Prometheus. */
#include "coordinator/http/bridge.h"
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

/* Answers with what `tell` makes of the status, once it is there. */
static enum MHD_Result with_status(struct call *call,
                                   enum MHD_Result (*tell)(struct call *call,
                                                           const Longspan__StatusReply *reply))
{
    struct error error;
    if (call->question == NULL)
        call->question = status_source_ask(call->site->status, call->connection);
    if (!status_question_answered(call->question))
        return MHD_YES;
    const Longspan__StatusReply *reply = status_question_reply(call->question, &error);
    return reply != NULL ? tell(call, reply) : refuse(call, &error);
}

/* What only the HTTP server knows: what clients call the model, and whether it can chat. */
static json_t *server_json(const struct site *site)
{
    return json_pack("{s:s, s:b}", "model", site->model, "chat",
                     chat_templates_refusal(site->templates) == NULL);
}

static enum MHD_Result tell_cluster(struct call *call, const Longspan__StatusReply *reply)
{
    json_t *json = status_json(reply);
    if (json != NULL && json_object_set_new(json, "server", server_json(call->site)) != 0) {
        json_decref(json);
        json = NULL;
    }
    return call_json(call, 200, json);
}

static enum MHD_Result tell_metrics(struct call *call, const Longspan__StatusReply *reply)
{
    struct error error;
    char *text = NULL;
    size_t n_bytes = 0;
    const struct metrics_http http = {.tally = &call->site->tally,
                                      .running = bridge_running(call->site->bridge),
                                      .waiting = bridge_queued(call->site->bridge),
                                      .body_bytes = atomic_load(&call->site->bodies.held)};
    if (metrics_text(reply, &http, &text, &n_bytes, &error) != STATUS_OK)
        return refuse(call, &error);
    const enum MHD_Result result = call_text(call, 200, METRICS_TEXT_TYPE, text, n_bytes);
    free(text);
    return result;
}

enum MHD_Result handle_cluster(struct call *call)
{
    return with_status(call, tell_cluster);
}

enum MHD_Result handle_metrics(struct call *call)
{
    return with_status(call, tell_metrics);
}
