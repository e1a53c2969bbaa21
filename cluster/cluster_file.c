/* cluster_file.c - cluster_yaml.c checked the shape, here the values are. */
#include "cluster/cluster_file.h"

#include "cluster/cluster_yaml.h"
#include "cluster/this_host.h"
#include "cluster/words.h"
#include "kernels/kernels.h"
#include "kernels/quant/kv_type.h"
#include "proto/address.h"
#include "sys/interfaces.h"
#include "sys/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WHERE_BYTES = 512,
};

/* ---- checks ---------------------------------------------------------------------------------- */

struct reader {
    struct cluster_file *file;
    const char *text;
    struct this_host here;
    struct cluster_yaml_place place; /* of the newest entry of a list */
};

static void name_line(char where[WHERE_BYTES], const struct reader *reader, uint32_t line)
{
    if (line != 0)
        snprintf(where, WHERE_BYTES, "%s:%u: ", reader->file->path, line);
    else
        snprintf(where, WHERE_BYTES, "%s: ", reader->file->path);
}

/* "FILE:LINE: section", for messages about a key of the file. */
static void name_section(char where[WHERE_BYTES], const struct reader *reader, const char *section)
{
    struct cluster_yaml_place place = {0};
    name_line(where, reader, cluster_yaml_find(&place, reader->text, section));
    snprintf(where + strlen(where), WHERE_BYTES - strlen(where), "%s", section);
}

/* The same for the entries of a list, one after the other: each has one `host`. */
static void name_entry(char where[WHERE_BYTES], struct reader *reader, const char *list,
                       uint32_t index)
{
    if (index == 0) {
        reader->place = (struct cluster_yaml_place){0};
        cluster_yaml_find(&reader->place, reader->text, list);
    }
    name_line(where, reader, cluster_yaml_find(&reader->place, reader->text, "host"));
    snprintf(where + strlen(where), WHERE_BYTES - strlen(where), "%s entry %u", list, index + 1);
}

/* An absent number stays 0. */
static enum status take_number(uint32_t *out, const uint32_t *value, uint32_t most,
                               const char *where, const char *key, struct error *error)
{
    if (value == NULL)
        return STATUS_OK;
    if (*value == 0 || *value > most)
        return error_set(error, STATUS_INVALID, "%s: %s: %u is not in 1 to %u", where, key, *value,
                         most);
    *out = *value;
    return STATUS_OK;
}

static enum status take_size(uint64_t *out, const char *text, const char *where,
                             struct error *error)
{
    char name[WHERE_BYTES];
    if (text == NULL)
        return STATUS_OK;
    snprintf(name, sizeof(name), "%.*s: memory", WHERE_BYTES - 16, where);
    const enum status status = size_parse(name, text, out, error);
    if (status == STATUS_OK && *out == 0)
        return error_set(error, STATUS_INVALID, "%s: 0 is no memory", name);
    return status;
}

/* A host becomes an argument of ssh and mpirun: nothing that they could take for an option or a
 * list. */
static struct cluster_file_host host_of(const struct reader *reader, const char *name)
{
    return (struct cluster_file_host){.name = name, .here = this_host_is(&reader->here, name)};
}

static enum status check_host(const char *host, const char *where, struct error *error)
{
    const size_t good =
        strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                     ".-_:%@");
    const char *at = strrchr(host, '@');
    if (host[0] == '-' || host[good] != '\0' ||
        (at != NULL && (at == host || at[1] == '-' || at[1] == '\0')))
        return error_set(error, STATUS_INVALID, "%s: '%s' is no host name", where, host);
    return STATUS_OK;
}

/* A folder or file becomes part of command lines that mpirun cuts at blanks, and of scripts that it
 * has the shells of other machines read, without quotes. */
static enum status check_path(const char *path, const char *where, const char *key,
                              struct error *error)
{
    if (path == NULL)
        return STATUS_OK;
    if (!words_is_plain(path))
        return error_set(error, STATUS_INVALID,
                         "%s: %s: '%s': mpirun and ssh take paths without blanks and quotes, of "
                         "letters, digits and -_./:=,+@%%",
                         where, key, path);
    if (path[0] != '/')
        return error_set(error, STATUS_INVALID, "%s: %s: '%s' does not begin with a slash", where,
                         key, path);
    return STATUS_OK;
}

