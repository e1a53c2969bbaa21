/* cluster.c - see cluster.h; joining is in cluster_join.c, set-up in cluster_setup.c. */
#include "coordinator/cluster.h"

#include "coordinator/cluster_join.h"
#include "coordinator/cluster_setup.h"
#include "kernels/attention/kv_holder.h"
#include "sys/clock.h"
#include "sys/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBE_US = 1000000 };

enum status cluster_open(struct cluster *cluster, const struct coordinator_options *options,
                         const struct cluster_model *model, struct control *control,
                         const struct log *log, uint64_t now_us, struct error *error)
{
    const struct hparams *hparams = model->hparams;
    *cluster = (struct cluster){.options = options,
                                .model_path = model->path,
                                .log = log,
                                .control = control,
                                .hparams = hparams,
                                .began_us = now_us,
                                .started = clock_wall_s(),
                                .deadline_us = now_us + options->join_timeout_ms * 1000ull};
    model_fingerprint(model->file, cluster->fingerprint);
    if (options->workers > CLUSTER_MAX_RANKS)
        return error_set(error, STATUS_INVALID, "--workers %u: at most %d", options->workers,
                         CLUSTER_MAX_RANKS);
    enum status status = capacity_open(&cluster->capacity,
                                       &(struct capacity_options){.workers = options->workers,
                                                                  .nodes = options->nodes,
                                                                  .pipeline = options->pipeline,
                                                                  .tensor = options->tensor,
                                                                  .ctx = options->ctx,
                                                                  .chunk = options->chunk,
                                                                  .kv_type = options->kv_type,
                                                                  .kv_memory = options->kv_memory},
                                       hparams, model->file, error);
    if (status == STATUS_OK)
        status = random_unique(&cluster->job, sizeof(cluster->job), error);
    if (status != STATUS_OK)
        return status;
    cluster->job |= 1; /* 0 means no job */
    cluster->ranks = calloc(options->workers, sizeof(*cluster->ranks));
    cluster->nodes = calloc(options->nodes + 1u, sizeof(*cluster->nodes));
    if (cluster->ranks == NULL || cluster->nodes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u workers and %u nodes",
                         options->workers, options->nodes);
    if (options->ctx > hparams->context_train && hparams->context_train > 0)
        log_warn(log,
                 "--ctx %u is more than the %u tokens that the model was trained for: its "
                 "answers may be poor beyond",
                 options->ctx, hparams->context_train);
    return STATUS_OK;
}

void cluster_close(struct cluster *cluster)
{
    capacity_close(&cluster->capacity);
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        free(cluster->nodes[i].stored);
    free(cluster->ranks);
    free(cluster->nodes);
    cluster->ranks = NULL;
    cluster->nodes = NULL;
}

uint32_t cluster_find_rank(const struct cluster *cluster, const struct frames_peer *peer)
{
    for (uint32_t i = 0; i < cluster->options->workers; i++)
        if (cluster->ranks[i].peer.n > 0 && frames_same_peer(&cluster->ranks[i].peer, peer))
            return i;
    return CLUSTER_NOBODY;
}

uint32_t cluster_find_node(const struct cluster *cluster, const struct frames_peer *peer)
{
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        if (frames_same_peer(&cluster->nodes[i].peer, peer))
            return i;
    return CLUSTER_NOBODY;
}

const char *cluster_rank_label(const struct cluster *cluster, uint32_t rank,
                               char label[CLUSTER_LABEL_BYTES])
{
    snprintf(label, CLUSTER_LABEL_BYTES, "worker %u (%s)", rank, cluster->ranks[rank].host);
    return label;
}

uint32_t cluster_n_holders(const struct cluster *cluster)
{
    return capacity_n_holders(&cluster->capacity);
}

const char *cluster_holder_name(const struct cluster *cluster, uint32_t holder)
{
    return cluster->options->nodes > 0 ? cluster->nodes[holder].name : "local";
}

double cluster_holder_weight(const struct cluster *cluster, uint32_t holder)
{
    return cluster->options->nodes > 0 ? cluster->nodes[holder].weight : 1.0;
}

