/* cluster_file.c - libcyaml checks the shape, then the values are checked here.
 *
 * The schema's structs keep optional numbers as pointers, because libcyaml cannot tell "absent"
 * from 0 otherwise. A value that may be a mapping or a word (`parallel`) is not something that a
 * schema can say: the file is loaded by two schemas, and when neither fits, the one that came
 * further tells what is wrong. */
#include "cluster/cluster_file.h"

#include "kernels/kernels.h"
#include "kernels/quant/kv_type.h"
#include "proto/address.h"
#include "sys/file.h"
#include "sys/options.h"
#include "sys/size.h"
#include "sys/topology.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_FILE_BYTES = 1 << 20,
    MOST_TEXT = 4096,
    WHERE_BYTES = 512,
    HOST_BYTES = 256,
    MESSAGE_BYTES = 512,
};

/* ---- what libcyaml reads --------------------------------------------------------------------- */

struct yaml_coordinator {
    char *host, *listen;
};
struct yaml_security {
    char *cluster_key;
};
struct yaml_worker {
    char *host, *device, *kernels;
    uint32_t *slots, *threads;
};
struct yaml_parallel {
    uint32_t *pipeline, *tensor;
};
struct yaml_node {
    char *host, *memory, *device, *kernels, *name, *bind, *advertise;
    uint32_t *threads;
    float *weight;
};
struct yaml_kv {
    char *type, *memory;
    uint32_t *stripe;
};
struct yaml_file {
    char *name;
    struct yaml_coordinator *coordinator;
    struct yaml_security *security;
    struct yaml_worker *workers;
    struct yaml_parallel *parallel;
    char *parallel_word;
    struct yaml_node *attention_nodes;
    struct yaml_kv *kv;
    uint32_t workers_count, attention_nodes_count;
};

#define MAYBE (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(structure, member)                                                                    \
    CYAML_FIELD_STRING_PTR(#member, MAYBE, struct structure, member, 1, MOST_TEXT)
#define NUMBER(structure, member) CYAML_FIELD_UINT_PTR(#member, MAYBE, struct structure, member)
#define MAPPING(structure, member, fields)                                                         \
    CYAML_FIELD_MAPPING_PTR(#member, MAYBE, struct structure, member, fields)

static const cyaml_schema_field_t coordinator_fields[] = {
    TEXT(yaml_coordinator, host), TEXT(yaml_coordinator, listen), CYAML_FIELD_END};
static const cyaml_schema_field_t security_fields[] = {TEXT(yaml_security, cluster_key),
                                                       CYAML_FIELD_END};
static const cyaml_schema_field_t worker_fields[] = {
    CYAML_FIELD_STRING_PTR("host", CYAML_FLAG_POINTER, struct yaml_worker, host, 1, HOST_BYTES - 1),
    TEXT(yaml_worker, device),
    TEXT(yaml_worker, kernels),
    NUMBER(yaml_worker, slots),
    NUMBER(yaml_worker, threads),
    CYAML_FIELD_END};
static const cyaml_schema_field_t parallel_fields[] = {
    NUMBER(yaml_parallel, pipeline), NUMBER(yaml_parallel, tensor), CYAML_FIELD_END};
static const cyaml_schema_field_t node_fields[] = {
    CYAML_FIELD_STRING_PTR("host", CYAML_FLAG_POINTER, struct yaml_node, host, 1, HOST_BYTES - 1),
    TEXT(yaml_node, memory),
    TEXT(yaml_node, device),
    TEXT(yaml_node, kernels),
    TEXT(yaml_node, name),
    TEXT(yaml_node, bind),
    TEXT(yaml_node, advertise),
    NUMBER(yaml_node, threads),
    CYAML_FIELD_FLOAT_PTR("weight", MAYBE, struct yaml_node, weight),
    CYAML_FIELD_END};
static const cyaml_schema_field_t kv_fields[] = {TEXT(yaml_kv, type), TEXT(yaml_kv, memory),
                                                 NUMBER(yaml_kv, stripe), CYAML_FIELD_END};
static const cyaml_schema_value_t worker_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_worker, worker_fields)};
static const cyaml_schema_value_t node_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_node, node_fields)};

/* The same but for `parallel`. */
#define FILE_FIELDS(parallel_field)                                                                \
    TEXT(yaml_file, name), MAPPING(yaml_file, coordinator, coordinator_fields),                    \
        MAPPING(yaml_file, security, security_fields),                                             \
        CYAML_FIELD_SEQUENCE("workers", CYAML_FLAG_POINTER, struct yaml_file, workers,             \
                             &worker_value, 1, CLUSTER_FILE_MOST_RANKS),                           \
        parallel_field,                                                                            \
        CYAML_FIELD_SEQUENCE("attention_nodes", MAYBE, struct yaml_file, attention_nodes,          \
                             &node_value, 0, CLUSTER_FILE_MOST_NODES),                             \
        MAPPING(yaml_file, kv, kv_fields), CYAML_FIELD_END