static enum status check_device(const char *device, const char *where, struct error *error)
{
    return kernels_device_is_name(device)
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "%s: device '%s': say cpu, cuda or cuda:N", where,
                           device);
}

static enum status take_worker(struct reader *reader, uint32_t index,
                               const struct yaml_worker *from, struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file *file = reader->file;
    struct cluster_file_worker *worker = &file->workers[index];
    name_entry(where, reader, "workers", index);
    *worker = (struct cluster_file_worker){.host = host_of(reader, from->host),
                                           .device = from->device,
                                           .kernels = from->kernels,
                                           .bin = from->bin,
                                           .slots = 1};
    enum status status = check_host(from->host, where, error);
    if (status == STATUS_OK)
        status = check_path(from->bin, where, "bin", error);
    if (status == STATUS_OK)
        status = check_device(from->device, where, error);
    if (status == STATUS_OK)
        status = take_number(&worker->slots, from->slots, CLUSTER_FILE_MOST_RANKS, where, "slots",
                             error);
    if (status == STATUS_OK)
        status = take_number(&worker->threads, from->threads, CLUSTER_FILE_MOST_THREADS, where,
                             "threads", error);
    if (status != STATUS_OK)
        return status;
    file->n_ranks += worker->slots;
    if (file->n_ranks > CLUSTER_FILE_MOST_RANKS)
        return error_set(error, STATUS_INVALID, "%s: more than %d ranks in total", where,
                         CLUSTER_FILE_MOST_RANKS);
    return STATUS_OK;
}

static enum status check_endpoint(const char *endpoint, const char *where, const char *key,
                                  struct error *error)
{
    struct address address;
    struct error inner;
    if (endpoint == NULL || address_parse(endpoint, &address, &inner) == STATUS_OK)
        return STATUS_OK;
    return error_set(error, inner.status, "%s: %s: %s", where, key, inner.text);
}

static enum status take_node(struct reader *reader, uint32_t index, const struct yaml_node *from,
                             struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file_node *node = &reader->file->nodes[index];
    name_entry(where, reader, "attention_nodes", index);
    *node = (struct cluster_file_node){.host = host_of(reader, from->host),
                                       .device = from->device,
                                       .kernels = from->kernels,
                                       .name = from->name,
                                       .bin = from->bin,
                                       .bind = from->bind,
                                       .advertise = from->advertise};
    enum status status = check_host(from->host, where, error);
    if (status == STATUS_OK)
        status = check_path(from->bin, where, "bin", error);
    if (status == STATUS_OK)
        status = check_device(from->device, where, error);
    if (status == STATUS_OK)
        status = check_endpoint(from->bind, where, "bind", error);
    if (status == STATUS_OK)
        status = check_endpoint(from->advertise, where, "advertise", error);
    if (status == STATUS_OK)
        status = take_size(&node->memory_bytes, from->memory, where, error);
    if (status == STATUS_OK)
        status = take_number(&node->threads, from->threads, CLUSTER_FILE_MOST_THREADS, where,
                             "threads", error);
    if (status == STATUS_OK && from->weight != NULL) {
        if (!(*from->weight >= 1e-6f && *from->weight <= 1e6f))
            return error_set(error, STATUS_INVALID,
                             "%s: weight: %g is not in 1e-6 to 1e6 (leave it away to have it "
                             "measured)",
                             where, (double)*from->weight);
        node->weight = *from->weight;
    }
    return status;
}

/* A rate or a time in the file's unit; `unit`: of it in ours. An absent one stays 0. */
static enum status take_real(double *out, const float *value, double unit, const char *where,
                             const char *key, struct error *error)
{
    if (value == NULL)
        return STATUS_OK;
    if (!(*value >= 1e-6f && *value <= 1e9f))
        return error_set(error, STATUS_INVALID, "%s: %s: %g is not in 1e-6 to 1e9", where, key,
                         (double)*value);
    *out = (double)*value * unit;
    return STATUS_OK;
}

