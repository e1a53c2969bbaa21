/* layout.c - fair shares of this machine, and addresses that all sides can use. */
#include "cluster/layout.h"

#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "sys/memory.h"
#include "sys/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_PORT = 5600, MEGABYTE = 1 << 20 };

/* What nodes get together of the memory that is free; the rest is for weights and the system. */
#define NODES_SHARE       0.6
#define LEAST_NODE_MEMORY ((uint64_t)64 * MEGABYTE)

/* 0 for a device of its own memory: the node looks at what that has. */
static uint64_t node_memory(const char *device, uint32_t n_nodes)
{
    if (!kernels_device_is_cpu(device))
        return 0;
    const uint64_t share =
        (uint64_t)((double)memory_available_bytes() * NODES_SHARE / (double)n_nodes);
    const uint64_t whole = share / MEGABYTE * MEGABYTE;
    return whole < LEAST_NODE_MEMORY ? LEAST_NODE_MEMORY : whole;
}

/* Lanes for each of `n` processes on this machine. */
static uint32_t fair_share(uint32_t n)
{
    const uint32_t share = topology_processors() / (n == 0 ? 1 : n);
    return share == 0 ? 1 : share;
}

/* Roles may run with another working directory. What does not exist stays as it is, and is
 * complained about by who opens it. */
static void absolute(char out[LAYOUT_TEXT_BYTES], const char *path)
{
    char *resolved = path == NULL ? NULL : realpath(path, NULL);
    snprintf(out, LAYOUT_TEXT_BYTES, "%s", resolved != NULL ? resolved : path != NULL ? path : "");
    free(resolved);
}

/* The same without following links, and of a file that need not exist yet. */
static void absolute_new(char out[LAYOUT_TEXT_BYTES], const char *path)
{
    char *here = path == NULL || path[0] == '/' ? NULL : getcwd(NULL, 0);
    snprintf(out, LAYOUT_TEXT_BYTES, "%s%s%s", here != NULL ? here : "", here != NULL ? "/" : "",
             path != NULL ? path : "");
    free(here);
}

static enum status allocate(struct layout *layout, uint32_t n_workers, uint32_t n_nodes,
                            struct error *error)
{
    layout->n_workers = n_workers;
    layout->n_nodes = n_nodes;
    layout->hosts = calloc((size_t)n_workers + n_nodes + 1, sizeof(*layout->hosts));
    layout->workers = calloc((size_t)n_workers + 1, sizeof(*layout->workers));
    layout->nodes = calloc((size_t)n_nodes + 1, sizeof(*layout->nodes));
    if (layout->workers == NULL || layout->nodes == NULL || layout->hosts == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u processes",
                         n_workers + n_nodes);
    return STATUS_OK;
}

/* Sockets in the private directory, or on loopback. */
static void listen_here(struct layout *layout, const char *directory)
{
    if (directory != NULL)
        snprintf(layout->listen, sizeof(layout->listen), "ipc://%s/coordinator", directory);
    else
        snprintf(layout->listen, sizeof(layout->listen), "tcp://127.0.0.1:%d", DEFAULT_PORT);
    memcpy(layout->address, layout->listen, sizeof(layout->address));
}

static enum status from_options(struct layout *layout, const struct place_options *options,
                                struct error *error)
{
    const enum status status = allocate(layout, 1, options->attention_nodes, error);
    if (status != STATUS_OK)
        return status;
    layout->n_ranks = options->pipeline * options->tensor;
    const uint32_t threads = options->threads != 0
                                 ? options->threads
                                 : fair_share(layout->n_ranks + options->attention_nodes);
    layout->workers[0] = (struct layout_worker){
        .device = options->device, .slots = layout->n_ranks, .threads = threads};
    for (uint32_t i = 0; i < layout->n_nodes; i++) {
        struct layout_node *node = &layout->nodes[i];
        node->threads = threads;
        node->device = options->device;
        node->memory_bytes = options->memory_bytes != 0
                                 ? options->memory_bytes
                                 : node_memory(node->device, layout->n_nodes);
        snprintf(node->name, sizeof(node->name), "node%u", i);
    }
    return STATUS_OK;
}

