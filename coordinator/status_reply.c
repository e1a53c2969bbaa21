/* status_reply.c - see status_reply.h. What has no memory makes the whole reply NULL: `b->complete`
 * is looked at once, at the end. */
#include "coordinator/status_reply.h"

#include "kernels/attention/kv_holder.h"
#include "proto/protocol.h"
#include "sys/memory.h"
#include "sys/topology.h"

#include <unistd.h>

struct builder {
    struct arena *arena;
    const struct cluster *cluster;
    const struct serving_view *view; /* NULL: not ready */
    uint64_t now_us;
    Longspan__StatusReply *reply;
    bool complete;
};

/* protobuf-c does not say const. */
static char *text(const char *from)
{
    return (char *)from;
}

/* n new messages, as protobuf-c lists them; NULL: no memory. */
static void **list_of(struct builder *b, const ProtobufCMessageDescriptor *type, size_t n)
{
    unsigned char *messages = arena_array(b->arena, n + 1, type->sizeof_message);
    void **list = arena_array(b->arena, n + 1, sizeof(*list));
    if (messages == NULL || list == NULL) {
        b->complete = false;
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = messages + i * type->sizeof_message;
        protobuf_c_message_init(type, list[i]);
    }
    return list;
}

static void *message_of(struct builder *b, const ProtobufCMessageDescriptor *type)
{
    void **list = list_of(b, type, 1);
    return list != NULL ? list[0] : NULL;
}

/* ---- the cluster ----------------------------------------------------------------------------- */

static void add_coordinator(struct builder *b)
{
    static const char *const phases[] = {[CLUSTER_JOINING] = "joining",
                                         [CLUSTER_NODES] = "nodes",
                                         [CLUSTER_WORKERS] = "workers",
                                         [CLUSTER_READY] = "ready"};
    const struct cluster *cluster = b->cluster;
    Longspan__CoordinatorStatus *to = message_of(b, &longspan__coordinator_status__descriptor);
    char *host = arena_take(b->arena, CLUSTER_NAME_BYTES);
    if (to == NULL || host == NULL) {
        b->complete = false;
        return;
    }
    topology_host_name(host, CLUSTER_NAME_BYTES);
    to->host = host;
    to->pid = (uint32_t)getpid();
    to->version = text(LONGSPAN_VERSION);
    to->listen = text(cluster->options->listen);
    to->phase = text(phases[cluster->phase]);
    to->uptime_s = (double)(b->now_us - cluster->began_us) * 1e-6;
    to->started = cluster->started;
    to->peak_bytes = memory_peak_bytes();
    b->reply->coordinator = to;
}

static void add_model(struct builder *b)
{
    const struct cluster *cluster = b->cluster;
    Longspan__ModelStatus *to = message_of(b, &longspan__model_status__descriptor);
    if (to == NULL)
        return;
    to->name = text(cluster->hparams->name);
    to->path = text(cluster->model_path);
    to->n_layers = cluster->hparams->n_layers;
    to->n_heads = cluster->hparams->n_heads;
    to->n_kv_heads = cluster->hparams->n_kv_heads;
    to->head_dim = cluster->hparams->head_dim;
    to->context = cluster->phase == CLUSTER_READY ? cluster->max_tokens : 0;
    to->kv_type = text(kv_type_name(cluster->options->kv_type));
    b->reply->model = to;
}

static void add_stages(struct builder *b)
{
    const struct planner_plan *plan = &b->cluster->capacity.plan;
    b->reply->stages = (Longspan__Stage **)list_of(b, &longspan__stage__descriptor, plan->pipeline);
    if (b->reply->stages == NULL)
        return;
    for (uint32_t i = 0; i < plan->pipeline; i++) {
        b->reply->stages[i]->first_layer = plan->stages[i].first_layer;
        b->reply->stages[i]->n_layers = plan->stages[i].n_layers;
    }
    b->reply->n_stages = plan->pipeline;
}