/* Of a host that has no process nothing needs to be known: its name is misspelt. */
static bool is_used(const struct cluster_file *file, const struct cluster_file_host *host)
{
    bool used = file->coordinator.name != NULL && cluster_file_same_host(&file->coordinator, host);
    for (uint32_t i = 0; i < file->n_workers && !used; i++)
        used = cluster_file_same_host(&file->workers[i].host, host);
    for (uint32_t i = 0; i < file->n_nodes && !used; i++)
        used = cluster_file_same_host(&file->nodes[i].host, host);
    return used;
}

static bool same_device(const struct cluster_file_hardware *a,
                        const struct cluster_file_hardware *b)
{
    const bool a_cpu = kernels_device_is_cpu(a->device), b_cpu = kernels_device_is_cpu(b->device);
    return cluster_file_same_host(&a->host, &b->host) && a_cpu == b_cpu &&
           (a_cpu || strcmp(a->device, b->device) == 0);
}

static enum status take_hardware(struct reader *reader, uint32_t index,
                                 const struct yaml_hardware *from, struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file_hardware *to = &reader->file->hosts[index];
    name_entry(where, reader, "hosts", index);
    *to =
        (struct cluster_file_hardware){.host = host_of(reader, from->host), .device = from->device};
    enum status status = check_host(from->host, where, error);
    if (status == STATUS_OK)
        status = check_device(from->device, where, error);
    if (status == STATUS_OK)
        status = take_size(&to->memory_bytes, from->memory, where, error);
    if (status == STATUS_OK)
        status = take_number(&to->devices, from->devices, CLUSTER_FILE_MOST_RANKS, where, "devices",
                             error);
    if (status == STATUS_OK)
        status = take_number(&to->processors, from->processors, CLUSTER_FILE_MOST_PROCESSORS, where,
                             "processors", error);
    const struct {
        double *to;
        const float *from;
        double unit;
        const char *key;
    } reals[] = {{&to->read_bytes_per_s, from->read_GB_s, 1e9, "read_GB_s"},
                 {&to->f32_per_s, from->f32_GFLOP_s, 1e9, "f32_GFLOP_s"},
                 {&to->int8_per_s, from->int8_Gop_s, 1e9, "int8_Gop_s"},
                 {&to->link_bytes_per_s, from->link_Gbit_s, 1e9 / 8, "link_Gbit_s"},
                 {&to->round_trip_s, from->rtt_us, 1e-6, "rtt_us"}};
    for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]) && status == STATUS_OK; i++)
        status = take_real(reals[i].to, reals[i].from, reals[i].unit, where, reals[i].key, error);
    if (status == STATUS_OK && !is_used(reader->file, &to->host))
        return error_set(error, STATUS_INVALID,
                         "%s: no worker, no attention node and no coordinator is on %s", where,
                         from->host);
    for (uint32_t i = 0; i < index && status == STATUS_OK; i++)
        if (same_device(&reader->file->hosts[i], to))
            status = error_set(error, STATUS_INVALID,
                               "%s: hosts[%u] says already what %s has there (its %s)", where, i,
                               from->host, to->device != NULL ? to->device : "cpu");
    return status;
}

static enum status take_parallel(const struct reader *reader, const struct yaml_file *document,
                                 struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file *file = reader->file;
    name_section(where, reader, "parallel");
    if (document->parallel_word != NULL) {
        if (strcmp(document->parallel_word, "auto") != 0)
            return error_set(error, STATUS_INVALID,
                             "%s: '%s' is neither auto nor {pipeline: N, tensor: N}", where,
                             document->parallel_word);
        return STATUS_OK;
    }
    if (document->parallel == NULL)
        return STATUS_OK;
    enum status status = take_number(&file->pipeline, document->parallel->pipeline,
                                     CLUSTER_FILE_MOST_RANKS, where, "pipeline", error);
    if (status == STATUS_OK)
        status = take_number(&file->tensor, document->parallel->tensor, CLUSTER_FILE_MOST_RANKS,
                             where, "tensor", error);
    const uint64_t pipeline = file->pipeline != 0 ? file->pipeline : 1;
    const uint64_t tensor = file->tensor != 0 ? file->tensor : 1;
    if (status == STATUS_OK && file->n_ranks % tensor != 0)
        return error_set(error, STATUS_INVALID,
                         "%s: tensor: %u does not divide the %u ranks of `workers`", where,
                         file->tensor, file->n_ranks);
    if (status == STATUS_OK && file->pipeline != 0 && pipeline * tensor != file->n_ranks)
        return error_set(error, STATUS_INVALID,
                         "%s: pipeline %llu x tensor %llu needs %llu ranks; the slots of `workers` "
                         "are %u",
                         where, (unsigned long long)pipeline, (unsigned long long)tensor,
                         (unsigned long long)(pipeline * tensor), file->n_ranks);
    return status;
}

