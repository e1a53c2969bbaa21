/* status_json.c - see status_json.h. An object that lost a field for want of memory is thrown away
 * as a whole, and so is the one that it belongs to. */
#include "proto/status_json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* "?" for a number that is none of them. */
static const char *state_name(Longspan__ProcessState state)
{
    switch (state) {
    case LONGSPAN__PROCESS_STATE__PROCESS_ABSENT:
        return "absent";
    case LONGSPAN__PROCESS_STATE__PROCESS_JOINED:
        return "joined";
    case LONGSPAN__PROCESS_STATE__PROCESS_READY:
        return "ready";
    case LONGSPAN__PROCESS_STATE__PROCESS_LOST:
        return "lost";
    default:
        return "?";
    }
}

/* ---- values ---------------------------------------------------------------------------------- */

struct object {
    json_t *json;
    bool complete;
};

static struct object begin(void)
{
    json_t *json = json_object();
    return (struct object){.json = json, .complete = json != NULL};
}

/* Takes over `value`; NULL: there was no memory for it. */
static void put(struct object *object, const char *name, json_t *value)
{
    object->complete = json_object_set_new(object->json, name, value) == 0 && object->complete;
}

static json_t *end(struct object *object)
{
    if (object->complete)
        return object->json;
    json_decref(object->json);
    return NULL;
}

static json_t *text(const char *value)
{
    json_t *made = json_string(value);
    return made != NULL ? made : json_string("?");
}

static json_t *whole(uint64_t value)
{
    return json_integer(value <= INT64_MAX ? (json_int_t)value : INT64_MAX);
}

/* Infinities and NaN, which JSON does not have, are null. */
static json_t *number(double value)
{
    json_t *made = json_real(value);
    return made != NULL ? made : json_null();
}

