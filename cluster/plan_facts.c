/* plan_facts.c - hosts and devices by name, each once; then each process's part of its device. */
#include "cluster/plan_facts.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "plan/shares.h"
#include "sys/memory.h"
#include "sys/topology.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GIGA 1e9 /* a node's weight stands for so many bytes per second (attention_node --weight) */

static const char from_file[] = "cluster file";

/* ---- who is where ---------------------------------------------------------------------------- */

static bool is_host(const struct plan_host *host, const struct cluster_file_host *named)
{
    return cluster_file_same_host(&(struct cluster_file_host){host->name, host->here}, named);
}

static uint32_t find_host(struct plan_facts *facts, const struct cluster_file_host *named,
                          const struct layout_host *remote)
{
    for (uint32_t i = 0; i < facts->n_hosts; i++)
        if (is_host(&facts->hosts[i], named)) {
            if (remote != NULL)
                facts->hosts[i].remote = remote;
            return i;
        }
    facts->hosts[facts->n_hosts] =
        (struct plan_host){.name = named->name, .remote = remote, .here = named->here};
    return facts->n_hosts++;
}

static uint32_t find_device(struct plan_facts *facts, uint32_t host, const char *name)
{
    name = kernels_device_is_cpu(name) ? "cpu" : name;
    for (uint32_t i = 0; i < facts->n_devices; i++)
        if (facts->devices[i].host == host && strcmp(facts->devices[i].name, name) == 0)
            return i;
    facts->devices[facts->n_devices] = (struct plan_device){.host = host, .name = name};
    return facts->n_devices++;
}

static const struct cluster_file_host localhost = {"localhost", true};

/* A process's; NULL is this machine. */
static uint32_t find_layout_host(struct plan_facts *facts, const struct layout_host *remote)
{
    const struct cluster_file_host named = {.name = remote != NULL ? remote->name : NULL};
    return find_host(facts, remote != NULL ? &named : &localhost, remote);
}

static void place(struct plan_facts *facts, const struct layout *layout)
{
    for (uint32_t i = 0; i < layout->n_workers; i++) {
        const struct layout_worker *worker = &layout->workers[i];
        const uint32_t host = find_layout_host(facts, worker->host);
        const uint32_t device = find_device(facts, host, worker->device);
        for (uint32_t k = 0; k < worker->slots; k++)
            facts->ranks[facts->n_ranks++] = (struct plan_process){device, worker->threads};
    }
    for (uint32_t i = 0; i < layout->n_nodes; i++) {
        const struct layout_node *node = &layout->nodes[i];
        const uint32_t host = find_layout_host(facts, node->host);
        facts->nodes[facts->n_nodes++] =
            (struct plan_process){find_device(facts, host, node->device), node->threads};
    }
}

/* ---- what is known --------------------------------------------------------------------------- */

/* An entry about cuda is about cuda:1 too, unless that has one of its own. */
static const struct cluster_file_hardware *hardware_of(const struct cluster_file *file,
                                                       const struct plan_host *host,
                                                       const char *device)
{
    const struct cluster_file_hardware *near = NULL;
    for (uint32_t i = 0; file != NULL && i < file->n_hosts; i++) {
        const struct cluster_file_hardware *h = &file->hosts[i];
        const char *name = kernels_device_is_cpu(h->device) ? "cpu" : h->device;
        if (!is_host(host, &h->host))
            continue;
        if (strcmp(name, device) == 0)
            return h;
        if (strcmp(name, "cuda") == 0 && strncmp(device, "cuda:", 5) == 0)
            near = h;
    }
    return near;
}

static void read_device(struct plan_facts *facts, struct plan_device *device,
                        const struct cluster_file *file)
{
    const struct plan_host *host = &facts->hosts[device->host];
    const struct cluster_file_hardware *h = hardware_of(file, host, device->name);
    if (h != NULL) {
        device->devices = h->devices;
        device->processors = h->processors;
        device->memory_bytes = h->memory_bytes;
        device->memory_source = h->memory_bytes > 0 ? from_file : NULL;
        device->read_bytes_per_s = h->read_bytes_per_s;
        device->f32_per_s = h->f32_per_s;
        device->int8_per_s = h->int8_per_s;
        device->rate_source = h->read_bytes_per_s > 0 ? from_file : NULL;
    }
    if (!host->here || !kernels_device_is_cpu(device->name))
        return;
    if (device->processors == 0)
        device->processors = topology_processors();
    if (device->memory_bytes == 0) {
        device->memory_bytes = memory_available_bytes();
        device->memory_source = "free here now";
    }
}