/* ---- from a file ----------------------------------------------------------------------------- */

/* NULL for this machine; otherwise the host of that name, which is made when it is new. */
static enum status take_host(struct layout *layout, const struct layout_host **host,
                             const struct cluster_file *file, const struct cluster_file_host *named,
                             const char *bin, struct error *error)
{
    *host = NULL;
    if (named->here)
        return STATUS_OK;
    const char *name = named->name;
    const char *folder = bin != NULL ? bin : file->bin;
    for (uint32_t i = 0; i < layout->n_hosts; i++) {
        struct layout_host *known = &layout->hosts[i];
        if (strcmp(known->name, name) != 0)
            continue;
        if (folder != NULL && known->bin != NULL && strcmp(folder, known->bin) != 0)
            return error_set(error, STATUS_INVALID, "%s: %s has two folders bin: %s and %s",
                             file->path, name, known->bin, folder);
        *host = known;
        return STATUS_OK;
    }
    struct layout_host *made = &layout->hosts[layout->n_hosts++];
    *made = (struct layout_host){.name = name, .bin = folder};
    *host = made;
    return STATUS_OK;
}

static enum status take_worker(struct layout *layout, struct layout_worker *worker,
                               const struct cluster_file *file,
                               const struct cluster_file_worker *from, uint32_t here_share,
                               struct error *error)
{
    const struct layout_host *host = NULL;
    const enum status status = take_host(layout, &host, file, &from->host, from->bin, error);
    const bool here = host == NULL;
    *worker = (struct layout_worker){
        .host = host,
        .device = from->device,
        .kernels = from->kernels,
        .slots = from->slots,
        .threads = from->threads != 0 ? from->threads
                   : here             ? here_share
                                      : 0,
    };
    return status;
}

static enum status take_node(struct layout *layout, uint32_t index, const struct cluster_file *file,
                             uint32_t here_share, uint32_t n_here, struct error *error)
{
    struct layout_node *node = &layout->nodes[index];
    const struct cluster_file_node *from = &file->nodes[index];
    const struct layout_host *host = NULL;
    const enum status status = take_host(layout, &host, file, &from->host, from->bin, error);
    const bool here = host == NULL;
    *node = (struct layout_node){
        .host = host,
        .device = from->device,
        .kernels = from->kernels,
        .memory_bytes = from->memory_bytes != 0 ? from->memory_bytes
                        : here                  ? node_memory(from->device, n_here)
                                                : 0,
        .threads = from->threads != 0 ? from->threads
                   : here             ? here_share
                                      : 0,
        .weight = from->weight,
    };
    if (from->name != NULL)
        snprintf(node->name, sizeof(node->name), "%s", from->name);
    else
        snprintf(node->name, sizeof(node->name), "node%u", index);
    if (from->bind != NULL)
        snprintf(node->bind, sizeof(node->bind), "%s", from->bind);
    if (from->advertise != NULL)
        snprintf(node->advertise, sizeof(node->advertise), "%s", from->advertise);
    return status;
}

