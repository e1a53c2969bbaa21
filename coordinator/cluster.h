/* coordinator/cluster.h - the workers and attention nodes of a job: joining, planning, set-up,
 * liveness.
 *
 *     JOINING   WorkersJoin of rank 0, NodeJoin of each node           deadline: join_timeout
 *     NODES     NodeSetup sent, NodeReady awaited                      join_timeout again
 *     WORKERS   WorkerSetup sent to rank 0, WorkerReady of each rank   load_timeout
 *     READY     served until somebody is lost
 *
 * A join that cannot be (another protocol, other tiles or pages, another job, one too many) is
 * refused by name and changes nothing. What makes the job impossible (a kernel variant that differs
 * under --strict-bits, a rank that cannot load, KV that does not fit, somebody missing or lost) is
 * a failure of the function that notices it: the coordinator then ends.
 *
 * A peer that stopped is noticed in two ways: its connection is gone (a pong to it finds nobody,
 * for two seconds), or nothing was heard of it for the silence limit. During a step ranks and nodes
 * compute and may be silent: ranks until the step's deadline (reports.h), nodes for as long as ranks
 * wait for an answer. Others' steps may go on for ever, and what needs the node would fail each time.
 *
 * A node's share is its host's read bandwidth as measured at joining (the mean of the host's nodes,
 * which share it), or the user's --shares. */
#ifndef LONGSPAN_COORDINATOR_CLUSTER_H
#define LONGSPAN_COORDINATOR_CLUSTER_H

#include "coordinator/control.h"
#include "coordinator/coordinator.h"
#include "coordinator/prefix_index.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "plan/capacity.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CLUSTER_NAME_BYTES = 64,
    CLUSTER_LABEL_BYTES = 160,
    CLUSTER_ENDPOINT_BYTES = 288,
    CLUSTER_MAX_RANKS = 4096,
    CLUSTER_READY_LINES = 4,
    CLUSTER_LINE_BYTES = 512,
};
#define CLUSTER_NOBODY UINT32_MAX

enum cluster_phase { CLUSTER_JOINING, CLUSTER_NODES, CLUSTER_WORKERS, CLUSTER_READY };

struct cluster_liveness {
    uint64_t heard_us, lost_since_us; /* lost_since_us 0: the connection stands */
    uint64_t excused_us;              /* silence before that is that of one who computes */
};

struct cluster_rank {
    struct frames_peer peer; /* n 0: has not spoken on its own socket yet */
    struct cluster_liveness live;
    char host[CLUSTER_NAME_BYTES], kernels[CLUSTER_NAME_BYTES];
    char processors[CLUSTER_NAME_BYTES]; /* that it may use; a list that is cut is still its own */
    char device[CLUSTER_NAME_BYTES];
    uint32_t lanes, pid;
    uint32_t reconnects; /* it was lost and came back */
    double started;      /* in seconds since 1970, by its own clock */
    uint64_t memory_bytes;
    bool ready;
    uint64_t weight_bytes, working_bytes, resident_bytes, local_kv_bytes;
    uint64_t peak_bytes;               /* as it last pinged */
    uint64_t loaded_bytes, load_bytes; /* likewise, while it loads */
    double load_s;
};

struct cluster_node {
    struct frames_peer peer;
    struct cluster_liveness live;
    char name[CLUSTER_NAME_BYTES]; /* of the holder: unique, "node0" */
    char said[CLUSTER_NAME_BYTES]; /* the name it joined under, and pings with */
    bool named;                    /* somebody chose the name */
    char host[CLUSTER_NAME_BYTES], kernels[CLUSTER_NAME_BYTES];
    char processors[CLUSTER_NAME_BYTES];
    char device[CLUSTER_NAME_BYTES];
    uint32_t lanes, pid;
    uint32_t reconnects;
    double started;
    Longspan__NodeUsage usage;       /* as it told last; zeros before */
    char label[CLUSTER_LABEL_BYTES]; /* "node0 (mem01)" */
    char endpoint[CLUSTER_ENDPOINT_BYTES];
    uint64_t node, memory_bytes, capacity_bytes;
    uint64_t peak_bytes; /* as it last pinged */
    double read_bytes_per_s, weight;
    uint32_t joined; /* the how-many-th */
    bool stores;     /* it keeps pages on disk; those that it had when it got ready: */
    struct prefix_name *stored;
    size_t n_stored;
    bool ready;
};

