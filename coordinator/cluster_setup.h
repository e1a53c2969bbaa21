/* coordinator/cluster_setup.h - from all have joined to all are ready. Part of cluster.h. */
#ifndef LONGSPAN_COORDINATOR_CLUSTER_SETUP_H
#define LONGSPAN_COORDINATOR_CLUSTER_SETUP_H

#include "coordinator/cluster.h"

/* Goes to the next phase when this one is complete. STATUS_EXHAUSTED: weights or KV do not fit; the
 * text has the number that would. */
enum status cluster_setup_advance(struct cluster *cluster, uint64_t now_us, struct error *error);

/* A node that has joined asks again: it is told its set-up again, if that was sent already. */
enum status cluster_setup_repeat(struct cluster *cluster, struct cluster_node *node,
                                 struct error *error);

/* A peer's own failure is ours, with its text. */
enum status cluster_setup_node_ready(struct cluster *cluster, uint32_t node,
                                     const Longspan__NodeReady *ready, uint64_t now_us,
                                     struct error *error);
enum status cluster_setup_worker_ready(struct cluster *cluster, const struct frames_peer *peer,
                                       const Longspan__WorkerReady *ready, uint64_t now_us,
                                       struct error *error);

#endif
