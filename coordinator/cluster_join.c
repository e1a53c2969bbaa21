/* cluster_join.c - see cluster_join.h. */
#include "coordinator/cluster_join.h"

#include "coordinator/cluster_setup.h"
#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "proto/protocol.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void refuse(struct cluster *cluster, const struct frames_peer *peer, enum status status,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

static void refuse(struct cluster *cluster, const struct frames_peer *peer, enum status status,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cluster->last_refusal, sizeof(cluster->last_refusal), format, arguments);
    va_end(arguments);
    log_warn(cluster->log, "refused: %s", cluster->last_refusal);
    control_send_refusal(cluster->control, peer, status, cluster->last_refusal);
}

/* Do we speak of the same things? Says no by a refusal. */
static bool same_constants(struct cluster *cluster, const struct frames_peer *peer,
                           const Longspan__Constants *constants, const char *who)
{
    char version[CLUSTER_NAME_BYTES];
    control_copy_text(version, sizeof(version), constants != NULL ? constants->version : NULL);
    if (constants == NULL) {
        refuse(cluster, peer, STATUS_UNSUPPORTED, "%s does not say which protocol it speaks", who);
        return false;
    }
    if (constants->protocol != PROTOCOL_VERSION) {
        refuse(cluster, peer, STATUS_UNSUPPORTED,
               "%s (longspan %s) speaks protocol %u, the coordinator (longspan %s) speaks %d: "
               "install the same version on all hosts",
               who, version, constants->protocol, LONGSPAN_VERSION, PROTOCOL_VERSION);
        return false;
    }
    if (constants->tile_tokens != TILE_TOKENS || constants->page_tokens != PAGE_TOKENS) {
        refuse(cluster, peer, STATUS_UNSUPPORTED,
               "%s has tiles of %u and pages of %u tokens, the coordinator %d and %d: build both "
               "from the same source",
               who, constants->tile_tokens, constants->page_tokens, TILE_TOKENS, PAGE_TOKENS);
        return false;
    }
    return true;
}

/* CPU variants are made to give the same bits (docs/architecture.md); --strict-bits does not rely
 * on it. The first one who joined is the measure. */
static enum status same_kernels(struct cluster *cluster, const char *who, const char *kernels,
                                struct error *error)
{
    const char *first = NULL, *first_host = NULL;
    if (cluster->workers_joined) {
        first = cluster->ranks[0].kernels;
        first_host = cluster->ranks[0].host;
    } else if (cluster->n_nodes > 0) {
        first = cluster->nodes[0].kernels;
        first_host = cluster->nodes[0].host;
    }
    if (first == NULL ||
        strcmp(kernels_without_rounding(first), kernels_without_rounding(kernels)) == 0)
        return STATUS_OK;
    if (cluster->options->strict_bits)
        return error_set(error, STATUS_INVALID,
                         "%s computes with %s kernels, %s with %s: --strict-bits wants one variant "
                         "everywhere (--kernels forces one)",
                         who, kernels, first_host, first);
    const bool same = kernels_same_bits(kernels) && kernels_same_bits(first);
    log_warn(cluster->log,
             "%s computes with %s kernels, %s with %s: %s; --strict-bits refuses to rely on it",
             who, kernels, first_host, first,
             same ? "they are made to give the same bits"
                  : "their results are equal up to rounding");
    return STATUS_OK;
}

/* Each rank of a group chooses the experts of a row itself, and must come to the same choice. */
static enum status same_routes(const struct cluster *cluster, const char *label, uint32_t index,
                               struct error *error)
{
    const uint32_t first_of_group = index - index % cluster->capacity.plan.tensor;
    const struct cluster_rank *rank = &cluster->ranks[index];
    const struct cluster_rank *first = &cluster->ranks[first_of_group];
    if (cluster->capacity.model.n_experts == 0 || strcmp(rank->kernels, first->kernels) == 0 ||
        (kernels_same_bits(rank->kernels) && kernels_same_bits(first->kernels)))
        return STATUS_OK;
    return error_set(error, STATUS_INVALID,
                     "%s computes with %s kernels, worker %u (%s) with %s: where they round apart, "
                     "the ranks of a group would choose other experts; take one kind of device, or "
                     "--tensor 1",
                     label, rank->kernels, first_of_group, first->host, first->kernels);
}

/* Whether the job `who` becomes this coordinator's workers. If not, it has been told why, or is so
 * already and has said it twice. */