uint64_t cluster_holder_units(const struct cluster *cluster, uint32_t holder)
{
    return capacity_holder_units(&cluster->capacity, holder);
}

uint32_t cluster_result_rank(const struct cluster *cluster)
{
    return (cluster->capacity.plan.pipeline - 1) * cluster->capacity.plan.tensor;
}

/* The node that pings as `name` from a connection that we do not know: a lost one, if only one
 * joined under this name. */
static struct cluster_node *find_lost_node(struct cluster *cluster, const char *name)
{
    struct cluster_node *found = NULL;
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i].said, name) == 0) {
            if (found != NULL)
                return NULL; /* unnamed nodes of one host: which of them cannot be told */
            found = &cluster->nodes[i];
        }
    return found != NULL && found->live.lost_since_us != 0 ? found : NULL;
}

/* A rank pings from its own socket: this is how the coordinator learns where it is. Ranks and nodes
 * may also come back after a reconnect, which gives them another name here. A node's ping has rank
 * 0 too, as every message that does not say one, and must not be taken for the lead's. */
static void hear_ping(struct cluster *cluster, const struct frames_peer *peer,
                      const Longspan__Ping *ping)
{
    if (ping->job != cluster->job || cluster_find_node(cluster, peer) != CLUSTER_NOBODY)
        return;
    char name[CLUSTER_NAME_BYTES];
    control_copy_text(name, sizeof(name), ping->name);
    if (strcmp(name, "worker") != 0) {
        struct cluster_node *node = find_lost_node(cluster, name);
        if (node != NULL) {
            node->peer = *peer;
            node->reconnects++;
        }
    } else if (cluster->workers_joined && ping->rank < cluster->options->workers &&
               (cluster->ranks[ping->rank].peer.n == 0 ||
                cluster->ranks[ping->rank].live.lost_since_us != 0)) {
        cluster->ranks[ping->rank].reconnects += cluster->ranks[ping->rank].peer.n != 0;
        cluster->ranks[ping->rank].peer = *peer;
    }
}

static void hear_sizes(struct cluster *cluster, const struct frames_peer *peer,
                       const Longspan__Ping *ping)
{
    const uint32_t rank = cluster_find_rank(cluster, peer);
    const uint32_t node = cluster_find_node(cluster, peer);
    if (rank != CLUSTER_NOBODY) {
        cluster->ranks[rank].peak_bytes = ping->peak_bytes;
        cluster->ranks[rank].loaded_bytes = ping->loaded_bytes;
        cluster->ranks[rank].load_bytes = ping->load_bytes;
    }
    if (node != CLUSTER_NOBODY)
        cluster->nodes[node].peak_bytes = ping->peak_bytes;
}

/* Zeros: nobody loads, or not all ranks have said yet how much that will be. */
static struct control_loading loading_of(const struct cluster *cluster)
{
    struct control_loading sum = {0};
    if (cluster->phase == CLUSTER_READY)
        return sum;
    for (uint32_t i = 0; i < cluster->options->workers; i++) {
        const struct cluster_rank *rank = &cluster->ranks[i];
        if (rank->load_bytes == 0)
            return (struct control_loading){0};
        sum.n_loaded += rank->loaded_bytes;
        sum.n_all += rank->load_bytes;
    }
    return sum;
}

static enum status send_pong(struct cluster *cluster, const struct frames_peer *peer)
{
    const struct control_loading loading = loading_of(cluster);
    return control_send_pong(cluster->control, peer, cluster->job, &loading, NULL);
}

static void hear(struct cluster *cluster, const struct frames_peer *peer, uint64_t now_us)
{
    const struct cluster_liveness alive = {.heard_us = now_us};
    const uint32_t rank = cluster_find_rank(cluster, peer);
    const uint32_t node = cluster_find_node(cluster, peer);
    if (rank != CLUSTER_NOBODY)
        cluster->ranks[rank].live = alive;
    if (node != CLUSTER_NOBODY)
        cluster->nodes[node].live = alive;
}