static const cyaml_schema_field_t numbers_fields[] = {
    FILE_FIELDS(MAPPING(yaml_file, parallel, parallel_fields))};
static const cyaml_schema_field_t word_fields[] = {FILE_FIELDS(CYAML_FIELD_STRING_PTR(
    "parallel", CYAML_FLAG_POINTER, struct yaml_file, parallel_word, 1, MOST_TEXT))};
static const cyaml_schema_value_t numbers_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_file, numbers_fields)};
static const cyaml_schema_value_t word_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_file, word_fields)};

static const char *const known_keys[] = {
    "name",    "coordinator", "security", "workers",     "parallel", "attention_nodes",
    "kv",      "host",        "listen",   "cluster_key", "slots",    "device",
    "kernels", "threads",     "pipeline", "tensor",      "memory",   "weight",
    "bind",    "advertise",   "type",     "stripe",      NULL,
};

/* libcyaml tells what is wrong first, then where: innermost place first. */
struct complaint {
    char what[MESSAGE_BYTES];
    uint32_t line;
};

static void hear(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    (void)level;
    struct complaint *complaint = context;
    char text[MESSAGE_BYTES];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    const char prefix[] = "Load: ", *what = text;
    if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
        what += sizeof(prefix) - 1;
    const char *line = strstr(text, "(line: ");
    if (line != NULL && complaint->line == 0)
        complaint->line = (uint32_t)strtoul(line + strlen("(line: "), NULL, 10);
    else if (complaint->what[0] == '\0')
        snprintf(complaint->what, sizeof(complaint->what), "%s", what);
}

static struct yaml_file *load(const char *text, size_t size, const cyaml_schema_value_t *schema,
                              struct complaint *complaint)
{
    const cyaml_config_t config = {
        .log_fn = hear,
        .log_ctx = complaint,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS,
    };
    struct yaml_file *document = NULL;
    *complaint = (struct complaint){0};
    const cyaml_err_t result = cyaml_load_data((const uint8_t *)text, size, &config, schema,
                                               (cyaml_data_t **)&document, NULL);
    if (result == CYAML_OK && document == NULL)
        snprintf(complaint->what, sizeof(complaint->what), "the file is empty");
    else if (result != CYAML_OK && complaint->what[0] == '\0')
        snprintf(complaint->what, sizeof(complaint->what), "%s", cyaml_strerror(result));
    return document;
}

static void unload(struct yaml_file *document)
{
    const cyaml_config_t config = {.mem_fn = cyaml_mem};
    /* Both schemas own the same members: the one whose `parallel` is set frees it. */
    if (document != NULL)
        cyaml_free(&config, document->parallel_word != NULL ? &word_value : &numbers_value,
                   document, 0);
}

/* libcyaml knows where the mapping was when it met an unknown key; the key itself may be lines
 * below. */
static uint32_t line_of_key(const char *text, uint32_t from, const char *key)
{
    const size_t length = strlen(key);
    uint32_t line = 1;
    for (const char *at = text; *at != '\0'; line += *at++ == '\n')
        if (line >= from && strncmp(at, key, length) == 0 &&
            at[length + strspn(at + length, "\"' ")] == ':' &&
            (at == text || strchr(" \t\n{,-\"'", at[-1]) != NULL))
            return line;
    return from;
}

static enum status refuse(const char *path, const char *text, const struct complaint *complaint,
                          struct error *error)
{
    char where[WHERE_BYTES] = "";
    const char unexpected[] = "Unexpected key: ", *nearest = NULL;
    uint32_t line = complaint->line;
    if (strncmp(complaint->what, unexpected, sizeof(unexpected) - 1) == 0) {
        const char *key = complaint->what + sizeof(unexpected) - 1;
        nearest = options_nearest(known_keys, key);
        line = line_of_key(text, line, key);
    }
    if (line != 0)
        snprintf(where, sizeof(where), ":%u", line);
    return error_set(error, STATUS_INVALID, "%s%s: %s%s%s%s", path, where, complaint->what,
                     nearest != NULL ? " (did you mean '" : "", nearest != NULL ? nearest : "",
                     nearest != NULL ? "'?)" : "");
}

static enum status read_document(struct yaml_file **document, const char *path, struct error *error)
{
    char *text = NULL;
    size_t size;
    enum status status = file_read(path, MOST_FILE_BYTES, &text, &size, error);
    if (status != STATUS_OK)
        return status;
    struct complaint numbers, word;
    *document = load(text, size, &numbers_value, &numbers);
    if (*document == NULL && (*document = load(text, size, &word_value, &word)) == NULL)
        status = refuse(path, text, word.line > numbers.line ? &word : &numbers, error);
    free(text);
    return status;
}