static enum status take_kv(const struct reader *reader, const struct yaml_kv *kv,
                           struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file *file = reader->file;
    enum kv_type type;
    name_section(where, reader, "kv");
    if (kv == NULL)
        return STATUS_OK;
    if (kv->type != NULL && !kv_type_parse(&type, kv->type))
        return error_set(error, STATUS_INVALID, "%s: type: '%s' is none of f16, bf16, q8_0, f32",
                         where, kv->type);
    file->kv_type = kv->type;
    enum status status = take_size(&file->kv_memory_bytes, kv->memory, where, error);
    if (status == STATUS_OK)
        status = take_number(&file->stripe, kv->stripe, 1u << 30, where, "stripe", error);
    return status;
}

static enum status take_ssh(const struct reader *reader, const struct yaml_ssh *ssh,
                            struct error *error)
{
    char where[WHERE_BYTES];
    if (ssh == NULL)
        return STATUS_OK;
    name_section(where, reader, "ssh");
    struct ssh_options *taken = &reader->file->ssh;
    *taken = (struct ssh_options){.user = ssh->user, .key = ssh->key, .config = ssh->config};
    enum status status = take_number(&taken->port, ssh->port, UINT16_MAX, where, "port", error);
    if (status == STATUS_OK)
        status = check_path(ssh->key, where, "key", error);
    if (status == STATUS_OK)
        status = check_path(ssh->config, where, "config", error);
    if (status == STATUS_OK && ssh->user != NULL)
        status = check_host(ssh->user, where, error);
    return status;
}

/* Names of interfaces and subnets, as mpirun and attention nodes take them. */
static enum status take_network(const struct reader *reader, const struct yaml_network *network,
                                struct error *error)
{
    char where[WHERE_BYTES];
    if (network == NULL || network->interface == NULL)
        return STATUS_OK;
    name_section(where, reader, "network");
    reader->file->interface = network->interface;
    return interfaces_check(network->interface, where, error);
}

static enum status take_programs(const struct reader *reader, const struct yaml_programs *programs,
                                 struct error *error)
{
    char where[WHERE_BYTES];
    if (programs == NULL)
        return STATUS_OK;
    name_section(where, reader, "programs");
    reader->file->bin = programs->bin;
    reader->file->mpi = programs->mpi;
    const enum status status = check_path(programs->bin, where, "bin", error);
    return status == STATUS_OK ? check_path(programs->mpi, where, "mpi", error) : status;
}

static enum status take_weights(const struct reader *reader, const struct yaml_weights *weights,
                                struct error *error)
{
    char where[WHERE_BYTES];
    if (weights == NULL)
        return STATUS_OK;
    name_section(where, reader, "weights");
    const bool push = weights->push != NULL && strcmp(weights->push, "true") == 0;
    if (weights->push != NULL && !push && strcmp(weights->push, "false") != 0)
        return error_set(error, STATUS_INVALID, "%s: push: '%s' is neither true nor false", where,
                         weights->push);
    reader->file->push = push;
    reader->file->weights_dir = weights->dir;
    return check_path(weights->dir, where, "dir", error);
}

