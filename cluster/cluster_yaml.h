/* cluster/cluster_yaml.h - a cluster file as libcyaml reads it: its shape is right, its values are
 * not checked yet (cluster_file.h).
 *
 * Optional numbers are pointers, because libcyaml cannot tell "absent" from 0 otherwise. */
#ifndef LONGSPAN_CLUSTER_CLUSTER_YAML_H
#define LONGSPAN_CLUSTER_CLUSTER_YAML_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

enum { CLUSTER_YAML_HOST_BYTES = 256 };

struct yaml_coordinator {
    char *host, *listen;
};
struct yaml_security {
    char *cluster_key;
};
struct yaml_worker {
    char *host, *device, *kernels, *bin;
    uint32_t *slots, *threads;
};
struct yaml_parallel {
    uint32_t *pipeline, *tensor;
};
struct yaml_node {
    char *host, *memory, *device, *kernels, *name, *bind, *advertise, *bin;
    uint32_t *threads;
    float *weight;
};
struct yaml_hardware {
    char *host, *device, *memory;
    uint32_t *devices, *processors;
    float *read_GB_s, *f32_GFLOP_s, *int8_Gop_s, *link_Gbit_s, *rtt_us; /* as longspan bench says */
};
struct yaml_kv {
    char *type, *memory;
    uint32_t *stripe;
};
struct yaml_ssh {
    char *user, *key, *config;
    uint32_t *port;
};
struct yaml_network {
    char *interface;
};
struct yaml_programs {
    char *bin, *mpi;
};
struct yaml_weights {
    char *push, *dir; /* push is no boolean: libcyaml takes any word for true */
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
    struct yaml_ssh *ssh;
    struct yaml_network *network;
    struct yaml_programs *programs;
    struct yaml_weights *weights;
    char **environment;
    struct yaml_hardware *hosts;
    uint32_t workers_count, attention_nodes_count, environment_count, hosts_count;
};

/* The caller ends *document with cluster_yaml_free and frees *text, the file's, after failures too.
 * STATUS_NOT_FOUND: no such file. STATUS_INVALID: not YAML, an unknown key (with the nearest known
 * one), a missing one, a value of another kind: the text begins with path and, where known,
 * line. */
enum status cluster_yaml_read(struct yaml_file **document, const char *path, char **text,
                              struct error *error);

/* NULL is fine. */
void cluster_yaml_free(struct yaml_file *document);

/* A place in the text of a file; zeroed: before it. cluster_yaml_find moves it to the next `key:`
 * and returns its line; 0: there is none, and it stays. Comments are not looked at. */
struct cluster_yaml_place {
    size_t at;
    uint32_t line; /* lines before it */
};
uint32_t cluster_yaml_find(struct cluster_yaml_place *place, const char *text, const char *key);

#endif