static enum status handle_leave(const struct cluster *cluster, const struct frames_peer *peer,
                                const Longspan__Leave *leave, struct error *error)
{
    const char *reason =
        leave->reason != NULL && leave->reason[0] != '\0' ? leave->reason : "no reason given";
    const uint32_t rank = cluster_find_rank(cluster, peer);
    const uint32_t node = cluster_find_node(cluster, peer);
    const enum status status = cluster->phase == CLUSTER_READY ? STATUS_FAILED : STATUS_UNREACHABLE;
    char label[CLUSTER_LABEL_BYTES];
    if (rank != CLUSTER_NOBODY)
        return error_set(error, status, "%s left: %.800s", cluster_rank_label(cluster, rank, label),
                         reason);
    if (node != CLUSTER_NOBODY)
        return error_set(error, status, "attention node %s (%s) left: %.800s",
                         cluster->nodes[node].name, cluster->nodes[node].host, reason);
    return STATUS_OK;
}

enum status cluster_message(struct cluster *cluster, const struct frames_peer *peer,
                            const Longspan__Control *message, uint64_t now_us, struct error *error)
{
    hear(cluster, peer, now_us);
    const uint32_t node = cluster_find_node(cluster, peer);
    switch (message->body_case) {
    case LONGSPAN__CONTROL__BODY_WORKERS_JOIN:
        return cluster_join_workers(cluster, peer, message->workers_join, now_us, error);
    case LONGSPAN__CONTROL__BODY_NODE_JOIN:
        return cluster_join_node(cluster, peer, message->node_join, now_us, error);
    case LONGSPAN__CONTROL__BODY_NODE_READY:
        return node == CLUSTER_NOBODY
                   ? STATUS_OK
                   : cluster_setup_node_ready(cluster, node, message->node_ready, now_us, error);
    case LONGSPAN__CONTROL__BODY_WORKER_READY:
        return cluster_setup_worker_ready(cluster, peer, message->worker_ready, now_us, error);
    case LONGSPAN__CONTROL__BODY_LEAVE:
        return handle_leave(cluster, peer, message->leave, error);
    case LONGSPAN__CONTROL__BODY_PING:
        hear_ping(cluster, peer, message->ping);
        hear_sizes(cluster, peer, message->ping);
        hear(cluster, peer, now_us);
        send_pong(cluster, peer); /* gone again: so be it */
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_NODE_USAGE:
        if (node != CLUSTER_NOBODY && message->node_usage->job == cluster->job) {
            cluster->nodes[node].usage = *message->node_usage;
            cluster->nodes[node].usage.base.n_unknown_fields = 0; /* the message's memory */
            cluster->nodes[node].usage.base.unknown_fields = NULL;
        }
        return STATUS_OK;
    default:
        return STATUS_OK;
    }
}

/* A pong that nobody asked for finds out whether there still is a connection. */
static void probe(struct cluster *cluster, const struct frames_peer *peer,
                  struct cluster_liveness *live, uint64_t now_us)
{
    if (peer->n == 0)
        return;
    const enum status status = send_pong(cluster, peer);
    if (status != STATUS_UNREACHABLE)
        live->lost_since_us = 0;
    else if (live->lost_since_us == 0)
        live->lost_since_us = now_us;
}

/* While starting, exit code 3 says that somebody could not be reached; later it is a failure. */
static enum status lost_status(const struct cluster *cluster)
{
    return cluster->phase == CLUSTER_READY ? STATUS_FAILED : STATUS_UNREACHABLE;
}

static enum status is_lost(const struct cluster *cluster, const char *label, struct error *error)
{
    return error_set(error, lost_status(cluster),
                     "%s is lost: its connection ended, it crashed or was killed", label);
}

enum status cluster_rank_is_lost(const struct cluster *cluster, uint32_t rank, struct error *error)
{
    char label[CLUSTER_LABEL_BYTES];
    return is_lost(cluster, cluster_rank_label(cluster, rank, label), error);
}