static json_t *wholes(const uint64_t *values, size_t n)
{
    json_t *list = json_array();
    bool complete = list != NULL;
    for (size_t i = 0; i < n && complete; i++)
        complete = json_array_append_new(list, whole(values[i])) == 0;
    if (complete)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *numbers(const double *values, size_t n)
{
    json_t *list = json_array();
    bool complete = list != NULL;
    for (size_t i = 0; i < n && complete; i++)
        complete = json_array_append_new(list, number(values[i])) == 0;
    if (complete)
        return list;
    json_decref(list);
    return NULL;
}

/* A list of what `each` makes of the n items of a repeated field. */
static json_t *list_of(void *const *items, size_t n, json_t *(*each)(const void *item))
{
    json_t *list = json_array();
    bool complete = list != NULL;
    for (size_t i = 0; i < n && complete; i++)
        complete = json_array_append_new(list, each(items[i])) == 0;
    if (complete)
        return list;
    json_decref(list);
    return NULL;
}

/* ---- messages -------------------------------------------------------------------------------- */

static json_t *coordinator_json(const Longspan__CoordinatorStatus *from)
{
    if (from == NULL)
        return json_null();
    struct object to = begin();
    put(&to, "host", text(from->host));
    put(&to, "pid", whole(from->pid));
    put(&to, "version", text(from->version));
    put(&to, "listen", text(from->listen));
    put(&to, "phase", text(from->phase));
    put(&to, "started", number(from->started));
    put(&to, "uptime_s", number(from->uptime_s));
    put(&to, "peak_bytes", whole(from->peak_bytes));
    return end(&to);
}

static json_t *model_json(const Longspan__ModelStatus *from)
{
    if (from == NULL)
        return json_null();
    struct object to = begin();
    put(&to, "name", text(from->name));
    put(&to, "path", text(from->path));
    put(&to, "n_layers", whole(from->n_layers));
    put(&to, "n_heads", whole(from->n_heads));
    put(&to, "n_kv_heads", whole(from->n_kv_heads));
    put(&to, "head_dim", whole(from->head_dim));
    put(&to, "context", whole(from->context));
    put(&to, "kv_type", text(from->kv_type));
    return end(&to);
}

static json_t *stage_json(const void *item)
{
    const Longspan__Stage *from = item;
    struct object to = begin();
    put(&to, "first_layer", whole(from->first_layer));
    put(&to, "n_layers", whole(from->n_layers));
    return end(&to);
}

static json_t *rank_json(const void *item)
{
    const Longspan__RankStatus *from = item;
    const uint64_t kv_heads[] = {from->kv_head_begin, from->kv_head_end};
    struct object to = begin();
    put(&to, "rank", whole(from->rank));
    put(&to, "state", text(state_name(from->state)));
    put(&to, "host", text(from->host));
    put(&to, "pid", whole(from->pid));
    put(&to, "lanes", whole(from->lanes));
    put(&to, "device", text(from->device));
    put(&to, "kernels", text(from->kernels));
    put(&to, "stage", whole(from->stage));
    put(&to, "shard", whole(from->shard));
    put(&to, "first_layer", whole(from->first_layer));
    put(&to, "n_layers", whole(from->n_layers));
    put(&to, "kv_heads", wholes(kv_heads, 2));
    put(&to, "weight_bytes", whole(from->weight_bytes));
    put(&to, "working_bytes", whole(from->working_bytes));
    put(&to, "peak_bytes", whole(from->peak_bytes));
    put(&to, "local_kv_bytes", whole(from->local_kv_bytes));
    put(&to, "steps", whole(from->steps));
    put(&to, "compute_s", number(from->compute_s));
    put(&to, "layer_wait_s", numbers(from->layer_wait_s, from->n_layer_wait_s));
    put(&to, "reconnects", whole(from->reconnects));
    put(&to, "started", number(from->started));
    return end(&to);
}

static json_t *node_json(const void *item)
{
    const Longspan__NodeStatus *from = item;
    const Longspan__NodeUsage nothing = LONGSPAN__NODE_USAGE__INIT;
    const Longspan__NodeUsage *usage = from->usage != NULL ? from->usage : &nothing;
    const uint64_t kv_heads[] = {from->kv_head_begin, from->kv_head_end};
    struct object to = begin();
    put(&to, "name", text(from->name));
    put(&to, "state", text(state_name(from->state)));
    put(&to, "host", text(from->host));
    put(&to, "pid", whole(from->pid));
    put(&to, "lanes", whole(from->lanes));
    put(&to, "device", text(from->device));
    put(&to, "kernels", text(from->kernels));
    put(&to, "endpoint", text(from->endpoint));
    put(&to, "memory_bytes", whole(from->memory_bytes));
    put(&to, "peak_bytes", whole(from->peak_bytes));
    put(&to, "read_bytes_per_s", number(from->read_bytes_per_s));
    put(&to, "share", number(from->share));
    put(&to, "first_layer", whole(from->first_layer));
    put(&to, "n_layers", whole(from->n_layers));
    put(&to, "kv_heads", wholes(kv_heads, 2));
    put(&to, "pages_taken", whole(usage->pages_taken));
    put(&to, "pages_reserved", whole(usage->pages_reserved));
    put(&to, "pages_total", whole(usage->pages_total));
    put(&to, "page_bytes", whole(usage->page_bytes));
    put(&to, "queries", whole(usage->queries));
    put(&to, "appends", whole(usage->appends));
    put(&to, "dropped", whole(usage->dropped));
    put(&to, "attend_s", number((double)usage->attend_us * 1e-6));
    put(&to, "reconnects", whole(from->reconnects));
    put(&to, "started", number(from->started));
    return end(&to);
}

static json_t *holder_json(const void *item)
{
    const Longspan__HolderStatus *from = item;
    struct object to = begin();
    put(&to, "name", text(from->name));
    put(&to, "pages_used", whole(from->pages_used));
    put(&to, "pages_kept", whole(from->pages_kept));
    put(&to, "pages_total", whole(from->pages_total));
    return end(&to);
}

static json_t *link_json(const void *item)
{
    const Longspan__LinkStatus *from = item;
    const Longspan__HolderTraffic nothing = LONGSPAN__HOLDER_TRAFFIC__INIT;
    const Longspan__HolderTraffic *traffic = from->traffic != NULL ? from->traffic : &nothing;
    struct object to = begin();
    put(&to, "rank", whole(from->rank));
    put(&to, "holder", whole(traffic->holder));
    put(&to, "sent_bytes", whole(traffic->sent_bytes));
    put(&to, "received_bytes", whole(traffic->received_bytes));
    put(&to, "kv_bytes", whole(traffic->kv_bytes));
    put(&to, "round_trips", whole(traffic->round_trips));
    put(&to, "round_trip_s", number((double)traffic->round_trip_us * 1e-6));
    return end(&to);
}

static json_t *span_json(const void *item)
{
    const Longspan__Span *from = item;
    const uint64_t values[] = {from->holder, from->begin, from->end};
    return wholes(values, 3);
}

static json_t *prompt_json(const void *item)
{
    const Longspan__PromptStatus *from = item;
    struct object to = begin();
    put(&to, "id", text(from->id));
    put(&to, "request", whole(from->request));
    put(&to, "prompt", whole(from->prompt));
    put(&to, "state", text(from->state));
    put(&to, "priority", json_integer(from->priority));
    put(&to, "age_s", number(from->age_s));
    put(&to, "prompt_tokens", whole(from->prompt_tokens));
    put(&to, "prompt_done", whole(from->prompt_done));
    put(&to, "cached_tokens", whole(from->cached_tokens));
    put(&to, "generated", whole(from->generated));
    put(&to, "max_tokens", whole(from->max_tokens));
    put(&to, "preemptions", whole(from->preemptions));
    put(&to, "spans", list_of((void *const *)from->spans, from->n_spans, span_json));
    return end(&to);
}

static json_t *histogram_json(const Longspan__HistogramStatus *from)
{
    struct object to = begin();
    put(&to, "count", whole(from->count));
    put(&to, "sum", number(from->sum));
    put(&to, "bounds", numbers(from->bounds, from->n_bounds));
    put(&to, "counts", wholes(from->counts, from->n_counts));
    return end(&to);
}

static json_t *counters_json(const Longspan__StatusReply *reply)
{
    struct object to = begin();
    for (size_t i = 0; i < reply->n_counters; i++)
        put(&to, reply->counters[i]->name, whole(reply->counters[i]->value));
    return end(&to);
}

static json_t *histograms_json(const Longspan__StatusReply *reply)
{
    struct object to = begin();
    for (size_t i = 0; i < reply->n_histograms; i++)
        put(&to, reply->histograms[i]->name, histogram_json(reply->histograms[i]));
    return end(&to);
}

json_t *status_json(const Longspan__StatusReply *reply)
{
    char job[17];
    snprintf(job, sizeof(job), "%016" PRIx64, reply->job);
    struct object to = begin();
    put(&to, "job", text(job));
    put(&to, "coordinator", coordinator_json(reply->coordinator));
    put(&to, "model", model_json(reply->model));
    put(&to, "page_tokens", whole(reply->page_tokens));
    put(&to, "page_bytes", whole(reply->page_bytes));
    put(&to, "stages", list_of((void *const *)reply->stages, reply->n_stages, stage_json));
    put(&to, "ranks", list_of((void *const *)reply->ranks, reply->n_ranks, rank_json));
    put(&to, "nodes", list_of((void *const *)reply->nodes, reply->n_nodes, node_json));
    put(&to, "holders", list_of((void *const *)reply->holders, reply->n_holders, holder_json));
    put(&to, "links", list_of((void *const *)reply->links, reply->n_links, link_json));
    put(&to, "waiting", whole(reply->prompts_waiting));
    put(&to, "running", whole(reply->prompts_running));
    put(&to, "prompts", list_of((void *const *)reply->prompts, reply->n_prompts, prompt_json));
    put(&to, "counters", counters_json(reply));
    put(&to, "histograms", histograms_json(reply));
    return end(&to);
}