static void read_links(struct plan_facts *facts, const struct cluster_file *file)
{
    for (uint32_t i = 0; file != NULL && i < facts->n_hosts; i++)
        for (uint32_t k = 0; k < file->n_hosts; k++) {
            const struct cluster_file_hardware *h = &file->hosts[k];
            struct plan_host *host = &facts->hosts[i];
            if (!is_host(host, &h->host))
                continue;
            if (h->link_bytes_per_s > 0)
                host->link_bytes_per_s = h->link_bytes_per_s;
            if (h->round_trip_s > 0)
                host->round_trip_s = h->round_trip_s;
            if (h->link_bytes_per_s > 0 || h->round_trip_s > 0)
                host->link_source = from_file;
        }
}

enum status plan_facts_read(struct plan_facts *facts, const struct layout *layout,
                            const struct cluster_file *file, struct error *error)
{
    const uint32_t n = layout->n_ranks + layout->n_nodes + 1;
    *facts = (struct plan_facts){
        .hosts = calloc(n, sizeof(*facts->hosts)),
        .devices = calloc(n, sizeof(*facts->devices)),
        .ranks = calloc(layout->n_ranks + 1u, sizeof(*facts->ranks)),
        .nodes = calloc(layout->n_nodes + 1u, sizeof(*facts->nodes)),
        .rank_estimates = calloc(layout->n_ranks + 1u, sizeof(*facts->rank_estimates)),
        .node_estimates = calloc(layout->n_nodes + 1u, sizeof(*facts->node_estimates)),
        .host_estimates = calloc(n, sizeof(*facts->host_estimates)),
        .shares = calloc(layout->n_nodes + 1u, sizeof(*facts->shares))};
    if (facts->hosts == NULL || facts->devices == NULL || facts->ranks == NULL ||
        facts->nodes == NULL || facts->rank_estimates == NULL || facts->node_estimates == NULL ||
        facts->host_estimates == NULL || facts->shares == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u processes", n);
    const bool named = file != NULL && file->coordinator.name != NULL;
    facts->head = find_host(facts, named ? &file->coordinator : &localhost, NULL);
    place(facts, layout);
    for (uint32_t i = 0; i < facts->n_devices; i++)
        read_device(facts, &facts->devices[i], file);
    read_links(facts, file);
    return STATUS_OK;
}

void plan_facts_free(struct plan_facts *facts)
{
    free(facts->hosts);
    free(facts->devices);
    free(facts->ranks);
    free(facts->nodes);
    free(facts->rank_estimates);
    free(facts->node_estimates);
    free(facts->host_estimates);
    free(facts->shares);
    *facts = (struct plan_facts){0};
}

/* ---- each process's part --------------------------------------------------------------------- */

static uint32_t ranks_of(const struct plan_facts *facts, uint32_t device)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < facts->n_ranks; i++)
        n += facts->ranks[i].device == device;
    return n;
}

bool plan_facts_is_several(const struct plan_device *device)
{
    return !kernels_device_is_cpu(device->name) && strchr(device->name, ':') == NULL;
}

/* Of n processes on a device, how many have the same one. */
static uint32_t on_one(const struct plan_device *device, uint32_t n)
{
    if (!plan_facts_is_several(device))
        return n;
    return device->devices == 0 ? 1 : (n + device->devices - 1) / device->devices;
}

uint32_t plan_facts_sharers(const struct plan_facts *facts, uint32_t rank)
{
    const uint32_t device = facts->ranks[rank].device;
    return on_one(&facts->devices[device], ranks_of(facts, device));
}

uint64_t plan_facts_node_bytes(const struct plan_facts *facts, const struct layout *layout,
                               uint32_t node)
{
    const uint64_t given = layout->nodes[node].memory_bytes;
    return given > 0 ? given
                     : kv_holder_share(facts->devices[facts->nodes[node].device].memory_bytes);
}

/* Of its device's rates, by lanes where they are known. */
static double part_of(const struct plan_device *device, const struct plan_process *process,
                      uint32_t n_beside)
{
    if (!kernels_device_is_cpu(device->name))
        return 1.0 / on_one(device, n_beside);
    if (process->lanes == 0 || device->processors == 0)
        return 1.0 / n_beside;
    return process->lanes < device->processors ? (double)process->lanes / device->processors : 1.0;
}