static Longspan__ProcessState state_of(bool joined, bool ready, const struct cluster_liveness *live)
{
    return !joined                    ? LONGSPAN__PROCESS_STATE__PROCESS_ABSENT
           : live->lost_since_us != 0 ? LONGSPAN__PROCESS_STATE__PROCESS_LOST
           : ready                    ? LONGSPAN__PROCESS_STATE__PROCESS_READY
                                      : LONGSPAN__PROCESS_STATE__PROCESS_JOINED;
}

static void add_rank_work(struct builder *b, Longspan__RankStatus *to)
{
    const struct reports_rank work = reports_rank(b->view->reports, to->rank);
    to->steps = work.steps;
    to->compute_s = (double)work.compute_us * 1e-6;
    if (b->cluster->options->nodes == 0)
        return;
    to->layer_wait_s = arena_array(b->arena, to->n_layers, sizeof(*to->layer_wait_s));
    if (to->layer_wait_s == NULL) {
        b->complete = false;
        return;
    }
    to->n_layer_wait_s = to->n_layers;
    for (uint32_t i = 0; i < to->n_layers; i++)
        to->layer_wait_s[i] = (double)work.layer_wait_us[i] * 1e-6;
}

static void add_ranks(struct builder *b)
{
    const struct cluster *cluster = b->cluster;
    const uint32_t n = cluster->options->workers;
    b->reply->ranks = (Longspan__RankStatus **)list_of(b, &longspan__rank_status__descriptor, n);
    if (b->reply->ranks == NULL)
        return;
    b->reply->n_ranks = n;
    for (uint32_t i = 0; i < n; i++) {
        const struct cluster_rank *rank = &cluster->ranks[i];
        const uint32_t stage = i / cluster->capacity.plan.tensor,
                       shard = i % cluster->capacity.plan.tensor;
        Longspan__RankStatus *to = b->reply->ranks[i];
        to->rank = i;
        to->state = state_of(cluster->workers_joined, rank->ready, &rank->live);
        to->host = text(rank->host);
        to->pid = rank->pid;
        to->lanes = rank->lanes;
        to->device = text(rank->device);
        to->kernels = text(rank->kernels);
        to->stage = stage;
        to->shard = shard;
        to->first_layer = cluster->capacity.plan.stages[stage].first_layer;
        to->n_layers = cluster->capacity.plan.stages[stage].n_layers;
        to->kv_head_begin = cluster->capacity.plan.shards[shard].kv_head_begin;
        to->kv_head_end = cluster->capacity.plan.shards[shard].kv_head_end;
        to->weight_bytes = rank->weight_bytes;
        to->working_bytes = rank->working_bytes;
        to->peak_bytes = rank->peak_bytes;
        to->local_kv_bytes = rank->local_kv_bytes;
        to->reconnects = rank->reconnects;
        to->started = rank->started;
        if (b->view != NULL)
            add_rank_work(b, to);
    }
}

/* A node that has not joined yet has a place and no name. */
static void add_nodes(struct builder *b)
{
    const struct cluster *cluster = b->cluster;
    const uint32_t n = cluster->options->nodes;
    b->reply->nodes = (Longspan__NodeStatus **)list_of(b, &longspan__node_status__descriptor, n);
    if (b->reply->nodes == NULL)
        return;
    b->reply->n_nodes = n;
    double weights = 0;
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        weights += cluster->nodes[i].weight;
    for (uint32_t i = 0; i < n; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        Longspan__NodeStatus *to = b->reply->nodes[i];
        if (i >= cluster->n_nodes)
            continue;
        to->name = text(node->name);
        to->state = state_of(true, node->ready, &node->live);
        to->host = text(node->host);
        to->pid = node->pid;
        to->lanes = node->lanes;
        to->device = text(node->device);
        to->kernels = text(node->kernels);
        to->endpoint = text(node->endpoint);
        to->memory_bytes = node->memory_bytes;
        to->peak_bytes = node->peak_bytes;
        to->read_bytes_per_s = node->read_bytes_per_s;
        to->share = weights > 0 ? node->weight / weights : 0;
        to->n_layers = cluster->hparams->n_layers; /* every node can hold any of them */
        to->kv_head_end = cluster->hparams->n_kv_heads;
        to->usage = (Longspan__NodeUsage *)&node->usage;
        to->reconnects = node->reconnects;
        to->started = node->started;
    }
}