/* ---- checks ---------------------------------------------------------------------------------- */

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
static enum status check_host(const char *host, const char *where, struct error *error)
{
    const size_t good =
        strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                     ".-_:%@");
    if (host[0] == '-' || host[good] != '\0')
        return error_set(error, STATUS_INVALID, "%s: '%s' is no host name", where, host);
    return STATUS_OK;
}

static enum status check_device(const char *device, const char *where, struct error *error)
{
    return kernels_device_is_name(device)
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "%s: device '%s': say cpu, cuda or cuda:N", where,
                           device);
}

static enum status take_worker(struct cluster_file *file, uint32_t index,
                               const struct yaml_worker *from, struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file_worker *worker = &file->workers[index];
    snprintf(where, sizeof(where), "%s: workers entry %u", file->path, index + 1);
    *worker = (struct cluster_file_worker){
        .host = from->host, .device = from->device, .kernels = from->kernels, .slots = 1};
    enum status status = check_host(from->host, where, error);
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

static enum status take_node(struct cluster_file *file, uint32_t index,
                             const struct yaml_node *from, struct error *error)
{
    char where[WHERE_BYTES];
    struct cluster_file_node *node = &file->nodes[index];
    snprintf(where, sizeof(where), "%s: attention_nodes entry %u", file->path, index + 1);
    *node = (struct cluster_file_node){.host = from->host,
                                       .device = from->device,
                                       .kernels = from->kernels,
                                       .name = from->name,
                                       .bind = from->bind,
                                       .advertise = from->advertise};
    enum status status = check_host(from->host, where, error);
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

static enum status take_parallel(struct cluster_file *file, const struct yaml_file *document,
                                 struct error *error)
{
    if (document->parallel_word != NULL) {
        if (strcmp(document->parallel_word, "auto") != 0)
            return error_set(error, STATUS_INVALID,
                             "%s: parallel: '%s' is neither auto nor {pipeline: N, tensor: N}",
                             file->path, document->parallel_word);
        return STATUS_OK;
    }
    if (document->parallel == NULL)
        return STATUS_OK;
    char where[WHERE_BYTES];
    snprintf(where, sizeof(where), "%s: parallel", file->path);
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

static enum status take_kv(struct cluster_file *file, const struct yaml_kv *kv, struct error *error)
{
    char where[WHERE_BYTES];
    enum kv_type type;
    snprintf(where, sizeof(where), "%s: kv", file->path);
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

static enum status take_document(struct cluster_file *file, const struct yaml_file *document,
                                 struct error *error)
{
    char where[WHERE_BYTES];
    file->name = document->name;
    if (document->coordinator != NULL) {
        file->coordinator_host = document->coordinator->host;
        file->listen = document->coordinator->listen;
    }
    if (document->security != NULL)
        file->cluster_key = document->security->cluster_key;
    file->n_workers = document->workers_count;
    file->n_nodes = document->attention_nodes_count;
    file->workers = calloc((size_t)file->n_workers + 1, sizeof(*file->workers));
    file->nodes = calloc((size_t)file->n_nodes + 1, sizeof(*file->nodes));
    if (file->workers == NULL || file->nodes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its entries", file->path);

    snprintf(where, sizeof(where), "%s: coordinator", file->path);
    enum status status = check_endpoint(file->listen, where, "listen", error);
    if (status == STATUS_OK && file->coordinator_host != NULL)
        status = check_host(file->coordinator_host, where, error);
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_workers; i++)
        status = take_worker(file, i, &document->workers[i], error);
    for (uint32_t i = 0; status == STATUS_OK && i < file->n_nodes; i++)
        status = take_node(file, i, &document->attention_nodes[i], error);
    if (status == STATUS_OK)
        status = take_parallel(file, document, error);
    if (status == STATUS_OK)
        status = take_kv(file, document->kv, error);
    return status;
}

enum status cluster_file_read(struct cluster_file *file, const char *path, struct error *error)
{
    struct cluster_file read = {.path = path};
    struct yaml_file *document = NULL;
    enum status status = read_document(&document, path, error);
    read.document = document;
    if (status == STATUS_OK)
        status = take_document(&read, document, error);
    if (status == STATUS_OK)
        *file = read;
    else
        cluster_file_free(&read);
    return status;
}

void cluster_file_free(struct cluster_file *file)
{
    free(file->workers);
    free(file->nodes);
    unload(file->document);
    *file = (struct cluster_file){0};
}

bool cluster_file_is_here(const char *host)
{
    char name[HOST_BYTES];
    topology_host_name(name, sizeof(name));
    const size_t given = strcspn(host, "."), ours = strcspn(name, ".");
    const bool both_long = host[given] != '\0' && name[ours] != '\0';
    if (strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0)
        return true;
    return strcmp(host, name) == 0 ||
           (!both_long && given == ours && ours > 0 && strncmp(host, name, ours) == 0);
}
