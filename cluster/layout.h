/* cluster/layout.h - which processes make up a cluster, and on which machine.
 *
 * From options (all on this machine) or from a cluster file; the rest does not know which. */
#ifndef LONGSPAN_CLUSTER_LAYOUT_H
#define LONGSPAN_CLUSTER_LAYOUT_H

#include "cluster/cluster_file.h"
#include "cluster/place_options.h"
#include "proto/address.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAYOUT_NAME_BYTES = 64, LAYOUT_TEXT_BYTES = 4096 };

/* A machine other than this one. `name` and `bin` are borrowed; what its agent told (hosts.h) is
 * owned; NULL: as it is here. */
struct layout_host {
    const char *name; /* as ssh knows it */
    const char *bin;  /* the folder of `longspan` there */
    char *worker, *node, *model, *cluster_key;
};

/* Strings are borrowed from the options or the file. Numbers that are 0 are left to the program. */
struct layout_worker {
    const struct layout_host *host; /* NULL: this machine */
    const char *device, *kernels;
    uint32_t slots, threads;
};

struct layout_node {
    const struct layout_host *host; /* NULL: this machine */
    const char *device, *kernels;
    char name[LAYOUT_NAME_BYTES];
    char bind[ADDRESS_BYTES], advertise[ADDRESS_BYTES]; /* "": left to the program */
    uint64_t memory_bytes;
    uint32_t threads;
    float weight;
};

struct layout {
    char listen[ADDRESS_BYTES];                                    /* of the coordinator */
    char address[ADDRESS_BYTES];                                   /* where everybody finds it */
    char model[LAYOUT_TEXT_BYTES], cluster_key[LAYOUT_TEXT_BYTES]; /* absolute; "": no key */
    char trace[LAYOUT_TEXT_BYTES], kv_store[LAYOUT_TEXT_BYTES];    /* absolute; "": none */
    bool insecure_network;
    struct layout_worker *workers;
    uint32_t n_workers, n_ranks;
    struct layout_node *nodes;
    uint32_t n_nodes;
    struct layout_host *hosts; /* each once */
    uint32_t n_hosts;
    struct ssh_options ssh;
    const char *interface, *mpi; /* as in the cluster file; NULL: not said */
    /* What Open MPI keeps on this machine goes there, and with it, whatever ends mpirun; the second
     * is in memory. NULL: where it likes. */
    const char *mpi_files, *mpi_memory;
    char *shared_networks; /* where several hosts have one address (hosts.h); owned; NULL: none */
    bool push;             /* of weights */
    const char *weights_dir;
    const char *const *environment;
    uint32_t n_environment;
    uint32_t pipeline, tensor; /* pipeline 0: as many as there are ranks for */
    const char *kv_type;
    uint64_t kv_memory_bytes;
    uint32_t stripe;
};

/* `directory`: where sockets go; NULL for command lines that people shall type: loopback addresses
 * then. `file`: NULL for a cluster of options alone. The caller ends *layout with layout_free.
 * STATUS_INVALID: what the file says cannot be (the coordinator on another machine, hosts that
 * could not reach it, no key on a network, one host with two folders `bin`, more KV memory than this
 * machine has). STATUS_NO_MEMORY. */
enum status layout_make(struct layout *layout, const struct place_options *options,
                        const struct cluster_file *file, const char *directory,
                        struct error *error);

/* The same without addresses, for who wants to know what would be where: the coordinator may be on
 * a machine other than this one, and nobody has to be reached. */
enum status layout_place(struct layout *layout, const struct place_options *options,
                         const struct cluster_file *file, struct error *error);

/* Whether no worker is on another host. */
bool layout_ranks_are_here(const struct layout *layout);

void layout_free(struct layout *layout);

#endif
