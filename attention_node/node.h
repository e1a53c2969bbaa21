/* attention_node/node.h - the life of an attention node: join, serve a job, leave it, join again.
 *
 * One thread polls the control socket (coordinator) and the data socket (workers); the lanes of a
 * pool compute. The node has one coordinator, and keeps knocking when there is none. */
#ifndef LONGSPAN_ATTENTION_NODE_NODE_H
#define LONGSPAN_ATTENTION_NODE_NODE_H

#include "kernels/kernels.h"
#include "proto/cluster_key.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct node_config {
    const char *coordinator; /* its endpoint */
    const char *bind;        /* data endpoint; NULL: chosen by the coordinator's */
    const char *advertise;   /* what workers are told; NULL: `bind` with this host's address */
    const char *name;        /* NULL: the host's */
    uint64_t memory_bytes;   /* for pages; 0: 80% of what the device, or the host, has left */
    uint32_t n_threads;      /* 0: all processors that this process may use */
    const struct kernels *kernels; /* chosen: what computes */
    uint32_t device_index;         /* of the table's devices */
    double bytes_per_s;            /* 0: measured; otherwise the weight in the placement */
    uint32_t silence_ms;           /* without a word of the coordinator for so long, its job ends */
    const struct cluster_key *key; /* NULL: none */
    bool insecure_network;
    bool pin;                /* lanes to processors, where there is one for each */
    bool zeromq_only;        /* no shared memory with the ranks of this host */
    const char *trace;       /* file; NULL: none */
    const char *kv_store;    /* a directory for kept pages; NULL: none */
    uint64_t kv_store_bytes; /* of its files, at most */
    int stop; /* a descriptor that becomes readable when the node shall end; -1: none */
    const struct log *log;
};

/* Runs until `stop` (STATUS_OK) or until the coordinator refuses this node (its status and text).
 * STATUS_UNREACHABLE: an address cannot be listened at, or another key. STATUS_INVALID. */
enum status node_run(const struct node_config *config, struct error *error);

#endif
