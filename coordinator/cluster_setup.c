/* cluster_setup.c - see cluster_setup.h.
 *
 * Whether the KV cache fits is asked as early as the answer can be known: of nodes when they have
 * joined, of the workers' own memory when they have joined (an estimate) and again when they have
 * loaded. */
#include "coordinator/cluster_setup.h"

#include "kernels/attention/kv_holder.h"
#include "plan/shares.h"
#include "proto/protocol.h"
#include "sys/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* node2 before node10: shorter first where both begin with the same letters. */
static int by_name(const void *a, const void *b)
{
    const struct cluster_node *x = a, *y = b;
    if (x->named != y->named)
        return x->named ? -1 : 1;
    if (!x->named)
        return x->joined < y->joined ? -1 : x->joined > y->joined;
    const size_t n = strcspn(x->name, "0123456789"), m = strcspn(y->name, "0123456789");
    const size_t length_x = strlen(x->name), length_y = strlen(y->name);
    if (n == m && strncmp(x->name, y->name, n) == 0 && length_x != length_y)
        return length_x < length_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool name_taken(const struct cluster *cluster, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(cluster->nodes[i].name, name) == 0)
            return true;
    return false;
}

/* Holders in a fixed order with names that are told apart, whoever was faster to join. */
static void name_nodes(struct cluster *cluster)
{
    qsort(cluster->nodes, cluster->n_nodes, sizeof(*cluster->nodes), by_name);
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        if (!node->named || name_taken(cluster, i, node->name))
            snprintf(node->name, sizeof(node->name), "node%u", i);
        for (uint32_t k = 2; name_taken(cluster, i, node->name); k++)
            snprintf(node->name, sizeof(node->name), "node%u.%u", i, k);
        snprintf(node->label, sizeof(node->label), "%s (%s)", node->name, node->host);
    }
}

static enum status weigh_nodes(struct cluster *cluster, struct error *error)
{
    const struct capacity *capacity = &cluster->capacity;
    const double *given = cluster->options->shares;
    struct arena *arena = &cluster->control->arena;
    struct shares_node *nodes = arena_array(arena, cluster->n_nodes, sizeof(*nodes));
    double *weights = arena_array(arena, cluster->n_nodes, sizeof(*weights));
    if (nodes == NULL || weights == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u nodes", cluster->n_nodes);
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        nodes[i] = (struct shares_node){cluster->nodes[i].host, cluster->nodes[i].read_bytes_per_s};
    if (!shares_weigh(weights, nodes, cluster->n_nodes) && given == NULL)
        log_warn(cluster->log, "a node has not measured its memory: all nodes get equal shares");
    double sum = 0;
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        cluster->nodes[i].weight = given != NULL ? given[i] : weights[i];
        sum += cluster->nodes[i].weight;
    }
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        log_info(cluster->log,
                 "%s: %.1f%% of the tokens (%s), reads %.1f GB/s, has room for %" PRIu64 " tokens",
                 node->label, 100 * node->weight / sum, given != NULL ? "--shares" : "measured",
                 node->read_bytes_per_s / 1e9,
                 capacity_tokens(capacity, capacity_holder_units(capacity, i)));
    }
    return STATUS_OK;
}

/* Lanes of ranks and nodes that may use these processors: one host, one mask. */
static uint32_t count_lanes(const struct cluster *cluster, const char *host, const char *processors)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < cluster->options->workers; i++)
        if (strcmp(cluster->ranks[i].host, host) == 0 &&
            strcmp(cluster->ranks[i].processors, processors) == 0)
            n += cluster->ranks[i].lanes;
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i].host, host) == 0 &&
            strcmp(cluster->nodes[i].processors, processors) == 0)
            n += cluster->nodes[i].lanes;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static enum status send_node_setup(struct cluster *cluster, const struct cluster_node *node,
                                   struct error *error)
{
    const struct hparams *h = cluster->hparams;
    Longspan__NodeSetup setup = LONGSPAN__NODE_SETUP__INIT;
    setup.job = cluster->job;
    setup.kv_type = cluster->options->kv_type;
    setup.head_dim = h->head_dim;
    setup.group = h->n_heads / h->n_kv_heads;
    setup.n_layers = h->n_layers;
    setup.n_kv_heads = h->n_kv_heads;
    setup.scale = h->attention_scale;
    setup.soft_cap = h->attention_cap;
    setup.max_tokens = cluster->max_tokens;
    setup.windows = cluster->capacity.windows;
    setup.n_windows = cluster->capacity.windows != NULL ? h->n_layers : 0;
    setup.chunk = cluster->options->chunk;
    setup.fingerprint.data = (uint8_t *)cluster->fingerprint;
    setup.fingerprint.len = sizeof(cluster->fingerprint);
    setup.host_lanes = count_lanes(cluster, node->host, node->processors);
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_NODE_SETUP;
    message.node_setup = &setup;
    struct error why;
    const enum status status = control_send(cluster->control, &node->peer, &message, NULL, 0, &why);
    if (status == STATUS_OK)
        return STATUS_OK;
    return error_set(error, STATUS_UNREACHABLE, "%s cannot be reached: %s", node->label, why.text);
}