/* NAME or NAME=VALUE, of letters, digits and underscores. */
static enum status take_environment(const struct reader *reader, const struct yaml_file *document,
                                    struct error *error)
{
    char where[WHERE_BYTES];
    name_section(where, reader, "environment");
    for (uint32_t i = 0; i < document->environment_count; i++) {
        const char *variable = document->environment[i];
        const size_t name = strspn(variable, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                             "0123456789_");
        if (name == 0 || (variable[0] >= '0' && variable[0] <= '9') ||
            (variable[name] != '\0' && variable[name] != '=') || strpbrk(variable, "\n\r;") != NULL)
            return error_set(error, STATUS_INVALID,
                             "%s: '%s' is neither NAME nor NAME=VALUE (without ; and line breaks)",
                             where, variable);
    }
    reader->file->environment = (const char *const *)document->environment;
    reader->file->n_environment = document->environment_count;
    return STATUS_OK;
}

static enum status take_coordinator(const struct reader *reader,
                                    const struct yaml_coordinator *coordinator, struct error *error)
{
    char where[WHERE_BYTES];
    if (coordinator == NULL)
        return STATUS_OK;
    name_section(where, reader, "coordinator");
    if (coordinator->host != NULL)
        reader->file->coordinator = host_of(reader, coordinator->host);
    reader->file->listen = coordinator->listen;
    const enum status status = check_endpoint(coordinator->listen, where, "listen", error);
    return status == STATUS_OK && coordinator->host != NULL
               ? check_host(coordinator->host, where, error)
               : status;
}

static enum status take_document(struct reader *reader, const struct yaml_file *document,
                                 struct error *error)
{
    struct cluster_file *file = reader->file;
    file->name = document->name;
    if (document->security != NULL)
        file->cluster_key = document->security->cluster_key;
    file->n_workers = document->workers_count;
    file->n_nodes = document->attention_nodes_count;
    file->workers = calloc((size_t)file->n_workers + 1, sizeof(*file->workers));
    file->nodes = calloc((size_t)file->n_nodes + 1, sizeof(*file->nodes));
    file->n_hosts = document->hosts_count;
    file->hosts = calloc((size_t)file->n_hosts + 1, sizeof(*file->hosts));
    if (file->workers == NULL || file->nodes == NULL || file->hosts == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its entries", file->path);

    enum status status = take_coordinator(reader, document->coordinator, error);
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_workers; i++)
        status = take_worker(reader, i, &document->workers[i], error);
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_nodes; i++)
        status = take_node(reader, i, &document->attention_nodes[i], error);
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_hosts; i++)
        status = take_hardware(reader, i, &document->hosts[i], error);
    if (status == STATUS_OK)
        status = take_parallel(reader, document, error);
    if (status == STATUS_OK)
        status = take_kv(reader, document->kv, error);
    if (status == STATUS_OK)
        status = take_ssh(reader, document->ssh, error);
    if (status == STATUS_OK)
        status = take_network(reader, document->network, error);
    if (status == STATUS_OK)
        status = take_programs(reader, document->programs, error);
    if (status == STATUS_OK)
        status = take_weights(reader, document->weights, error);
    if (status == STATUS_OK)
        status = take_environment(reader, document, error);
    return status;
}

enum status cluster_file_read(struct cluster_file *file, const char *path, struct error *error)
{
    struct cluster_file read = {.path = path};
    struct yaml_file *document = NULL;
    char *text = NULL;
    enum status status = cluster_yaml_read(&document, path, &text, error);
    struct reader reader = {.file = &read, .text = text};
    read.document = document;
    this_host_read(&reader.here);
    if (status == STATUS_OK)
        status = take_document(&reader, document, error);
    if (status == STATUS_OK)
        *file = read;
    else
        cluster_file_free(&read);
    this_host_free(&reader.here);
    free(text);
    return status;
}

void cluster_file_free(struct cluster_file *file)
{
    free(file->workers);
    free(file->nodes);
    free(file->hosts);
    cluster_yaml_free(file->document);
    *file = (struct cluster_file){0};
}

bool cluster_file_same_host(const struct cluster_file_host *a, const struct cluster_file_host *b)
{
    return (a->here && b->here) || strcmp(a->name, b->name) == 0;
}