/* What is not known of arithmetic is not counted, of reading it makes all unknown (estimate.h). */
static struct estimate_process estimate_of(const struct plan_device *device, double part)
{
    const double read = device->read_bytes_per_s, f32 = device->f32_per_s;
    const double int8 = device->int8_per_s;
    return (struct estimate_process){.host = device->host,
                                     .gpu = !kernels_device_is_cpu(device->name),
                                     .machine = {.read_bytes_per_s = read > 0 ? part * read : NAN,
                                                 .f32_per_s = f32 > 0 ? part * f32 : INFINITY,
                                                 .floats_per_s = f32 > 0 ? part * f32 : INFINITY,
                                                 .int8_per_s = int8 > 0 ? part * int8 : INFINITY}};
}

/* The n processes that compute at the same time; parts of a device are at most the whole. */
static void estimate_beside(const struct plan_facts *facts, const struct plan_process *processes,
                            struct estimate_process *estimates, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct plan_device *device = &facts->devices[processes[i].device];
        double all = 0;
        uint32_t beside = 0;
        for (uint32_t k = 0; k < n; k++)
            beside += processes[k].device == processes[i].device;
        for (uint32_t k = 0; k < n && kernels_device_is_cpu(device->name); k++)
            if (processes[k].device == processes[i].device)
                all += part_of(device, &processes[k], beside);
        const double part = part_of(device, &processes[i], beside);
        estimates[i] = estimate_of(device, all > 1 ? part / all : part);
    }
}

static void settle_lanes(struct plan_facts *facts)
{
    for (uint32_t i = 0; i < facts->n_ranks; i++) {
        const uint32_t device = facts->ranks[i].device, n = ranks_of(facts, device);
        const uint32_t share = facts->devices[device].processors / n;
        if (facts->ranks[i].lanes == 0 && facts->devices[device].processors > 0)
            facts->ranks[i].lanes = share > 0 ? share : 1; /* as a rank does (group_lanes) */
    }
    for (uint32_t i = 0; i < facts->n_nodes; i++)
        if (facts->nodes[i].lanes == 0)
            facts->nodes[i].lanes = facts->devices[facts->nodes[i].device].processors;
}

static enum status weigh(struct plan_facts *facts, const struct layout *layout, struct error *error)
{
    struct shares_node *nodes = calloc(facts->n_nodes + 1u, sizeof(*nodes));
    if (nodes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u nodes", facts->n_nodes);
    for (uint32_t i = 0; i < facts->n_nodes; i++) {
        const double rate = facts->node_estimates[i].machine.read_bytes_per_s;
        nodes[i] = (struct shares_node){
            .host = facts->hosts[facts->node_estimates[i].host].name,
            .read_bytes_per_s = layout->nodes[i].weight > 0 ? GIGA * (double)layout->nodes[i].weight
                                : isnan(rate)               ? 0
                                                            : rate};
    }
    shares_weigh(facts->shares, nodes, facts->n_nodes);
    free(nodes);
    return STATUS_OK;
}

static enum status share(struct plan_facts *facts, const struct layout *layout, const char *given,
                         struct error *error)
{
    const enum status status = given != NULL
                                   ? shares_parse(facts->shares, facts->n_nodes, given, error)
                                   : weigh(facts, layout, error);
    double all = 0;
    for (uint32_t i = 0; i < facts->n_nodes; i++)
        all += facts->shares[i];
    for (uint32_t i = 0; i < facts->n_nodes && status == STATUS_OK; i++)
        facts->shares[i] /= all;
    return status;
}

enum status plan_facts_apply(struct plan_facts *facts, const struct layout *layout,
                             const char *shares, struct capacity *capacity, struct error *error)
{
    const uint32_t tensor = capacity->plan.tensor;
    settle_lanes(facts);
    for (uint32_t i = 0; i < facts->n_ranks; i++) {
        const struct plan_device *device = &facts->devices[facts->ranks[i].device];
        capacity->ranks[i].host = facts->hosts[device->host].name;
        capacity->ranks[i].memory_bytes = device->memory_bytes / plan_facts_sharers(facts, i);
    }
    for (uint32_t i = 0; i < facts->n_nodes; i++)
        capacity->nodes[i].kv_bytes = plan_facts_node_bytes(facts, layout, i);
    for (uint32_t i = 0; i < facts->n_ranks; i += tensor)
        estimate_beside(facts, &facts->ranks[i], &facts->rank_estimates[i], tensor);
    estimate_beside(facts, facts->nodes, facts->node_estimates, facts->n_nodes);
    for (uint32_t i = 0; i < facts->n_hosts; i++) {
        const struct plan_host *host = &facts->hosts[i];
        facts->host_estimates[i] = (struct estimate_host){
            .bytes_per_s = host->link_bytes_per_s > 0 ? host->link_bytes_per_s : NAN,
            .round_trip_s = host->round_trip_s > 0 ? host->round_trip_s : NAN};
    }
    return share(facts, layout, shares, error);
}