static bool may_join(struct cluster *cluster, const struct frames_peer *peer,
                     const Longspan__WorkersJoin *join, const char *who)
{
    const uint32_t workers = cluster->options->workers;
    if (!same_constants(cluster, peer, join->constants, who))
        return false;
    if (cluster->workers_joined) {
        if (!frames_same_peer(&cluster->ranks[0].peer, peer))
            refuse(cluster, peer, STATUS_UNREACHABLE,
                   "%s cannot join: this coordinator already has its %u workers, the first on %s",
                   who, workers, cluster->ranks[0].host);
        return false;
    }
    if (join->n_ranks != workers) {
        refuse(cluster, peer, STATUS_INVALID,
               "%s has %zu ranks, the coordinator was started with --workers %u: use mpirun -n %u",
               who, join->n_ranks, workers, workers);
        return false;
    }
    for (uint32_t i = 0; i < workers; i++)
        if (join->ranks[i]->rank != i) {
            refuse(cluster, peer, STATUS_PROTOCOL, "%s lists rank %u in place %u", who,
                   join->ranks[i]->rank, i);
            return false;
        }
    return true;
}

/* Where kernels round products, all workers must: a shard's sums are added to the others'. */
static enum status same_rounding(const struct cluster *cluster, const char *label, uint32_t index,
                                 struct error *error)
{
    const struct cluster_rank *rank = &cluster->ranks[index], *first = &cluster->ranks[0];
    if (strcmp(rank->kernels, first->kernels) == 0 ||
        (!kernels_round_products(rank->kernels) && !kernels_round_products(first->kernels)))
        return STATUS_OK;
    return error_set(error, STATUS_INVALID,
                     "%s computes with %s kernels, worker 0 (%s) with %s: one of them rounds "
                     "products, so all workers must have it or none (--kernels)",
                     label, rank->kernels, first->host, first->kernels);
}

/* Rank `index` as it describes itself. Fails where its kernels do not suit those of the others. */
static enum status take_rank(struct cluster *cluster, uint32_t index,
                             const Longspan__RankInfo *from, uint64_t now_us, struct error *error)
{
    struct cluster_rank *rank = &cluster->ranks[index];
    control_copy_text(rank->host, sizeof(rank->host), from->host);
    control_copy_text(rank->kernels, sizeof(rank->kernels), from->kernels);
    control_copy_text(rank->processors, sizeof(rank->processors), from->processors);
    control_copy_text(rank->device, sizeof(rank->device), from->device);
    rank->lanes = from->lanes;
    rank->memory_bytes = from->memory_bytes;
    rank->pid = from->pid;
    rank->started = from->started;
    rank->live.heard_us = now_us;
    char label[CLUSTER_LABEL_BYTES];
    snprintf(label, sizeof(label), "worker %u (%s)", index, rank->host);
    enum status status = same_kernels(cluster, label, rank->kernels, error);
    if (status == STATUS_OK)
        status = same_rounding(cluster, label, index, error);
    if (status == STATUS_OK)
        status = same_routes(cluster, label, index, error);
    return status;
}

enum status cluster_join_workers(struct cluster *cluster, const struct frames_peer *peer,
                                 const Longspan__WorkersJoin *join, uint64_t now_us,
                                 struct error *error)
{
    const uint32_t workers = cluster->options->workers;
    char host[CLUSTER_NAME_BYTES] = "?", who[CLUSTER_LABEL_BYTES];
    if (join->n_ranks > 0)
        control_copy_text(host, sizeof(host), join->ranks[0]->host);
    snprintf(who, sizeof(who), "the workers' job on %s", host);
    if (!may_join(cluster, peer, join, who))
        return STATUS_OK;
    for (uint32_t i = 0; i < workers; i++) {
        const enum status status = take_rank(cluster, i, join->ranks[i], now_us, error);
        if (status != STATUS_OK) {
            control_send_refusal(cluster->control, peer, status, error != NULL ? error->text : "");
            return status;
        }
        cluster->workers_joined =
            true; /* from now on rank 0 is what the others are compared with */
    }
    cluster->ranks[0].peer = *peer;
    log_info(cluster->log, "%u worker%s joined from %s", workers, workers > 1 ? "s" : "", host);
    return cluster_setup_advance(cluster, now_us, error);
}

/* Of this process, if it has joined before. */
static struct cluster_node *find_process(struct cluster *cluster, uint64_t node)
{
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i].node == node)
            return &cluster->nodes[i];
    return NULL;
}