static void add_holders(struct builder *b)
{
    const uint32_t n = cluster_n_holders(b->cluster);
    b->reply->holders =
        (Longspan__HolderStatus **)list_of(b, &longspan__holder_status__descriptor, n);
    if (b->reply->holders == NULL)
        return;
    b->reply->n_holders = n;
    for (uint32_t i = 0; i < n; i++) {
        Longspan__HolderStatus *to = b->reply->holders[i];
        to->name = text(cluster_holder_name(b->cluster, i));
        to->pages_total = cluster_holder_units(b->cluster, i);
        to->pages_used = placement_used(b->view->placement, i);
        to->pages_kept = placement_kept(b->view->placement, i);
    }
}

static void add_links(struct builder *b)
{
    const uint32_t n_ranks = b->cluster->options->workers, n_nodes = b->cluster->options->nodes;
    const size_t n = (size_t)n_ranks * n_nodes;
    b->reply->links = (Longspan__LinkStatus **)list_of(b, &longspan__link_status__descriptor, n);
    Longspan__HolderTraffic **traffic =
        (Longspan__HolderTraffic **)list_of(b, &longspan__holder_traffic__descriptor, n);
    if (b->reply->links == NULL || traffic == NULL)
        return;
    b->reply->n_links = n;
    for (size_t i = 0; i < n; i++) {
        const uint32_t rank = (uint32_t)(i / n_nodes), holder = (uint32_t)(i % n_nodes);
        const struct reports_traffic from = reports_link(b->view->reports, rank, holder);
        traffic[i]->holder = holder;
        traffic[i]->sent_bytes = from.sent_bytes;
        traffic[i]->received_bytes = from.received_bytes;
        traffic[i]->kv_bytes = from.kv_bytes;
        traffic[i]->round_trips = from.round_trips;
        traffic[i]->round_trip_us = from.round_trip_us;
        b->reply->links[i]->rank = rank;
        b->reply->links[i]->traffic = traffic[i];
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static void add_spans(struct builder *b, Longspan__PromptStatus *to, uint32_t place)
{
    const struct placement *placement = b->view->placement;
    const uint32_t end = placement_tokens(placement, place);
    const size_t n = placement_spans(placement, place, 0, end, NULL, 0);
    struct placement_span *spans = arena_array(b->arena, n + 1, sizeof(*spans));
    to->spans = (Longspan__Span **)list_of(b, &longspan__span__descriptor, n);
    if (spans == NULL || to->spans == NULL) {
        b->complete = false;
        return;
    }
    placement_spans(placement, place, 0, end, spans, n);
    for (size_t i = 0; i < n; i++) {
        to->spans[i]->holder = spans[i].holder;
        to->spans[i]->begin = spans[i].begin;
        to->spans[i]->end = spans[i].end;
    }
    to->n_spans = n;
}

static bool is_waiting(const struct scheduler_sequence *q)
{
    return q->state == SCHEDULER_WAITING;
}

static void add_prompt(struct builder *b, Longspan__PromptStatus *to, const struct request *request,
                       uint32_t index)
{
    const struct request_prompt *prompt = &request->prompts[index];
    const struct scheduler_sequence *q = scheduler_sequence(b->view->scheduler, prompt->sequence);
    to->request = request->number;
    to->id = text(request->id);
    to->prompt = index;
    to->priority = q->priority;
    to->preemptions = q->incarnation - 1;
    to->state = text(is_waiting(q) ? "waiting" : q->n_done < q->n_prompt ? "prefill" : "decode");
    to->age_s = (double)(b->now_us - request->began_us) * 1e-6;
    to->prompt_tokens = q->n_prompt;
    to->prompt_done = q->n_done < q->n_prompt ? q->n_done : q->n_prompt;
    to->cached_tokens = q->cached_tokens;
    to->generated = prompt->n_generated;
    to->max_tokens = q->max_tokens;
    if (q->has_place)
        add_spans(b, to, q->place);
}

/* Requests are listed the newest first, prompts shall be the oldest first. */
static void add_prompts(struct builder *b)
{
    uint32_t n = 0;
    for (const struct request *r = b->view->requests; r != NULL; r = r->next)
        for (uint32_t i = 0; i < r->n_prompts; i++) {
            if (r->prompts[i].sequence == SCHEDULER_NONE)
                continue;
            n++;
            if (is_waiting(scheduler_sequence(b->view->scheduler, r->prompts[i].sequence)))
                b->reply->prompts_waiting++;
            else
                b->reply->prompts_running++;
        }
    const uint32_t told = n < STATUS_REPLY_PROMPTS ? n : STATUS_REPLY_PROMPTS;
    b->reply->prompts =
        (Longspan__PromptStatus **)list_of(b, &longspan__prompt_status__descriptor, told);
    if (b->reply->prompts == NULL)
        return;
    b->reply->n_prompts = told;
    uint32_t at = n; /* the place of the prompt behind the one that is looked at */
    for (const struct request *r = b->view->requests; r != NULL; r = r->next)
        for (uint32_t i = r->n_prompts; i-- > 0;)
            if (r->prompts[i].sequence != SCHEDULER_NONE && --at < told)
                add_prompt(b, b->reply->prompts[at], r, i);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void add_counters(struct builder *b)
{
    b->reply->counters = (Longspan__CounterStatus **)list_of(
        b, &longspan__counter_status__descriptor, METRICS_N_COUNTERS);
    if (b->reply->counters == NULL)
        return;
    b->reply->n_counters = METRICS_N_COUNTERS;
    for (uint32_t i = 0; i < METRICS_N_COUNTERS; i++) {
        b->reply->counters[i]->name = text(metrics_counter_name((enum metrics_counter)i));
        b->reply->counters[i]->value = b->view->metrics->counters[i];
    }
}

static void add_histograms(struct builder *b)
{
    b->reply->histograms = (Longspan__HistogramStatus **)list_of(
        b, &longspan__histogram_status__descriptor, METRICS_N_HISTOGRAMS);
    if (b->reply->histograms == NULL)
        return;
    b->reply->n_histograms = METRICS_N_HISTOGRAMS;
    for (uint32_t i = 0; i < METRICS_N_HISTOGRAMS; i++) {
        const struct metrics_distribution *from = &b->view->metrics->histograms[i];
        Longspan__HistogramStatus *to = b->reply->histograms[i];
        to->name = text(metrics_histogram_name((enum metrics_histogram)i));
        to->count = from->count;
        to->sum = from->sum;
        to->bounds = (double *)metrics_histogram_bounds((enum metrics_histogram)i, &to->n_bounds);
        to->counts = (uint64_t *)from->counts;
        to->n_counts = to->n_bounds + 1;
    }
}

/* In `arena`; it borrows the cluster and what is served too. `view` NULL: the cluster is not ready
 * yet. NULL: no memory. */
static Longspan__StatusReply *build(struct arena *arena, const struct cluster *cluster,
                                    const struct serving_view *view, uint64_t now_us)
{
    struct builder b = {
        .arena = arena, .cluster = cluster, .view = view, .now_us = now_us, .complete = true};
    b.reply = message_of(&b, &longspan__status_reply__descriptor);
    if (b.reply == NULL)
        return NULL;
    b.reply->job = cluster->job;
    b.reply->page_tokens = PAGE_TOKENS;
    b.reply->page_bytes = cluster->capacity.unit_bytes;
    add_coordinator(&b);
    add_model(&b);
    add_stages(&b);
    add_ranks(&b);
    add_nodes(&b);
    if (view != NULL) {
        add_holders(&b);
        add_links(&b);
        add_prompts(&b);
        add_counters(&b);
        add_histograms(&b);
    }
    return b.complete ? b.reply : NULL;
}

enum status status_reply_send(struct control *control, const struct frames_peer *peer,
                              uint64_t request, const struct cluster *cluster,
                              const struct serving_view *view, uint64_t now_us, struct error *error)
{
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_STATUS_REPLY;
    message.status_reply = build(&control->arena, cluster, view, now_us);
    if (message.status_reply == NULL) {
        arena_reset(&control->arena);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a status");
    }
    message.status_reply->request = request;
    return control_send(control, peer, &message, NULL, 0, error);
}