/* To be read by others. */
struct cluster {
    const struct coordinator_options *options;
    const char *model_path; /* absolute, as workers shall open it */
    const struct log *log;
    struct control *control;
    const struct hparams *hparams;
    struct capacity capacity; /* the plan; its memory is known from joining on, final when READY */
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
    uint64_t job;
    enum cluster_phase phase;
    uint64_t began_us, deadline_us, next_probe_us;
    double started; /* likewise, in seconds since 1970 */
    bool workers_joined;
    struct cluster_rank *ranks; /* [options->workers] */
    struct cluster_node *nodes; /* [options->nodes], the first n_nodes have joined */
    uint32_t n_nodes;
    uint32_t max_tokens;    /* of one sequence; final when READY */
    char last_refusal[512]; /* the last join that was refused, for who waits in vain */
    double load_s;          /* from start to READY */
    uint32_t n_ready_lines;
    char ready_lines[CLUSTER_READY_LINES][CLUSTER_LINE_BYTES]; /* the plan, for people */
};

/* What is served. */
struct cluster_model {
    const char *path; /* absolute, as workers shall open it */
    const struct model_file *file;
    const struct hparams *hparams;
};

/* Plans for this model and these options, before anybody has joined. All that is referenced
 * outlives the cluster. STATUS_INVALID: an impossible split, more workers than CLUSTER_MAX_RANKS. */
enum status cluster_open(struct cluster *cluster, const struct coordinator_options *options,
                         const struct cluster_model *model, struct control *control,
                         const struct log *log, uint64_t now_us, struct error *error);
void cluster_close(struct cluster *cluster);

/* Handles joins, readiness, pings, leaves and the usage of nodes; ignores other messages. A failure
 * is the end of the job. */
enum status cluster_message(struct cluster *cluster, const struct frames_peer *peer,
                            const Longspan__Control *message, uint64_t now_us, struct error *error);

/* Deadlines and probes; call at least twice a second. `stepping`: a step is in flight, ranks may be
 * silent. A failure is the end of the job, and names who is missing or lost. */
enum status cluster_tick(struct cluster *cluster, uint64_t now_us, bool stepping,
                         struct error *error);

/* Index of who speaks there; CLUSTER_NOBODY. */
uint32_t cluster_find_rank(const struct cluster *cluster, const struct frames_peer *peer);
uint32_t cluster_find_node(const struct cluster *cluster, const struct frames_peer *peer);

/* What is said of a rank that could not be sent to: the error, in the words of who notices it by
 * waiting. */
enum status cluster_rank_is_lost(const struct cluster *cluster, uint32_t rank, struct error *error);

/* "rank 1 (mem01)". */
const char *cluster_rank_label(const struct cluster *cluster, uint32_t rank,
                               char label[CLUSTER_LABEL_BYTES]);

/* KV holders: the nodes, or one called "local". */
uint32_t cluster_n_holders(const struct cluster *cluster);
const char *cluster_holder_name(const struct cluster *cluster, uint32_t holder);
double cluster_holder_weight(const struct cluster *cluster, uint32_t holder);
uint64_t cluster_holder_units(const struct cluster *cluster, uint32_t holder); /* page_cost.h */

/* The rank that reports results: shard 0 of the last stage. */
uint32_t cluster_result_rank(const struct cluster *cluster);

/* Says goodbye to everybody who has joined. */
void cluster_leave(struct cluster *cluster, const char *reason);

#endif