/* Where the coordinator listens, and the address by which the others find it. */
static enum status take_addresses(struct layout *layout, const struct cluster_file *file,
                                  const char *directory, struct error *error)
{
    const bool named = file->coordinator.name != NULL;
    const char *host = named ? file->coordinator.name : "localhost";
    const bool has_remote = layout->n_hosts > 0;
    struct address address;
    if (named && !file->coordinator.here)
        return error_set(error, STATUS_INVALID,
                         "%s: coordinator: %s is not this machine: type this command there, or "
                         "start the coordinator there by hand (--dry-run there shows how) and say "
                         "--coordinator ADDRESS here",
                         file->path, host);
    if (file->listen == NULL && !has_remote) {
        listen_here(layout, directory);
        return STATUS_OK;
    }
    if (file->listen != NULL)
        snprintf(layout->listen, sizeof(layout->listen), "%s", file->listen);
    else
        snprintf(layout->listen, sizeof(layout->listen), "tcp://0.0.0.0:%d", DEFAULT_PORT);
    enum status status = address_parse(layout->listen, &address, error);
    if (status == STATUS_OK)
        status = address_check(layout->listen, layout->cluster_key[0] != '\0',
                               layout->insecure_network, error);
    if (status != STATUS_OK)
        return status;
    if (address.kind == ADDRESS_TCP && address.port == 0)
        return error_set(error, STATUS_INVALID,
                         "%s: coordinator: listen: %s needs a port that the others can know, such "
                         "as %d",
                         file->path, layout->listen, DEFAULT_PORT);
    const bool by_name =
        has_remote && named && strcmp(host, "localhost") != 0 && strncmp(host, "127.", 4) != 0;
    if (has_remote && (address.is_local || (address.is_any && !by_name)))
        return error_set(error, STATUS_INVALID,
                         "%s: coordinator: other machines cannot reach %s at %s: say host: NAME "
                         "that they know, and listen: \"tcp://0.0.0.0:%d\"",
                         file->path, host, layout->listen, DEFAULT_PORT);
    if (address.is_any)
        snprintf(address.host, sizeof(address.host), "%s", by_name ? host : "127.0.0.1");
    if (address.kind == ADDRESS_TCP && address.is_any) {
        address.is_any = false;
        address.is_ipv6 = strchr(address.host, ':') != NULL;
        return address_with_port(&address, address.port, layout->address, error);
    }
    memcpy(layout->address, layout->listen, sizeof(layout->address));
    return STATUS_OK;
}

static enum status from_file(struct layout *layout, const struct place_options *options,
                             const struct cluster_file *file, struct error *error)
{
    enum status status = allocate(layout, file->n_workers, file->n_nodes, error);
    if (status != STATUS_OK)
        return status;
    uint32_t n_here = 0, n_nodes_here = 0;
    for (uint32_t i = 0; i < file->n_workers; i++)
        n_here += file->workers[i].host.here ? file->workers[i].slots : 0;
    for (uint32_t i = 0; i < file->n_nodes; i++)
        n_nodes_here += file->nodes[i].host.here;
    const uint32_t share = fair_share(n_here + n_nodes_here);
    layout->n_ranks = file->n_ranks;
    layout->ssh = file->ssh;
    layout->interface = file->interface;
    layout->mpi = file->mpi;
    layout->push = options->weights != NULL ? strcmp(options->weights, "push") == 0 : file->push;
    layout->weights_dir = file->weights_dir;
    layout->environment = file->environment;
    layout->n_environment = file->n_environment;
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_workers; i++)
        status = take_worker(layout, &layout->workers[i], file, &file->workers[i], share, error);
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_nodes; i++)
        status = take_node(layout, i, file, share, n_nodes_here, error);
    layout->pipeline = options->pipeline_given ? options->pipeline : file->pipeline;
    layout->tensor = options->tensor_given ? options->tensor : file->tensor;
    if (layout->tensor == 0)
        layout->tensor = 1;
    const uint64_t needed =
        (uint64_t)(layout->pipeline != 0 ? layout->pipeline : 1) * layout->tensor;
    if (status == STATUS_OK &&
        (layout->pipeline != 0 ? needed != file->n_ranks : file->n_ranks % layout->tensor != 0))
        status = error_set(error, STATUS_INVALID,
                           "--pipeline %u x --tensor %u do not make up the %u ranks of %s",
                           layout->pipeline, layout->tensor, file->n_ranks, file->path);
    return status;
}