static void fill_constants(Longspan__Constants *constants, const struct cluster *cluster)
{
    constants->protocol = PROTOCOL_VERSION;
    constants->tile_tokens = TILE_TOKENS;
    constants->page_tokens = PAGE_TOKENS;
    constants->kernels = (char *)cluster->options->kernels;
    constants->version = (char *)LONGSPAN_VERSION;
}

/* Lists of the plan's parts as messages, in the arena; NULL: no memory. */
static Longspan__Stage **list_stages(struct arena *arena, const struct planner_plan *plan)
{
    Longspan__Stage *stages = arena_array(arena, plan->pipeline, sizeof(*stages));
    Longspan__Stage **list = arena_array(arena, plan->pipeline, sizeof(*list));
    if (stages == NULL || list == NULL)
        return NULL;
    for (uint32_t i = 0; i < plan->pipeline; i++) {
        longspan__stage__init(&stages[i]);
        stages[i].first_layer = plan->stages[i].first_layer;
        stages[i].n_layers = plan->stages[i].n_layers;
        list[i] = &stages[i];
    }
    return list;
}

static Longspan__Shard **list_shards(struct arena *arena, const struct planner_plan *plan)
{
    Longspan__Shard *shards = arena_array(arena, plan->tensor, sizeof(*shards));
    Longspan__Shard **list = arena_array(arena, plan->tensor, sizeof(*list));
    if (shards == NULL || list == NULL)
        return NULL;
    for (uint32_t i = 0; i < plan->tensor; i++) {
        longspan__shard__init(&shards[i]);
        shards[i].kv_head_begin = plan->shards[i].kv_head_begin;
        shards[i].kv_head_end = plan->shards[i].kv_head_end;
        shards[i].ffn_begin = plan->shards[i].ffn_begin;
        shards[i].ffn_end = plan->shards[i].ffn_end;
        shards[i].vocab_begin = plan->shards[i].vocab_begin;
        shards[i].vocab_end = plan->shards[i].vocab_end;
        shards[i].expert_begin = plan->shards[i].expert_begin;
        shards[i].expert_end = plan->shards[i].expert_end;
        list[i] = &shards[i];
    }
    return list;
}

static Longspan__Holder **list_holders(struct arena *arena, struct cluster *cluster)
{
    const uint32_t n_holders = cluster_n_holders(cluster);
    Longspan__Holder *holders = arena_array(arena, n_holders, sizeof(*holders));
    Longspan__Holder **list = arena_array(arena, n_holders, sizeof(*list));
    if (holders == NULL || list == NULL)
        return NULL;
    for (uint32_t i = 0; i < n_holders; i++) {
        longspan__holder__init(&holders[i]);
        holders[i].name = (char *)cluster_holder_name(cluster, i);
        if (cluster->options->nodes > 0) {
            holders[i].name = cluster->nodes[i].label; /* messages of workers name the host too */
            holders[i].endpoint = cluster->nodes[i].endpoint;
            holders[i].node = cluster->nodes[i].node;
        }
        list[i] = &holders[i];
    }
    return list;
}

/* By rank: how many lanes of the job share its processors. */
static uint32_t *list_host_lanes(struct arena *arena, const struct cluster *cluster)
{
    const uint32_t workers = cluster->options->workers;
    uint32_t *lanes = arena_array(arena, workers, sizeof(*lanes));
    for (uint32_t i = 0; lanes != NULL && i < workers; i++)
        lanes[i] = count_lanes(cluster, cluster->ranks[i].host, cluster->ranks[i].processors);
    return lanes;
}