/* What a node says of itself. */
static struct cluster_node node_of(const struct frames_peer *peer, const Longspan__NodeJoin *join,
                                   uint64_t now_us)
{
    struct cluster_node node = {.peer = *peer,
                                .live.heard_us = now_us,
                                .node = join->node,
                                .lanes = join->lanes,
                                .pid = join->pid,
                                .started = join->started,
                                .usage = LONGSPAN__NODE_USAGE__INIT,
                                .memory_bytes = join->memory_bytes,
                                .read_bytes_per_s = join->read_bytes_per_s};
    control_copy_text(node.host, sizeof(node.host), join->host);
    control_copy_text(node.name, sizeof(node.name), join->name);
    control_copy_text(node.processors, sizeof(node.processors), join->processors);
    control_copy_text(node.said, sizeof(node.said), join->name);
    control_copy_text(node.endpoint, sizeof(node.endpoint), join->endpoint);
    control_copy_text(node.device, sizeof(node.device), join->device);
    control_copy_text(node.kernels, sizeof(node.kernels),
                      join->constants != NULL ? join->constants->kernels : NULL);
    node.named = node.name[0] != '\0' && strcmp(node.name, node.host) != 0;
    return node;
}

enum status cluster_join_node(struct cluster *cluster, const struct frames_peer *peer,
                              const Longspan__NodeJoin *join, uint64_t now_us, struct error *error)
{
    struct cluster_node node = node_of(peer, join, now_us);
    char who[CLUSTER_LABEL_BYTES + 32];
    snprintf(who, sizeof(who), "attention node %s (%s)", node.name, node.host);

    if (!same_constants(cluster, peer, join->constants, who))
        return STATUS_OK;
    struct cluster_node *known = find_process(cluster, join->node);
    if (known != NULL) {
        known->peer = *peer; /* its connection may be a new one */
        known->live = node.live;
        return cluster_setup_repeat(cluster, known, error);
    }
    if (join->job != 0) {
        refuse(cluster, peer, STATUS_UNREACHABLE,
               "%s serves job %016" PRIx64 " now: end that job, or use another node", who,
               join->job);
        return STATUS_OK;
    }
    if (cluster->n_nodes == cluster->options->nodes) {
        refuse(cluster, peer, STATUS_UNREACHABLE,
               "%s is not needed: the coordinator was started with --attention-nodes %u%s", who,
               cluster->options->nodes, cluster->n_nodes > 0 ? ", and they have joined" : "");
        return STATUS_OK;
    }
    if (node.endpoint[0] == '\0' || join->node == 0) {
        refuse(cluster, peer, STATUS_PROTOCOL, "%s does not say where workers can connect", who);
        return STATUS_OK;
    }
    const enum status status = same_kernels(cluster, who, node.kernels, error);
    if (status != STATUS_OK) {
        control_send_refusal(cluster->control, peer, status, error != NULL ? error->text : "");
        return status;
    }
    node.joined = cluster->n_nodes;
    cluster->nodes[cluster->n_nodes++] = node;
    log_info(cluster->log, "%s joined (%u of %u)", who, cluster->n_nodes, cluster->options->nodes);
    return cluster_setup_advance(cluster, now_us, error);
}

enum status cluster_join_missing(const struct cluster *cluster, struct error *error)
{
    const struct coordinator_options *options = cluster->options;
    char text[768] = "";
    size_t length = 0;
    if (!cluster->workers_joined)
        length += (size_t)snprintf(text, sizeof(text), "0 of %u workers joined; missing: %u",
                                   options->workers, options->workers);
    if (cluster->n_nodes < options->nodes) {
        length += (size_t)snprintf(text + length, sizeof(text) - length,
                                   "%s%u of %u attention nodes joined", length > 0 ? "; " : "",
                                   cluster->n_nodes, options->nodes);
        for (uint32_t i = 0; i < cluster->n_nodes && length < sizeof(text); i++)
            length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s (%s)",
                                       i == 0 ? ": " : ", ", cluster->nodes[i].name,
                                       cluster->nodes[i].host);
        if (length < sizeof(text))
            snprintf(text + length, sizeof(text) - length, "; missing: %u",
                     options->nodes - cluster->n_nodes);
    }
    return error_set(error, STATUS_UNREACHABLE, "after %g s (--join-timeout): %s%s%s",
                     options->join_timeout_ms / 1000.0, text,
                     cluster->last_refusal[0] != '\0' ? "; refused: " : "", cluster->last_refusal);
}