enum status layout_place(struct layout *layout, const struct place_options *options,
                         const struct cluster_file *file, struct error *error)
{
    struct layout made = {
        .insecure_network = options->insecure_network,
        .pipeline = options->pipeline,
        .tensor = options->tensor,
        .kv_type = options->kv_type != NULL ? options->kv_type
                   : file != NULL           ? file->kv_type
                                            : NULL,
        .kv_memory_bytes = options->kv_memory_bytes != 0 ? options->kv_memory_bytes
                           : file != NULL                ? file->kv_memory_bytes
                                                         : 0,
        .stripe = options->stripe != 0 ? options->stripe
                  : file != NULL       ? file->stripe
                                       : 0,
    };
    absolute_new(made.model, options->model); /* as named: other parts lie beside the link */
    absolute_new(made.trace, options->trace);
    absolute_new(made.kv_store, options->kv_store);
    absolute(made.cluster_key, options->cluster_key != NULL ? options->cluster_key
                               : file != NULL               ? file->cluster_key
                                                            : NULL);
    const enum status status =
        file != NULL ? from_file(&made, options, file, error) : from_options(&made, options, error);
    if (status == STATUS_OK)
        *layout = made;
    else
        layout_free(&made);
    return status;
}

/* What the user wants of this machine's memory, all processes together; others say it themselves,
 * when they join. */
static enum status check_memory_here(const struct layout *layout, const struct cluster_file *file,
                                     struct error *error)
{
    uint64_t bytes = 0;
    uint32_t n_nodes = 0, n_ranks = 0;
    for (uint32_t i = 0; i < layout->n_nodes; i++) {
        const struct layout_node *node = &layout->nodes[i];
        if (node->host != NULL || !kernels_device_is_cpu(node->device))
            continue;
        n_nodes++;
        bytes = node->memory_bytes > UINT64_MAX - bytes ? UINT64_MAX : bytes + node->memory_bytes;
    }
    for (uint32_t i = 0; layout->n_nodes == 0 && i < layout->n_workers; i++)
        if (layout->workers[i].host == NULL && kernels_device_is_cpu(layout->workers[i].device))
            n_ranks += layout->workers[i].slots;
    enum status status =
        kv_holder_check_host("--kv-memory", layout->kv_memory_bytes, n_ranks, error);
    if (status == STATUS_OK && file == NULL && n_nodes > 0)
        status = kv_holder_check_host("--memory", bytes / n_nodes, n_nodes, error);
    if (status == STATUS_OK && file != NULL) {
        char what[LAYOUT_TEXT_BYTES];
        snprintf(what, sizeof(what),
                 "%s: attention_nodes: memory here, of %u together:", file->path, n_nodes);
        status = kv_holder_check_host(what, bytes, 1, error);
    }
    return status;
}

enum status layout_make(struct layout *layout, const struct place_options *options,
                        const struct cluster_file *file, const char *directory, struct error *error)
{
    struct layout made;
    enum status status = layout_place(&made, options, file, error);
    if (status != STATUS_OK)
        return status;
    if (file != NULL)
        status = take_addresses(&made, file, directory, error);
    else
        listen_here(&made, directory);
    if (status == STATUS_OK)
        status = check_memory_here(&made, file, error);
    if (status == STATUS_OK)
        *layout = made;
    else
        layout_free(&made);
    return status;
}

bool layout_ranks_are_here(const struct layout *layout)
{
    for (uint32_t i = 0; i < layout->n_workers; i++)
        if (layout->workers[i].host != NULL)
            return false;
    return true;
}

void layout_free(struct layout *layout)
{
    for (uint32_t i = 0; i < layout->n_hosts; i++) {
        free(layout->hosts[i].worker);
        free(layout->hosts[i].node);
        free(layout->hosts[i].model);
        free(layout->hosts[i].cluster_key);
    }
    free(layout->shared_networks);
    free(layout->workers);
    free(layout->nodes);
    free(layout->hosts);
    *layout = (struct layout){0};
}