static enum status send_worker_setup(struct cluster *cluster, struct error *error)
{
    const struct coordinator_options *options = cluster->options;
    const struct planner_plan *plan = &cluster->capacity.plan;
    struct arena *arena = &cluster->control->arena;
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    fill_constants(&constants, cluster);
    Longspan__WorkerSetup setup = LONGSPAN__WORKER_SETUP__INIT;
    setup.stages = list_stages(arena, plan);
    setup.shards = list_shards(arena, plan);
    setup.holders = list_holders(arena, cluster);
    setup.host_lanes = list_host_lanes(arena, cluster);
    if (setup.stages == NULL || setup.shards == NULL || setup.holders == NULL ||
        setup.host_lanes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the workers' set-up");
    setup.n_stages = plan->pipeline;
    setup.n_shards = plan->tensor;
    setup.n_holders = cluster_n_holders(cluster);
    setup.n_host_lanes = options->workers;
    setup.job = cluster->job;
    setup.constants = &constants;
    setup.model_path = (char *)cluster->model_path;
    setup.fingerprint.data = cluster->fingerprint;
    setup.fingerprint.len = sizeof(cluster->fingerprint);
    setup.kv_type = options->kv_type;
    setup.max_rows = options->chunk + options->max_batch;
    setup.chunk = options->chunk;
    setup.max_sequences = options->max_batch;
    setup.max_tokens = cluster->max_tokens;
    setup.local_kv_bytes = options->nodes > 0 ? 0 : options->kv_memory;
    setup.timeout_ms = options->timeout_ms;
    setup.retry_ms = options->retry_ms;
    setup.kernels = (char *)options->kernels;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_WORKER_SETUP;
    message.worker_setup = &setup;
    struct error why;
    if (control_send(cluster->control, &cluster->ranks[0].peer, &message, NULL, 0, &why) ==
        STATUS_OK)
        return STATUS_OK;
    char label[CLUSTER_LABEL_BYTES];
    return error_set(error, STATUS_UNREACHABLE, "%s cannot be reached: %s",
                     cluster_rank_label(cluster, 0, label), why.text);
}

/* What everybody has said so far of the memory that it has, or has taken. */
static void note_memory(struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->options->workers; i++) {
        const struct cluster_rank *rank = &cluster->ranks[i];
        struct capacity_rank *to = &cluster->capacity.ranks[i];
        to->host = rank->host;
        to->memory_bytes = rank->memory_bytes;
        to->kv_bytes = rank->local_kv_bytes;
    }
    for (uint32_t i = 0; i < cluster->n_nodes; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        cluster->capacity.nodes[i].kv_bytes =
            node->ready ? node->capacity_bytes : node->memory_bytes;
    }
}

static enum status begin_nodes(struct cluster *cluster, uint64_t now_us, struct error *error)
{
    if (cluster->options->nodes > 0)
        name_nodes(cluster);
    note_memory(cluster);
    enum status status = cluster->options->nodes > 0 ? weigh_nodes(cluster, error) : STATUS_OK;
    if (status == STATUS_OK)
        status = capacity_settle(&cluster->capacity, &cluster->max_tokens, error);
    if (status != STATUS_OK)
        return status;
    cluster->phase = CLUSTER_NODES;
    cluster->deadline_us = now_us + cluster->options->join_timeout_ms * 1000ull;
    for (uint32_t i = 0; i < cluster->n_nodes && status == STATUS_OK; i++)
        status = send_node_setup(cluster, &cluster->nodes[i], error);
    return status;
}

static void write_ready_lines(struct cluster *cluster)
{
    const struct planner_plan *plan = &cluster->capacity.plan;
    char *line = cluster->ready_lines[0];
    size_t n =
        (size_t)snprintf(line, CLUSTER_LINE_BYTES, "%u worker%s: pipeline %u x tensor %u, layers",
                         cluster->options->workers, cluster->options->workers > 1 ? "s" : "",
                         plan->pipeline, plan->tensor);
    for (uint32_t i = 0; i < plan->pipeline && n < CLUSTER_LINE_BYTES; i++)
        n += (size_t)snprintf(line + n, CLUSTER_LINE_BYTES - n, "%s%u", i > 0 ? "+" : " ",
                              plan->stages[i].n_layers);
    line = cluster->ready_lines[1];
    n = (size_t)snprintf(line, CLUSTER_LINE_BYTES, "KV holders:");
    for (uint32_t i = 0; i < cluster_n_holders(cluster) && n < CLUSTER_LINE_BYTES; i++)
        n += (size_t)snprintf(
            line + n, CLUSTER_LINE_BYTES - n, "%s %s, %" PRIu64 " tokens", i > 0 ? ";" : "",
            cluster->options->nodes > 0 ? cluster->nodes[i].label : "local",
            capacity_tokens(&cluster->capacity, cluster_holder_units(cluster, i)));
    uint64_t weights = 0;
    for (uint32_t i = 0; i < cluster->options->workers; i++)
        weights += cluster->ranks[i].weight_bytes;
    char text[SIZE_TEXT_BYTES];
    snprintf(cluster->ready_lines[2], CLUSTER_LINE_BYTES,
             "context %u tokens, KV %s, weights %s, ready after %.1f s", cluster->max_tokens,
             kv_type_name(cluster->options->kv_type), size_format(weights, text), cluster->load_s);
    cluster->n_ready_lines = 3;
}

