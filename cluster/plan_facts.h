/* cluster/plan_facts.h - what `longspan plan` knows of the hardware under each process: what the
 * cluster file says of its hosts, what this machine says of itself, and what was probed. Nothing is
 * guessed: what nobody said is 0. */
#ifndef LONGSPAN_CLUSTER_PLAN_FACTS_H
#define LONGSPAN_CLUSTER_PLAN_FACTS_H

#include "cluster/cluster_file.h"
#include "cluster/layout.h"
#include "plan/estimate.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct plan_host {
    const char *name;                 /* borrowed; this machine: as the cluster file calls it */
    const struct layout_host *remote; /* NULL: this machine, or one that has no process */
    bool here;
    double link_bytes_per_s, round_trip_s;
    const char *link_source; /* "cluster file", "probed"; NULL: not known. Likewise below */
};

/* Processors and memory of a host, or its GPUs of one name. */
struct plan_device {
    uint32_t host;
    const char *name;      /* "cpu", "cuda", "cuda:1"; borrowed */
    uint32_t devices;      /* of that name; 0: one for each rank */
    uint32_t processors;   /* of a CPU; 0: not known */
    uint64_t memory_bytes; /* of one of them */
    double read_bytes_per_s, f32_per_s, int8_per_s;
    const char *memory_source, *rate_source;
};

struct plan_process {
    uint32_t device;
    uint32_t lanes; /* 0: not known */
};

struct plan_facts {
    struct plan_host *hosts;
    struct plan_device *devices;
    struct plan_process *ranks, *nodes;
    uint32_t n_hosts, n_devices, n_ranks, n_nodes;
    uint32_t head; /* the coordinator's host */
    bool measured; /* some of it, by plan_probe */
    /* plan_facts_apply: */
    struct estimate_process *rank_estimates, *node_estimates;
    struct estimate_host *host_estimates;
    double *shares;
};

/* `file` NULL: all is on this machine. layout and file outlive *facts, which the caller ends with
 * plan_facts_free, also after a failure. STATUS_NO_MEMORY. */
enum status plan_facts_read(struct plan_facts *facts, const struct layout *layout,
                            const struct cluster_file *file, struct error *error);
void plan_facts_free(struct plan_facts *facts);

/* Tells `capacity`, of the same layout, what memory its ranks and nodes have, as they would say
 * themselves; and works out what each process has of its device. `shares`: --shares, or NULL.
 * STATUS_INVALID: they are none. STATUS_NO_MEMORY. */
enum status plan_facts_apply(struct plan_facts *facts, const struct layout *layout,
                             const char *shares, struct capacity *capacity, struct error *error);

/* The memory of a node: what it is given, or what it takes of its device. 0: not known. */
uint64_t plan_facts_node_bytes(const struct plan_facts *facts, const struct layout *layout,
                               uint32_t node);

/* Whether the name stands for all GPUs of a host: it has no index. */
bool plan_facts_is_several(const struct plan_device *device);

/* Ranks that have the same memory as this one, itself among them. */
uint32_t plan_facts_sharers(const struct plan_facts *facts, uint32_t rank);

#endif