static enum status check_live(const struct cluster *cluster, const struct cluster_liveness *live,
                              const char *label, uint64_t now_us, bool may_be_silent,
                              struct error *error)
{
    if (live->lost_since_us != 0 &&
        now_us - live->lost_since_us >= cluster->options->lost_ms * 1000ull)
        return is_lost(cluster, label, error);
    const uint64_t since_us = live->excused_us > live->heard_us ? live->excused_us : live->heard_us;
    if (!may_be_silent && now_us - since_us >= cluster->options->silence_ms * 1000ull)
        return error_set(error, lost_status(cluster),
                         "%s is lost: nothing was heard of it for %" PRIu64 " s", label,
                         (now_us - live->heard_us) / 1000000);
    return STATUS_OK;
}

static enum status check_deadline(const struct cluster *cluster, uint64_t now_us,
                                  struct error *error)
{
    if (cluster->phase == CLUSTER_READY || now_us < cluster->deadline_us)
        return STATUS_OK;
    if (cluster->phase == CLUSTER_JOINING)
        return cluster_join_missing(cluster, error);
    for (uint32_t i = 0; cluster->phase == CLUSTER_NODES && i < cluster->n_nodes; i++)
        if (!cluster->nodes[i].ready)
            return error_set(error, STATUS_UNREACHABLE,
                             "attention node %s did not get ready within %g s (--join-timeout)",
                             cluster->nodes[i].label, cluster->options->join_timeout_ms / 1000.0);
    for (uint32_t i = 0; i < cluster->options->workers; i++) {
        char label[CLUSTER_LABEL_BYTES];
        if (!cluster->ranks[i].ready)
            return error_set(error, STATUS_UNREACHABLE,
                             "%s did not load its part of %s within %g s (--load-timeout)",
                             cluster_rank_label(cluster, i, label), cluster->options->model,
                             cluster->options->load_timeout_ms / 1000.0);
    }
    return STATUS_OK;
}

enum status cluster_tick(struct cluster *cluster, uint64_t now_us, bool stepping,
                         struct error *error)
{
    enum status status = check_deadline(cluster, now_us, error);
    if (status != STATUS_OK || now_us < cluster->next_probe_us)
        return status;
    const uint64_t half_us = cluster->options->lost_ms * 500ull;
    cluster->next_probe_us = now_us + (half_us < PROBE_US ? half_us : PROBE_US);

    char label[CLUSTER_LABEL_BYTES + 32];
    for (uint32_t i = 0; i < cluster->n_nodes && status == STATUS_OK; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        probe(cluster, &node->peer, &node->live, now_us);
        /* Attending for a long prompt is work too; workers have a deadline for each answer. */
        const uint64_t most_us = node->live.heard_us + cluster->options->timeout_ms * 1000ull;
        if (stepping && node->live.lost_since_us == 0)
            node->live.excused_us = now_us < most_us ? now_us : most_us;
        snprintf(label, sizeof(label), "attention node %s (%s)", node->name, node->host);
        status = check_live(cluster, &node->live, label, now_us, false, error);
    }
    for (uint32_t i = 0;
         cluster->workers_joined && i < cluster->options->workers && status == STATUS_OK; i++) {
        struct cluster_rank *rank = &cluster->ranks[i];
        probe(cluster, &rank->peer, &rank->live, now_us);
        cluster_rank_label(cluster, i, label);
        /* Loading a shard takes as long as it takes: the load deadline counts then. */
        const bool busy = stepping || cluster->phase == CLUSTER_WORKERS || rank->peer.n == 0;
        if (stepping && rank->live.lost_since_us == 0)
            rank->live.heard_us = now_us;
        status = check_live(cluster, &rank->live, label, now_us, busy, error);
    }
    return status;
}

void cluster_leave(struct cluster *cluster, const char *reason)
{
    /* Not yet joined peers are told nothing: they have their own deadlines. */
    for (uint32_t i = 0; cluster->ranks != NULL && i < cluster->options->workers; i++)
        if (cluster->ranks[i].peer.n > 0)
            control_send_leave(cluster->control, &cluster->ranks[i].peer, reason);
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        control_send_leave(cluster->control, &cluster->nodes[i].peer, reason);
}