static enum status become_ready(struct cluster *cluster, uint64_t now_us, struct error *error)
{
    const uint32_t announced = cluster->max_tokens;
    note_memory(cluster);
    const enum status status = capacity_settle(&cluster->capacity, &cluster->max_tokens, error);
    if (status != STATUS_OK)
        return status;
    if (cluster->max_tokens > announced)
        cluster->max_tokens = announced;
    cluster->phase = CLUSTER_READY;
    cluster->load_s = (double)(now_us - cluster->began_us) * 1e-6;
    write_ready_lines(cluster);
    for (uint32_t i = 0; i < cluster->n_ready_lines; i++)
        log_info(cluster->log, "%s%s", i == 0 ? "ready: " : "  ", cluster->ready_lines[i]);
    return STATUS_OK;
}

enum status cluster_setup_advance(struct cluster *cluster, uint64_t now_us, struct error *error)
{
    enum status status = STATUS_OK;
    if (cluster->phase == CLUSTER_JOINING && cluster->workers_joined &&
        cluster->n_nodes == cluster->options->nodes)
        status = begin_nodes(cluster, now_us, error);
    if (status == STATUS_OK && cluster->phase == CLUSTER_NODES) {
        for (uint32_t i = 0; i < cluster->n_nodes; i++)
            if (!cluster->nodes[i].ready)
                return STATUS_OK;
        cluster->phase = CLUSTER_WORKERS;
        cluster->deadline_us = now_us + cluster->options->load_timeout_ms * 1000ull;
        log_info(cluster->log, "loading %s", cluster->options->model);
        status = send_worker_setup(cluster, error);
    }
    if (status == STATUS_OK && cluster->phase == CLUSTER_WORKERS) {
        for (uint32_t i = 0; i < cluster->options->workers; i++)
            if (!cluster->ranks[i].ready)
                return STATUS_OK;
        status = become_ready(cluster, now_us, error);
    }
    return status;
}

enum status cluster_setup_repeat(struct cluster *cluster, struct cluster_node *node,
                                 struct error *error)
{
    if (cluster->phase == CLUSTER_JOINING || node->ready)
        return STATUS_OK;
    return send_node_setup(cluster, node, error);
}

/* Without memory what it has stored is not found again. */
static void take_stored(struct cluster_node *node, const Longspan__NodeReady *ready)
{
    const size_t n = ready->stored.len / sizeof(struct prefix_name);
    node->stores = ready->stores;
    if (n == 0 || (node->stored = malloc(n * sizeof(struct prefix_name))) == NULL)
        return;
    memcpy(node->stored, ready->stored.data, n * sizeof(struct prefix_name));
    node->n_stored = n;
}

enum status cluster_setup_node_ready(struct cluster *cluster, uint32_t index,
                                     const Longspan__NodeReady *ready, uint64_t now_us,
                                     struct error *error)
{
    struct cluster_node *node = &cluster->nodes[index];
    if (ready->job != cluster->job || cluster->phase != CLUSTER_NODES || node->ready)
        return STATUS_OK; /* of an earlier job, or said twice */
    if (ready->failure != NULL)
        return error_set(error, status_received(ready->failure->status), "%s: %.800s", node->label,
                         ready->failure->text != NULL ? ready->failure->text : "failed");
    take_stored(node, ready);
    node->ready = true;
    node->capacity_bytes = ready->capacity_bytes;
    return cluster_setup_advance(cluster, now_us, error);
}

enum status cluster_setup_worker_ready(struct cluster *cluster, const struct frames_peer *peer,
                                       const Longspan__WorkerReady *ready, uint64_t now_us,
                                       struct error *error)
{
    if (ready->job != cluster->job || cluster->phase != CLUSTER_WORKERS ||
        ready->rank >= cluster->options->workers || cluster->ranks[ready->rank].ready)
        return STATUS_OK;
    struct cluster_rank *rank = &cluster->ranks[ready->rank];
    char label[CLUSTER_LABEL_BYTES];
    if (ready->failure != NULL)
        return error_set(error, status_received(ready->failure->status), "%s: %.800s",
                         cluster_rank_label(cluster, ready->rank, label),
                         ready->failure->text != NULL ? ready->failure->text : "failed");
    if (cluster->options->nodes == 0 && ready->local_kv_bytes == 0)
        return error_set(error, STATUS_PROTOCOL,
                         "%s is ready without memory for the KV cache, which it holds itself",
                         cluster_rank_label(cluster, ready->rank, label));
    rank->peer = *peer;
    rank->live = (struct cluster_liveness){.heard_us = now_us};
    rank->ready = true;
    rank->weight_bytes = ready->weight_bytes;
    rank->working_bytes = ready->working_bytes;
    rank->resident_bytes = ready->resident_bytes;
    rank->local_kv_bytes = ready->local_kv_bytes;
    rank->load_s = ready->load_s;
    log_debug(cluster->log, "%s is ready after %.1f s",
              cluster_rank_label(cluster, ready->rank, label), ready->load_s);
    return cluster_setup_advance(cluster, now_us, error);
}
