/* cluster/cluster_file.h - the description of a cluster, in YAML.
 *
 *     name: lab
 *     coordinator: {host: head, listen: "tcp://0.0.0.0:5600"}
 *     security: {cluster_key: /etc/longspan/cluster.key}
 *     workers:
 *       - {host: gpu01, slots: 2, device: cuda, threads: 16}  # cpu, cuda, cuda:N
 *     parallel: {pipeline: 2, tensor: 1}               # or: auto (one stage per rank)
 *     attention_nodes:
 *       - {host: mem01, memory: 512GiB, threads: 64, weight: 150}
 *     kv: {type: f16, memory: 8GiB, stripe: 4096}
 *
 * And where some of the machines are others than this one:
 *
 *     ssh: {user: longspan, port: 22, key: /home/me/.ssh/cluster, config: /etc/longspan/ssh_config}
 *     network: {interface: eth0}          # or a subnet, 10.0.0.0/24, or several: eth0,ib0
 *     programs: {bin: /opt/longspan/bin, mpi: /opt/openmpi}  # `bin` also of an entry above
 *     weights: {push: true, dir: /var/cache/longspan}
 *     environment: [CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS=1] # a name alone: as it is here
 *
 * And what `longspan plan` shall count with, in the words of `longspan bench`:
 *
 *     hosts:
 *       - {host: gpu01, device: cuda, devices: 2, memory: 80GiB, read_GB_s: 3000, link_Gbit_s: 100, rtt_us: 20}
 *       - {host: mem01, memory: 768GiB, processors: 64, read_GB_s: 300, f32_GFLOP_s: 4000, int8_Gop_s: 8000}
 *
 * Unknown keys and values out of range are refused, with the line where there is one. Only
 * `workers` is required. Hosts are names or addresses as ssh knows them; localhost, and this
 * machine's own name, are this machine. */
#ifndef LONGSPAN_CLUSTER_CLUSTER_FILE_H
#define LONGSPAN_CLUSTER_CLUSTER_FILE_H

#include "cluster/ssh.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CLUSTER_FILE_MOST_RANKS = 4096,
    CLUSTER_FILE_MOST_NODES = 1024,
    CLUSTER_FILE_MOST_THREADS = 1024,
    CLUSTER_FILE_MOST_VARIABLES = 256, /* of `environment` */
    CLUSTER_FILE_MOST_PROCESSORS = 65536,
};

/* Strings are owned by the file; NULL where the key is absent. */
struct cluster_file_host {
    const char *name; /* as the file has it */
    bool here;        /* this machine, by any of its names (this_host.h) */
};

struct cluster_file_worker {
    struct cluster_file_host host;
    const char *device, *kernels, *bin;
    uint32_t slots;   /* ranks on that host, at least 1 */
    uint32_t threads; /* lanes of each; 0: not said */
};

struct cluster_file_node {
    struct cluster_file_host host;
    const char *device, *kernels, *name, *bin;
    const char *bind, *advertise; /* endpoints, as the attention node's options */
    uint64_t memory_bytes;        /* 0: not said */
    uint32_t threads;             /* 0: not said */
    float weight;                 /* 0: not said, measured */
};

/* What a host has, or each device of it; 0: not said. Links are its own with others. */
struct cluster_file_hardware {
    struct cluster_file_host host;
    const char *device; /* NULL: its processors and memory */
    uint64_t memory_bytes;
    uint32_t devices, processors;
    double read_bytes_per_s, f32_per_s, int8_per_s;
    double link_bytes_per_s, round_trip_s;
};

struct cluster_file {
    const char *path, *name;
    struct cluster_file_host coordinator; /* name NULL: not said */
    const char *listen, *cluster_key;
    struct cluster_file_worker *workers;
    uint32_t n_workers; /* entries */
    uint32_t n_ranks;   /* the sum of their slots */
    struct cluster_file_node *nodes;
    uint32_t n_nodes;
    struct cluster_file_hardware *hosts;
    uint32_t n_hosts;
    uint32_t pipeline, tensor; /* 0: auto, or not said */
    const char *kv_type;       /* as kv_type_parse */
    uint64_t kv_memory_bytes;  /* 0: not said */
    uint32_t stripe;           /* tokens; 0: not said */
    struct ssh_options ssh;
    const char *interface;   /* names and subnets, with commas between them */
    const char *bin, *mpi;   /* folders: of `longspan`, of Open MPI; on other machines */
    bool push;               /* of weights */
    const char *weights_dir; /* on other machines */
    const char *const *environment;
    uint32_t n_environment;
    void *document; /* the loader's */
};

/* The caller ends *file with cluster_file_free; `path` must outlive it.
 * STATUS_NOT_FOUND: no such file. STATUS_INVALID: not YAML, an unknown key (with the nearest known
 * one), a missing one, a bad value: the text begins with path and, where known, line. */
enum status cluster_file_read(struct cluster_file *file, const char *path, struct error *error);

/* Of a zeroed one too. */
void cluster_file_free(struct cluster_file *file);

/* Whether two names of hosts are one: the same word, or both this machine. */
bool cluster_file_same_host(const struct cluster_file_host *a, const struct cluster_file_host *b);

#endif
